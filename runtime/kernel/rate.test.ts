import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Rate } from "./rate.ts";

/** `bytes` every `everyMs`, `times` times. */
function steady(rate: Rate, { bytes, everyMs, times, fromMs = 0 }: Steady): number {
  let nowMs = fromMs;
  for (let i = 0; i < times; i++) rate.add(bytes, (nowMs += everyMs));
  return nowMs;
}
interface Steady {
  readonly bytes: number;
  readonly everyMs: number;
  readonly times: number;
  readonly fromMs?: number;
}

describe("a rate", () => {
  test("of what goes evenly is that, in bit/s, from the first half second on, however it is cut", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 30_000 }), fc.integer({ min: 1, max: 200 }), (everyMs, times) => {
        const rate = new Rate(0);
        const nowMs = steady(rate, { bytes: everyMs * 25, everyMs, times });
        // 25 bytes a millisecond.
        if (nowMs >= 1_000) expect(rate.bitsPerSecond(nowMs)).toBeCloseTo(200_000, 3);
      }),
    );
  });

  test("says nothing before it has seen half a second", () => {
    const rate = new Rate(0);
    expect([rate.bitsPerSecond(0), rate.secondsLeft(1, 0)]).toEqual([undefined, undefined]);
    rate.add(1_000_000, 100);
    expect(rate.bitsPerSecond(5_000)).toBeUndefined();
    rate.add(1_000_000, 700);
    expect(rate.bitsPerSecond(700)).toBeGreaterThan(0);
  });

  test("forgets how fast it was", () => {
    const rate = new Rate(0);
    const fastMs = steady(rate, { bytes: 1_000_000, everyMs: 100, times: 600 });
    const slowMs = steady(rate, { bytes: 1_000, everyMs: 100, times: 600, fromMs: fastMs });
    const slow = 80_000;
    expect(rate.bitsPerSecond(slowMs)).toBeLessThan(4 * slow);
    const nowMs = steady(rate, { bytes: 1_000, everyMs: 100, times: 1_200, fromMs: slowMs });
    expect(rate.bitsPerSecond(nowMs)! / slow).toBeCloseTo(1, 3);
  });

  test("of what comes in large pieces does not sag between two of them", () => {
    const rate = new Rate(0);
    const nowMs = steady(rate, { bytes: 16_384, everyMs: 25_000, times: 4 });
    const shown = rate.bitsPerSecond(nowMs)!;
    expect(shown).toBeCloseTo(5_243, 0);
    for (const laterMs of [1_000, 10_000, 24_999])
      expect(rate.bitsPerSecond(nowMs + laterMs)).toBeCloseTo(shown, 3);
  });

  test("of what stands still goes down to nothing, and then nothing is said of its end", () => {
    const rate = new Rate(0);
    const nowMs = steady(rate, { bytes: 25_000, everyMs: 100, times: 100 });
    expect(rate.bitsPerSecond(nowMs + 60_000)).toBeLessThan(2_000_000 / 100);
    expect(rate.secondsLeft(1_000_000, nowMs)).toBe(4);
    expect(rate.secondsLeft(1_000_000, nowMs + 60_000)).toBeGreaterThan(400);
    expect(rate.secondsLeft(16_000_000, nowMs + 86_400_000)).toBeUndefined();
  });

  test("of several pieces at one moment counts each", () => {
    const rate = new Rate(0);
    rate.add(500, 1_000);
    rate.add(500, 1_000);
    expect(rate.bitsPerSecond(1_000)).toBeGreaterThan(4_000);
    expect(rate.bitsPerSecond(1_000)).toBeLessThan(9_000);
  });

  test("rounds the seconds that are left up: 0 only when nothing is", () => {
    const rate = new Rate(0);
    const nowMs = steady(rate, { bytes: 1_000, everyMs: 1_000, times: 10 });
    expect([1, 1_001, 0].map((bytes) => rate.secondsLeft(bytes, nowMs))).toEqual([1, 2, 0]);
  });
});
