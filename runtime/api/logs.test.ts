import { expect, test } from "bun:test";
import { LOG_WAITERS_MAX } from "./routes-logs.ts";
import { call, loopback, problemIn, remote, socket } from "./testing-calls.ts";
import type { Connection } from "./access.ts";
import { createRig } from "./testing.ts";
import type { LogsView } from "../view/contract/node.ts";

const line = (event: string, level = "info") =>
  JSON.stringify({ time: "1970-01-01T00:00:00.000Z", level, event, number: 7, peer: "LON-B" });

const read = async (response: Response): Promise<LogsView> => (await response.json()) as LogsView;

test("lines with their fields, chosen by level, age and number", async () => {
  const rig = createRig();
  rig.recent.add("info", line("old"));
  await rig.clock.advance(60_000);
  rig.recent.add("warn", line("link down", "warn"));
  const all = await read(await call(rig, "GET", "/logs"));
  expect(all).toMatchObject({ last: 2, lost: 0 });
  expect(all.lines[0]).toEqual({
    number: 1,
    time: "1970-01-01T00:00:00.000Z",
    level: "info",
    event: "old",
    fields: { number: 7, peer: "LON-B" },
  });
  for (const query of ["level=warn", "since_seconds=30", "after=1"]) {
    const { lines } = await read(await call(rig, "GET", `/logs?${query}`));
    expect(lines.map(({ event }) => event)).toEqual(["link down"]);
  }
  for (const query of ["level=loud", "after=-1", "wait_seconds=26", "since_seconds=x"])
    await problemIn(await call(rig, "GET", `/logs?${query}`));
});

test("the answer waits for a line that is wanted, or for the time asked", async () => {
  const rig = createRig();
  const asked = call(rig, "GET", "/logs?level=error&wait_seconds=5");
  await rig.clock.advance(1_000);
  rig.recent.add("info", line("not wanted"));
  await rig.clock.advance(1_000);
  rig.recent.add("error", line("wanted", "error"));
  expect((await read(await asked)).lines.map(({ event }) => event)).toEqual(["wanted"]);
  const late = call(rig, "GET", "/logs?after=2&wait_seconds=5");
  await rig.clock.advance(5_000);
  expect(await read(await late)).toMatchObject({ lines: [], last: 2 });
});

test("so many may wait and no more; those of a node that stops are answered", async () => {
  const rig = createRig();
  const waiting = Array.from({ length: LOG_WAITERS_MAX }, () => call(rig, "GET", "/logs?wait_seconds=25"));
  await rig.clock.advance(1);
  expect(await problemIn(await call(rig, "GET", "/logs?wait_seconds=25"))).toMatchObject({
    code: "GODWIT_QUEUE_FULL",
  });
  rig.stop.abort();
  for (const answer of await Promise.all(waiting)) expect((await read(answer)).lines).toEqual([]);
});

test("whoever was answered, by a line or by the time, leaves room for another", async () => {
  const rig = createRig();
  for (let i = 0; i < 2 * LOG_WAITERS_MAX; i++) {
    const asked = call(rig, "GET", `/logs?after=${rig.recent.last}&wait_seconds=5`);
    await rig.clock.advance(1);
    if (i % 2 === 0) rig.recent.add("info", line("x"));
    else await rig.clock.advance(5_000);
    expect((await asked).status).toBe(200);
  }
});

test("no token, or one that may read and no more, is not shown the log", async () => {
  const rig = createRig();
  const as = (secret: string) => ({ headers: { authorization: `Bearer ${secret}` } });
  expect((await call(rig, "GET", "/logs", {}, loopback)).status).toBe(401);
  expect((await call(rig, "GET", "/logs", as("read-secret"), loopback)).status).toBe(403);
  expect((await call(rig, "GET", "/logs", as("operate-secret"), loopback)).status).toBe(200);
});

test("a profile is made through the control socket, and over TCP for admin tokens where the configuration says so", async () => {
  const ask = async (isProfiledOverTcp: boolean, connection: Connection, token?: string) => {
    const init = token === undefined ? {} : { headers: { authorization: `Bearer ${token}` } };
    return (await call(createRig({ isProfiledOverTcp }), "GET", "/profile?seconds=1", init, connection))
      .status;
  };
  expect(await ask(false, socket)).toBe(200);
  expect(await ask(false, remote, "admin-secret")).toBe(403);
  expect(await ask(true, remote, "admin-secret")).toBe(200);
  expect(await ask(true, remote)).toBe(401);
  expect(await ask(true, socket)).toBe(200);
});
