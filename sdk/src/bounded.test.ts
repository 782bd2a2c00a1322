import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { BoundedMap, BoundedSet } from "./bounded.ts";

/** The same by hand, slowly: a list whose first entry goes. */
function slowly(max: number) {
  let list: [number, number][] = [];
  let evicted: number[] = [];
  return {
    set(key: number, value: number) {
      const known = list.find(([one]) => one === key);
      if (known !== undefined) known[1] = value;
      else {
        if (list.length >= max) evicted = [...evicted, list.shift()![0]];
        list.push([key, value]);
      }
    },
    renew(key: number, value: number) {
      list = list.filter(([one]) => one !== key);
      this.set(key, value);
    },
    delete: (key: number) => void (list = list.filter(([one]) => one !== key)),
    clear: () => void (list = []),
    get entries() {
      return list;
    },
    get evicted() {
      return evicted;
    },
  };
}

describe("a bounded map", () => {
  test("does what a list that loses its first entry does", () => {
    const step = fc.tuple(
      fc.constantFrom("set" as const, "set" as const, "renew" as const, "delete" as const, "clear" as const),
      fc.nat(40),
      fc.nat(99),
    );
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 24 }), fc.array(step, { maxLength: 400 }), (max, steps) => {
        const evicted: number[] = [];
        const map = new BoundedMap<number, number>({ name: "x", max, evicted: (key) => evicted.push(key) });
        const slow = slowly(max);
        for (const [what, key, value] of steps) {
          // Seldom, or no map would ever be full.
          if (what === "clear") {
            if (key > 0) continue;
            map.clear();
            slow.clear();
          } else {
            map[what](key, value);
            slow[what](key, value);
          }
          expect(map.size).toBeLessThanOrEqual(max);
        }
        expect([...map]).toEqual(slow.entries);
        expect(map.first).toEqual(slow.entries[0]);
        expect(evicted).toEqual(slow.evicted);
        expect(map.evictedCount).toBe(slow.evicted.length);
      }),
    );
  });

  test("a known key never pushes another out", () => {
    const map = new BoundedMap<string, number>({ name: "x", max: 2 }).set("a", 1).set("b", 2);
    expect([...map.set("a", 3).renew("b", 4)]).toEqual([
      ["a", 3],
      ["b", 4],
    ]);
    expect(map.evictedCount).toBe(0);
  });

  test("undefined is a value and a key like any other", () => {
    const map = new BoundedMap<string | undefined, undefined>({ name: "x", max: 1 }).set(
      undefined,
      undefined,
    );
    expect([map.has(undefined), map.size]).toEqual([true, 1]);
    map.set("a", undefined);
    expect([map.has(undefined), map.evictedCount]).toEqual([false, 1]);
  });

  test.each([0, -1, 1.5, Number.NaN, Infinity, 2 ** 24 + 1])("a bound of %p is none", (max) => {
    expect(() => new BoundedMap({ name: "epochs", max })).toThrow("epochs: a bound is 1 to");
  });
});

test("a bounded set keeps the newest values, each once", () => {
  const set = new BoundedSet<number>({ name: "x", max: 3 });
  for (const value of [1, 2, 2, 3, 1, 4]) set.add(value);
  expect([...set]).toEqual([2, 3, 4]);
  expect([set.size, set.evictedCount, set.has(1), set.delete(4), set.has(4)]).toEqual([
    3,
    1,
    false,
    true,
    false,
  ]);
});
