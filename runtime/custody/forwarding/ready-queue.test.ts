import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Holding } from "../context.ts";
import { BULK_BYTES, ReadyQueue } from "./ready-queue.ts";

const holding = (name: string, priority = 2, sealedBytes = 10): Holding =>
  ({ id: name, header: { priority }, sealedBytes, state: "ready" }) as unknown as Holding;
const drainAll = (queue: ReadyQueue): string[] => {
  const out: string[] = [];
  queue.drain((item) => {
    out.push(item.id);
    item.state = "inflight";
    return true;
  });
  return out;
};

describe("order", () => {
  test("is priority, then small as they came, then large by size, whatever the order of arrival", () => {
    const item = fc.record({
      priority: fc.nat(3),
      size: fc.constantFrom(1, 2, BULK_BYTES + 1, BULK_BYTES + 2, 9_999),
    });
    fc.assert(
      fc.property(fc.array(item, { maxLength: 50 }), (items) => {
        const queue = new ReadyQueue();
        items.forEach(({ priority, size }, i) => queue.push(holding(`${i}`, priority, size)));
        const key = (i: number) => {
          const { priority, size } = items[i]!;
          return [priority, size > BULK_BYTES ? size : 0, i] as const;
        };
        const expected = items
          .map((_, i) => i)
          .sort((a, b) => key(a)[0] - key(b)[0] || key(a)[1] - key(b)[1] || key(a)[2] - key(b)[2]);
        expect(drainAll(queue)).toEqual(expected.map(String));
        expect(queue.length).toBe(0);
      }),
    );
  });

  test("what was tried goes to the front", () => {
    const queue = new ReadyQueue();
    queue.push(holding("a"));
    queue.push(holding("b"));
    queue.push(holding("again"), true);
    expect(drainAll(queue)).toEqual(["again", "a", "b"]);
  });
});

describe("drain", () => {
  test("a refusal blocks its lane alone", () => {
    const queue = new ReadyQueue();
    queue.push(holding("small"));
    queue.push(holding("behind"));
    queue.push(holding("bulk", 2, 9_000));
    queue.push(holding("low", 3));
    const asked: string[] = [];
    queue.drain(({ id }) => {
      asked.push(id);
      return id !== ("small" as string);
    });
    expect(asked).toEqual(["small", "bulk", "low"]);
    expect(queue.length).toBe(2);
  });

  test("within a drain does nothing", () => {
    const queue = new ReadyQueue();
    queue.push(holding("a"));
    queue.push(holding("b"));
    const asked: string[] = [];
    queue.drain((item) => {
      asked.push(item.id);
      queue.drain(() => true);
      return true;
    });
    expect(asked).toEqual(["a", "b"]);
  });
});

test("ten thousand that left behind a blocked head do not stay in memory", () => {
  const queue = new ReadyQueue();
  const all = Array.from({ length: 10_000 }, (_, i) => holding(`${i}`));
  for (const item of all) queue.push(item);
  for (const item of all.slice(1)) {
    queue.forget(item);
    item.state = "paused";
  }
  expect(queue.length).toBeLessThan(200);
  expect(drainAll(queue)).toEqual(["0"]);
});

test("a hundred thousand returned to the front do not take seconds", () => {
  const queue = new ReadyQueue();
  for (let i = 0; i < 100_000; i++) queue.push(holding(`${i}`));
  const startMs = performance.now();
  for (let i = 0; i < 2_000; i++) queue.push(holding(`again ${i}`), true);
  expect(performance.now() - startMs).toBeLessThan(1_000);
  expect(queue.length).toBe(102_000);
});
