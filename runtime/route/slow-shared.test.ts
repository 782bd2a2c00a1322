/** Slow links over a channel that all in earshot share: what is told, when, and what is asked for again. */
import { expect, test } from "bun:test";
import type { NodeId } from "../kernel/ids.ts";
import {
  decodeBeacon,
  encodeBeacon,
  encodeProofFrame,
  encodeSeqnoRequest,
  seqnoSigningBytes,
} from "../wire/route-messages.ts";
import type { LinkCost } from "./neighbour.ts";
import { A, B, C, D, E, noHash, offer, Rig, S, sign } from "./testing-router.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/** Beacons and proofs that went to a neighbour. */
function toldTo(rig: Rig, id: string, from = 0) {
  return rig.sent
    .slice(from)
    .filter(({ to, frame }) => to === id && frame[0] === 0x10 && frame[1] === 1)
    .map(({ frame, atMs }) => ({ ...decodeBeacon(frame), atMs }));
}
const proofsTo = (rig: Rig, id: string) =>
  rig.sent.filter(({ to, frame }) => to === id && frame[0] === 0x10 && frame[1] === 2).length;

/** A link whose channel gives `has()`. */
function shared(has: () => boolean = () => true) {
  const asked: string[] = [];
  const takeAirtime = (_bytes: number, need: "mail" | "begin" | "control" | "answer") => {
    asked.push(need);
    return has();
  };
  const link: LinkCost = { cost: 20_000, mtu: 200, bottleneck: 2, profile: "slow", takeAirtime };
  return { link, asked };
}

const beaconOf = (seqno: number, gatewayMetric?: number, hasProof = true) =>
  encodeBeacon({ seqno, hasProof, gatewayMetric });

test("a beacon of the link is said once, as what mail waits for, and not again while nothing is new", () => {
  const rig = new Rig(S);
  const { link, asked } = shared();
  rig.meet(A, link);
  rig.run(1_000);
  rig.router.handleFrame(A, beaconOf(5));
  rig.run(48 * HOUR_MS);
  expect(toldTo(rig, A).length).toBe(1);
  expect(asked).toEqual(["mail"]);
  expect(rig.router.reachable(A)).toBe(true);
});

test("what else is said to a far end that never speaks is paid as anything, and owed for nothing", () => {
  const rig = new Rig(S);
  const { link, asked } = shared();
  rig.meet(A, link);
  rig.run(10_000);
  expect(toldTo(rig, A).length).toBe(1);
  expect(rig.router.takeAirtime(A, 100)).toBe(true);
  expect(asked).toEqual(["mail", "control"]);
});

test("what a neighbour has asked on is taken from its own part, not that of whom it goes to", () => {
  const rig = new Rig(S);
  const payers: unknown[] = [];
  rig.meet(A, { ...shared().link, takeAirtime: (_, need, by) => (payers.push([need, by]), true) });
  rig.run(5_000);
  rig.router.handleFrame(A, beaconOf(5));
  payers.length = 0;
  expect(rig.router.takeAirtime(A, 20, "answer", B)).toBe(true);
  expect(payers).toEqual([["answer", B]]);
});

test("while the far end has not spoken it is asked, ever less often", () => {
  const rig = new Rig(S);
  rig.meet(A, shared().link);
  rig.run(24 * HOUR_MS);
  const told = toldTo(rig, A);
  expect(told[0]!.wantsBeacon).toBe(false);
  expect(told.slice(1).every(({ wantsBeacon }) => wantsBeacon)).toBe(true);
  expect(told.length).toBeGreaterThan(10);
  expect(told.length).toBeLessThan(50);
});

test("a proof that was lost or had no airtime is sent until the gateway has it", () => {
  let has = true;
  const rig = new Rig(S);
  rig.meet(A, shared(() => has).link);
  rig.run(5_000);
  has = false;
  rig.router.handleFrame(A, beaconOf(5, 10, false));
  expect(proofsTo(rig, A)).toBe(0);
  has = true;
  const from = rig.sent.length;
  rig.run(2 * HOUR_MS);
  // It goes before anybody is asked: a question would spend what it is saved up for.
  const next = rig.sent.slice(from).map(({ frame }) => frame[1]);
  expect(next[0]).toBe(2);
  expect(proofsTo(rig, A)).toBe(1);
  expect(toldTo(rig, A, from)[0]?.wantsBeacon).toBe(true);
  // The answer: still none.
  rig.router.handleFrame(A, beaconOf(5, 10, false));
  expect(proofsTo(rig, A)).toBe(2);
  rig.router.handleFrame(A, beaconOf(5, 10, true));
  const settled = rig.sent.length;
  rig.run(24 * HOUR_MS);
  expect(rig.sent.length).toBe(settled);
});

test("what changes is told once in five minutes, as it is then, and little changes of a cost are none", () => {
  const rig = new Rig(A);
  rig.meet(B);
  rig.meet(S, shared().link);
  rig.run(5_000);
  rig.router.handleFrame(S, beaconOf(5));
  rig.run(HOUR_MS);
  const from = rig.sent.length;
  for (let i = 0; i < 60; i++) {
    rig.router.neighbourDown(B);
    rig.run(5_000);
    rig.meet(B);
    rig.run(5_000);
  }
  expect(toldTo(rig, S, from).length).toBeLessThanOrEqual(3);
  rig.run(HOUR_MS);
  expect(toldTo(rig, S).at(-1)?.gatewayMetric).toBe(10);
  const steady = rig.sent.length;
  rig.router.neighbourCost(B, { cost: 11, mtu: 1_400, bottleneck: 0, profile: "fast" });
  rig.run(HOUR_MS);
  expect(toldTo(rig, S, steady)).toEqual([]);
  rig.router.neighbourCost(B, { cost: 40, mtu: 1_400, bottleneck: 0, profile: "fast" });
  rig.run(HOUR_MS);
  expect(toldTo(rig, S, steady).map(({ gatewayMetric }) => gatewayMetric)).toEqual([40]);
});

test("what was new is not told when it is so no more, and a number only to a gateway", () => {
  const rig = new Rig(A);
  rig.meet(B);
  rig.meet(S, shared().link);
  rig.run(5_000);
  rig.router.handleFrame(S, beaconOf(5));
  rig.run(HOUR_MS);
  const from = rig.sent.length;
  // One is told, and the gap keeps the next from being told at once.
  rig.router.neighbourCost(B, { cost: 40, mtu: 1_400, bottleneck: 0, profile: "fast" });
  rig.run(10_000);
  expect(toldTo(rig, S, from).length).toBe(1);
  rig.router.neighbourCost(B, { cost: 400, mtu: 1_400, bottleneck: 0, profile: "fast" });
  rig.run(10_000);
  rig.router.neighbourCost(B, { cost: 40, mtu: 1_400, bottleneck: 0, profile: "fast" });
  rig.run(HOUR_MS);
  expect(toldTo(rig, S, from).length).toBe(1);
  rig.router.recordChanged();
  rig.run(HOUR_MS);
  expect(toldTo(rig, S, from).length).toBe(1);
  // It becomes a gateway: now it tells others of what it hears.
  rig.router.handleFrame(S, beaconOf(6, 10));
  rig.run(HOUR_MS);
  const said = toldTo(rig, S, from);
  expect(said.at(-1)!.seqno).toBeGreaterThan(said[0]!.seqno);
});

test("a number that was told and is asked for was lost: it is told again, once in five minutes", () => {
  const rig = new Rig(S);
  rig.meet(A, shared().link);
  rig.run(5_000);
  rig.router.handleFrame(A, beaconOf(5, 10));
  rig.run(HOUR_MS);
  const from = rig.sent.length;
  const { seqno } = toldTo(rig, A).at(-1)!;
  const ask = { tag: 0, destination: S, seqno, planes: 1, hopsLeft: 3 };
  for (let i = 0; i < 10; i++) {
    rig.router.handleFrame(A, encodeSeqnoRequest(ask));
    rig.run(60_000);
  }
  expect(toldTo(rig, A, from).map((said) => said.seqno)).toEqual([seqno, seqno]);
});

test("who is asked says it again, but not to whoever asks all the time", () => {
  const rig = new Rig(A);
  rig.meet(S, shared().link);
  rig.run(5_000);
  const from = rig.sent.length;
  for (let i = 0; i < 120; i++) {
    rig.router.handleFrame(
      S,
      encodeBeacon({ seqno: 5, hasProof: true, gatewayMetric: undefined, wantsBeacon: true }),
    );
    rig.run(1_000);
  }
  expect(toldTo(rig, S, from).length).toBeGreaterThan(0);
  expect(toldTo(rig, S, from).length).toBeLessThanOrEqual(8);
});

test("a beacon to all that contradicts the link's own changes nothing but that the neighbour is asked, once in five minutes", () => {
  const rig = new Rig(S);
  rig.meet(A, shared().link);
  rig.run(5_000);
  rig.router.handleFrame(A, beaconOf(5));
  rig.run(HOUR_MS);
  const from = rig.sent.length;
  rig.router.heardOnChannel(A, false);
  expect(rig.sent.length).toBe(from);
  for (let i = 0; i < 60; i++) {
    rig.router.heardOnChannel(A, true);
    rig.run(10_000);
  }
  expect(rig.isDefaultThere).toBe(false);
  expect(toldTo(rig, A, from).length).toBeLessThanOrEqual(3);
  expect(toldTo(rig, A, from).every(({ wantsBeacon }) => wantsBeacon)).toBe(true);
  // What it says itself counts.
  rig.router.handleFrame(A, beaconOf(5, 10));
  expect(rig.router.nextHops(D, "any")[0]).toMatchObject({ neighbour: A, isDefault: true });
});

test("a neighbour that is not there leads nowhere, and back with what it had proved", () => {
  const rig = new Rig(S);
  rig.meet(A, shared().link);
  rig.run(5_000);
  rig.router.handleFrame(A, beaconOf(5, 10));
  expect([rig.router.reachable(A), rig.router.reachable(D)]).toEqual([true, true]);
  rig.router.setThere(A, false);
  expect([rig.router.reachable(A), rig.router.reachable(D), rig.isDefaultThere]).toEqual([
    false,
    false,
    false,
  ]);
  const distance = rig.router.feasibility(A, "any");
  rig.router.setThere(A, true);
  expect([rig.router.reachable(A), rig.router.reachable(D)]).toEqual([true, true]);
  expect(rig.router.feasibility(A, "any")).toEqual(distance);
});

test("the core loses an edge node that is not there any more, and has it again", () => {
  const rig = new Rig(A);
  rig.meet(B);
  rig.meet(S, shared().link);
  rig.run(5_000);
  rig.router.handleFrame(S, beaconOf(100));
  const proof = {
    seqno: 100,
    recordHash: noHash,
    signature: sign(S, seqnoSigningBytes("test", S, 100, noHash)),
  };
  rig.router.handleFrame(S, encodeProofFrame({ of: "sender", proof }));
  rig.run(10_000);
  const last = () => rig.told(B).findLast(({ entry }) => entry.destination === S)?.entry;
  expect(last()?.any.metric).toBe(20_000);
  rig.acknowledge(B);
  rig.router.setThere(S, false);
  rig.run(10_000);
  expect(last()?.any.metric).toBe(0xffff_ffff);
  rig.router.setThere(S, true);
  rig.run(10_000);
  expect(last()?.any.metric).toBe(20_000);
});

test("news in between do not end the asking", () => {
  const rig = new Rig(S);
  rig.meet(A, shared().link);
  rig.run(5_000);
  rig.router.handleFrame(A, beaconOf(5, 10, false));
  rig.run(1_000);
  rig.router.settle();
  const from = rig.sent.length;
  rig.run(6 * HOUR_MS);
  expect(toldTo(rig, A, from).filter(({ wantsBeacon }) => wantsBeacon).length).toBeGreaterThan(3);
});

test("whoever in the mesh asks for an edge node's number, and however often: over the channel it is asked for ever less often", () => {
  const rig = new Rig(A);
  rig.meet(B);
  rig.meet(S, shared().link);
  rig.run(5_000);
  rig.router.handleFrame(S, beaconOf(100));
  const askedFor = (seqno: number) => {
    rig.router.handleFrame(
      B,
      encodeSeqnoRequest({ tag: rig.tagFor(B), destination: S, seqno, planes: 1, hopsLeft: 9 }),
    );
    rig.run(10_000);
  };
  const asked = () => rig.sent.filter(({ to, frame }) => to === S && frame[0] === 0x12);
  for (let i = 0; i < 6 * 360; i++) askedFor(101);
  // 5, 10, 20, 40 and 60 minutes.
  const gaps = asked().map(({ atMs }, at, all) => Math.round((atMs - (all[at - 1]?.atMs ?? atMs)) / 60_000));
  expect(gaps).toEqual([0, 5, 10, 20, 40, 60, 60, 60, 60]);
  const before = asked().length;
  // A newer number is another thing, and flaps of the mesh may ask for many.
  for (let i = 0; i < 360; i++) askedFor(102 + i);
  expect(asked().length - before).toBeLessThanOrEqual(13);
  expect(asked().length - before).toBeGreaterThan(10);
});

test("a number that there never is, asked for all the time, keeps nobody from the one that is needed", () => {
  const rig = new Rig(A);
  for (const id of [B, C]) rig.meet(id);
  rig.meet(S, shared().link);
  rig.run(5_000);
  rig.router.handleFrame(S, beaconOf(100));
  const ask = (from: NodeId, seqno: number) =>
    rig.router.handleFrame(
      from,
      encodeSeqnoRequest({ tag: rig.tagFor(from), destination: S, seqno, planes: 1, hopsLeft: 9 }),
    );
  for (let i = 0; i < 6 * 60 * 6; i++) {
    ask(B, 2 ** 48 - 1);
    rig.run(10_000);
  }
  const from = rig.sent.length;
  ask(C, 101);
  rig.run(300_000);
  ask(C, 101);
  rig.run(1_000);
  expect(rig.sent.slice(from).some(({ to, frame }) => to === S && frame[0] === 0x12)).toBe(true);
});

test("who asked for a number is told of it at once, whatever others ask for", () => {
  const rig = new Rig(A);
  for (const id of [B, C, D]) rig.meet(id);
  rig.tell(D, [offer(E, 40, 100)]);
  rig.run(10_000);
  for (const id of [B, C, D]) rig.acknowledge(id);
  for (const [from, seqno] of [
    [B, 2 ** 48 - 1],
    [C, 101],
  ] as const)
    rig.router.handleFrame(
      from,
      encodeSeqnoRequest({ tag: rig.tagFor(from), destination: E, seqno, planes: 1, hopsLeft: 9 }),
    );
  const before = rig.sent.length;
  rig.tell(D, [offer(E, 40, 101)]);
  rig.run(0);
  expect(rig.told(C, before).map(({ entry }) => [entry.destination, entry.any.seqno])).toEqual([[E, 101]]);
});
