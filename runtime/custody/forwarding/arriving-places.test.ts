import { expect, test } from "bun:test";
import { formatNodeId } from "../../kernel/ids.ts";
import type { Share } from "../../kernel/room.ts";
import { type Holder, planPlace } from "./arriving-places.ts";

const id = (n: number) => formatNodeId(new Uint8Array(32).fill(n));
const [here, there]: Share[] = [
  { by: "192.0.2.1", isKnown: false },
  { by: "192.0.2.2", isKnown: false },
];
const known: Share = { by: id(9), isKnown: true };
const NOW_MS = 60_000;

const holder = (n: number, share: Share, more: Partial<Holder<number>> = {}): Holder<number> => ({
  key: n,
  from: id(n),
  share,
  startedAtMs: NOW_MS - 5_000,
  bytes: 10,
  ...more,
});
const ask = (holders: readonly Holder<number>[], share: Share, from = id(50)) =>
  planPlace(holders, { from, share, nowMs: NOW_MS, max: 4, perNeighbourMax: 2 });

test("identities of one address that have all places give one up to whoever has none, the slowest first", () => {
  const crowd = [1, 2, 3, 4].map((n) => holder(n, here!, { bytes: n * 1_000 }));
  expect(ask(crowd.slice(0, 3), there!)).toEqual({ kind: "free" });
  expect(ask(crowd, there!)).toEqual({ kind: "yields", key: 1 });
  // And not to one more of their own.
  expect(ask(crowd, here!)).toEqual({ kind: "none" });
  // Where all have one address those that drip yield as well.
  const dripping = crowd.map((one) => ({ ...one, startedAtMs: 0 }));
  expect(ask(dripping, here!)).toEqual({ kind: "yields", key: 1 });
});

test("sources that share evenly keep what moves, and give up what drips", () => {
  const [a, b] = [holder(1, here!), holder(2, here!)];
  const even = [a, b, holder(3, there!), holder(4, there!)];
  const third: Share = { by: "192.0.2.3", isKnown: false };
  expect(ask(even, third)).toMatchObject({ kind: "yields" });
  const each = [1, 2, 3, 4].map((n) => holder(n, { by: `192.0.2.${n}`, isKnown: false }));
  const late: Share = { by: "192.0.2.9", isKnown: false };
  expect(ask(each, late)).toEqual({ kind: "none" });
  const dripping = each.map((one) => (one.key === 3 ? { ...one, startedAtMs: 0 } : one));
  expect(ask(dripping, late)).toEqual({ kind: "yields", key: 3 });
  const moving = each.map((one) => ({ ...one, startedAtMs: 0, bytes: 2_000_000 }));
  expect(ask(moving, late)).toEqual({ kind: "none" });
});

test("a known neighbour finds a place among strangers, and none of them takes its own", () => {
  const four = [holder(9, known), holder(2, here!), holder(3, here!), holder(4, here!)];
  expect(ask(four, { by: id(8), isKnown: true })).toMatchObject({ kind: "yields", key: 2 });
  const all = [
    holder(9, known),
    holder(9, known),
    holder(8, { by: id(8), isKnown: true }),
    holder(7, { by: id(7), isKnown: true }),
  ];
  expect(ask(all, here!)).toEqual({ kind: "none" });
  expect(ask([holder(9, known), holder(9, known)], known, id(9))).toEqual({ kind: "none" });
});
