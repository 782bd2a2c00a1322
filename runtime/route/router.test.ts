/** Routers by hand: haste, bounds, proofs, records, digests, slow links. The wide random world is router.sim.test.ts. */
import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { nodeIdBytes, type NodeId } from "../kernel/ids.ts";
import { FrameType } from "../wire/constants.ts";
import {
  appendUpdateEntry,
  beginUpdate,
  decodeBeacon,
  decodeRecordRequest,
  decodeRouteResync,
  decodeUpdateHeader,
  encodeBeacon,
  encodeProofFrame,
  encodeRouteAck,
  encodeRouteDigest,
  encodeRouteResync,
  UNREACHABLE,
  UPDATE_HEADER_BYTES,
  type UpdateEntry,
} from "../wire/route-messages.ts";
import type { Regard } from "../kernel/room.ts";
import {
  UPDATE_FRAME_BYTES,
  UPDATE_TURN_BYTES,
  UPDATE_TURN_MS,
  UPDATE_WAITING_FRAME_BYTES,
  UPDATES_UNDER_WAY_FIRST,
  UPDATES_WAITING_BYTES_MAX,
} from "./limits.ts";
import type { LinkCost } from "./neighbour.ts";
import { epochOf } from "./origin.ts";
import { idOf, fast, Rig, noHash, offer, S, A, B, C, D, E } from "./testing-router.ts";

const slow: LinkCost = { cost: 20_000, mtu: 200, bottleneck: 2, profile: "slow" };
const retract = (destination: NodeId): UpdateEntry => ({
  destination,
  any: UNREACHABLE,
  bulk: UNREACHABLE,
  proof: undefined,
});

describe("haste", () => {
  test("a first route leaves after coalescing, a decrease after a second, a retraction at once", () => {
    const rig = new Rig(S);
    rig.meet(A);
    rig.meet(B);
    rig.run(100);
    const about = (from: number) => rig.told(B, from).filter(({ entry }) => entry.destination === D);
    const mark = rig.sent.length;
    const startMs = rig.clock.monotonicMs();
    rig.tell(A, [offer(D, 50)]);
    expect(about(mark)).toEqual([]);
    rig.run(40);
    expect(about(mark)[0]!.entry.any.metric).toBe(60);
    expect(about(mark)[0]!.atMs - startMs).toBeLessThanOrEqual(30);

    rig.acknowledge(B);
    const second = rig.sent.length;
    rig.tell(A, [offer(D, 30)]);
    rig.run(900);
    expect(about(second).filter(({ entry }) => entry.any.metric === 40)).toEqual([]);
    rig.run(200);
    expect(about(second).at(-1)!.entry.any.metric).toBe(40);

    const third = rig.sent.length;
    rig.tell(A, [retract(D)]);
    expect(about(third).map(({ entry }) => entry.any)).toEqual([UNREACHABLE]);
    expect(rig.changes.at(-1)).toEqual({ destination: D, reachable: false });
  });

  test("a neighbour's routes die with it, before the call returns", () => {
    const rig = new Rig(S);
    rig.meet(A);
    rig.tell(A, [offer(A, 0), offer(D, 50)]);
    expect(rig.router.reachable(D)).toBe(true);
    rig.router.neighbourDown(A);
    expect([rig.router.reachable(D), rig.router.reachable(A)]).toEqual([false, false]);
  });

  test("another boot id kills what the earlier life said; frames with its tag are not read", () => {
    const rig = new Rig(S);
    rig.meet(A);
    const oldTag = rig.tagFor(A);
    rig.tell(A, [offer(D, 50)]);
    rig.router.neighbourUp(A, { bootId: "2", cost: fast });
    expect(rig.router.reachable(D)).toBe(false);
    const writer = beginUpdate(oldTag, 99, 400);
    const { destination, any, bulk, proof } = offer(D, 50);
    appendUpdateEntry(writer, destination, any, bulk, proof);
    rig.router.handleFrame(A, writer.finish());
    expect(rig.router.reachable(D)).toBe(false);
  });

  test("a neighbour that begins anew without a new boot id is forgotten all the same", () => {
    const rig = new Rig(S);
    rig.meet(A);
    rig.tell(A, [offer(D, 50)]);
    rig.router.handleFrame(A, encodeRouteResync({ buckets: 0, ownTag: 78, peerTag: rig.tagFor(A) }));
    expect(rig.router.reachable(D)).toBe(false);
  });

  test("unacknowledged updates go out again, at once when a link is lost", () => {
    const rig = new Rig(S);
    rig.meet(A);
    rig.run(35);
    expect(rig.told(A).length).toBe(1);
    rig.router.linkLost(A);
    expect(rig.told(A).length).toBe(2);
    rig.run(300);
    expect(rig.told(A).length).toBe(3);
  });

  test("who is gone is told nothing more, not even by the selection that its end caused", () => {
    const rig = new Rig(S);
    rig.meet(A);
    rig.meet(B);
    rig.tell(A, [offer(D, 50)]);
    rig.tell(B, [offer(D, 55)]);
    rig.run(100);
    rig.router.neighbourDown(A);
    expect(rig.router.reachable(D)).toBe(true);
    const mark = rig.sent.length;
    rig.run(60_000);
    expect(rig.sent.slice(mark).filter(({ to }) => to === A)).toEqual([]);
  });

  test("updates that come faster than a turn may read wait, a neighbour each in turn, and what else comes does not wait behind them", () => {
    const rig = new Rig(S);
    rig.meet(A);
    rig.meet(B);
    const ofMany = (count: number, from: number) =>
      Array.from({ length: count }, (_, n) => offer(idOf(from + n), 50));
    const frameOf = (from: NodeId, serial: number, entries: readonly UpdateEntry[]) => {
      const writer = beginUpdate(rig.tagFor(from), serial, UPDATE_FRAME_BYTES);
      for (const { destination, any, bulk, proof } of entries)
        appendUpdateEntry(writer, destination, any, bulk, proof);
      return writer.finish();
    };
    const acks = (to: NodeId) =>
      rig.sent.filter(({ to: id, frame }) => id === to && frame[0] === FrameType.routeAck).length;
    const frames = 40;
    for (let i = 0; i < frames; i++) rig.router.handleFrame(A, frameOf(A, i + 1, ofMany(55, 1_000 + i * 55)));
    rig.router.handleFrame(B, frameOf(B, 1, [offer(D, 10)]));
    const atOnce = acks(A);
    expect(atOnce).toBeGreaterThan(0);
    expect(atOnce).toBeLessThan(frames);
    expect([acks(B), rig.router.reachable(D)]).toEqual([0, false]);
    // The next frame of A and then that of B, not all of A's.
    rig.clock.runNext(rig.clock.monotonicMs());
    expect(rig.router.reachable(D)).toBe(true);
    rig.run(0);
    expect([acks(A), acks(B)]).toEqual([frames, 1]);
    expect(rig.router.tableSize).toBe(1 + 2 + frames * 55 + 1 - 2);
  });

  test("a neighbour that begins anew is not believed what it said before and nobody has read yet", () => {
    const rig = new Rig(S);
    rig.meet(A);
    const frameOf = (serial: number, entries: readonly UpdateEntry[]) => {
      const writer = beginUpdate(rig.tagFor(A), serial, UPDATE_FRAME_BYTES);
      for (const { destination, any, bulk, proof } of entries)
        appendUpdateEntry(writer, destination, any, bulk, proof);
      return writer.finish();
    };
    const many = Array.from({ length: 55 }, (_, n) => offer(idOf(1_000 + n), 50));
    for (let serial = 1; serial < 30; serial++) rig.router.handleFrame(A, frameOf(serial, many));
    rig.router.handleFrame(A, frameOf(30, [offer(D, 10)]));
    rig.router.handleFrame(A, encodeRouteResync({ buckets: 0, ownTag: 78, peerTag: rig.tagFor(A) }));
    rig.router.handleFrame(A, frameOf(31, [offer(E, 10)]));
    rig.run(0);
    expect([rig.router.reachable(D), rig.router.reachable(E)]).toEqual([false, true]);
  });

  test("frames with nothing in them are bounded as well as full ones", () => {
    const rig = new Rig(S);
    rig.meet(A);
    const frames = 60_000;
    const tag = rig.tagFor(A);
    for (let serial = 1; serial <= frames; serial++)
      rig.router.handleFrame(A, beginUpdate(tag, serial, UPDATE_FRAME_BYTES).finish());
    rig.run(0);
    const read = rig.sent.filter(({ frame }) => frame[0] === FrameType.routeAck).length;
    const atOnce = Math.ceil(UPDATE_TURN_BYTES / UPDATE_HEADER_BYTES);
    expect(read - atOnce).toBeGreaterThan(10_000);
    expect(read - atOnce).toBeLessThanOrEqual(UPDATES_WAITING_BYTES_MAX / UPDATE_WAITING_FRAME_BYTES);
  });

  test("a turn ends by time as well, what waits is a copy, and behind the end nothing is read", () => {
    const rig = new Rig(S);
    rig.meet(A);
    const tag = rig.tagFor(A);
    const frames = Array.from({ length: 6 }, (_, i) => {
      const writer = beginUpdate(tag, i + 1, UPDATE_FRAME_BYTES);
      for (let n = 0; n < 4; n++) {
        const { destination, any, bulk, proof } = offer(idOf(1_000 + i * 4 + n), 50);
        appendUpdateEntry(writer, destination, any, bulk, proof);
      }
      return writer.finish();
    });
    rig.verifyMs = UPDATE_TURN_MS / 4;
    const buffer = new Uint8Array(UPDATE_FRAME_BYTES);
    for (const frame of frames) {
      buffer.set(frame);
      rig.router.handleFrame(A, buffer.subarray(0, frame.length));
      buffer.fill(0);
    }
    expect(rig.router.tableSize).toBe(1 + 4);
    rig.clock.runNext(rig.clock.monotonicMs());
    expect(rig.router.tableSize).toBe(1 + 8);
    rig.router.close();
    rig.run(1_000);
    expect([rig.router.tableSize, rig.malformed]).toEqual([1 + 8, []]);
  });

  test("what cannot be read behind its turn is told, and nothing else of that neighbour is read", () => {
    const rig = new Rig(S);
    rig.meet(A);
    rig.meet(B);
    const many = Array.from({ length: 55 }, (_, n) => offer(idOf(1_000 + n), 50));
    const frameOf = (from: NodeId, serial: number, entries: readonly UpdateEntry[]) => {
      const writer = beginUpdate(rig.tagFor(from), serial, UPDATE_FRAME_BYTES);
      for (const { destination, any, bulk, proof } of entries)
        appendUpdateEntry(writer, destination, any, bulk, proof);
      return writer.finish();
    };
    for (let i = 1; i < 30; i++) rig.router.handleFrame(B, frameOf(B, i, many));
    rig.router.handleFrame(A, frameOf(A, 1, [offer(D, 10)]).subarray(0, 60));
    rig.router.handleFrame(A, frameOf(A, 2, [offer(E, 10)]));
    expect(rig.malformed).toEqual([]);
    rig.run(0);
    expect([rig.malformed, rig.router.reachable(E)]).toEqual([[A], false]);
    // A neighbour that has gone meanwhile leaves nothing that could be read as another's.
    for (let i = 30; i < 60; i++) rig.router.handleFrame(B, frameOf(B, i, many));
    rig.router.handleFrame(A, frameOf(A, 3, [offer(E, 10)]));
    rig.router.neighbourDown(A);
    rig.run(0);
    expect([rig.malformed, rig.router.reachable(E)]).toEqual([[A], false]);
  });

  test("a neighbour that does not keep up is told less at once, and more again as it acknowledges", () => {
    const rig = new Rig(S);
    rig.meet(A);
    for (let at = 0; at < 3_000; at += 60) {
      rig.tell(
        A,
        Array.from({ length: 60 }, (_, n) => offer(idOf(1_000 + at + n), 50)),
      );
      rig.run(200);
    }
    let mark = rig.sent.length;
    const updates = () => {
      const found = rig.sent
        .slice(mark)
        .filter(({ to, frame }) => to === B && frame[0] === FrameType.routeUpdate);
      mark = rig.sent.length;
      return found;
    };
    rig.meet(B);
    rig.run(60);
    const acknowledge = (frames: ReturnType<typeof updates>) => {
      for (const { frame } of frames) {
        const { serial } = decodeUpdateHeader(frame);
        rig.router.handleFrame(B, encodeRouteAck({ tag: rig.tagFor(B), serial }));
      }
    };
    let fresh = updates();
    expect(fresh.length).toBe(UPDATES_UNDER_WAY_FIRST);
    for (const doubled of [8, 16]) {
      acknowledge(fresh);
      fresh = updates();
      expect(fresh.length).toBe(doubled);
    }
    for (const halved of [8, 4]) {
      for (fresh = []; fresh.length === 0; fresh = updates()) rig.run(10);
      expect(fresh.length).toBe(halved);
    }
    // It was too much once: from there on all of them bring one more.
    acknowledge(fresh);
    expect(updates().length).toBe(5);
  });

  test("the newest serial wins, however late the older one comes", () => {
    const rig = new Rig(S);
    rig.meet(A);
    rig.tell(A, [retract(D), offer(D, 70)], 5);
    rig.tell(A, [offer(D, 20)], 4);
    expect(rig.router.nextHops(D, "any")[0]!.metric).toBe(80);
  });
});

describe("requests", () => {
  const requests = (rig: Rig) => rig.sent.filter(({ frame }) => frame[0] === FrameType.seqnoRequest);

  test("no feasible route: retracts and asks at once, three times with pauses, then rarely", () => {
    const rig = new Rig(S);
    for (const id of [A, B, C]) rig.meet(id);
    rig.tell(A, [offer(D, 50)]);
    rig.run(100);
    rig.tell(B, [offer(D, 60)]); // not below the 60 that was advertised
    expect(rig.router.nextHops(D, "any").length).toBe(1);
    rig.router.neighbourDown(A);
    expect(rig.router.reachable(D)).toBe(false);
    expect(requests(rig).map(({ to }) => to)).toEqual([B]);
    rig.run(20_000);
    expect(requests(rig).length).toBe(3);
    expect(rig.router.explain(D).candidates[0]!.reason).toContain("could make a loop");
    rig.tell(B, [offer(D, 60, 101)]);
    expect(rig.router.nextHops(D, "any")[0]!.neighbour).toBe(B);
    const after = requests(rig).length;
    rig.run(200_000);
    expect(requests(rig).length).toBe(after);
  });

  test("the originator raises its number once for many askers, at a limited rate", () => {
    const a = new Rig(S);
    a.meet(A);
    const before = a.router.seqno;
    const ask = (seqno: number) => {
      const tag = Buffer.alloc(4);
      tag.writeUInt32BE(a.tagFor(A));
      const number = Buffer.alloc(6);
      number.writeUIntBE(seqno, 0, 6);
      const id = Buffer.from(Array.from({ length: 32 }, (_, i) => (i === 0 ? 1 : 0)));
      a.router.handleFrame(
        A,
        new Uint8Array(Buffer.concat([Buffer.from([0x12]), tag, id, number, Buffer.from([3, 9])])),
      );
    };
    ask(before);
    expect(a.router.seqno).toBe(before);
    ask(before + 1);
    ask(before + 1);
    expect(a.router.seqno).toBe(before + 1);
    for (let i = 0; i < 50; i++) ask(a.router.seqno + 1_000);
    expect(a.router.seqno).toBe(before + 8);
    a.run(1_500);
    expect(a.router.seqno).toBe(before + 9);
  });

  test("hears a higher number of its own and jumps above it; a forged one does nothing", () => {
    const rig = new Rig(S);
    rig.meet(A);
    const forged = { ...offer(S, 5, 2 ** 30), any: UNREACHABLE, bulk: UNREACHABLE };
    rig.tell(A, [{ ...forged, proof: { ...forged.proof!, signature: new Uint8Array(64) } }]);
    expect(epochOf(rig.router.seqno)).toBe(3);
    rig.tell(A, [forged]);
    expect(epochOf(rig.router.seqno)).toBe(65);
    expect(rig.epochs).toEqual([64]);
  });

  test("leaves a higher number of its own to another life that goes on", () => {
    const rig = new Rig(S);
    rig.isOutrun = true;
    rig.meet(A);
    const before = rig.router.seqno;
    rig.tell(A, [{ ...offer(S, 5, 2 ** 30), any: UNREACHABLE, bulk: UNREACHABLE }]);
    expect([rig.epochs, rig.router.seqno]).toEqual([[64], before]);
  });

  test("begins an epoch at 0, and goes on with numbers of its own: two lives of one epoch hear of each other", () => {
    const rigs = [1, 2, 3, 4, 5, 6, 7, 8].map((seed) => new Rig(S, { seed }));
    expect(new Set(rigs.map(({ router }) => router.seqno))).toEqual(new Set([3 * 2 ** 24]));
    for (const { router } of rigs) router.settle();
    expect(new Set(rigs.map(({ router }) => router.seqno)).size).toBe(8);
    expect(Math.min(...rigs.map(({ router }) => router.seqno))).toBeGreaterThan(3 * 2 ** 24);
  });
});

describe("poison", () => {
  test("unproven numbers are not believed, bad signatures stop being checked", () => {
    const rig = new Rig(S);
    rig.meet(A);
    rig.tell(A, [{ ...offer(D, 50), proof: undefined }]);
    expect(rig.router.tableSize).toBe(1);
    rig.tell(A, [offer(D, 50)]);
    rig.tell(A, [{ ...offer(D, 1, 105), proof: offer(D, 50, 104).proof }]);
    expect(rig.router.nextHops(D, "any")[0]!.metric).toBe(60);
    const before = rig.verifications;
    for (let i = 0; i < 500; i++)
      rig.tell(A, [{ ...offer(idOf(1_000 + i), 1), proof: { ...offer(D, 1).proof!, seqno: 100 } }]);
    expect(rig.verifications - before).toBeLessThanOrEqual(65);
    expect(rig.router.tableSize).toBe(2);
  });

  test("a signature is checked once for each number", () => {
    const rig = new Rig(S);
    rig.meet(A);
    rig.meet(B);
    for (let i = 0; i < 20; i++) for (const from of [A, B]) rig.tell(from, [offer(D, 50 + i)]);
    expect(rig.verifications).toBe(1);
  });

  test("a flood of destinations is refused at the bound, without pushing anything out", () => {
    const rig = new Rig(S, { destinationsMax: 120, destinationsPerNeighbourMax: 80 });
    rig.meet(A);
    rig.meet(B);
    rig.tell(B, [offer(B, 0), offer(D, 10)]);
    for (let i = 0; i < 500; i++) rig.tell(A, [offer(idOf(1_000 + i), 0)]);
    expect(rig.router.tableSize).toBe(3 + 80);
    for (let i = 0; i < 500; i++) rig.tell(B, [offer(idOf(2_000 + i), 0)]);
    expect(rig.router.tableSize).toBe(111);
    expect(rig.router.reachable(D)).toBe(true);
    rig.meet(C);
    rig.tell(C, [offer(C, 0)]);
    expect(rig.router.reachable(C)).toBe(true);
    // And a newcomer behind it: two liars did not get all that there was.
    rig.tell(C, [offer(E, 10)]);
    expect(rig.router.reachable(E)).toBe(true);
  });

  test("a bound that is raised lets in what is offered from then on; a lowered one throws nothing out", () => {
    const rig = new Rig(S, { destinationsMax: 20 });
    rig.meet(A);
    const offers = (from: number) =>
      rig.tell(
        A,
        Array.from({ length: 40 }, (_, i) => offer(idOf(from + i), 0)),
      );
    offers(1_000);
    const few = rig.router.tableSize;
    expect(few).toBeLessThan(20);
    rig.router.setDestinationsMax(30);
    offers(1_000);
    const more = rig.router.tableSize;
    expect(more).toBeGreaterThan(few);
    rig.router.setDestinationsMax(10);
    offers(2_000);
    expect(rig.router.tableSize).toBe(more);
    expect(rig.router.reachable(idOf(1_000))).toBe(true);
  });
  test("metric 0 over a link of cost 0 still grows; near-infinite becomes unreachable", () => {
    const rig = new Rig(S);
    rig.meet(A, { ...fast, cost: 0 });
    rig.tell(A, [offer(D, 0), offer(C, 2 ** 32 - 2)]);
    expect(rig.router.nextHops(D, "any")[0]!.metric).toBe(1);
    expect(rig.router.reachable(C)).toBe(false);
  });

  test("frames of strangers and of no known kind do nothing", () => {
    const rig = new Rig(S);
    rig.router.handleFrame(A, new Uint8Array([0x10, 0]));
    rig.meet(A);
    rig.router.handleFrame(A, new Uint8Array([0x10, 9, 1, 2, 3]));
    expect(() => rig.router.handleFrame(A, new Uint8Array([0x11, 0]))).toThrow();
    expect(() => rig.router.handleFrame(A, new Uint8Array([]))).toThrow();
  });
});

describe("memory", () => {
  test("distances outlive their routes for the hold time, then everything goes", () => {
    const rig = new Rig(S, { holdMs: 60_000 });
    rig.meet(A);
    rig.meet(B);
    rig.tell(A, [offer(D, 50)]);
    rig.run(100);
    expect(rig.router.feasibility(D, "any")).toEqual({ seqno: 100, metric: 60 });
    rig.tell(A, [retract(D)]);
    rig.run(50_000);
    expect(rig.router.feasibility(D, "any")).toEqual({ seqno: 100, metric: 60 });
    // B never acknowledged: it may still route here, so nothing is forgotten.
    rig.run(300_000);
    expect(rig.router.feasibility(D, "any")).toBeDefined();
    rig.router.neighbourDown(B);
    rig.run(300_000);
    expect(rig.router.tableSize).toBe(1);
  });

  test("a digest that differs brings the bucket again; one that agrees brings nothing", () => {
    const rig = new Rig(S);
    rig.meet(A);
    rig.tell(A, [offer(D, 50)]);
    const resyncs = () => rig.sent.filter(({ frame }) => frame[0] === FrameType.routeResync).length;
    const before = resyncs();
    const sums = rig.router.receivedDigest(A)!;
    rig.router.handleFrame(A, encodeRouteDigest({ tag: rig.tagFor(A), serial: 1, sums }));
    expect(resyncs()).toBe(before);
    const other = sums.slice();
    other[5] = 123;
    rig.router.handleFrame(A, encodeRouteDigest({ tag: rig.tagFor(A), serial: 1, sums: other }));
    expect(resyncs()).toBe(before + 1);
    expect(decodeRouteResync(rig.sent.at(-1)!.frame).buckets).toBe(1 << 5);
    // Still there after the neighbour repeated all that it has: it has it no longer.
    expect(rig.router.reachable(D)).toBe(true);
    rig.router.handleFrame(A, encodeRouteDigest({ tag: rig.tagFor(A), serial: 1, sums: other }));
    expect(rig.router.reachable(D)).toBe(false);
  });

  test("a flood of digests, or of new tags, does not make the node walk and tell its whole table for each", () => {
    const rig = new Rig(S);
    rig.meet(A);
    rig.meet(B);
    rig.tell(
      B,
      Array.from({ length: 200 }, (_, n) => offer(idOf(1_000 + n), 10)),
    );
    rig.run(1_000);
    const resyncs = () =>
      rig.sent.filter(({ to, frame }) => to === A && frame[0] === FrameType.routeResync).length;
    const before = resyncs();
    for (let n = 0; n < 1_000; n++) {
      const sums = new Uint32Array(16).fill(n + 1);
      rig.router.handleFrame(A, encodeRouteDigest({ tag: rig.tagFor(A), serial: 1, sums }));
    }
    expect(resyncs() - before).toBe(4);
    const mark = rig.sent.length;
    const peerTag = rig.tagFor(A);
    for (let n = 0; n < 1_000; n++) {
      rig.router.handleFrame(A, encodeRouteResync({ buckets: 0, ownTag: 1_000 + n, peerTag }));
      rig.run(10);
    }
    // Four at once and two more in these ten seconds, and what is not acknowledged again; of 200 each.
    const told = rig.told(A, mark).length;
    expect(told).toBeGreaterThanOrEqual(200);
    expect(told).toBeLessThan(40 * 200);
    // A neighbour that really begins anew says it until it is heard.
    rig.run(5_000);
    const again = rig.sent.length;
    rig.router.handleFrame(A, encodeRouteResync({ buckets: 0, ownTag: 7, peerTag }));
    rig.run(100);
    expect(rig.told(A, again).length).toBeGreaterThan(0);
  });

  test("a digest is answered by the own one when that is half due: one exchange serves both ends", () => {
    const rig = new Rig(S);
    rig.meet(A);
    rig.run(100);
    rig.acknowledge(A);
    const digests = () => rig.sent.filter(({ frame }) => frame[0] === FrameType.routeDigest).length;
    const hear = () => {
      const sums = rig.router.receivedDigest(A)!;
      rig.router.handleFrame(A, encodeRouteDigest({ tag: rig.tagFor(A), serial: 1, sums }));
    };
    hear();
    expect(digests()).toBe(0);
    rig.run(55_000);
    hear();
    expect(digests()).toBe(1);
    // Not again for every one that comes, and its own timer began anew.
    hear();
    rig.run(30_000);
    expect(digests()).toBe(1);
    rig.run(40_000);
    expect(digests()).toBe(2);
  });

  test("idle timers are the digest's", () => {
    const rig = new Rig(S);
    rig.router.close();
    expect(rig.clock.nextAtMs()).toBeUndefined();
  });
});

describe("records", () => {
  const record = new Uint8Array([5, 6, 7]);
  const hash = new Uint8Array(createHash("sha256").update(record).digest().subarray(0, 8));

  /** All are strangers: A, B and C of one address, D of another. */
  const crowd: Regard = {
    worthOf: () => "none",
    shareOf: (teller) => ({ by: teller === D ? "192.0.2.2" : "192.0.2.1", isKnown: false }),
  };
  const askedOf = (rig: Rig, about: NodeId) =>
    rig.sent
      .filter(({ frame }) => frame[0] === FrameType.recordRequest)
      .filter(({ frame }) => decodeRecordRequest(frame).destination === about)
      .map(({ to }) => to);

  test("of a newcomer is asked for where an honest neighbour advertises it, though a crowd advertised it first and has none", () => {
    const rig = new Rig(S, { regard: crowd });
    for (const id of [A, B, C, D]) rig.meet(id);
    for (const id of [A, B, C]) rig.tell(id, [offer(E, 10, 100, hash)]);
    rig.tell(D, [offer(E, 20, 100, hash)]);
    rig.run(10_000);
    expect(askedOf(rig, E)).toContain(D);
    // And the next time others of the crowd than before.
    rig.run(200_000);
    expect(new Set(askedOf(rig, E)).size).toBeGreaterThan(2);
  });

  test("of a newcomer does not wait behind thousands that a liar advertised, though the liar repeats the newcomer first", () => {
    const rig = new Rig(S, { regard: crowd });
    for (const id of [A, D]) rig.meet(id);
    rig.tell(
      A,
      Array.from({ length: 500 }, (_, n) => offer(idOf(1_000 + n), 10, 100, hash)),
    );
    rig.tell(A, [offer(E, 10, 100, hash)]);
    expect(askedOf(rig, E)).toEqual([]);
    rig.tell(D, [offer(E, 20, 100, hash)]);
    rig.run(20_000);
    expect(askedOf(rig, E)).toContain(D);
  });

  test("a thousand that may not be asked for yet are looked at once, and a few with each answer", () => {
    let looks = 0;
    const shareOf = (by: NodeId) => (looks++, { by, isKnown: false });
    const rig = new Rig(S, { regard: { worthOf: () => "none", shareOf } });
    for (const id of [A, B]) rig.meet(id);
    const looksAt = (work: () => void): number => {
      const before = looks;
      work();
      return looks - before;
    };
    const bytes = new Uint8Array(3).fill(7);
    const hash7 = new Uint8Array(createHash("sha256").update(bytes).digest().subarray(0, 8));
    for (let at = 0; at < 1_000; at += 50)
      rig.tell(
        A,
        Array.from({ length: 50 }, (_, n) => offer(idOf(1_000 + at + n), 5, 100, hash7)),
      );
    const idle = () => rig.router.handleFrame(B, encodeRouteAck({ tag: rig.tagFor(B), serial: 2 ** 40 }));
    for (let n = 0; n < 10; n++) idle();
    expect(looksAt(() => Array.from({ length: 100 }, idle))).toBe(0);
    const answer = (n: number) =>
      rig.router.handleFrame(
        A,
        new Uint8Array([FrameType.record, ...nodeIdBytes(idOf(1_000 + n)), 3, ...bytes]),
      );
    const asked = () => rig.sent.filter(({ frame }) => frame[0] === FrameType.recordRequest).length;
    const before = asked();
    expect(looksAt(() => Array.from({ length: 20 }, (_, n) => answer(n)))).toBeLessThan(20 * 64);
    expect(asked() - before).toBe(20);
    // Stuck again; what another source brings is asked for all the same.
    for (let n = 0; n < 10; n++) idle();
    rig.tell(B, [offer(E, 5, 100, hash7)]);
    for (let n = 0; n < 10; n++) idle();
    expect(askedOf(rig, E)).toEqual([B]);
  });

  test("asked for by hash, from whoever advertised it, kept once; answered to others", () => {
    const rig = new Rig(S);
    rig.meet(A);
    rig.tell(A, [offer(D, 50, 100, hash)]);
    const asked = rig.sent.filter(({ frame }) => frame[0] === FrameType.recordRequest);
    expect(asked.map(({ to }) => to)).toEqual([A]);
    const id = Uint8Array.from({ length: 32 }, (_, i) => (i === 0 ? 5 : 0));
    rig.router.handleFrame(A, new Uint8Array([FrameType.record, ...id, 3, 9, 9, 9]));
    expect(rig.records.size).toBe(0);
    rig.router.handleFrame(A, new Uint8Array([FrameType.record, ...id, 3, ...record]));
    expect([...rig.records.values()]).toEqual([record]);
    rig.meet(B);
    rig.router.handleFrame(B, new Uint8Array([FrameType.recordRequest, ...id, ...hash]));
    expect(rig.sent.at(-1)!.frame).toEqual(new Uint8Array([FrameType.record, ...id, 3, ...record]));
    rig.run(100_000);
    expect(rig.sent.filter(({ frame }) => frame[0] === FrameType.recordRequest).length).toBe(1);
  });

  test("somebody known is new here and the record is wanted at once: asked of who advertises it, not of nobody", () => {
    const rig = new Rig(S, {
      regard: {
        worthOf: (id) => (id === D ? "kept" : "none"),
        shareOf: (by) => ({ by, isKnown: false }),
      },
    });
    rig.meet(A);
    rig.tell(A, [offer(D, 50, 100, hash)]);
    expect(rig.recordsAsked()).toEqual([A]);
  });

  test("four others have an older record and the owner is a neighbour: the owner is asked first", () => {
    const rig = new Rig(S);
    const others = [A, B, C, E];
    for (const id of others) {
      rig.meet(id);
      rig.tell(id, [offer(D, 50, 100)]);
    }
    rig.meet(D);
    rig.tell(A, [offer(D, 50, 101, hash)]);
    expect(rig.recordsAsked()).toEqual([D]);
  });

  test("a record that came with a link answers those who asked for it before", () => {
    const rig = new Rig(S);
    rig.meet(A);
    rig.meet(B);
    rig.tell(A, [offer(D, 50, 100, hash)]);
    const id = nodeIdBytes(D);
    rig.router.handleFrame(B, new Uint8Array([FrameType.recordRequest, ...id, ...hash]));
    rig.records.set(D, record);
    rig.run(4_000);
    const answered = rig.sent.filter(({ frame }) => frame[0] === FrameType.record);
    expect(answered.map(({ to }) => to)).toEqual([B]);
    expect(rig.recordsAsked()).toEqual([A]);
  });

  test("a thousand wanted: bounded under way, all asked in the end", () => {
    const rig = new Rig(S);
    rig.meet(A);
    rig.tell(
      A,
      Array.from({ length: 1_000 }, (_, i) => offer(idOf(1_000 + i), 5, 100, hash)),
    );
    const asked = () =>
      new Set(
        rig.sent
          .filter(({ frame }) => frame[0] === FrameType.recordRequest)
          .map(({ frame }) => Buffer.from(frame.subarray(1, 33)).toString("hex")),
      );
    // A source of destinations leaves some of the 64 to others.
    expect(asked().size).toBe(48);
    rig.run(1_000_000);
    expect(asked().size).toBe(1_000);
  });
});

describe("slow links", () => {
  /** A gateway with a fast neighbour B, and an edge node, over one slow link. */
  function pair(link: LinkCost = slow) {
    const gateway = new Rig(A);
    const edge = new Rig(S);
    gateway.meet(B);
    let handled = [0, 0];
    const pump = (forMs: number) => {
      for (let passed = 0; passed < forMs; passed += 1_000) {
        gateway.run(1_000);
        edge.run(1_000);
        const ends = [gateway, edge] as const;
        handled = ends.map((end, i) => {
          for (const { to, frame } of end.sent.slice(handled[i]))
            if (to === (i === 0 ? S : A)) ends[1 - i]!.router.handleFrame(i === 0 ? A : S, frame);
          return end.sent.length;
        });
      }
    };
    gateway.meet(S, link);
    edge.meet(A, link);
    return { gateway, edge, pump };
  }

  test("an edge node gets a default route, the core learns of it once it has the proof", () => {
    const { gateway, edge, pump } = pair();
    pump(120_000);
    expect(edge.isDefaultThere).toBe(true);
    expect(edge.router.nextHops(D, "any")[0]).toMatchObject({ neighbour: A, isDefault: true });
    expect(edge.router.nextHops(D, "bulk")).toEqual([]);
    expect(edge.router.nextHops(A, "any")[0]!.isDefault).toBe(false);
    expect(gateway.router.nextHops(D, "any")).toEqual([]);
    const told = gateway.told(B).filter(({ entry }) => entry.destination === S);
    expect(told.at(-1)!.entry).toMatchObject({ any: { metric: 20_000, bottleneck: 2 }, bulk: UNREACHABLE });
    expect(edge.router.explain(D)).toMatchObject({
      isReachable: true,
      explanation: ["nothing was ever heard of this node", expect.stringContaining("by the default route")],
    });
    gateway.router.neighbourDown(B);
    pump(4_000_000);
    expect(edge.isDefaultThere).toBe(false);
    expect(edge.router.explain(D).isReachable).toBe(false);
  });

  test("what loses its route on a node that becomes an edge stays reachable, and the news say so", () => {
    const edge = new Rig(S);
    edge.meet(A, slow);
    edge.router.handleFrame(A, encodeBeacon({ seqno: 1, hasProof: true, gatewayMetric: 10 }));
    edge.meet(B);
    edge.tell(B, [offer(D, 50)]);
    expect(edge.router.nextHops(D, "any")[0]).toMatchObject({ neighbour: B, isDefault: false });
    edge.changes.length = 0;
    edge.router.neighbourDown(B);
    expect(edge.router.reachable(D)).toBe(true);
    expect(edge.changes.filter(({ destination }) => destination === D)).toEqual([
      { destination: D, reachable: true },
    ]);
  });

  test("a medium that is slow because it is carried takes bulk, and says so to the core", () => {
    const { gateway, edge, pump } = pair({
      cost: 2 ** 26,
      mtu: 1_400,
      bottleneck: 1,
      profile: "slow",
      takesBulk: true,
    });
    pump(120_000);
    expect(edge.router.nextHops(A, "bulk")).toMatchObject([{ neighbour: A }]);
    expect(gateway.router.nextHops(S, "bulk")).toMatchObject([{ neighbour: S }]);
    const told = gateway.told(B).filter(({ entry }) => entry.destination === S);
    expect(told.at(-1)!.entry.bulk).not.toEqual(UNREACHABLE);
  });

  test("control stays within 2 % of the airtime, and goes quiet", () => {
    const { gateway, edge, pump } = pair();
    pump(3_600_000);
    for (const end of [gateway, edge]) {
      const bytes = end.sent
        .filter(({ to }) => to === S || to === A)
        .reduce((sum, { frame }) => sum + frame.length, 0);
      expect(bytes).toBeLessThanOrEqual(160 + 3_600 * 2.5);
      expect(bytes).toBeLessThanOrEqual(400);
    }
  });

  test("an edge node that raises its number under a gateway that has an older proof is believed again", () => {
    const { gateway, edge, pump } = pair();
    pump(120_000);
    edge.ownRecord = new Uint8Array([1]);
    edge.router.recordChanged();
    const raised = edge.router.seqno;
    pump(300_000);
    expect(gateway.router.explain(S).candidates).toMatchObject([{ seqno: raised }]);
    // Once is enough: airtime is dear.
    const proofs = edge.sent.filter(({ frame }) => frame[0] === FrameType.routeUpdate && frame[1] === 2);
    expect(proofs.length).toBeLessThanOrEqual(3);
  });

  test("an edge node that forgot its number before it was ever proven is believed again", () => {
    const { gateway } = pair();
    const beacon = (seqno: number) => encodeBeacon({ seqno, hasProof: false, gatewayMetric: undefined });
    gateway.router.handleFrame(S, beacon(9));
    gateway.router.neighbourDown(S);
    gateway.meet(S, slow, "2");
    gateway.router.handleFrame(S, beacon(4));
    gateway.router.handleFrame(S, encodeProofFrame({ of: "sender", proof: offer(S, 0, 4).proof! }));
    gateway.run(1_000);
    expect(gateway.told(B).find(({ entry }) => entry.destination === S)?.entry.proof?.seqno).toBe(4);
  });

  test("a proof older than the beacon before it is passed over, and costs no link", () => {
    const { gateway } = pair();
    const { proof } = offer(S, 0, 4);
    gateway.router.handleFrame(S, encodeBeacon({ seqno: 5, hasProof: false, gatewayMetric: undefined }));
    gateway.router.handleFrame(S, encodeProofFrame({ of: "sender", proof: proof! }));
    expect(gateway.told(B).filter(({ entry }) => entry.destination === S)).toEqual([]);
  });

  test("an edge node whose epoch was lost is reminded by its gateway", () => {
    const { gateway, edge, pump } = pair();
    pump(120_000);
    const again = new Rig(S);
    again.meet(A, slow);
    gateway.router.neighbourUp(S, { bootId: "2", cost: slow });
    // The gateway knows a number of epoch 3; this life begins where that one began, so make it older still.
    const { proof } = offer(S, 0, 9 * 2 ** 24);
    const frame = new Uint8Array([0x10, 2, 1, ...new Uint8Array(6), ...noHash, ...proof!.signature]);
    new DataView(frame.buffer).setUint16(3, 0);
    new DataView(frame.buffer).setUint32(5, 9 * 2 ** 24);
    again.router.handleFrame(A, frame);
    expect(epochOf(again.router.seqno)).toBe(10);
    expect(epochOf(edge.router.seqno)).toBe(3);
  });
});

describe("records over slow links", () => {
  const record = new Uint8Array([5, 6, 7]);
  /** A gateway that hears the proof of an edge node's new record. */
  function proven(link: LinkCost = slow): Rig {
    const gateway = new Rig(A);
    gateway.meet(B);
    gateway.meet(S, link);
    const hash = new Uint8Array(createHash("sha256").update(record).digest().subarray(0, 8));
    gateway.router.handleFrame(S, encodeBeacon({ seqno: 100, hasProof: false, gatewayMetric: undefined }));
    gateway.router.handleFrame(S, encodeProofFrame({ of: "sender", proof: offer(S, 0, 100, hash).proof! }));
    return gateway;
  }
  const reply = new Uint8Array([FrameType.record, ...nodeIdBytes(S), 3, ...record]);

  test("an edge node's new record is asked of it, and passed on", () => {
    const gateway = proven();
    gateway.run(1_000);
    expect(gateway.recordsAsked()).toEqual([S]);
    gateway.router.handleFrame(S, reply);
    expect([...gateway.records]).toEqual([[S, record]]);
    gateway.run(86_400_000);
    expect(gateway.recordsAsked()).toEqual([S]);
  });

  test("one that does not come, for it may be wider than the link, is asked for ever more seldom", () => {
    const gateway = proven();
    gateway.run(7 * 86_400_000);
    const asked = gateway.sent.filter(({ frame }) => frame[0] === FrameType.recordRequest);
    expect(new Set(asked.map(({ to }) => to))).toEqual(new Set([S]));
    expect(asked.length).toBeGreaterThan(5);
    expect(asked.length).toBeLessThan(16);
    expect(asked[1]!.atMs - asked[0]!.atMs).toBeGreaterThanOrEqual(60_000);
  });

  test("on a carried medium an answer has a day", () => {
    const gateway = proven({ ...slow, takesBulk: true });
    gateway.run(86_000_000);
    expect(gateway.recordsAsked()).toEqual([S]);
    gateway.router.handleFrame(S, reply);
    expect(gateway.records.size).toBe(1);
  });

  test("what was not asked for is not taken", () => {
    const gateway = new Rig(A);
    gateway.meet(S, slow);
    gateway.router.handleFrame(S, reply);
    expect(gateway.records.size).toBe(0);
  });

  test("a gateway tells an edge node soon that its proof is an old one", () => {
    const gateway = proven();
    gateway.router.handleFrame(S, reply);
    gateway.run(10 * 3_600_000);
    const from = gateway.sent.length;
    gateway.router.handleFrame(S, encodeBeacon({ seqno: 101, hasProof: false, gatewayMetric: undefined }));
    gateway.run(30_000);
    const beacons = gateway.sent.slice(from).filter(({ to, frame }) => to === S && frame[1] === 1);
    expect(beacons.map(({ frame }) => decodeBeacon(frame).hasProof)).toEqual([false]);
  });

  test("control may use what is saved up, a longer frame in advance, and nothing before that is earned again", () => {
    const edge = new Rig(S);
    edge.meet(A, slow);
    edge.run(0);
    expect([edge.router.isSlowNeighbour(A), edge.router.isSlowNeighbour(B)]).toEqual([true, false]);
    expect(edge.router.takeAirtime(B, 1)).toBe(false);
    expect(edge.router.takeAirtime(A, 400)).toBe(true);
    expect(edge.router.takeAirtime(A, 1)).toBe(false);
    // 2.5 bytes a second: the debt is 240.
    const passes = (ms: number) => (
      edge.clock.jumpTo(edge.clock.monotonicMs() + ms),
      edge.router.takeAirtime(A, 1)
    );
    expect([passes(96_000), passes(1_000)]).toEqual([false, true]);
  });

  test("gateways are those of the default route, and a node that is one has none", () => {
    const edge = new Rig(S);
    edge.meet(A, slow);
    edge.meet(D, { ...slow, cost: 9_000 });
    expect(edge.router.gateways).toEqual([]);
    for (const id of [A, D])
      edge.router.handleFrame(id, encodeBeacon({ seqno: 1, hasProof: true, gatewayMetric: 10 }));
    expect(edge.router.gateways).toEqual([D, A]);
    edge.meet(B);
    expect(edge.router.gateways).toEqual([]);
  });
});

describe("words", () => {
  test("routes and explanations", () => {
    const rig = new Rig(S);
    rig.meet(A);
    rig.meet(B);
    rig.tell(A, [offer(D, 50)]);
    rig.tell(B, [offer(D, 55)]);
    expect(rig.router.routes()).toEqual([
      {
        destination: D,
        nextHop: A,
        metric: 60,
        mtu: 1_400,
        bottleneck: "fast",
        alternates: [{ nextHop: B, metric: 65 }],
      },
    ]);
    const why = rig.router.explain(D);
    expect(
      why.candidates.map(({ nextHop, isFeasible, isSelected }) => [nextHop, isFeasible, isSelected]),
    ).toEqual([
      [A, true, true],
      [B, true, false],
    ]);
    expect(why.explanation[0]).toContain("1 in reserve");
    expect(rig.router.explain(C).explanation).toEqual(["nothing was ever heard of this node"]);
    expect(rig.router.nextHops(D, "any")).toBe(rig.router.nextHops(D, "any"));
  });
});
