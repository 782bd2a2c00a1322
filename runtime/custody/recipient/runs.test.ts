import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { addCounter, hasCounter, removeCounter, type Runs } from "./runs.ts";

const NOW = 500_000; // hours: the year 2027
const MONTH = 31 * 24;

const checkShape = (runs: Runs): void => {
  runs.forEach(([first, last], i) => {
    expect(first).toBeLessThanOrEqual(last);
    if (i > 0) expect(first).toBeGreaterThan(runs[i - 1]![1] + 1);
  });
};

describe("runs", () => {
  test("agree with a set under any order of adding and taking back", () => {
    const step = fc.record({ counter: fc.nat(60), isAdd: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const slow = new Set<number>();
        const runs: Runs = [];
        for (const { counter, isAdd } of steps) {
          if (isAdd) {
            slow.add(counter);
            expect(addCounter(runs, counter, NOW)).toBe(true);
          } else {
            slow.delete(counter);
            removeCounter(runs, counter, NOW);
          }
          checkShape(runs);
        }
        for (let counter = 0; counter <= 60; counter++)
          expect(hasCounter(runs, counter)).toBe(slow.has(counter));
      }),
    );
  });

  test("at the bound never call seen what was not, and take everything once the gaps are filled", () => {
    fc.assert(
      fc.property(
        fc.shuffledSubarray(
          Array.from({ length: 40 }, (_, i) => i),
          { minLength: 40 },
        ),
        (order) => {
          const slow = new Set<number>();
          const runs: Runs = [];
          let waiting = order;
          for (let round = 0; waiting.length > 0 && round < 50; round++) {
            waiting = waiting.filter((counter) => {
              if (!addCounter(runs, counter, NOW, 4)) return true;
              slow.add(counter);
              return false;
            });
            expect(runs.length).toBeLessThanOrEqual(4);
            for (let counter = 0; counter < 40; counter++)
              expect(hasCounter(runs, counter)).toBe(slow.has(counter));
          }
          expect(runs.map(([first, last]) => [first, last])).toEqual([[0, 39]]);
        },
      ),
    );
  });

  test("close a gap only when no message can come for it any more", () => {
    const runs: Runs = [];
    for (const [counter, hour] of [
      [0, 0],
      [2, 1],
      [4, 2],
      [6, 3],
    ] as const)
      expect(addCounter(runs, counter, NOW + hour, 4)).toBe(true);
    expect(addCounter(runs, 8, NOW + MONTH, 4)).toBe(false);
    expect(addCounter(runs, 8, NOW + 1 + MONTH, 4)).toBe(true);
    expect(runs.map(([first, last]) => [first, last])).toEqual([
      [0, 2],
      [4, 4],
      [6, 6],
      [8, 8],
    ]);
  });

  test("gaps from before the clock was right count from when it is", () => {
    const runs: Runs = [];
    for (const counter of [0, 2, 4, 6]) addCounter(runs, counter, 5, 4);
    expect(addCounter(runs, 8, 5 + 10 * MONTH, 4)).toBe(false);
    expect(addCounter(runs, 8, NOW, 4)).toBe(false);
    expect(addCounter(runs, 8, NOW + MONTH, 4)).toBe(true);
  });

  test("a gap that a wrong clock dated ahead is dead a month after it was next looked at, not decades later", () => {
    const runs: Runs = [];
    for (const counter of [0, 2, 4, 6]) addCounter(runs, counter, NOW + 40 * 12 * MONTH, 4);
    expect(addCounter(runs, 8, NOW, 4)).toBe(false);
    expect(addCounter(runs, 8, NOW + MONTH - 1, 4)).toBe(false);
    expect(addCounter(runs, 8, NOW + MONTH, 4)).toBe(true);
  });
});
