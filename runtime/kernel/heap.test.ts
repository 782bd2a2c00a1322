import { expect, test } from "bun:test";
import { engineHeap, HeapBrake, type Heap } from "./heap.ts";

const MIB = 1024 * 1024;

/** A heap of which the test says what lives and what is garbage, young and old. */
class FakeHeap implements Heap {
  live = 100 * MIB;
  young = 0;
  old = 0;
  looks = 0;
  youngCollections = 0;
  fullCollections = 0;

  size(): number {
    this.looks++;
    return this.live + this.young + this.old;
  }

  collectYoung(): void {
    this.youngCollections++;
    this.young = 0;
  }

  collectAll(): void {
    this.fullCollections++;
    this.young = this.old = 0;
  }
}

test("garbage of many frames stays within some megabytes, and the heap is not looked at for each frame", () => {
  const heap = new FakeHeap();
  const brake = new HeapBrake(heap);
  let most = 0;
  for (let frame = 0; frame < 100_000; frame++) {
    heap.young += 3_000;
    brake.spend(1_000);
    most = Math.max(most, heap.young);
  }
  expect(most).toBeLessThan(8 * MIB);
  expect(heap.looks).toBeLessThan(2_000);
  expect(heap.fullCollections).toBe(0);
});

test("what outlives young collections is collected when it is much, and not each time when it lives on", () => {
  const heap = new FakeHeap();
  const brake = new HeapBrake(heap);
  const grow = (bytes: number, kind: "old" | "live") => {
    for (let done = 0; done < bytes; done += MIB) {
      heap[kind] += MIB;
      brake.spend(MIB);
    }
  };
  grow(300 * MIB, "old");
  expect(heap.old).toBeLessThan(40 * MIB);
  const before = heap.fullCollections;
  expect(before).toBeGreaterThan(1);
  grow(300 * MIB, "live");
  expect(heap.fullCollections - before).toBeLessThan(6);
});

test("a heap that does not grow is left alone", () => {
  const heap = new FakeHeap();
  const brake = new HeapBrake(heap);
  for (let frame = 0; frame < 10_000; frame++) brake.spend(10_000);
  expect([heap.youngCollections, heap.fullCollections]).toEqual([0, 0]);
});

test("objects that were made since the last collection count", () => {
  engineHeap.collectAll();
  const before = engineHeap.size();
  const kept = Array.from({ length: 40_000 }, () => ({ a: {}, b: {} }));
  expect(engineHeap.size() - before).toBeGreaterThan(3 * MIB);
  expect(kept.length).toBe(40_000);
});

test("the engine's own heap is collected", () => {
  const brake = new HeapBrake();
  const kept: Uint8Array[] = [];
  for (let i = 0; i < 4_000; i++) {
    kept.length = 0;
    for (let n = 0; n < 8; n++) kept.push(new Uint8Array(4_096));
    brake.spend(32_768);
  }
  expect(process.memoryUsage().arrayBuffers).toBeLessThan(60 * MIB);
});
