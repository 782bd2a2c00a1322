/** What one neighbour may not do to a router: say what nobody signed, ask without end, fill what others need. */
import { describe, expect, test } from "bun:test";
import type { NodeId } from "../kernel/ids.ts";
import { FrameType } from "../wire/constants.ts";
import {
  appendUpdateEntry,
  beginUpdate,
  decodeRouteAck,
  encodeRecordReply,
  encodeRecordRequest,
  encodeSeqnoRequest,
  UNREACHABLE,
  type UpdateEntry,
} from "../wire/route-messages.ts";
import {
  RECORD_ASKERS_MAX,
  RECORD_REQUESTS_MAX,
  REQUEST_DEDUPE_MS,
  UPDATE_BURST_BYTES,
  UPDATE_BYTES_PER_SECOND,
  UPDATE_FRAME_BYTES,
  UPDATES_UNDER_WAY_BYTES_MAX,
} from "./limits.ts";
import { recordHash } from "./origin.ts";
import { A, B, C, D, E, fast, idOf, offer, Rig, S } from "./testing-router.ts";

const frames = (rig: Rig, to: NodeId, type: number) =>
  rig.sent.filter((one) => one.to === to && one.frame[0] === type);
const retract = (destination: NodeId): UpdateEntry => ({
  destination,
  any: UNREACHABLE,
  bulk: UNREACHABLE,
  proof: undefined,
});

describe("what a neighbour says of others", () => {
  test.each(["any", "bulk"] as const)(
    "no sequence number counts in the plane %s that its originator has not signed",
    (plane) => {
      const rig = new Rig(S);
      rig.meet(A);
      const honest = offer(D, 50);
      rig.tell(A, [{ ...honest, [plane]: { ...honest[plane], seqno: 101 } }]);
      expect(rig.router.reachable(D)).toBe(false);
      rig.tell(A, [honest]);
      expect(rig.router.reachable(D)).toBe(true);
    },
  );

  test("a newer number with a forged signature changes nothing, and is told to nobody", () => {
    const rig = new Rig(S);
    rig.meet(A);
    rig.meet(B);
    rig.tell(A, [offer(D, 50, 100)]);
    rig.run(2_000);
    rig.acknowledge(B);
    const mark = rig.sent.length;
    const { proof, ...entry } = offer(D, 10, 200);
    rig.tell(A, [{ ...entry, proof: { ...proof!, signature: new Uint8Array(64) } }]);
    rig.run(5_000);
    expect(rig.told(B, mark).filter(({ entry: told }) => told.destination === D)).toEqual([]);
    rig.tell(A, [offer(D, 10, 200)]);
    rig.run(5_000);
    expect(rig.told(B, mark).map(({ entry: told }) => told.any.seqno)).toContain(200);
  });

  test("an update that comes twice, or late, changes nothing", () => {
    const rig = new Rig(S);
    rig.meet(A);
    rig.meet(B);
    const told = (metric: number) =>
      rig.told(B).some(({ entry }) => entry.destination === D && entry.any.metric === metric);
    rig.tell(A, [offer(D, 50)], 7);
    rig.run(2_000);
    rig.acknowledge(B);
    expect(told(60)).toBe(true);
    for (const serial of [7, 6]) {
      rig.tell(A, [offer(D, 20)], serial);
      rig.run(2_000);
      rig.acknowledge(B);
      expect(told(30)).toBe(false);
    }
    rig.tell(A, [offer(D, 20)], 8);
    rig.run(2_000);
    expect(told(30)).toBe(true);
  });

  test("what is known of an unreachable node is held its whole time, whenever the last sweep was", () => {
    const rig = new Rig(S, { holdMs: 60_000 });
    rig.meet(A);
    rig.meet(B);
    rig.tell(A, [offer(C, 50), offer(D, 50)]);
    rig.run(2_000);
    rig.acknowledge(B);
    rig.tell(A, [retract(C)]);
    rig.acknowledge(B);
    // The sweep of C comes when D has been gone for a moment.
    rig.run(57_000);
    rig.router.neighbourDown(A);
    // Whoever was told that it was there knows that it is gone: only time holds it now.
    for (let n = 0; n < 4; n++) {
      rig.run(100);
      rig.acknowledge(B);
    }
    rig.run(3_500);
    // Not better than what this node has told: an old way, and perhaps its own.
    rig.tell(B, [offer(D, 500)]);
    rig.run(100);
    expect(rig.router.reachable(D)).toBe(false);
    rig.tell(B, [offer(D, 500, 101)]);
    expect(rig.router.reachable(D)).toBe(true);
  });
});

describe("how much of it", () => {
  /** One update as large as they come, of what is known already. */
  const flood = (rig: Rig, from: NodeId, count: number) => {
    const entry = offer(D, 50);
    for (let serial = 1_000; serial < 1_000 + count; serial++) {
      const writer = beginUpdate(rig.tagFor(from), serial, UPDATE_FRAME_BYTES);
      while (writer.length + 130 < UPDATE_FRAME_BYTES)
        appendUpdateEntry(writer, D, entry.any, entry.bulk, undefined);
      rig.router.handleFrame(from, writer.finish());
      rig.run(0);
    }
  };
  const acknowledged = (rig: Rig, to: NodeId) =>
    frames(rig, to, FrameType.routeAck).filter(({ frame }) => decodeRouteAck(frame).serial >= 1_000).length;

  test("a neighbour that floods updates is read within its budget, which comes back by the second; others are read", () => {
    const rig = new Rig(S);
    rig.meet(A);
    rig.meet(B);
    rig.tell(A, [offer(D, 50)]);
    flood(rig, A, 200);
    // What is dropped may have waited for a turn; no time to speak of has passed.
    rig.run(100);
    const first = acknowledged(rig, A);
    expect(first).toBeGreaterThan(50);
    expect(first * (UPDATE_FRAME_BYTES - 200)).toBeLessThan(UPDATE_BURST_BYTES + UPDATE_BYTES_PER_SECOND);
    rig.tell(B, [offer(E, 50)]);
    expect(rig.router.reachable(E)).toBe(true);
    rig.run(2_000);
    flood(rig, A, 200);
    rig.run(100);
    const second = acknowledged(rig, A) - first;
    expect(second).toBeGreaterThan(8);
    expect(second * (UPDATE_FRAME_BYTES - 200)).toBeLessThan(4 * UPDATE_BYTES_PER_SECOND);
  });

  test("one neighbour has rows for only so many destinations, those included that others brought", () => {
    const rig = new Rig(S, { destinationsPerNeighbourMax: 2 });
    rig.meet(A);
    rig.meet(B);
    rig.tell(B, [offer(D, 50), offer(E, 50)]);
    rig.tell(A, [offer(A, 0), offer(C, 50), offer(idOf(20), 50), offer(D, 60), offer(E, 60)]);
    rig.router.neighbourDown(B);
    rig.run(100);
    expect([C, D, E].map((id) => rig.router.reachable(id))).toEqual([true, false, false]);
  });

  test("a node routes by only so many neighbours", () => {
    const rig = new Rig(S, { neighboursMax: 2 });
    for (const id of [A, B]) rig.meet(id);
    rig.router.neighbourUp(C, { bootId: "1", cost: fast });
    rig.run(5_000);
    expect(rig.sent.filter(({ to }) => to === C)).toEqual([]);
    rig.router.neighbourDown(A);
    rig.meet(C);
    rig.tell(C, [offer(D, 50)]);
    expect(rig.router.reachable(D)).toBe(true);
  });

  test("updates that nobody acknowledges hold only so much memory, however many neighbours wait for them", () => {
    const rig = new Rig(S);
    rig.meet(A);
    const destinations = Array.from({ length: 300 }, (_, n) => idOf(1_000 + n));
    for (let at = 0; at < 300; at += 50)
      rig.tell(
        A,
        destinations.slice(at, at + 50).map((id) => offer(id, 50)),
      );
    const crowd = Array.from({ length: 400 }, (_, n) => idOf(2_000 + n));
    for (const id of crowd) rig.meet(id, { ...fast, mtu: UPDATE_FRAME_BYTES });
    rig.run(200);
    const bytes = rig.sent
      .filter(({ to, frame }) => to !== A && frame[0] === FrameType.routeUpdate)
      .reduce((sum, { frame }) => sum + frame.length, 0);
    // One frame is under way to each in any case.
    expect(bytes).toBeLessThan(UPDATES_UNDER_WAY_BYTES_MAX + crowd.length * UPDATE_FRAME_BYTES);
    expect(rig.told(crowd[0]!).length).toBeGreaterThan(0);
  });

  test("a neighbour that acknowledges nothing is told the same at growing intervals", () => {
    const rig = new Rig(S);
    rig.meet(A);
    rig.run(60_000);
    const times = frames(rig, A, FrameType.routeUpdate).map(({ atMs }) => atMs);
    expect(times.length).toBeGreaterThan(5);
    // 250 ms doubled up to 8 s.
    expect(times.length).toBeLessThan(20);
  });
});

describe("what it asks for", () => {
  const ask = (rig: Rig, from: NodeId, seqno: number, hopsLeft: number) => {
    rig.router.handleFrame(
      from,
      encodeSeqnoRequest({ tag: rig.tagFor(from), destination: D, seqno, planes: 3, hopsLeft }),
    );
    rig.run(0);
  };
  const passedOn = (rig: Rig) => frames(rig, A, FrameType.seqnoRequest).length;

  test("a request for a newer number goes only so many hops", () => {
    const rig = new Rig(S);
    for (const id of [A, B]) rig.meet(id);
    rig.tell(A, [offer(D, 50, 100)]);
    ask(rig, B, 101, 1);
    expect(passedOn(rig)).toBe(0);
    ask(rig, B, 101, 2);
    expect(passedOn(rig)).toBe(1);
  });

  test("a request that comes by several neighbours is passed on once; a greater one, or a later one, again", () => {
    const rig = new Rig(S);
    for (const id of [A, B, C]) rig.meet(id);
    rig.tell(A, [offer(D, 50, 100)]);
    for (const from of [B, C, B]) ask(rig, from, 101, 9);
    expect(passedOn(rig)).toBe(1);
    ask(rig, C, 102, 9);
    expect(passedOn(rig)).toBe(2);
    rig.run(REQUEST_DEDUPE_MS);
    ask(rig, C, 102, 9);
    expect(passedOn(rig)).toBe(3);
  });

  test("a record is given to whoever names its hash, another one to nobody", () => {
    const rig = new Rig(S);
    rig.meet(A);
    rig.ownRecord = Uint8Array.of(1, 2, 3);
    const wanted = recordHash(rig.ownRecord);
    const request = (hash: Uint8Array) => {
      rig.router.handleFrame(A, encodeRecordRequest({ destination: S, recordHash: hash }));
      rig.run(0);
    };
    request(new Uint8Array(8).fill(9));
    expect(frames(rig, A, FrameType.record)).toHaveLength(0);
    request(wanted);
    expect(frames(rig, A, FrameType.record)).toHaveLength(1);
  });

  test("of those who wait for a record that is not here only so many are remembered", () => {
    const rig = new Rig(S);
    rig.meet(A);
    const record: Uint8Array = Uint8Array.of(1, 2, 3);
    rig.tell(A, [offer(D, 50, 100, recordHash(record))]);
    const crowd = Array.from({ length: RECORD_ASKERS_MAX + 10 }, (_, n) => idOf(500 + n));
    for (const id of crowd) {
      rig.meet(id);
      rig.router.handleFrame(id, encodeRecordRequest({ destination: D, recordHash: recordHash(record) }));
      rig.run(0);
    }
    const reply = frames(rig, A, FrameType.recordRequest);
    expect(reply.length).toBeGreaterThan(0);
    rig.router.handleFrame(A, encodeRecordReply({ destination: D, record }));
    rig.run(0);
    expect(rig.sent.filter(({ frame }) => frame[0] === FrameType.record)).toHaveLength(RECORD_ASKERS_MAX);
  });

  test("only so many records are asked for at once, of however many sources", () => {
    const rig = new Rig(S);
    for (const id of [A, B, C]) rig.meet(id);
    for (const [at, from] of [A, B, C].entries())
      rig.tell(
        from,
        Array.from({ length: 40 }, (_, n) =>
          offer(idOf(3_000 + at * 100 + n), 50, 100, new Uint8Array(8).fill(7)),
        ),
      );
    rig.run(10);
    expect(rig.recordsAsked()).toHaveLength(RECORD_REQUESTS_MAX);
  });
});
