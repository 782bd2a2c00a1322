import { expect, test } from "bun:test";
import { Lineage } from "./lineage.ts";

test("a copy knows what its original knew at the copy, and nothing later; what it learns is its own", () => {
  const [disk, clone] = [new Lineage(), new Lineage()];
  const first = disk.mark();
  const copy = disk.mark();
  const later = disk.mark();
  clone.restore(copy);
  const own = clone.mark();
  expect([first, later, own].map((mark) => disk.holds(mark))).toEqual([true, true, false]);
  expect([first, later, own].map((mark) => clone.holds(mark))).toEqual([true, false, true]);
  disk.restore(copy);
  const again = disk.mark();
  expect([first, later, own, again].map((mark) => disk.holds(mark))).toEqual([true, false, false, true]);
});

test("a copy of a copy knows no more than either; an older copy put back later knows less", () => {
  const disk = new Lineage();
  const first = disk.mark();
  const early = disk.mark();
  const second = disk.mark();
  const late = disk.mark();
  disk.restore(early);
  const third = disk.mark();
  const ofThird = disk.mark();
  disk.restore(late);
  expect([first, second, third].map((mark) => disk.holds(mark))).toEqual([true, true, false]);
  disk.restore(ofThird);
  expect([first, second, third].map((mark) => disk.holds(mark))).toEqual([true, false, true]);
  disk.restore(undefined);
  expect(disk.holds(first)).toBe(false);
});

test("a row that damage took is gone, until a copy from before is put back", () => {
  const disk = new Lineage();
  const mark = disk.mark();
  const copy = disk.mark();
  disk.lose(["outbox/a"]);
  expect([disk.holds(mark, "outbox/a"), disk.holds(mark, "outbox/b")]).toEqual([false, true]);
  const damaged = disk.mark();
  disk.restore(copy);
  expect(disk.holds(mark, "outbox/a")).toBe(true);
  disk.lose(["outbox/a"]);
  // The copy lacks it by the first loss; and so does one that runs beside.
  const clone = new Lineage();
  for (const at of [disk, clone]) {
    at.restore(damaged);
    expect([at.holds(mark, "outbox/a"), at.holds(mark, "outbox/b")]).toEqual([false, true]);
  }
});
