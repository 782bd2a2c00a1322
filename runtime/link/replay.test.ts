import { expect, test } from "bun:test";
import fc from "fast-check";
import { ReplayWindow } from "./replay.ts";

/** Deliberately slow: remembers everything. */
class ReferenceWindow {
  readonly #seen = new Set<number>();
  readonly #size: number;
  #highest = -1;
  constructor(size: number) {
    this.#size = size;
  }
  take(counter: number): boolean {
    if (counter <= this.#highest - this.#size || this.#seen.has(counter)) return false;
    this.#seen.add(counter);
    this.#highest = Math.max(this.#highest, counter);
    return true;
  }
}

test.each([64, 2048])("a window of %d answers as the slow reference does", (size) => {
  const step = fc.oneof(
    { weight: 5, arbitrary: fc.integer({ min: -8, max: 8 }) },
    { weight: 3, arbitrary: fc.integer({ min: -size - 3, max: size + 3 }) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 2 ** 31 }) },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const window = new ReplayWindow(size);
      const reference = new ReferenceWindow(size);
      let counter = 0;
      for (const by of steps) {
        counter = Math.max(0, Math.min(2 ** 32 - 1, Math.max(window.highest, 0) + by));
        const accepted = window.accepts(counter);
        expect(accepted).toBe(reference.take(counter));
        if (accepted) window.mark(counter);
        expect(window.accepts(counter)).toBe(false);
      }
    }),
    { numRuns: 200 },
  );
});

test("asking moves nothing", () => {
  const window = new ReplayWindow(64);
  window.mark(5);
  expect(window.accepts(4_000_000)).toBe(true);
  expect(window.accepts(4)).toBe(true);
  expect(window.highest).toBe(5);
});

test("the edge of the window is exact", () => {
  const window = new ReplayWindow(64);
  window.mark(1_000);
  expect(window.accepts(1_000 - 63)).toBe(true);
  expect(window.accepts(1_000 - 64)).toBe(false);
});

test("a counter that was passed over is taken when it comes late, whatever stood in its place a window ago; and then never again", () => {
  const window = new ReplayWindow(64);
  for (let counter = 0; counter < 64; counter++) window.mark(counter);
  window.mark(70);
  for (let counter = 64; counter < 70; counter++) {
    expect(window.accepts(counter)).toBe(true);
    window.mark(counter);
    expect(window.accepts(counter)).toBe(false);
  }
});
