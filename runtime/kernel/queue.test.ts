import { expect, test } from "bun:test";
import fc from "fast-check";
import { BoundedQueue, type FullPolicy } from "./queue.ts";

/** The same, kept simple. */
class SlowQueue {
  readonly items: { item: number; bytes: number }[] = [];
  readonly dropped: number[] = [];
  readonly itemsMax: number;
  readonly bytesMax: number;
  readonly whenFull: FullPolicy;

  constructor(itemsMax: number, bytesMax: number, whenFull: FullPolicy) {
    this.itemsMax = itemsMax;
    this.bytesMax = bytesMax;
    this.whenFull = whenFull;
  }

  get bytes(): number {
    return this.items.reduce((total, { bytes }) => total + bytes, 0);
  }

  push(item: number, bytes: number): boolean {
    if (bytes > this.bytesMax) return false;
    while (this.items.length + 1 > this.itemsMax || this.bytes + bytes > this.bytesMax) {
      if (this.whenFull === "refuse") return false;
      this.dropped.push(this.items.shift()!.item);
    }
    this.items.push({ item, bytes });
    return true;
  }
}

test("agrees with a slow queue under any order of pushes and shifts", () => {
  fc.assert(
    fc.property(
      fc.constantFrom<FullPolicy>("refuse", "drop-oldest"),
      fc.integer({ min: 1, max: 100 }),
      fc.integer({ min: 1, max: 400 }),
      fc.array(fc.option(fc.integer({ min: 0, max: 12 }), { freq: 3 }), { maxLength: 400 }),
      (whenFull, itemsMax, bytesMax, steps) => {
        const slow = new SlowQueue(itemsMax, bytesMax, whenFull);
        const dropped: number[] = [];
        const queue = new BoundedQueue<number>({ itemsMax, bytesMax, whenFull }, (item) =>
          dropped.push(item),
        );
        steps.forEach((step, i) => {
          if (step === null) {
            expect(queue.peek()).toBe(slow.items[0]?.item);
            expect(queue.shift()).toBe(slow.items.shift()?.item);
          } else expect(queue.push(i, step)).toBe(slow.push(i, step));
          expect([queue.length, queue.bytes]).toEqual([slow.items.length, slow.bytes]);
        });
        expect(dropped).toEqual(slow.dropped);
      },
    ),
  );
});

test("clear leaves nothing behind", () => {
  const queue = new BoundedQueue<number>({ itemsMax: 3, bytesMax: 30, whenFull: "refuse" });
  queue.push(1, 10);
  queue.clear();
  expect([queue.length, queue.bytes, queue.shift()]).toEqual([0, 0, undefined]);
  expect(queue.push(2, 30)).toBe(true);
});

test("a newer item takes the place of the first older one, and no more room than there is", () => {
  const queue = new BoundedQueue<string>({ itemsMax: 3, bytesMax: 30, whenFull: "refuse" });
  for (const item of ["a1", "b1", "a2"]) queue.push(item, 10);
  const replace = (item: string, bytes: number) =>
    queue.replace((old) => old.startsWith(item.slice(0, 1)), item, bytes);
  expect([replace("b2", 8), queue.bytes]).toEqual(["b1", 28]);
  expect([replace("a3", 13), queue.bytes, replace("c1", 1)]).toEqual([undefined, 28, undefined]);
  expect([queue.shift(), replace("a4", 5)]).toEqual(["a1", "a2"]);
  expect([queue.shift(), queue.shift(), queue.shift(), queue.bytes]).toEqual(["b2", "a4", undefined, 0]);
});
