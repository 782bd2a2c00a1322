/**
 * A map that anybody with a free identity can fill: what it keeps has its place by a share (room.ts), and goes when it has to
 * yield. Owns keys and values, no time and no I/O. What must not be forgotten belongs into a Quota, which refuses instead.
 */
import { Room, type Share, type Worth } from "./room.ts";

export interface SharedBound<K, V> {
  /** For people, in the plural, as in docs/threat-model.md. */
  readonly name: string;
  /** Places, 1 to 2^24. */
  readonly max: number;
  /** Places that all strangers together may have; by default three quarters. */
  readonly strangersMax?: number;
  /** Without it nothing is worth more than anything else of its share. Must not change the map. */
  worthOf?(key: K, value: V): Worth;
  /** Told of each entry that had to yield, after it is gone. Must not throw. */
  evicted?(key: K, value: V): void;
}

export class SharedMap<K, V> {
  readonly #entries = new Map<K, V>();
  readonly #room: Room<K>;

  constructor({ worthOf, evicted, ...bound }: SharedBound<K, V>) {
    this.#room = new Room({
      ...bound,
      worthOf: (key) => {
        const value = this.#entries.get(key);
        return worthOf === undefined || value === undefined ? "none" : worthOf(key, value);
      },
      evict: (key) => {
        const value = this.#entries.get(key)!;
        this.#entries.delete(key);
        evicted?.(key, value);
      },
    });
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Entries that had to yield since the map was made. */
  get evictedCount(): number {
    return this.#room.evictedCount;
  }

  has(key: K): boolean {
    return this.#entries.has(key);
  }

  get(key: K): V | undefined {
    return this.#entries.get(key);
  }

  /**
   * False: there is no place for it, and nothing changed. A known key keeps its place and its share, and of that it yields last: what
   * is used stays, whoever uses it.
   */
  set(key: K, value: V, share: Share): boolean {
    const isNew = !this.#entries.delete(key);
    this.#entries.set(key, value);
    if (!isNew) {
      this.#room.renew(key);
      return true;
    }
    if (this.#room.admit(key, share)) return true;
    this.#entries.delete(key);
    return false;
  }

  delete(key: K): boolean {
    this.#room.leave(key);
    return this.#entries.delete(key);
  }

  keys(): MapIterator<K> {
    return this.#entries.keys();
  }

  values(): MapIterator<V> {
    return this.#entries.values();
  }

  /** What was set longest ago first. */
  [Symbol.iterator](): MapIterator<[K, V]> {
    return this.#entries[Symbol.iterator]();
  }
}
