import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Room } from "./room.ts";
import { stranger, known, room } from "./testing.ts";

describe("a room for what anybody can tell", () => {
  test("what was of use goes after what never was, whatever came first", () => {
    const { room: places, gone } = room(5, (key) => (key.startsWith("used") ? "used" : "none"));
    places.admit("used 1", stranger("a"));
    places.admit("none 1", stranger("a"));
    places.admit("used 2", stranger("a"));
    places.admit("none 2", stranger("a"));
    for (const key of ["none 3", "none 4", "none 5"]) places.admit(key, stranger("a"));
    expect(gone).toEqual(["none 1", "none 2", "none 3"]);
    for (const key of ["used 3", "used 4"]) places.admit(key, stranger("a"));
    expect(gone.slice(3)).toEqual(["none 4", "none 5"]);
    places.admit("used 5", stranger("a"));
    expect(gone.at(-1)).toMatch(/^used/);
  });

  test("where all is kept there is no room, and nothing changes", () => {
    const { room: places, gone } = room(2, () => "kept");
    expect([places.admit("a", stranger("x")), places.admit("b", stranger("y"))]).toEqual([true, true]);
    expect([places.admit("c", stranger("z")), places.admit("c", known("z"))]).toEqual([false, false]);
    expect([gone, places.size, places.has("c")]).toEqual([[], 2, false]);
  });

  test("what known nodes tell presses strangers together, not out", () => {
    const { room: places } = room(100);
    for (let i = 0; i < 60; i++) places.admit(`stranger ${i}`, stranger("a"));
    for (let i = 0; i < 500; i++) places.admit(`told ${i}`, known("liar"));
    expect([places.sizeOf("a"), places.sizeOf("liar")]).toEqual([25, 75]);
  });

  test("never more than the bound, and the books agree, whoever tells what in which order", () => {
    const step = fc.record({
      key: fc.nat(30),
      by: fc.constantFrom("a", "b", "c"),
      isKnown: fc.boolean(),
      leaves: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 12 }), fc.array(step, { maxLength: 200 }), (max, steps) => {
        const held = new Set<number>();
        const places = new Room<number>({
          name: "x",
          max,
          worthOf: (key) => (key % 7 === 0 ? "kept" : key % 3 === 0 ? "used" : "none"),
          evict: (key) => {
            expect(held.delete(key)).toBe(true);
            expect(key % 7).not.toBe(0);
          },
        });
        for (const { key, by, isKnown, leaves } of steps) {
          if (leaves) {
            places.leave(key);
            held.delete(key);
          } else if (places.admit(key, { by, isKnown })) held.add(key);
          expect(places.size).toBe(held.size);
          expect(held.size).toBeLessThanOrEqual(max);
          for (const one of held) expect(places.has(one)).toBe(true);
        }
      }),
    );
  });

  test.each([0, -1, 1.5, Number.NaN])("a bound of %p is none", (max) => {
    expect(() => new Room({ name: "epochs", max, worthOf: () => "none", evict() {} })).toThrow("epochs");
  });
});
