/**
 * What is to be looked at again, and when: one time for each key. Taking what is due costs in proportion to that, not to
 * what waits; what was forgotten leaves the heap when it outweighs the rest. Owns no timer and never calls anybody.
 */

interface Alarm<K> {
  readonly key: K;
  readonly atMs: number;
  readonly sequence: number;
}

/** Forgotten entries below which the heap is not worth cutting. */
const STALE_MIN = 64;

export class Alarms<K> {
  readonly #live = new Map<K, Alarm<K>>();
  /** Binary heap ordered by (time, sequence): same-time keys come in the order they were set. */
  #heap: Alarm<K>[] = [];
  #sequence = 0;

  /** Keys with a time. */
  get size(): number {
    return this.#live.size;
  }

  /** Entries in memory, forgotten ones included. */
  get heapLength(): number {
    return this.#heap.length;
  }

  /** The earliest time, in the unit of `set`; infinity without any. */
  get nextMs(): number {
    for (let first = this.#heap[0]; first !== undefined; first = this.#heap[0]) {
      if (this.#live.get(first.key) === first) return first.atMs;
      this.#pop();
    }
    return Number.POSITIVE_INFINITY;
  }

  /** Only an earlier time replaces the one that a key has. Infinity sets none. */
  set(key: K, atMs: number): void {
    const current = this.#live.get(key);
    if (!Number.isFinite(atMs) || (current !== undefined && current.atMs <= atMs)) return;
    const alarm: Alarm<K> = { key, atMs, sequence: this.#sequence++ };
    this.#live.set(key, alarm);
    this.#push(alarm);
    this.#cut();
  }

  delete(key: K): void {
    if (this.#live.delete(key)) this.#cut();
  }

  /** Keys whose time has come, earliest first; they have none from now on. */
  takeDue(nowMs: number): K[] {
    const due: K[] = [];
    for (let first = this.#heap[0]; first !== undefined && first.atMs <= nowMs; first = this.#heap[0]) {
      this.#pop();
      if (this.#live.get(first.key) !== first) continue;
      this.#live.delete(first.key);
      due.push(first.key);
    }
    return due;
  }

  /** Amortised: cut only when what was forgotten outweighs the rest. A sorted array is a heap. */
  #cut(): void {
    const stale = this.#heap.length - this.#live.size;
    if (stale < STALE_MIN || stale < this.#live.size) return;
    this.#heap = [...this.#live.values()].sort((a, b) => a.atMs - b.atMs || a.sequence - b.sequence);
  }

  #push(alarm: Alarm<K>): void {
    const heap = this.#heap;
    let at = heap.push(alarm) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(alarm, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = alarm;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!isBefore(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
  }
}

const isBefore = <K>(a: Alarm<K>, b: Alarm<K>): boolean =>
  a.atMs < b.atMs || (a.atMs === b.atMs && a.sequence < b.sequence);
