import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ManualClock } from "../../kernel/clock.ts";
import { silentLog } from "../../kernel/log.ts";
import { seededRandom } from "../../kernel/random.ts";
import { openMemoryStore, SimDisk } from "../../store/memory.ts";
import {
  addCounter,
  hasCounter,
  removeCounter,
  Seen,
  SEEN_RUNS_MAX,
  SEEN_SETS_PER_SENDER_MAX,
  type Runs,
} from "./seen.ts";
import { testId } from "../testing.ts";

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
});

describe("sets", () => {
  const sender = testId("sender");

  test("five thousand counters, every second one first: nothing is called delivered that was not", () => {
    const seen = new Seen();
    const wallMs = NOW * 3_600_000;
    let taken = 0;
    for (let counter = 0; counter < 5_000; counter += 2)
      if (seen.add(sender, "e", "a", counter, wallMs) !== undefined) taken++;
    expect(taken).toBe(SEEN_RUNS_MAX);
    for (let counter = 1; counter < 5_000; counter += 2)
      expect(seen.has(sender, "e", "a", counter)).toBe(false);
  });

  test("survive a restart, also those written before gaps had a date and among damaged rows", async () => {
    const clock = new ManualClock(NOW * 3_600_000);
    const store = await openMemoryStore(new SimDisk(), { clock, random: seededRandom(1), commitDelayMs: 0 });
    const seen = new Seen();
    const key = seen.add(sender, "e", "a", 7, clock.wallMs())!;
    void store.commit([
      ...seen.ops(key),
      { op: "put", in: "seen", key: `${sender}/e/old`, meta: "[[1,3]]" },
      { op: "put", in: "seen", key: `${sender}/e/bad`, meta: "[[1," },
      { op: "put", in: "seen", key: `${sender}/e/worse`, meta: "{}" },
    ]);
    await clock.advance(1);
    const again = new Seen();
    const loading = again.load(store, silentLog, clock.wallMs());
    await clock.advance(1);
    await loading;
    const has = (address: string, counter: number) => again.has(sender, "e", address, counter);
    expect([has("a", 7), has("a", 8), has("old", 2), has("bad", 1)]).toEqual([true, false, true, false]);
  });

  test("a sender that invents epochs loses its own least used, nobody else's", () => {
    const seen = new Seen();
    const other = testId("other");
    seen.ops(seen.add(other, "e", "a", 1, 0)!);
    const deleted: string[] = [];
    for (let i = 0; i < SEEN_SETS_PER_SENDER_MAX + 10; i++) {
      for (const op of seen.ops(seen.add(sender, `e${i}`, "a", 1, 0)!))
        if (op.op === "delete") deleted.push(op.key);
      seen.has(sender, "e0", "a", 1); // in use
    }
    expect(deleted.length).toBe(10);
    expect([
      seen.has(sender, "e0", "a", 1),
      seen.has(sender, "e1", "a", 1),
      seen.has(other, "e", "a", 1),
    ]).toEqual([true, false, true]);
  });

  test("undo takes back exactly one", () => {
    const seen = new Seen();
    for (const counter of [1, 2, 3]) seen.add(sender, "e", "a", counter, 0);
    seen.undo(sender, "e", "a", 2, 0);
    expect([1, 2, 3].map((counter) => seen.has(sender, "e", "a", counter))).toEqual([true, false, true]);
  });
});

test("a full table of senders refuses new ones and goes on with the old", () => {
  const seen = new Seen(2);
  const add = (sender: string, counter: number) => seen.add(testId(sender), "e", "x", counter, 0);
  expect([add("a", 0), add("b", 0)].every((key) => key !== undefined)).toBe(true);
  expect(add("c", 0)).toBeUndefined();
  expect(seen.has(testId("c"), "e", "x", 0)).toBe(false);
  expect(add("a", 1)).toBeDefined();
});
