import { expect, test } from "bun:test";
import { OrphanReaper } from "./orphans.ts";

/** A kernel with these ended children. */
function kernel(ended: Set<number>) {
  const taken: number[] = [];
  const sys = {
    peekEnded: () => [...ended][0],
    reap(pid: number) {
      if (!ended.delete(pid)) throw new Error("ECHILD");
      taken.push(pid);
    },
  };
  return { sys, taken };
}

test("twenty orphans of a container stay zombies for no more than two looks", () => {
  const ended = new Set(Array.from({ length: 20 }, (_, i) => i + 100));
  const { sys, taken } = kernel(ended);
  const reaper = new OrphanReaper(sys, () => [...ended]);
  expect([reaper.look(), reaper.look(), reaper.look()]).toEqual([0, 20, 0]);
  expect(taken).toHaveLength(20);
});

test("a child of the runtime's own, which it takes itself before the next look, is left to it", () => {
  const ended = new Set([7]);
  const { sys, taken } = kernel(ended);
  const reaper = new OrphanReaper(sys, () => [...ended]);
  reaper.look();
  ended.delete(7); // The runtime has waited for it,
  reaper.look();
  ended.add(7); // and the number comes again.
  expect(reaper.look()).toBe(0);
  expect(taken).toEqual([]);
});

test("one that was waited for in between is no fault", () => {
  const { sys } = kernel(new Set());
  const reaper = new OrphanReaper({ ...sys, peekEnded: () => 5 }, () => [5]);
  expect([reaper.look(), reaper.look()]).toEqual([0, 1]);
});
