/**
 * Liars among real nodes: DUN-A reaches NYC-C through LON-B and PAR-K, and dearer through OSL-M. A member attracts mail with metric
 * 0, acknowledges and drops it: within 30 s its neighbour puts it into quarantine, nobody else is, and mail arrives
 * though the liar stays. A destination that stands still gets nobody into quarantine.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import { runDelayMs } from "../../scripts/run-delay.ts";
import { parseNodeId, type NodeId } from "../../runtime/kernel/ids.ts";
import { Member, type MemberOptions } from "./member.ts";
import { addNode, alarms, metricOf, quarantinedBy, Traffic } from "./watch.ts";

const NETWORK = "lab";
const QUARANTINE_MS_MAX = 30_000;
/** So long it is waited, with what the nodes waited for a processor: that is taken off what is measured. */
const PATIENCE_MS = 90_000;
const FROZEN_MS = 25_000;
/** Mail must not wait longer than this for a way around. */
const DELIVERY_MS_MAX = 30_000;

let lab: Lab;
let a: LabNode;
let b: LabNode;
let m: LabNode;
let k: LabNode;
let c: LabNode;
let traffic: Traffic;

const idOf = async (node: LabNode): Promise<NodeId> =>
  parseNodeId((await node.json<{ node: { id: string } }>("/mesh/status")).node.id);

beforeAll(async () => {
  if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
  lab = await Lab.create();
  b = await addNode(lab, "LON-B", []);
  m = await addNode(lab, "OSL-M", [], { extra: '[routing]\nhop_cost = "60ms"' });
  k = await addNode(lab, "PAR-K", [b.endpoint], { extra: '[routing]\nhop_cost = "10ms"' });
  a = await addNode(lab, "DUN-A", [b.endpoint, m.endpoint]);
  c = await addNode(lab, "NYC-C", [k.endpoint, m.endpoint], {
    extra: "[delivery]\ninbox_messages_max = 200000",
  });
  await Promise.all(lab.nodes.map((node) => node.start()));
  const target = await idOf(c);
  await a.until(
    "both ways to NYC-C",
    async () => {
      const { candidates } = await a.json<{ candidates: unknown[] }>(`/mesh/routes/${target}/why`);
      return candidates.length >= 2;
    },
    20_000,
  );
  traffic = new Traffic(a, c);
  await c.until("mail", async () => (await metricOf(c, "godwit_messages_delivered_total")) > 20, 20_000);
}, 60_000);

afterAll(async () => {
  try {
    const { accepted, faults } = await traffic.finish();
    console.log(`${accepted} messages accepted, ${faults.length} faults`);
    expect(faults.slice(0, 10)).toEqual([]);
    for (const node of lab.nodes) expect(alarms(lab, node)).toEqual([]);
  } finally {
    await lab.close();
  }
}, 90_000);

/** How long the one of these that was kept from running most was kept from it from now on, ms. */
function delaysSince(nodes: readonly LabNode[]): () => number {
  const before = nodes.map(({ pid }) => runDelayMs(pid!));
  return () => Math.max(...nodes.map(({ pid }, i) => runDelayMs(pid!) - before[i]!));
}

/** A liar beside `victim`, until that one goes around it; answers whom the others have in quarantine. */
async function lie(what: string, victim: LabNode, more: Partial<MemberOptions> = {}): Promise<string[][]> {
  const target = await idOf(c);
  const before = await Promise.all(lab.nodes.map(quarantinedBy));
  const liar = new Member({ network: NETWORK, isBlackHole: true, attracts: [target], ...more });
  await liar.join(victim);
  try {
    await liar.meet();
    await a.until(`${what}: the liar to be believed`, async () => liar.swallowed > 3, 20_000);
    const startMs = performance.now();
    const delayed = delaysSince(lab.nodes);
    const { id } = liar.identity;
    const isCaught = async () => (await quarantinedBy(victim)).includes(id);
    await victim.until(`${what}: quarantine`, isCaught, PATIENCE_MS, 100);
    const caughtMs = performance.now() - startMs;
    const caughtDelayMs = delayed();
    const ids = (await a.box<{ id: string; state: string }>("outbox"))
      .filter(({ state }) => state === "queued" || state === "relayed")
      .map((message) => message.id);
    // Of the last that ended a node knows 10,000, and no open one is forgotten; that nothing was lost the end of this file shows.
    const isThere = async (message: string) => {
      const answer = await a.api(`/messages/${message}`);
      if (answer.status === 404) return true;
      return ((await answer.json()) as { state: string }).state === "delivered";
    };
    for (const message of ids) await a.until(`${what}: ${message}`, () => isThere(message), PATIENCE_MS, 100);
    const deliveredMs = performance.now() - startMs;
    const delayMs = delayed();
    const rate = await traffic.rate(2_000);
    console.log(
      `${what}: quarantined after ${(caughtMs / 1_000).toFixed(1)} s, all ${ids.length} open messages delivered after ` +
        `${(deliveredMs / 1_000).toFixed(1)} s, ${liar.swallowed} swallowed, then ${rate.toFixed(0)} messages/s; without a processor ` +
        `for ${(delayMs / 1_000).toFixed(1)} s`,
    );
    expect(caughtMs - caughtDelayMs).toBeLessThan(QUARANTINE_MS_MAX);
    expect(deliveredMs - caughtMs - (delayMs - caughtDelayMs)).toBeLessThan(DELIVERY_MS_MAX);
    expect(rate).toBeGreaterThan(0);
  } finally {
    liar.leave();
  }
  const after = await Promise.all(lab.nodes.map(quarantinedBy));
  return after.map((ids, i) => ids.filter((id) => !before[i]!.includes(id) && id !== liar.identity.id));
}

const nobody = () => lab.nodes.map(() => []);

describe("honest", () => {
  test("a destination that stands still: mail waits, nobody is blamed", async () => {
    // Tests come in any order: liars of earlier ones are still in quarantine.
    const before = await Promise.all(lab.nodes.map(quarantinedBy));
    c.signal("SIGSTOP");
    try {
      await Bun.sleep(FROZEN_MS);
    } finally {
      c.signal("SIGCONT");
    }
    await c.until("mail again", async () => (await traffic.rate(1_000)) > 0, 30_000);
    expect(await Promise.all(lab.nodes.map(quarantinedBy))).toEqual(before);
  }, 90_000);
});

describe("a liar", () => {
  test("beside the source drops everything", async () => {
    expect(await lie("drops everything", a)).toEqual(nobody());
  }, 240_000);

  test("two hops away: the relay beside it goes around, and is not blamed itself", async () => {
    expect(await lie("two hops away", b)).toEqual(nobody());
  }, 240_000);

  test("withholds half and passes on the rest", async () => {
    const far = new Member({ network: NETWORK });
    await far.join(c);
    try {
      const passOn = (id: string, frame: Uint8Array) => id.charCodeAt(5) % 2 === 0 && (far.send(frame), true);
      expect(await lie("withholds half", a, { passOn })).toEqual(nobody());
    } finally {
      far.leave();
    }
  }, 240_000);
});
