import { describe, expect, test } from "bun:test";
import { ManualClock } from "../../kernel/clock.ts";
import { seededRandom } from "../../kernel/random.ts";
import { openMemoryStore, SimDisk } from "../../store/memory.ts";
import { testId } from "../testing.ts";
import { SEEN_RUNS_MAX } from "./runs.ts";
import { Seen } from "./seen.ts";
import { NOW, HOUR_MS, share, sender, epochOf } from "./testing-seen.ts";

describe("sets", () => {
  test("five thousand counters, every second one first: nothing is called delivered that was not", () => {
    const seen = new Seen();
    const wallMs = NOW * 3_600_000;
    let taken = 0;
    for (let counter = 0; counter < 5_000; counter += 2)
      if (seen.add(sender, share, "e", "a", counter, wallMs) !== undefined) taken++;
    expect(taken).toBe(SEEN_RUNS_MAX);
    for (let counter = 1; counter < 5_000; counter += 2)
      expect(seen.has(sender, "e", "a", counter)).toBe(false);
  });

  test("survive a restart, also those written before gaps had a date and among damaged rows", async () => {
    const clock = new ManualClock(NOW * 3_600_000);
    const store = await openMemoryStore(new SimDisk(), { clock, random: seededRandom(1), commitDelayMs: 0 });
    const seen = new Seen();
    const key = seen.add(sender, share, "e", "a", 7, clock.wallMs())!;
    void store.commit([
      ...seen.ops(key, clock.wallMs()),
      { op: "put", in: "seen", key: `${sender}/e/old`, meta: "[[1,3]]" },
      { op: "put", in: "seen", key: `${sender}/e/bad`, meta: "[[1," },
      { op: "put", in: "seen", key: `${sender}/e/worse`, meta: "{}" },
    ]);
    await clock.advance(1);
    const again = new Seen();
    const loading = again.load(store, clock.wallMs());
    await clock.advance(1);
    await loading;
    const has = (address: string, counter: number) => again.has(sender, "e", address, counter);
    expect([has("a", 7), has("a", 8), has("old", 2), has("bad", 1)]).toEqual([true, false, true, false]);
  });

  test("a sender that invents epochs is refused at its bound, loses nothing, and costs nobody else; a year later there is room", () => {
    const seen = new Seen();
    const other = testId("other");
    const add = (from: typeof sender, epoch: number, wallMs = NOW * HOUR_MS) => {
      const key = seen.add(from, share, epochOf(epoch), testId(`to ${epoch}`), 1, wallMs);
      if (key !== undefined) seen.ops(key, wallMs);
      return key !== undefined;
    };
    let taken = 0;
    while (taken < 10_000 && add(sender, taken)) taken++;
    expect(taken).toBeGreaterThan(300);
    expect(taken).toBeLessThan(2_000);
    for (let epoch = 0; epoch < taken; epoch += 37)
      expect(seen.has(sender, epochOf(epoch), testId(`to ${epoch}`), 1)).toBe(true);
    expect([add(sender, 20_000), add(other, 1)]).toEqual([false, true]);
    expect(seen.add(sender, share, epochOf(3), testId("to 3"), 2, NOW * HOUR_MS)).toBeDefined(); // a known set goes on
    // A clock that was never right makes nothing dead, however far it jumps.
    const early = new Seen();
    const addEarly = (epoch: number, wallMs: number) => {
      const key = early.add(sender, share, epochOf(epoch), testId(`to ${epoch}`), 1, wallMs);
      if (key !== undefined) early.ops(key, wallMs);
      return key !== undefined;
    };
    for (let epoch = 0; addEarly(epoch, 0); epoch++);
    expect(addEarly(20_000, NOW * HOUR_MS)).toBe(false);
    expect(add(sender, 20_000, (NOW + 361 * 24) * HOUR_MS)).toBe(true);
    expect(seen.has(sender, epochOf(taken - 1), testId(`to ${taken - 1}`), 1)).toBe(true); // still live
  });

  test("undo takes back exactly one", () => {
    const seen = new Seen();
    for (const counter of [1, 2, 3]) seen.add(sender, share, "e", "a", counter, 0);
    seen.undo(sender, "e", "a", 2, 0);
    expect([1, 2, 3].map((counter) => seen.has(sender, "e", "a", counter))).toEqual([true, false, true]);
  });
});

test("a full table of senders refuses new ones and goes on with the old", () => {
  const seen = new Seen(2);
  const add = (name: string, counter: number) => seen.add(testId(name), share, "e", "x", counter, 0);
  expect([add("a", 0), add("b", 0)].every((key) => key !== undefined)).toBe(true);
  expect(add("c", 0)).toBeUndefined();
  expect(seen.has(testId("c"), "e", "x", 0)).toBe(false);
  expect(add("a", 1)).toBeDefined();
});
