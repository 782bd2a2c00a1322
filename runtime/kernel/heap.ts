/**
 * Keeps garbage short where much of it is made in little time. The engine lets a heap grow to twice of what lived at its last
 * collection, columns included, before it looks again: a hub that holds 100 MB of routes takes 100 MB more for what it has read
 * and thrown away. Whoever reads or writes by the megabyte tells it here, and young garbage goes every so many megabytes. Must never
 * be called for each packet: to ask for the size of a heap takes from a tenth of a millisecond to some.
 */
import { edenGC, heapSize } from "bun:jsc";

/** Bytes of frames behind which the heap is looked at: of 100 MB in 250 links that took 2 ms. */
const LOOK_BYTES = 512 * 1024;
/** Growth since the last collection that is worth another one: at a third of this a busy hub took twice the processor time for 20 MB less. */
const GROWTH_BYTES = 24 * 1024 * 1024;
/** What outlived several may be garbage by now: the whole heap is looked through when it grew by this part of itself. */
const FULL_SHARE = 0.5;
const FULL_BYTES_MIN = 64 * 1024 * 1024;

/** The engine's, or another's in tests. All bytes. */
export interface Heap {
  size(): number;
  collectYoung(): void;
  collectAll(): void;
}

const engine: Heap = {
  size: heapSize,
  collectYoung: () => void edenGC(),
  collectAll: () => Bun.gc(true),
};

export class HeapBrake {
  readonly #heap: Heap;
  #spent = 0;
  /** After the last collection, and after the last of all. */
  #floor = 0;
  #live = 0;

  constructor(heap: Heap = engine) {
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
