/**
 * A map that keeps the order in which keys came and answers pages of it from any key, in either direction: a page costs
 * what is on it, however much the map holds. Everything else costs what it does in a Map.
 */

/** Where a page begins and how long it is. */
export interface Page {
  readonly order: "newest-first" | "oldest-first";
  /** Values on it, at most. */
  readonly limit: number;
  /** The last key of the page before; absent: the first page. */
  readonly after?: string;
}

interface Node<K, V> {
  readonly key: K;
  value: V;
  older: Node<K, V> | undefined;
  newer: Node<K, V> | undefined;
}

export class PagedMap<K extends string, V> {
  readonly #nodes = new Map<string, Node<K, V>>();
  #oldest: Node<K, V> | undefined;
  #newest: Node<K, V> | undefined;

  get size(): number {
    return this.#nodes.size;
  }

  has(key: K): boolean {
    return this.#nodes.has(key);
  }

  get(key: K): V | undefined {
    return this.#nodes.get(key)?.value;
  }

  /** A key that is there keeps its place. */
  set(key: K, value: V): void {
    const node = this.#nodes.get(key);
    if (node !== undefined) {
      node.value = value;
      return;
    }
    const added: Node<K, V> = { key, value, older: this.#newest, newer: undefined };
    if (this.#newest === undefined) this.#oldest = added;
    else this.#newest.newer = added;
    this.#newest = added;
    this.#nodes.set(key, added);
  }

  delete(key: K): boolean {
    const node = this.#nodes.get(key);
    if (node === undefined) return false;
    this.#nodes.delete(key);
    if (node.older === undefined) this.#oldest = node.newer;
    else node.older.newer = node.newer;
    if (node.newer === undefined) this.#newest = node.older;
    else node.newer.older = node.older;
    return true;
  }

  /** Oldest first. Nothing may be deleted on the way; a value may be set anew. */
  *values(): Generator<V, void> {
    for (let node = this.#oldest; node !== undefined; node = node.newer) yield node.value;
  }

  /** Empty after a key that is not there. */
  page({ order, limit, after }: Page): V[] {
    const isNewestFirst = order === "newest-first";
    const step = (node: Node<K, V>) => (isNewestFirst ? node.older : node.newer);
    const before = after === undefined ? undefined : this.#nodes.get(after);
    if (after !== undefined && before === undefined) return [];
    const values: V[] = [];
    let node = before === undefined ? (isNewestFirst ? this.#newest : this.#oldest) : step(before);
    for (; node !== undefined && values.length < limit; node = step(node)) values.push(node.value);
    return values;
  }
}
