/**
 * Places in a table that anybody with a free identity can fill. Owns who has which place by whose word, and who yields when
 * there is none: of the teller with the most, what never was of use, oldest first. Holds keys only, beside the table, which
 * is told what to forget. Must never give up what is kept, and never lets strangers push out what known tellers told.
 */
import { BySize } from "./by-size.ts";
import type { NodeId } from "./ids.ts";

/** By whose word something is in a table. */
export interface Share {
  /** A node whose word the operator has some reason to take, or the source address that strangers have in common. */
  readonly by: string;
  /** Configured, trusted by the operator, signed by the authority or written to. All others are strangers. */
  readonly isKnown: boolean;
}

/** What was read from the disk: nobody knows any more who told it, so it yields first. */
export const EARLIER_RUN: Share = { by: "earlier run", isKnown: false };

/**
 * `kept`: never yields (neighbours, configured, trusted, written to). `used`: yields only when its share has nothing else.
 * `none`: never was of use.
 */
export type Worth = "kept" | "used" | "none";

/** What a table that anybody can fill has to know of nodes (trust/acquaintances.ts answers). */
export interface Regard {
  worthOf(id: NodeId): Worth;
  /** By whose word it is here what `teller` told. */
  shareOf(teller: NodeId): Share;
}

/** Of what was read from the disk about `id`: whom this node knows takes no place from strangers. */
export function shareAtStart(regard: Regard, id: NodeId): Share {
  const share = regard.shareOf(id);
  return share.isKnown ? share : EARLIER_RUN;
}

export interface RoomOptions<K> {
  /** For people, in the plural, as in docs/threat-model.md. */
  readonly name: string;
  /** Places, 1 to 2^24. */
  readonly max: number;
  /** Places that all strangers together may have; by default three quarters. */
  readonly strangersMax?: number;
  /** What it is worth now: asked when somebody has to yield, never before. Must not change the room. */
  worthOf(key: K): Worth;
  /** It yielded: the table forgets it. Must not throw. */
  evict(key: K): void;
}

/** Entries of a share that are looked at for one that yields: a table of kept ones must not cost a walk each time. */
const LOOKED_AT_MAX = 64;
/** Shares that are looked at for it, of those with most. */
const SHARES_LOOKED_AT_MAX = 1_024;
const PLACES_MAX = 2 ** 24;

interface Held<K> extends Share {
  /** Whoever was found to be of use goes to the end. */
  readonly keys: Set<K>;
  /** Stands before the first of them: to look for it from the start costs a walk over all that are gone. */
  fromFirst: SetIterator<K>;
}

export class Room<K> {
  readonly name: string;
  readonly max: number;
  readonly #options: RoomOptions<K>;
  readonly #strangersMax: number;
  readonly #shares = new Map<string, Held<K>>();
  readonly #shareOf = new Map<K, Held<K>>();
  readonly #known = new BySize<Held<K>>();
  readonly #unknown = new BySize<Held<K>>();
  #strangers = 0;
  #evictedCount = 0;

  constructor(options: RoomOptions<K>) {
    const { name, max, strangersMax = Math.ceil((max * 3) / 4) } = options;
    if (!Number.isSafeInteger(max) || max < 1 || max > PLACES_MAX || strangersMax > max)
      throw new RangeError(`${name}: a bound is 1 to ${PLACES_MAX}, not ${max}`);
    this.name = name;
    this.max = max;
    this.#options = options;
    this.#strangersMax = strangersMax;
  }

  get size(): number {
    return this.#shareOf.size;
  }

  /** Those that had to yield since the room was made. */
  get evictedCount(): number {
    return this.#evictedCount;
  }

  has(key: K): boolean {
    return this.#shareOf.has(key);
  }

  /** Places of one teller. */
  sizeOf(by: string): number {
    return (
      (this.#shares.get(nameOf({ by, isKnown: false }))?.keys.size ?? 0) +
      (this.#shares.get(nameOf({ by, isKnown: true }))?.keys.size ?? 0)
    );
  }

  /**
   * A place for `key` by the word of `share`; another may have to yield for it. False: there is none, and nothing changed. A key
   * that has a place keeps it.
   */
  admit(key: K, share: Share): boolean {
    if (this.#shareOf.has(key)) return true;
    // What is kept has its place whoever told of it: the flood must not decide that by telling of it first.
    const isKept = this.#options.worthOf(key) === "kept";
    const isOver = !share.isKnown && !isKept && this.#strangers >= this.#strangersMax;
    if (isOver && !this.#yield(share, false)) return false;
    if (this.size >= this.max && !this.#makeRoom(share, isKept)) return false;
    this.#put(key, share);
    return true;
  }

  /** It was heard of again: of its share it yields last. By whose word it is here stays, or whoever repeats it could push it out. */
  renew(key: K): void {
    const keys = this.#shareOf.get(key)?.keys;
    if (keys?.delete(key) === true) keys.add(key);
  }

  /** The table forgot it by itself. */
  leave(key: K): void {
    const held = this.#shareOf.get(key);
    if (held === undefined) return;
    this.#shareOf.delete(key);
    held.keys.delete(key);
    this.#bySize(held.isKnown).moved(held, held.keys.size + 1);
    if (!held.isKnown) this.#strangers--;
    if (held.keys.size === 0) this.#shares.delete(nameOf(held));
  }

  #bySize(isKnown: boolean): BySize<Held<K>> {
    return isKnown ? this.#known : this.#unknown;
  }

  #put(key: K, share: Share): void {
    const name = nameOf(share);
    let held = this.#shares.get(name);
    if (held === undefined) {
      const keys = new Set<K>();
      this.#shares.set(name, (held = { ...share, keys, fromFirst: keys.values() }));
    }
    held.keys.add(key);
    this.#bySize(held.isKnown).moved(held, held.keys.size - 1);
    this.#shareOf.set(key, held);
    if (!share.isKnown) this.#strangers++;
  }

  #makeRoom(share: Share, isKept: boolean): boolean {
    if (!share.isKnown && !isKept) return this.#yield(share, false);
    // Known tellers press strangers down to a third of their places, not out: a newcomer is a stranger, too.
    const isFirst = this.#strangers > this.#strangersMax / 3;
    return this.#yield(share, !isFirst) || this.#yield(share, isFirst);
  }

  /** Of the known, or of the strangers, whoever has most gives one up. */
  #yield(share: Share, ofKnown: boolean): boolean {
    const own = this.#shares.get(nameOf(share));
    const ownSize = own?.isKnown === ofKnown ? own.keys.size : 0;
    let looks = SHARES_LOOKED_AT_MAX;
    let isOwnTried = false;
    // Where all of the largest is kept: of anybody else with at least as much as the newcomer's own.
    for (const held of this.#bySize(ofKnown).largestFirst(ownSize)) {
      if (looks-- === 0) return false;
      // Of those with as many its own goes first.
      if (!isOwnTried && own?.isKnown === ofKnown && held.keys.size === ownSize) {
        isOwnTried = true;
        if (this.#yieldOf(own)) return true;
      }
      if (held !== own && this.#yieldOf(held)) return true;
    }
    return false;
  }

  #yieldOf(held: Held<K>): boolean {
    let used: K | undefined;
    let hasUsed = false;
    for (let looks = Math.min(LOOKED_AT_MAX, held.keys.size); looks > 0; looks--) {
      const key = firstOf(held);
      const worth = this.#options.worthOf(key);
      if (worth === "none") return this.#evict(key);
      if (worth === "used" && !hasUsed) [used, hasUsed] = [key, true];
      held.keys.delete(key);
      held.keys.add(key);
    }
    return hasUsed && this.#evict(used!);
  }

  #evict(key: K): true {
    this.leave(key);
    this.#evictedCount++;
    this.#options.evict(key);
    return true;
  }
}

/** There must be one; the caller takes it away or puts it at the end. */
function firstOf<K>(held: Held<K>): K {
  let next = held.fromFirst.next();
  if (next.done === true) next = (held.fromFirst = held.keys.values()).next();
  return next.value!;
}

const nameOf = ({ by, isKnown }: Share): string => `${isKnown ? "known" : "stranger"} ${by}`;
