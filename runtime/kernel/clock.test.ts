import { getEventListeners } from "node:events";
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { every, ManualClock, sleep, systemClock, untilMultiple } from "./clock.ts";

describe("ManualClock", () => {
  test("fires by time, then by the order of setting, and never what was cancelled", () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ delayMs: fc.integer({ min: -3, max: 20 }), isCancelled: fc.boolean() }), {
          maxLength: 60,
        }),
        (plan) => {
          const clock = new ManualClock();
          const fired: number[] = [];
          const timers = plan.map(({ delayMs }, i) => clock.after(delayMs, () => fired.push(i)));
          plan.forEach(({ isCancelled }, i) => {
            if (isCancelled) timers[i]!.cancel();
          });
          while (clock.runNext(Number.POSITIVE_INFINITY));
          const expected = plan
            .map(({ delayMs, isCancelled }, i) => ({ atMs: Math.max(0, delayMs), isCancelled, i }))
            .filter(({ isCancelled }) => !isCancelled)
            .sort((a, b) => a.atMs - b.atMs || a.i - b.i)
            .map(({ i }) => i);
          expect(fired).toEqual(expected);
          expect(clock.nextAtMs()).toBeUndefined();
        },
      ),
    );
  });

  test("advance runs promise reactions and what they set, up to the limit and no further", async () => {
    const clock = new ManualClock(1_000);
    const seen: string[] = [];
    const chain = async () => {
      await Promise.resolve();
      clock.after(5, () => seen.push(`at ${clock.monotonicMs()} wall ${clock.wallMs()}`));
      clock.after(6, () => seen.push("too late"));
    };
    clock.after(10, () => void chain());
    await clock.advance(15);
    expect(seen).toEqual(["at 15 wall 1015"]);
  });

  test("a cancel within a callback of the same moment counts; cancelling twice does nothing", () => {
    const clock = new ManualClock();
    let fired = 0;
    clock.after(1, () => second.cancel());
    const second = clock.after(1, () => fired++);
    while (clock.runNext(5));
    second.cancel();
    expect(fired).toBe(0);
  });
});

describe("sleep", () => {
  test("an abort rejects at once with its reason and leaves no timer", async () => {
    const clock = new ManualClock();
    const abort = new AbortController();
    const sleeping = sleep(clock, 100, abort.signal);
    const reason = new Error("enough");
    abort.abort(reason);
    expect(await sleeping.catch((error: unknown) => error)).toBe(reason);
    expect(clock.nextAtMs()).toBeUndefined();
    expect(await sleep(clock, 1, abort.signal).catch((error: unknown) => error)).toBe(reason);
    expect(clock.nextAtMs()).toBeUndefined();
  });

  test("a later abort does nothing to one that ended", async () => {
    const clock = new ManualClock();
    const abort = new AbortController();
    const sleeping = sleep(clock, 3, abort.signal);
    expect(getEventListeners(abort.signal, "abort")).toHaveLength(1);
    await clock.advance(3);
    await sleeping;
    expect(getEventListeners(abort.signal, "abort")).toEqual([]);
    abort.abort();
    expect(await sleeping).toBeUndefined();
  });
});

test("every repeats with its jitter until cancelled, also from within", async () => {
  const clock = new ManualClock();
  const at: number[] = [];
  const timer = every(
    clock,
    10,
    () => {
      at.push(clock.monotonicMs());
      if (at.length === 3) timer.cancel();
    },
    () => 1,
  );
  await clock.advance(100);
  expect(at).toEqual([11, 22, 33]);
  expect(clock.nextAtMs()).toBeUndefined();
});

describe("systemClock", () => {
  test("a delay beyond 2^31 ms does not fire at once", async () => {
    let fired = 0;
    const timers = [2 ** 31, 30 * 24 * 3_600_000, 2 ** 40].map((ms) => systemClock.after(ms, () => fired++));
    await new Promise<void>((resolve) => void systemClock.after(3, resolve));
    expect(fired).toBe(0);
    for (const timer of timers) timer.cancel();
  });

  test("never calls synchronously and never goes back", async () => {
    let isSync = true;
    await new Promise<void>((resolve) => {
      systemClock.after(-5, () => {
        expect(isSync).toBe(false);
        resolve();
      });
      isSync = false;
    });
    const before = systemClock.monotonicMs();
    expect(systemClock.monotonicMs()).toBeGreaterThanOrEqual(before);
  });
});

test("what looks now and then looks at the same moments, once each", () => {
  const clock = new ManualClock();
  for (const [atMs, leftMs] of [
    [0, 1_000],
    [300, 700],
    [499, 501],
    [999.7, 1_000.3],
    [1_000.2, 999.8],
  ] as const) {
    clock.jumpTo(atMs);
    expect(untilMultiple(clock, 1_000)).toBeCloseTo(leftMs, 6);
  }
});
