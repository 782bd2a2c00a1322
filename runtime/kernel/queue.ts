/** A queue bounded in items and bytes, with its policy when full named at construction. */

/** `refuse`: the new item is not taken. `drop-oldest`: room is made from the front, for what is soon stale. */
export type FullPolicy = "refuse" | "drop-oldest";

export interface QueueBounds {
  readonly itemsMax: number;
  readonly bytesMax: number;
  readonly whenFull: FullPolicy;
}

export class BoundedQueue<T> {
  readonly #bounds: QueueBounds;
  readonly #onDrop: (item: T) => void;
  #ring: ({ item: T; bytes: number } | undefined)[] = [];
  #head = 0;
  #bytes = 0;

  /** `onDrop` sees every item that `drop-oldest` pushed out, exactly once. */
  constructor(bounds: QueueBounds, onDrop: (item: T) => void = () => {}) {
    this.#bounds = bounds;
    this.#onDrop = onDrop;
  }

  get length(): number {
    return this.#ring.length - this.#head;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** False when the item was not taken: full under `refuse`, or larger than the whole queue. */
  push(item: T, bytes: number): boolean {
    const { itemsMax, bytesMax, whenFull } = this.#bounds;
    if (bytes > bytesMax) return false;
    while (this.length + 1 > itemsMax || this.#bytes + bytes > bytesMax) {
      if (whenFull === "refuse") return false;
      this.#onDrop(this.shift()!);
    }
    this.#ring.push({ item, bytes });
    this.#bytes += bytes;
    return true;
  }

  /** Puts an item in the place of the first for which `isOld`, and answers that one; undefined: there is none, or no room for what it has more. */
  replace(isOld: (item: T) => boolean, item: T, bytes: number): T | undefined {
    for (let at = this.#head; at < this.#ring.length; at++) {
      const old = this.#ring[at]!;
      if (!isOld(old.item)) continue;
      if (this.#bytes - old.bytes + bytes > this.#bounds.bytesMax) return undefined;
      this.#ring[at] = { item, bytes };
      this.#bytes += bytes - old.bytes;
      return old.item;
    }
    return undefined;
  }

  peek(): T | undefined {
    return this.#ring[this.#head]?.item;
  }

  shift(): T | undefined {
    const slot = this.#ring[this.#head];
    if (slot === undefined) return undefined;
    this.#ring[this.#head++] = undefined;
    this.#bytes -= slot.bytes;
    // Amortised: the dead front is cut only when it outweighs the living part.
    if (this.#head > 64 && this.#head * 2 > this.#ring.length) {
      this.#ring = this.#ring.slice(this.#head);
      this.#head = 0;
    }
    return slot.item;
  }

  clear(): void {
    this.#ring = [];
    this.#head = 0;
    this.#bytes = 0;
  }
}
