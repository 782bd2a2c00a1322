import { expect, test } from "bun:test";
import fc from "fast-check";
import { Backoff, CrashBudget, TokenBucket } from "./backoff.ts";
import { ManualClock } from "./clock.ts";
import { seededRandom } from "./random.ts";

test("every pause lies within a quarter of first * factor^n, and of the cap", () => {
  fc.assert(
    fc.property(
      fc.integer(),
      fc.integer({ min: 1, max: 1_000 }),
      fc.integer({ min: 1, max: 60_000 }),
      (seed, firstMs, capMs) => {
        const backoff = new Backoff({ firstMs, capMs, factor: 1.6 }, seededRandom(seed));
        for (let n = 0; n < 60; n++) {
          const middle = Math.min(capMs, firstMs * 1.6 ** Math.min(n, 40));
          const ms = backoff.nextMs();
          expect(ms).toBeGreaterThanOrEqual(middle * 0.75);
          expect(ms).toBeLessThan(middle * 1.25);
        }
        expect(backoff.failures).toBe(60);
        backoff.reset();
        expect(backoff.nextMs()).toBeLessThan(Math.min(capMs, firstMs) * 1.25);
      },
    ),
    { numRuns: 30 },
  );
});

test("a crash budget is spent by too many crashes in its window and recovers after it", () => {
  const clock = new ManualClock();
  const budget = new CrashBudget(clock, 2, 1_000);
  expect([budget.spend(), budget.spend(), budget.spend(), budget.spend()]).toEqual([
    true,
    true,
    false,
    false,
  ]);
  clock.jumpTo(1_000);
  expect(budget.spend()).toBe(true);
});

test("a token bucket lets a burst through and then its rate, and saves up no more than the burst", () => {
  const clock = new ManualClock();
  const bucket = new TokenBucket(clock, 2, 3);
  const takeAll = () => {
    let taken = 0;
    while (bucket.take()) taken++;
    return taken;
  };
  expect(takeAll()).toBe(3);
  clock.jumpTo(1_000);
  expect(takeAll()).toBe(2);
  clock.jumpTo(1e9);
  expect(takeAll()).toBe(3);
});
