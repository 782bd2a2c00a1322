/** A new version of an untrusted transport takes the place of the old one while messages are on their way: none is lost or comes twice. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, freePort, Lab, type LabNode } from "../../scripts/lab.ts";
import { bundle, install } from "./lab.ts";

const MESSAGES = 300;
let lab: Lab;
beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  lab = await Lab.create();
});
afterAll(async () => {
  await lab?.close();
});

const linksOf = async (node: LabNode): Promise<number> =>
  (await node.json<{ peers: { connected: number } }>("/mesh/status")).peers.connected;

/** Children of the node that run the hidden personality. */
const guestsOf = (node: LabNode): number[] =>
  readdirSync("/proc")
    .map(Number)
    .filter((pid) => {
      try {
        const isChild = readFileSync(`/proc/${pid}/status`, "utf8").includes(`\nPPid:\t${node.pid}\n`);
        return isChild && readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("plugin-guest");
      } catch {
        return false;
      }
    });

test("version 2 takes over at both ends, one after the other, under load", async () => {
  const port = freePort();
  const table = (rest: string, grant: string) =>
    `[transports.strange]\ntype = "brokered"\ngrant = [${grant}]\n${rest}\n`;
  const a = await lab.add({
    callsign: "SWP-A",
    listen: [],
    extra: table(`listen = "127.0.0.1:${port}"`, `"broker.listen:${port}"`),
  });
  const b = await lab.add({
    callsign: "SWP-B",
    listen: [],
    peers: [`brk://127.0.0.1:${port}`],
    extra: table("", `"broker.connect:127.0.0.1:${port}"`),
  });
  const code = await bundle("brokered");
  const version = (number: string) => ({
    id: "brokered",
    namespace: "transport" as const,
    version: number,
    permissions: ["broker.connect:*:*", "broker.listen:*"],
    // Other bytes, or it would be the same code.
    code: new Uint8Array([...code, ...new TextEncoder().encode(`\n// ${number}\n`)]),
  });
  for (const node of [a, b]) await install(node.stateDir, version("1.0.0"));
  await Promise.all([a.start(), b.start()]);
  await a.until("the link", async () => (await linksOf(a)) === 1, 20_000);
  const before = [guestsOf(a), guestsOf(b)];
  expect(before.map(({ length }) => length)).toEqual([1, 1]);

  const { id } = await a.json<{ node: { id: string } }>("/mesh/status").then(({ node }) => node);
  const sent: string[] = [];
  const sending = (async () => {
    for (let i = 0; i < MESSAGES; i++) {
      const body = `message ${i}`;
      sent.push(body);
      await b.send({ to: id, body });
    }
  })();
  await a.until("the first messages", async () => (await a.box("inbox")).length > 10, 20_000);
  for (const node of [b, a]) {
    await install(node.stateDir, version("2.0.0"));
    const report = await node.json<{ changed: unknown[] }>("/reload", { method: "POST" });
    expect(report.changed).toEqual([{ section: "transports", name: "strange", change: "changed" }]);
  }
  await sending;
  await a.until("all messages", async () => (await a.box("inbox")).length >= MESSAGES, 40_000);
  const inbox = await a.box<{ id: string }>("inbox");
  const bodies = await Promise.all(
    inbox.map(async (message) => (await a.json<{ body: string }>(`/messages/${message.id}`)).body),
  );
  expect(bodies.sort()).toEqual(sent.sort());
  const after = [guestsOf(a), guestsOf(b)];
  expect(after.map(({ length }) => length)).toEqual([1, 1]);
  expect(after).not.toEqual(before);
}, 120_000);

test("a version that cannot start leaves the node and its other links alone", async () => {
  const other = await lab.add({ callsign: "SWP-C" });
  const node = await lab.add({
    callsign: "SWP-D",
    peers: [other.endpoint],
    extra: `[transports.strange]\ntype = "brokered"\n`,
  });
  const good = { id: "brokered", namespace: "transport" as const, code: await bundle("brokered") };
  await install(node.stateDir, good);
  await Promise.all([other.start(), node.start()]);
  await node.until("the link", async () => (await linksOf(node)) === 1, 20_000);
  await install(node.stateDir, {
    ...good,
    version: "2.0.0",
    code: new TextEncoder().encode('throw new Error("broken on purpose");'),
  });
  await node.json("/reload", { method: "POST" });
  const { checks } = (await (await node.api("/health")).json()) as {
    checks: { name: string; reason: string }[];
  };
  expect(checks.find(({ name }) => name === "transport.strange")?.reason).toContain("broken on purpose");
  expect(await linksOf(node)).toBe(1);
}, 60_000);
