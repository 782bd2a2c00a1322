import { expect, test } from "bun:test";
import type { NodeId } from "../../kernel/ids.ts";
import { creditAfter, creditFirst, creditMax } from "./credit.ts";

const KIB = 1_024;
const from = "b" as NodeId;
const sums = new Uint8Array(16);
const link = (more: { rttMs?: number; isReliable?: boolean; isCarried?: boolean } = {}) => ({
  rttMs: () => more.rttMs ?? 1,
  isReliable: () => more.isReliable ?? true,
  isCarried: () => more.isCarried === true,
});
const after = (credit: number, bytes: number, tookMs: number, rttMs = 1) =>
  creditAfter(link({ rttMs }), from, { sums }, { credit, bytes, tookMs });

test("the credit is what comes in two round trips and 250 ms, at most twice and at least half of the last one", () => {
  // 1 MiB/s: 252 ms of it.
  expect(after(256 * KIB, 128 * KIB, 125)).toBe(Math.round((128 * KIB * 252) / 125));
  // The way holds more than was granted: it doubles.
  expect(after(256 * KIB, 128 * KIB, 10)).toBe(512 * KIB);
  expect(after(256 * KIB, 128 * KIB, 0)).toBe(512 * KIB);
  // Slow: it halves, and ends at the least.
  expect(after(256 * KIB, 128 * KIB, 60_000)).toBe(128 * KIB);
  expect(after(16 * KIB, 8 * KIB, 60_000)).toBe(16 * KIB);
});

test("over a long and wide way it grows to what is under way there, and no further than 4 MiB", () => {
  // 20 MiB/s and 200 ms: 4 MiB are on their way.
  let credit = creditFirst(link(), from);
  const rttMs = 200;
  for (let i = 0; i < 12; i++) {
    const tookMs = Math.max(rttMs, credit / 2 / ((20 * KIB * KIB) / 1_000));
    credit = after(credit, credit / 2, tookMs, rttMs);
  }
  expect(credit).toBe(4 * KIB * KIB);
  expect(after(4 * KIB * KIB, 2 * KIB * KIB, 1)).toBe(4 * KIB * KIB);
});

test("a neighbour that tells no sums, or a link that loses frames, gets 1 MiB at most, a carried medium all of it at once", () => {
  const max = (of: ReturnType<typeof link>, told: Uint8Array | undefined) =>
    creditMax(of, from, { sums: told });
  expect(max(link(), sums)).toBe(4 * KIB * KIB);
  expect(max(link(), undefined)).toBe(KIB * KIB);
  expect(max(link({ isReliable: false }), sums)).toBe(KIB * KIB);
  const carried = link({ isCarried: true });
  expect([creditFirst(carried, from), max(carried, sums)]).toEqual([KIB * KIB, KIB * KIB]);
  const seen = { credit: KIB * KIB, bytes: 10, tookMs: 50_000 };
  expect(creditAfter(carried, from, { sums }, seen)).toBe(KIB * KIB);
});
