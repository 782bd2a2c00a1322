import { expect, test } from "bun:test";
import fc from "fast-check";
import { formatNodeId, type NodeId } from "../kernel/ids.ts";
import {
  CALLS_PER_ROUND_MAX,
  planPunches,
  PUNCHED_MAX,
  type PunchCandidate,
  RETRY_CAP_MS,
  RETRY_FIRST_MS,
  retryAfterMs,
} from "./plan-punches.ts";

const ids: NodeId[] = Array.from({ length: 16 }, (_, n) =>
  formatNodeId(new Uint8Array(32).fill(n)),
).toSorted();
const self = ids[5]!;
const candidate = (n: number, more: Partial<PunchCandidate> = {}): PunchCandidate => ({
  id: ids[n]!,
  trafficBytes: 0,
  failures: 0,
  calledAtMs: -RETRY_FIRST_MS,
  ...more,
});
const plan = (candidates: readonly PunchCandidate[], more: { nowMs?: number; punched?: number } = {}) =>
  planPunches({ self, nowMs: 0, punched: 0, candidates, ...more }).map((id) => ids.indexOf(id));

test("of two that send each other nothing the smaller id calls", () => {
  expect(plan([candidate(4), candidate(6)])).toEqual([6]);
});

test("whoever has something to send calls, also the greater id", () => {
  expect(plan([candidate(4, { trafficBytes: 1 })])).toEqual([4]);
});

test("most traffic goes first, then the smaller id, two in a round", () => {
  const all = [
    candidate(8),
    candidate(7),
    candidate(9, { trafficBytes: 10 }),
    candidate(1, { trafficBytes: 20 }),
  ];
  expect(plan(all)).toEqual([1, 9]);
  expect(plan(all.slice(0, 3))).toEqual([9, 7]);
});

test("with all links made that calls may have nobody is called, and with one left only one", () => {
  const all = [candidate(7), candidate(8)];
  expect(plan(all, { punched: PUNCHED_MAX })).toEqual([]);
  expect(plan(all, { punched: PUNCHED_MAX + 3 })).toEqual([]);
  expect(plan(all, { punched: PUNCHED_MAX - 1 })).toEqual([7]);
});

test("who did not answer rests longer each time, traffic or not, and does not hold up others", () => {
  const tired = candidate(7, { failures: 2, calledAtMs: 0, trafficBytes: 99 });
  expect(plan([tired, candidate(8)], { nowMs: 2 * RETRY_FIRST_MS - 1 })).toEqual([8]);
  expect(plan([tired, candidate(8)], { nowMs: 2 * RETRY_FIRST_MS })).toEqual([7, 8]);
});

test("the rest doubles from 10 s to its cap, however often it failed", () => {
  expect([0, 1, 2, 3].map(retryAfterMs)).toEqual([0, 10_000, 20_000, 40_000]);
  expect([7, 100, 1e9].map(retryAfterMs)).toEqual([RETRY_CAP_MS, RETRY_CAP_MS, RETRY_CAP_MS]);
});

test("the order in which members are listed changes nothing", () => {
  const some = fc.uniqueArray(
    fc.record({ n: fc.nat(15), trafficBytes: fc.nat(3), failures: fc.nat(3), calledAtMs: fc.nat(50_000) }),
    { selector: ({ n }) => n },
  );
  fc.assert(
    fc.property(some, fc.nat(20), (members, punched) => {
      const all = members.filter(({ n }) => n !== 5).map(({ n, ...more }) => candidate(n, more));
      const there = plan(all, { nowMs: 50_000, punched });
      expect(plan(all.toReversed(), { nowMs: 50_000, punched })).toEqual(there);
      expect(there.length).toBeLessThanOrEqual(
        Math.min(CALLS_PER_ROUND_MAX, Math.max(0, PUNCHED_MAX - punched)),
      );
      expect(new Set(there).size).toBe(there.length);
    }),
  );
});
