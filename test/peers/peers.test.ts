/**
 * Links of a node's own accord and trust, with real nodes: a mesh that grew around one hub lives on without it, a rule
 * keeps an address out, a block with an expiry ends.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";

const NODES = 10;
let lab: Lab;

interface PeersAnswer {
  readonly peers: {
    readonly id: string;
    readonly callsign: string | null;
    readonly state: string;
    readonly trust: string;
    readonly trust_by: string;
    readonly trust_until: string | null;
  }[];
}

beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  lab = await Lab.create();
});

afterAll(async () => {
  await lab?.close();
});

const peersOf = async (node: LabNode) => (await node.json<PeersAnswer>("/mesh/peers?all=true")).peers;
const connected = async (node: LabNode): Promise<number> =>
  (await peersOf(node)).filter(({ state }) => state === "connected").length;
const reaches = async (node: LabNode): Promise<number> =>
  (await node.json<{ routes: unknown[] }>("/mesh/routes")).routes.length;
const idOf = async (node: LabNode): Promise<string> =>
  (await node.json<{ node: { id: string } }>("/mesh/status")).node.id;
const postTrust = (node: LabNode, who: string, body: object) =>
  node.json(`/mesh/peers/${who}/trust`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ reason: "test", ...body }),
  });

test("nodes that were told one address each stay one mesh when it is gone", async () => {
  const hub = await lab.add({ callsign: "HUB-A", network: "star", linksWanted: 4 });
  const others: LabNode[] = [];
  for (let i = 1; i < NODES; i++)
    others.push(
      await lab.add({ callsign: `ARM-${i}`, network: "star", linksWanted: 4, peers: [hub.endpoint] }),
    );
  await hub.start();
  await Promise.all(others.map((node) => node.start(30_000)));
  for (const node of others) {
    await node.until("everybody to be reachable", async () => (await reaches(node)) === NODES - 1, 30_000);
    await node.until("links of its own accord", async () => (await connected(node)) >= 4, 30_000);
  }
  const startedMs = performance.now();
  await hub.kill("SIGKILL");
  for (const node of others)
    await node.until("the rest without the hub", async () => (await reaches(node)) === NODES - 2, 30_000);
  console.log(`hub killed: ${Math.round(performance.now() - startedMs)} ms until all ${NODES - 1} agree`);
  const [first, last] = [others[0]!, others.at(-1)!];
  const id = await first.send({ to: last.callsign, body: "without the hub" });
  await first.until(
    "the receipt",
    async () => (await first.json<{ state: string }>(`/messages/${id}`)).state === "delivered",
    20_000,
  );
  // Far from everybody to everybody: the wish is four, and others wish too.
  const counts = await Promise.all(others.map(connected));
  expect(Math.max(...counts)).toBeLessThan(NODES);
}, 120_000);

test("a blocked node is back by itself when its time is over", async () => {
  const a = await lab.add({ callsign: "BLK-A", network: "block" });
  const b = await lab.add({ callsign: "BLK-B", network: "block", peers: [a.endpoint] });
  await Promise.all([a.start(), b.start()]);
  await a.until("B", async () => (await connected(a)) === 1, 10_000);
  const idOfB = await idOf(b);
  await postTrust(a, idOfB, { level: "blocked", expires_seconds: 3 });
  const blocked = (await peersOf(a)).find(({ id }) => id === idOfB)!;
  expect(blocked).toMatchObject({ trust: "blocked", trust_by: "operator" });
  expect(Date.parse(blocked.trust_until!)).toBeGreaterThan(Date.now());
  await a.until("B to be cut", async () => (await connected(a)) === 0, 5_000);
  await a.until("B to be back", async () => (await connected(a)) === 1, 40_000);
  expect((await peersOf(a)).find(({ id }) => id === idOfB)!.trust).toBe("member");
}, 60_000);

test("a rule about addresses keeps out who comes from there, whatever its id", async () => {
  const rule = '[[trust.rules]]\nlevel = "blocked"\nnetworks = ["127.0.0.0/8"]\ntransports = ["tcp"]\n';
  const a = await lab.add({ callsign: "RUL-A", network: "rule", extra: rule });
  const b = await lab.add({ callsign: "RUL-B", network: "rule", peers: [a.endpoint] });
  await Promise.all([a.start(), b.start()]);
  const idOfB = await idOf(b);
  await a.until(
    "the rule to block B",
    async () => (await peersOf(a)).some((peer) => peer.id === idOfB && peer.trust_by === "rule"),
    15_000,
  );
  await a.until("no link", async () => (await connected(a)) === 0, 10_000);
  expect((await peersOf(a)).find(({ id }) => id === idOfB)).toMatchObject({ trust: "blocked" });
}, 60_000);
