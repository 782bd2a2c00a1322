/** Senders of a thousand starts, and a hundred thousand of them. */
import { describe, expect, test } from "bun:test";
import { ManualClock } from "../../kernel/clock.ts";
import { seededRandom } from "../../kernel/random.ts";
import { openMemoryStore, SimDisk } from "../../store/memory.ts";
import { testId } from "../testing.ts";
import { Seen } from "./seen.ts";
import { NOW, HOUR_MS, share, sender, epochOf } from "./testing-seen.ts";

describe("sets", () => {
  /** A store and what it keeps of one sender, in bytes of keys and rows. */
  async function open() {
    const clock = new ManualClock(NOW * HOUR_MS);
    const disk = new SimDisk();
    const store = await openMemoryStore(disk, { clock, random: seededRandom(1), commitDelayMs: 0 });
    const bytes = () =>
      [...disk.rows("seen")].reduce((sum, [key, { meta }]) => sum + key.length + meta.length, 0);
    const reload = async () => {
      const again = new Seen();
      const loading = again.load(store, clock.wallMs());
      await clock.advance(1);
      await loading;
      return again;
    };
    const commit = async (ops: Parameters<typeof store.commit>[0]) => {
      void store.commit(ops);
      await clock.advance(1);
    };
    return { clock, store, bytes, reload, commit };
  }
  test("1,000 starts of one sender, each with mail, that of the first arriving last: none twice, none lost, within 64 KB", async () => {
    const { clock, bytes, reload, commit } = await open();
    let seen = new Seen();
    for (let start = 0; start < 1_000; start++)
      for (const [address, counter] of [
        ["DUN-A", 0],
        ["DUN-A", 1],
        [testId("me"), 0],
      ] as const) {
        if (start === 0 && counter === 1) continue; // the first start's second message is on its way
        expect(seen.has(sender, epochOf(start), address, counter)).toBe(false);
        const key = seen.add(sender, share, epochOf(start), address, counter, clock.wallMs());
        await commit(seen.ops(key!, clock.wallMs()));
        if (start % 100 === 99) seen = await reload();
      }
    console.log(`  1,000 starts: ${bytes()} bytes`);
    expect(bytes()).toBeLessThan(64 * 1_024);
    seen = await reload();
    expect(seen.has(sender, epochOf(0), "DUN-A", 1)).toBe(false);
    const key = seen.add(sender, share, epochOf(0), "DUN-A", 1, clock.wallMs());
    await commit(seen.ops(key!, clock.wallMs()));
    seen = await reload();
    for (let start = 0; start < 1_000; start++)
      for (const counter of [0, 1])
        expect([start, counter, seen.has(sender, epochOf(start), "DUN-A", counter)]).toEqual([
          start,
          counter,
          true,
        ]);
    expect(seen.has(sender, epochOf(500), "DUN-A", 2)).toBe(false);
  }, 60_000);
});

test("100,000 keys are refused by name when strangers have their share; nobody is forgotten, and known ones have room", () => {
  const seen = new Seen(4_096);
  const stranger = { by: "192.0.2.1", isKnown: false };
  let taken = 0;
  for (let n = 0; n < 100_000; n++)
    if (seen.add(testId(`sybil ${n}`), stranger, "e", "x", 1, 0) !== undefined) taken++;
  expect(taken).toBe(2_048);
  for (let n = 0; n < taken; n++) expect(seen.has(testId(`sybil ${n}`), "e", "x", 1)).toBe(true);
  expect(seen.add(testId("newcomer"), { by: "10.0.0.7", isKnown: false }, "e", "x", 1, 0)).toBeDefined();
  for (let n = 0; n < 1_024; n++)
    expect(seen.add(testId(`friend ${n}`), share, "e", "x", 1, 0)).toBeDefined();
});
