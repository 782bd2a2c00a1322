/**
 * Maps and sets that strangers fill: each has a name and a bound, and says what it had to forget. When one is full the
 * entry that came first goes, or the one that was renewed longest ago. Own no time and no I/O. What must not be forgotten (because
 * something would be delivered or redeemed twice) belongs into a map that refuses instead, not into one of these.
 */

export interface Bound<K, V> {
  /** For people and metrics: what is kept, in the plural, such as `store epochs`. */
  readonly name: string;
  /** Entries, 1 to 2^24. */
  readonly max: number;
  /** Told of each entry that had to go, after it is gone. Must not throw. */
  readonly evicted?: (key: K, value: V) => void;
}

const BOUND_MAX = 2 ** 24;

/** A `Map` of at most `max` entries. Throws RangeError for a bound that is none. */
export class BoundedMap<K, V> {
  readonly name: string;
  readonly max: number;
  readonly #evicted: ((key: K, value: V) => void) | undefined;
  readonly #entries = new Map<K, V>();
  /** Stands before the first entry: to look for it from the start costs a walk over all that are gone. */
  #fromFirst = this.#entries.entries();
  #evictedCount = 0;

  constructor({ name, max, evicted }: Bound<K, V>) {
    if (!Number.isSafeInteger(max) || max < 1 || max > BOUND_MAX)
      throw new RangeError(`${name}: a bound is 1 to ${BOUND_MAX}, not ${max}`);
    this.name = name;
    this.max = max;
    this.#evicted = evicted;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Entries that had to go since the map was made. */
  get evictedCount(): number {
    return this.#evictedCount;
  }

  has(key: K): boolean {
    return this.#entries.has(key);
  }

  get(key: K): V | undefined {
    return this.#entries.get(key);
  }

  /** A known key keeps its place in the order; a new one comes last, and the first goes if there is no room. */
  set(key: K, value: V): this {
    if (this.#entries.size >= this.max && !this.#entries.has(key)) this.#evictFirst();
    this.#entries.set(key, value);
    return this;
  }

  /** The same, but a known key comes last again: what is used stays. */
  renew(key: K, value: V): this {
    this.#entries.delete(key);
    return this.set(key, value);
  }

  delete(key: K): boolean {
    return this.#entries.delete(key);
  }

  clear(): void {
    this.#entries.clear();
  }

  /** The entry that would go next. */
  get first(): readonly [K, V] | undefined {
    for (const entry of this.#entries) return entry;
    return undefined;
  }

  keys(): MapIterator<K> {
    return this.#entries.keys();
  }

  values(): MapIterator<V> {
    return this.#entries.values();
  }

  [Symbol.iterator](): MapIterator<[K, V]> {
    return this.#entries[Symbol.iterator]();
  }

  #evictFirst(): void {
    let next = this.#fromFirst.next();
    if (next.done === true) next = (this.#fromFirst = this.#entries.entries()).next();
    if (next.done === true) return;
    const [key, value] = next.value;
    this.#entries.delete(key);
    this.#evictedCount++;
    this.#evicted?.(key, value);
  }
}

/** A `Set` of at most `max` values, with the same rules. */
export class BoundedSet<K> {
  readonly #map: BoundedMap<K, true>;

  constructor(bound: Bound<K, true>) {
    this.#map = new BoundedMap(bound);
  }

  get size(): number {
    return this.#map.size;
  }

  get evictedCount(): number {
    return this.#map.evictedCount;
  }

  has(value: K): boolean {
    return this.#map.has(value);
  }

  /** A known value keeps its place. */
  add(value: K): this {
    this.#map.set(value, true);
    return this;
  }

  delete(value: K): boolean {
    return this.#map.delete(value);
  }

  clear(): void {
    this.#map.clear();
  }

  [Symbol.iterator](): MapIterator<K> {
    return this.#map.keys();
  }
}
