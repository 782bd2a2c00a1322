import { expect, test } from "bun:test";
import type { Medium } from "@godwit/sdk";
import { Airtime } from "../kernel/airtime.ts";
import { ManualClock } from "../kernel/clock.ts";
import { FrameType } from "../wire/constants.ts";
import { encodeHello } from "../wire/peer-messages.ts";
import { Node } from "./testing-peers.ts";
import { type FakeSession, sessionPair } from "./testing.ts";

const medium: Medium = {
  name: "radio",
  rateBitsPerSecond: 1_000,
  airtimeMs: (bytes) => bytes * 8,
  utilisation: 0,
  broadcastBytesMax: 200,
  broadcast: () => true,
  listen() {},
};

/** A neighbour over a shared channel whose budget a test sees. */
function linked() {
  const clock = new ManualClock();
  const airtime = new Airtime(clock);
  const node = new Node(clock, 1, 1, airtime);
  const [session] = sessionPair(clock, node.id, new Node(clock, 2).id);
  Object.assign(session, { medium, linkClass: "slow", isReliable: false, isCarrying: false });
  return { clock, node, session, budget: airtime.of(medium) };
}
const hello = encodeHello({
  versionMin: 1,
  versionMax: 1,
  bootId: new Uint8Array(8).fill(2),
  storeEpoch: new Uint8Array(8),
  record: new Uint8Array(0),
  wallMs: undefined,
});
const typesOf = ({ sent }: FakeSession) => sent.map(([type]) => type!);

test("what parts tell is taken from the channel's budget, and held back where there is none; mail is not asked about", async () => {
  const { clock, node, session, budget } = linked();
  node.peers.adopt(session);
  session.receive(hello);
  await clock.advance(1);
  const frame = new Uint8Array(50).fill(FrameType.memberFacts);
  expect(node.peers.tell(session.remote, "control", frame, "membership")).toBe(true);
  expect(budget.sums.membership.usedMs).toBe(budget.costMs(50, true));
  budget.charge(budget.savedMs, "other");
  for (const part of ["membership", "revocations", "redemptions"] as const)
    expect(node.peers.tell(session.remote, "control", frame, part)).toBe(false);
  expect(budget.sums.membership.refused).toBe(3);
  // Routing asks by itself, and custody moves mail.
  for (const part of ["routing", "custody"] as const)
    expect(node.peers.tell(session.remote, "control", frame, part)).toBe(true);
});

test("a hello may be owed, and waits where too much is owed already", async () => {
  const { clock, node, session, budget } = linked();
  budget.charge(budget.savedMs + 2 * budget.linkMs, "other");
  node.peers.adopt(session);
  session.receive(hello);
  await clock.advance(30_000);
  expect(typesOf(session)).toEqual([]);
  budget.charge(-3 * budget.linkMs, "other");
  await clock.advance(60_000);
  expect(typesOf(session)).toContain(FrameType.compactHello);
  expect(budget.sums.handshakes.usedMs).toBeGreaterThan(0);
});

test("a link on no shared channel asks nobody", async () => {
  const { clock, node, session, budget } = linked();
  Object.assign(session, { medium: undefined });
  budget.charge(10 * budget.linkMs, "other");
  node.peers.adopt(session);
  session.receive(hello);
  await clock.advance(1);
  expect(typesOf(session)).toContain(FrameType.compactHello);
});
