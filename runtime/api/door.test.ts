/** What the log says of those who were refused. */
import { expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { createLog } from "../kernel/log.ts";
import { Metrics } from "../kernel/metrics.ts";
import type { TokenStore } from "../view/contract/node.ts";
import { AUTH_DELAY_MS } from "./access.ts";
import { Door } from "./door.ts";
import { remote } from "./testing-calls.ts";

test("a flood of wrong tokens does not flood the log, which says whose and how often, and never which", async () => {
  const clock = new ManualClock();
  const lines: string[] = [];
  const log = createLog({
    level: "debug",
    format: "json",
    clock,
    sink: { write: (line) => void lines.push(line) },
  });
  const tokens = { scopesOf: () => undefined } as unknown as TokenStore;
  const door = new Door({ tokens, clock, log, metrics: new Metrics() });
  const attempt = async (secret: string) => {
    const request = new Request("http://192.0.2.7/tokens", {
      headers: { authorization: `Bearer ${secret}` },
    });
    const answer = door.refuse({ scope: "admin" }, request, remote);
    await clock.advance(AUTH_DELAY_MS);
    return (await answer)?.status;
  };
  for (let i = 0; i < 100; i++) expect(await attempt(`guess-number-${i}`)).toBe(401);
  const { peer, times } = JSON.parse(lines[0]!) as Record<string, unknown>;
  expect([lines.length, peer, times]).toEqual([1, remote.peer, 1]);
  await clock.advance(60_000);
  expect(await attempt("guess-number-100")).toBe(401);
  expect(lines.map((line) => (JSON.parse(line) as { times: number }).times)).toEqual([1, 100]);
  expect(lines.join("\n")).not.toContain("guess-number");
});

test("what comes by the right of a token is watched for its end, and what needs none is not", async () => {
  const clock = new ManualClock();
  const log = createLog({ level: "error", format: "json", clock, sink: { write() {} } });
  const watched: string[] = [];
  const tokens = {
    scopesOf: (secret: string) => (secret === "good-secret" ? ["read"] : undefined),
    watch: (secret: string) => (watched.push(secret), () => {}),
  } as unknown as TokenStore;
  const door = new Door({ tokens, clock, log, metrics: new Metrics() });
  const connection = { ...remote, until: (watch: (ended: () => void) => () => void) => void watch(() => {}) };
  const request = new Request("http://192.0.2.7/events", {
    headers: { authorization: "Bearer good-secret" },
  });
  expect(await door.refuse({ scope: "public" }, request, connection)).toBeUndefined();
  expect(watched).toEqual([]);
  expect(await door.refuse({ scope: "read" }, request, connection)).toBeUndefined();
  expect(watched).toEqual(["good-secret"]);
});
