/** Tables that floods of neighbours and updates would fill. */
import { describe, expect, test } from "bun:test";
import { type NodeId } from "../kernel/ids.ts";
import { DOOR_IDENTITIES, DOOR_TEST_MS, doorId, DoorRegard } from "../kernel/testing.ts";
import { FrameType } from "../wire/constants.ts";
import {
  appendUpdateEntry,
  beginUpdate,
  decodeRouteAck,
  decodeUpdateHeader,
  encodeRouteAck,
  encodeRouteResync,
  readUpdateEntry,
} from "../wire/route-messages.ts";
import {
  UPDATE_FRAME_BYTES,
  UPDATE_TURN_BYTES,
  UPDATES_UNDER_WAY_BYTES_MAX,
  UPDATES_WAITING_BYTES_MAX,
} from "./limits.ts";
import { idOf, fast, Rig, offer, S, A, B, D, E } from "./testing-router.ts";

describe("haste", () => {
  test("a hub that tells its whole table to many holds one budget of unacknowledged updates, and leaves nobody out", () => {
    const rig = new Rig(S);
    rig.meet(A);
    const many = Array.from({ length: 2_500 }, (_, n) => idOf(1_000 + n));
    for (let at = 0; at < many.length; at += 60) {
      rig.tell(
        A,
        many.slice(at, at + 60).map((id) => offer(id, 50)),
      );
      rig.run(200);
    }
    rig.run(1_000);
    const listeners = Array.from({ length: 160 }, (_, n) => idOf(100 + n));
    let mark = rig.sent.length;
    for (const id of listeners) rig.meet(id, { ...fast, mtu: 16_384 });
    rig.run(45);
    const updates = () =>
      rig.sent.slice(mark).filter(({ frame }) => frame[0] === FrameType.routeUpdate && frame[1] === 0);
    const first = updates();
    for (const id of listeners) expect(first.some(({ to }) => to === id)).toBe(true);
    const bytes = first.reduce((sum, { frame }) => sum + frame.length, 0);
    expect(bytes).toBeGreaterThan(UPDATES_UNDER_WAY_BYTES_MAX);
    expect(bytes).toBeLessThan(UPDATES_UNDER_WAY_BYTES_MAX + (listeners.length + 1) * UPDATE_FRAME_BYTES);
    // Who goes gives back what it held; who acknowledges is told the rest.
    for (const id of listeners.slice(1)) rig.router.neighbourDown(id);
    const listener = listeners[0]!;
    const reached = new Set<NodeId>();
    const tag = rig.tagFor(listener);
    for (let round = 0; round < 40; round++) {
      const fresh = updates().filter(({ to }) => to === listener);
      mark = rig.sent.length;
      for (const { frame } of fresh) {
        const { serial, entries } = decodeUpdateHeader(frame);
        while (entries.remaining > 0) reached.add(readUpdateEntry(entries).destination);
        rig.router.handleFrame(listener, encodeRouteAck({ tag, serial }));
      }
      rig.run(5);
    }
    expect(many.every((id) => reached.has(id))).toBe(true);
  });

  test("of updates that wait no more than a bound is held, whoever has none may have one, and what is over goes unacknowledged", () => {
    const rig = new Rig(S);
    const many = Array.from({ length: 24 }, (_, n) => idOf(100 + n));
    for (const id of many) rig.meet(id);
    const update = (from: NodeId, serial: number) => {
      const writer = beginUpdate(rig.tagFor(from), serial, UPDATE_FRAME_BYTES);
      for (let n = 0; n < 55; n++) {
        const { destination, any, bulk, proof } = offer(idOf(1_000 + n), 50);
        appendUpdateEntry(writer, destination, any, bulk, proof);
      }
      return writer.finish();
    };
    const serials = 60;
    // The last of them speaks when there is no room.
    const late = many.at(-1)!;
    for (const id of many.slice(0, -1))
      for (let serial = 1; serial <= serials; serial++) rig.router.handleFrame(id, update(id, serial));
    rig.router.handleFrame(late, update(late, 1));
    rig.router.handleFrame(late, update(late, 2));
    const bytes = update(late, 1).length;
    rig.run(0);
    const acked = rig.sent.filter(({ frame }) => frame[0] === FrameType.routeAck);
    const toLate = acked.filter(({ to }) => to === late).map(({ frame }) => decodeRouteAck(frame).serial);
    expect(toLate).toEqual([1]);
    const read = acked.length * bytes;
    expect(read).toBeGreaterThan(UPDATES_WAITING_BYTES_MAX);
    expect(read).toBeLessThan(UPDATES_WAITING_BYTES_MAX + UPDATE_TURN_BYTES + many.length * bytes);
    // What was read makes room again, and so does what waited of those that went.
    const loud = many.slice(0, -1);
    const readOf = (first: number): number => {
      const mark = rig.sent.length;
      for (const id of loud)
        for (let serial = first; serial < first + serials; serial++)
          rig.router.handleFrame(id, update(id, serial));
      rig.run(0);
      return rig.sent.slice(mark).filter(({ frame }) => frame[0] === FrameType.routeAck).length * bytes;
    };
    rig.run(20_000);
    expect(readOf(100)).toBeGreaterThan(UPDATES_WAITING_BYTES_MAX);
    rig.run(20_000);
    for (const id of loud)
      for (let serial = 200; serial < 200 + serials; serial++) rig.router.handleFrame(id, update(id, serial));
    for (const id of loud) rig.router.neighbourDown(id);
    for (const id of loud) rig.meet(id);
    rig.run(0);
    expect(readOf(1)).toBeGreaterThan(UPDATES_WAITING_BYTES_MAX);
  });
});

describe("poison", () => {
  test("10,000 neighbours that come, advertise themselves and go leave no destinations that keep others out", () => {
    const rig = new Rig(S, { destinationsMax: 120, destinationsPerNeighbourMax: 80 });
    rig.meet(A);
    rig.tell(A, [offer(A, 0), offer(D, 10)]);
    for (let i = 0; i < 10_000; i++) {
      const sybil = idOf(10_000 + i);
      rig.router.neighbourUp(sybil, { bootId: "1", cost: fast });
      rig.router.handleFrame(
        sybil,
        encodeRouteResync({ buckets: 0, ownTag: 77, peerTag: rig.tagFor(sybil) }),
      );
      rig.tell(sybil, [offer(sybil, 0)]);
      rig.router.neighbourDown(sybil);
      rig.sent.length = 0;
      expect(rig.router.tableSize).toBeLessThanOrEqual(120);
    }
    expect(rig.router.reachable(D)).toBe(true);
    rig.meet(A, fast, "2");
    rig.tell(A, [offer(A, 0), offer(D, 10), offer(E, 20)]);
    expect([D, E].every((id) => rig.router.reachable(id))).toBe(true);
  });

  test(
    "throw-away neighbours of one address, and what they bring, leave room for a newcomer of another and for what is behind it",
    () => {
      const regard = new DoorRegard();
      const rig = new Rig(S, { destinationsMax: 1_024, regard });
      regard.sources.set(B, "10.0.0.7");
      regard.known.add(A);
      rig.meet(A);
      rig.tell(A, [offer(A, 0), offer(D, 10)]);
      for (let n = 0; n < DOOR_IDENTITIES; n++) {
        const sybil = doorId(n);
        rig.router.neighbourUp(sybil, { bootId: "1", cost: fast });
        rig.router.handleFrame(
          sybil,
          encodeRouteResync({ buckets: 0, ownTag: 77, peerTag: rig.tagFor(sybil) }),
        );
        rig.tell(sybil, [offer(sybil, 0), offer(doorId(1_000_000 + n), 10)]);
        rig.router.neighbourDown(sybil);
        rig.sent.length = 0;
        expect(rig.router.tableSize).toBeLessThanOrEqual(1_024);
      }
      expect(rig.router.reachable(D)).toBe(true);
      rig.meet(B);
      rig.tell(B, [offer(B, 0), offer(E, 10)]);
      expect([B, D, E].every((id) => rig.router.reachable(id))).toBe(true);
    },
    DOOR_TEST_MS,
  );
});
