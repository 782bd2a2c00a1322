/** Throw-away identities at one node, each with a key, a record and a callsign of its own, and what honest people notice of them. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { parseNodeId, type NodeId } from "../../runtime/kernel/ids.ts";
import { FrameType } from "../../runtime/wire/constants.ts";
import { encodeProbe } from "../../runtime/wire/peer-messages.ts";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import { Member } from "./member.ts";
import { metricOf, vitalsOf } from "./watch.ts";

const NETWORK = "lab";
const AT_ONCE = 32;
/** Mail of and to newcomers arrives within this, ms. */
export const NEWCOMER_MS = 10_000;
const WAIT_MS = 60_000;
/** What the node may have grown by once what the flood left to the collector is given back, MB: its tables, full. */
const GROWTH_MAX_MB = 250;
const REST_MS = 60_000;

export const idOf = async (node: LabNode): Promise<NodeId> =>
  parseNodeId((await node.json<{ node: { id: string } }>("/mesh/status")).node.id);

/** Links, is heard with its record, and goes. */
async function throwAway(node: LabNode, callsign: string): Promise<boolean> {
  let heard = () => {};
  const isHeard = new Promise<void>((resolve) => (heard = resolve));
  const member = new Member({
    network: NETWORK,
    callsign,
    hears: (frame) => {
      if (frame[0] === FrameType.probeReply) heard();
    },
  });
  try {
    await member.join(node);
    member.send(encodeProbe(1));
    await Promise.race([isHeard, Bun.sleep(5_000)]);
    return !member.isClosed;
  } catch {
    return false;
  } finally {
    member.leave();
  }
}

/** Answers how many of them the node heard. */
export async function flood(node: LabNode, count: number): Promise<number> {
  let [next, heard] = [0, 0];
  const worker = async () => {
    while (next < count) if (await throwAway(node, `SY-${(next++).toString(36).toUpperCase()}`)) heard++;
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return heard;
}

async function deliver(from: LabNode, to: string, withinMs: number): Promise<number> {
  const startedMs = performance.now();
  const id = await from.send({ to, body: "x" });
  await from.until(
    `the receipt of ${to}`,
    async () => (await from.json<{ state: string }>(`/messages/${id}`)).state === "delivered",
    withinMs,
  );
  return performance.now() - startedMs;
}

/** The test of a flood of so many, which may take so long. */
export function declareFlood(count: number, testMs: number): void {
  let lab: Lab;
  beforeAll(async () => {
    if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
    lab = await Lab.create();
  });
  afterAll(() => lab?.close());
  test(
    `${count.toLocaleString("en")} throw-away identities do not keep newcomers from mail, to their names and ids, nor after a restart`,
    () => floodAndLook(lab, count),
    testMs,
  );
}

/** A and C at B; then the flood at B; then people who were never here before, before and after a restart of B. */
async function floodAndLook(lab: Lab, count: number): Promise<void> {
  const b = await lab.add({ callsign: "FLD-B" });
  const a = await lab.add({ callsign: "FLD-A", peers: [b.endpoint], linksWanted: 0 });
  await Promise.all([b.start(), a.start()]);
  await deliver(a, await idOf(b), WAIT_MS);
  await deliver(b, "FLD-A", WAIT_MS);
  const before = vitalsOf(b);
  const startedMs = performance.now();
  const heard = await flood(b, count);
  const seconds = (performance.now() - startedMs) / 1_000;
  expect(heard).toBeGreaterThan(count * 0.9);
  const newcomer = async (letter: string): Promise<LabNode> => {
    const node = await lab.add({ callsign: `FLD-${letter}`, peers: [b.endpoint], linksWanted: 0 });
    await node.start();
    return node;
  };
  const c = await newcomer("C");
  const took = [
    await deliver(c, await idOf(a), NEWCOMER_MS),
    await deliver(b, await idOf(c), NEWCOMER_MS),
    await deliver(a, await idOf(c), NEWCOMER_MS),
    await deliver(a, "FLD-C", NEWCOMER_MS),
  ];
  const grownMb = Math.round(vitalsOf(b).rssMb - before.rssMb);
  await b.until(
    `${GROWTH_MAX_MB} MB more than before, or less`,
    () => Promise.resolve(vitalsOf(b).rssMb - before.rssMb < GROWTH_MAX_MB),
    REST_MS,
  );
  await b.kill("SIGTERM");
  await b.start();
  const d = await newcomer("D");
  took.push(
    await deliver(d, await idOf(a), NEWCOMER_MS),
    await deliver(a, await idOf(d), NEWCOMER_MS),
    await deliver(b, "FLD-D", NEWCOMER_MS),
    await deliver(b, "FLD-A", NEWCOMER_MS),
    await deliver(c, "FLD-A", NEWCOMER_MS),
  );
  console.log(
    `  ${heard} identities in ${seconds.toFixed(0)} s, ${grownMb} MB more; newcomers' mail took ${took.map((ms) => Math.round(ms)).join(", ")} ms; gave way: ${await metricOf(b, "godwit_gave_way_total").catch(() => 0)}`,
  );
}
