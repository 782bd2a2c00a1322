import { describe, expect, test } from "bun:test";
import { ManualClock } from "@godwit/sdk/testkit";
import { Scheduler, WAITING_MAX } from "./scheduler.ts";

const HOUR_MS = 3_600_000;

function bench(share = 0.01, largestMs = 2_000) {
  const clock = new ManualClock();
  const scheduler = new Scheduler(clock, share, largestMs);
  const sent: number[] = [];
  let dropped = 0;
  let takes = true;
  let admits = 4;
  const offer = (costMs: number, rank = 1, name = 0) =>
    scheduler.offer({
      costMs,
      rank,
      isAdmitted: () => rank <= admits,
      send: () => {
        if (takes) sent.push(name);
        return takes;
      },
      drop: () => void dropped++,
    });
  return {
    clock,
    scheduler,
    sent,
    offer,
    dropped: () => dropped,
    setTakes: (next: boolean) => void (takes = next),
    setAdmits: (next: number) => void (admits = next),
  };
}

describe("own airtime", () => {
  test("is a share of all time, and what was saved up", () => {
    const { clock, offer, sent } = bench();
    for (let ms = 0; ms < 10 * HOUR_MS; ms += 60_000) {
      while (offer(2_000));
      clock.advance(60_000);
    }
    const usedMs = sent.length * 2_000;
    expect(usedMs).toBeLessThanOrEqual(20_000 + 0.01 * 10 * HOUR_MS);
    expect(usedMs).toBeGreaterThan(20_000 + 0.0095 * 10 * HOUR_MS);
  });

  test("what costs more than all that saves up leaves when that is there, and is owed", () => {
    const { clock, offer, sent, scheduler } = bench(0.01, 1_000);
    offer(50_000);
    offer(1_000);
    clock.advance(1);
    expect(sent.length).toBe(1);
    expect(scheduler.savedMs).toBeCloseTo(-30_000, 0);
    clock.advance(3_000_000);
    expect(sent.length).toBe(1);
    clock.advance(200_000);
    expect(sent.length).toBe(2);
  });

  test("the urgent passes, others keep their order", () => {
    const { clock, offer, sent } = bench();
    for (const [name, rank] of [
      [1, 3],
      [2, 1],
      [3, 1],
      [4, 0],
    ] as const)
      offer(10, rank, name);
    clock.advance(1);
    expect(sent).toEqual([4, 2, 3, 1]);
  });

  test("what the radio does not take waits until it does", () => {
    const { clock, offer, sent, scheduler, setTakes } = bench();
    setTakes(false);
    offer(10, 1, 1);
    offer(10, 1, 2);
    clock.advance(HOUR_MS);
    expect([sent, scheduler.waiting]).toEqual([[], 2]);
    setTakes(true);
    scheduler.again();
    clock.advance(1);
    expect([sent, scheduler.waiting]).toEqual([[1, 2], 0]);
  });

  test("what a busy channel does not admit waits until it does, and the urgent passes it", () => {
    const { clock, offer, sent, scheduler, setAdmits } = bench();
    setAdmits(0);
    offer(10, 1, 1);
    offer(10, 2, 2);
    offer(10, 0, 3);
    clock.advance(HOUR_MS);
    expect([sent, scheduler.waiting]).toEqual([[3], 2]);
    setAdmits(1);
    scheduler.again();
    clock.advance(1);
    expect([sent, scheduler.waiting]).toEqual([[3, 1], 1]);
    setAdmits(4);
    scheduler.again();
    clock.advance(1);
    expect(sent).toEqual([3, 1, 2]);
  });

  test("an alarm has a place where all are taken, that of the last and least urgent, but not of another alarm", () => {
    const { clock, offer, scheduler, dropped, setAdmits, sent } = bench();
    setAdmits(-1);
    while (offer(10, 2));
    for (let i = 1; i <= WAITING_MAX; i++) expect(offer(10, 0, i)).toBe(true);
    expect(offer(10, 0)).toBe(false);
    clock.advance(1);
    expect([scheduler.waiting, dropped()]).toEqual([WAITING_MAX, WAITING_MAX]);
    setAdmits(0);
    scheduler.again();
    clock.advance(1);
    expect(sent).toEqual(Array.from({ length: WAITING_MAX }, (_, i) => i + 1));
  });

  test("is bounded in what waits, and drops it in the end", () => {
    const { offer, scheduler, dropped } = bench();
    let taken = 0;
    while (offer(1_000_000)) taken++;
    expect(taken).toBe(WAITING_MAX);
    scheduler.close();
    expect(dropped()).toBe(WAITING_MAX);
    expect(offer(1)).toBe(false);
  });
});

test("airtime is saved up to a bound: a quiet night is no burst in the morning", async () => {
  const { clock, scheduler, sent, offer } = bench();
  await clock.advance(12 * HOUR_MS);
  expect(scheduler.savedMs).toBe(20_000);
  for (let name = 0; name < 30; name++) offer(2_000, 1, name);
  await clock.advance(1);
  expect(sent.length).toBe(10);
});
