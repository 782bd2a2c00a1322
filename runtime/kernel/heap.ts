/**
 * Keeps garbage short where much of it is made in little time. The engine lets a heap grow to twice of what lived at its last
 * collection, columns included, before it looks again: a hub that holds 100 MB of routes takes 100 MB more for what it has read
 * and thrown away, and blocks in which something of that time lives on stay behind. Whoever reads or writes by the megabyte tells it here,
 * and young garbage goes every so many megabytes. Must never be called for each packet: to ask for the size of a heap takes from a tenth of
 * a millisecond to some.
 */
import { edenGC } from "bun:jsc";

/** Bytes of frames behind which the heap is looked at: of 50 MB in 250 links that took half a millisecond. */
const LOOK_BYTES = 512 * 1024;
/** Growth since the last collection that is worth another one, which takes some 10 ms. What fills the gaps that the last one left is no growth. */
const GROWTH_BYTES = 6 * 1024 * 1024;
/** What outlived several may be garbage by now: the whole heap is looked through, in some 100 ms, when it grew by this part of itself. */
const FULL_SHARE = 0.3;
const FULL_BYTES_MIN = 12 * 1024 * 1024;

/** The engine's, or another's in tests. All bytes. */
export interface Heap {
  /** With the objects that were made since the last collection; of buffers as young as that the engine itself keeps the sum. */
  size(): number;
  collectYoung(): void;
  collectAll(): void;
}

export const engineHeap: Heap = {
  size() {
    // `heapSize` of the engine knows no object that is younger than the last collection: blocks and what is held outside of them do.
    const { heapTotal, external } = process.memoryUsage();
    return heapTotal + external;
  },
  collectYoung: () => void edenGC(),
  collectAll: () => Bun.gc(true),
};

export class HeapBrake {
  readonly #heap: Heap;
  #spent = 0;
  /** After the last collection, and after the last of all. */
  #floor = 0;
  #live = 0;

  constructor(heap: Heap = engineHeap) {
    this.#heap = heap;
  }

  /** So many bytes of frames were read or made. */
  spend(bytes: number): void {
    this.#spent += bytes;
    if (this.#spent < LOOK_BYTES) return;
    this.#spent = 0;
    const size = this.#heap.size();
    // The engine may have collected by itself.
    if (size < this.#floor) this.#floor = size;
    if (this.#live === 0) this.#live = this.#floor = size;
    if (size - this.#floor < GROWTH_BYTES) return;
    this.#heap.collectYoung();
    this.#floor = this.#heap.size();
    if (this.#floor - this.#live < Math.max(FULL_BYTES_MIN, this.#live * FULL_SHARE)) return;
    this.#heap.collectAll();
    this.#live = this.#floor = this.#heap.size();
  }
}

/** A process has one heap, however many nodes live in it. */
export const processHeap = new HeapBrake();
