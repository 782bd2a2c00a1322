import { expect, test } from "bun:test";
import fc from "fast-check";
import type { Share } from "./room.ts";
import { SharedMap } from "./shared-map.ts";

const flood: Share = { by: "192.0.2.1", isKnown: false };
const friend: Share = { by: "friend", isKnown: true };

test("what is set again keeps its place and share, yields last of it, and comes last in the order", () => {
  const gone: string[] = [];
  const map = new SharedMap<string, number>({
    name: "x",
    max: 4,
    strangersMax: 4,
    evicted: (key, value) => gone.push(`${key} ${value}`),
  });
  for (const key of ["a", "b", "c", "d"]) map.set(key, 1, flood);
  // By whose word it is here does not change: a friend that repeats it does not take it over.
  expect(map.set("a", 2, friend)).toBe(true);
  expect([...map.keys()]).toEqual(["b", "c", "d", "a"]);
  for (const key of ["e", "f", "g"]) map.set(key, 1, flood);
  expect([gone, map.get("a"), map.evictedCount]).toEqual([["b 1", "c 1", "d 1"], 2, 3]);
  map.set("h", 1, flood);
  expect(gone.at(-1)).toBe("a 2");
});

test("where everything is kept nothing is taken, and nothing changes", () => {
  const map = new SharedMap<string, number>({ name: "x", max: 2, strangersMax: 2, worthOf: () => "kept" });
  expect([map.set("a", 1, flood), map.set("b", 1, flood), map.set("c", 1, friend)]).toEqual([
    true,
    true,
    false,
  ]);
  expect([map.size, map.has("c"), map.get("a")]).toEqual([2, false, 1]);
  expect([map.delete("a"), map.delete("a"), map.set("c", 1, friend)]).toEqual([true, false, true]);
});

test("never more than the bound, and what it says is there is what was set and has not gone", () => {
  const step = fc.record({
    key: fc.nat(20),
    by: fc.constantFrom("a", "b"),
    isKnown: fc.boolean(),
    deletes: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 8 }), fc.array(step, { maxLength: 100 }), (max, steps) => {
      const there = new Map<number, number>();
      const map = new SharedMap<number, number>({
        name: "x",
        max,
        worthOf: (key) => (key % 5 === 0 ? "kept" : "none"),
        evicted: (key) => void there.delete(key),
      });
      for (const [at, { key, by, isKnown, deletes }] of steps.entries()) {
        if (deletes) expect(map.delete(key)).toBe(there.delete(key));
        else if (map.set(key, at, { by, isKnown })) there.set(key, at);
        expect(new Map(map)).toEqual(there);
        expect(map.size).toBeLessThanOrEqual(max);
      }
    }),
  );
});
