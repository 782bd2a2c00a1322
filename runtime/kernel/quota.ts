/**
 * How much of a store that must not forget each one may fill: what is accepted stays, so whoever is over its share is refused.
 * Strangers have three quarters in common, and those of one source twice what strangers have left: however many come, from
 * however many addresses, there is room for the next one, and a quarter is for whom this node knows. Counts; stores nothing.
 */
import type { Share } from "./room.ts";

/** Looked at each time: getters may answer what changes. What was booked before stays, whatever they say. */
export interface QuotaLimits {
  readonly countMax: number;
  readonly bytesMax: number;
  /** Part of the whole that one may fill, 0 to 1. */
  readonly oneShare: number;
  /** Part of the whole for all strangers together; by default three quarters. */
  readonly strangersShare?: number;
  /** How many times of what is left for strangers a source of them may have; by default 2: one alone gets half of the whole. */
  readonly sourceFactor?: number;
}

const STRANGERS_SHARE = 0.75;
const SOURCE_FACTOR = 2;

interface Used {
  count: number;
  bytes: number;
}

/** To whose room something counts. */
export interface Booking {
  readonly who: string;
  /** Of a stranger; undefined: known. */
  readonly source: string | undefined;
}

/** For whom knows by itself what it booked: sums, and nothing for each. */
export class QuotaSums {
  readonly #limits: QuotaLimits;
  readonly #all: Used = { count: 0, bytes: 0 };
  readonly #strangers: Used = { count: 0, bytes: 0 };
  readonly #bySource = new Map<string, Used>();
  readonly #byOne = new Map<string, Used>();

  constructor(limits: QuotaLimits) {
    this.#limits = limits;
  }

  get count(): number {
    return this.#all.count;
  }

  get bytes(): number {
    return this.#all.bytes;
  }

  /** Undefined when there is room for `bytes` more of `who`; `full` for anybody, `quota` for it or the strangers of its source. */
  refusal(who: string, { by, isKnown }: Share, bytes: number): "full" | "quota" | undefined {
    const { countMax, bytesMax, oneShare } = this.#limits;
    const { strangersShare = STRANGERS_SHARE, sourceFactor = SOURCE_FACTOR } = this.#limits;
    if (this.#all.count >= countMax || this.#all.bytes + bytes > bytesMax) return "full";
    const one = this.#byOne.get(who);
    if (one !== undefined && (one.count >= countMax * oneShare || one.bytes + bytes > bytesMax * oneShare))
      return "quota";
    if (isKnown) return undefined;
    const used = this.#bySource.get(by) ?? { count: 0, bytes: 0 };
    const countLeft = Math.ceil(countMax * strangersShare) - this.#strangers.count;
    const bytesLeft = bytesMax * strangersShare - this.#strangers.bytes;
    const isOver =
      countLeft < 1 ||
      bytesLeft < bytes ||
      used.count + 1 > countLeft * sourceFactor ||
      // The first of a source is not measured by what is left, or large ones would never pass.
      (used.bytes > 0 && used.bytes + bytes > bytesLeft * sourceFactor);
    return isOver ? "quota" : undefined;
  }

  /** Both may be negative: what was booked goes as it came. */
  book({ who, source }: Booking, count: number, bytes: number): void {
    this.#all.count += count;
    this.#all.bytes += bytes;
    book(this.#byOne, who, count, bytes);
    if (source === undefined) return;
    this.#strangers.count += count;
    this.#strangers.bytes += bytes;
    book(this.#bySource, source, count, bytes);
  }
}

interface Booked extends Booking {
  readonly bytes: number;
}

export class Quota<K> {
  readonly #sums: QuotaSums;
  readonly #booked = new Map<K, Booked>();
  /** What one neighbour brings by the thousand is booked alike: one object serves. */
  #last: Booked | undefined;

  constructor(limits: QuotaLimits) {
    this.#sums = new QuotaSums(limits);
  }

  get count(): number {
    return this.#sums.count;
  }

  get bytes(): number {
    return this.#sums.bytes;
  }

  /** See `QuotaSums`. */
  refusal(who: string, share: Share, bytes: number): "full" | "quota" | undefined {
    return this.#sums.refusal(who, share, bytes);
  }

  has(key: K): boolean {
    return this.#booked.has(key);
  }

  keys(): Iterable<K> {
    return this.#booked.keys();
  }

  add(key: K, who: string, { by, isKnown }: Share, bytes: number): void {
    this.drop(key);
    const source = isKnown ? undefined : by;
    const last = this.#last;
    const isAlike = last?.who === who && last.source === source && last.bytes === bytes;
    const booked = isAlike ? last : { who, source, bytes };
    this.#last = booked;
    this.#booked.set(key, booked);
    this.#sums.book(booked, 1, bytes);
  }

  drop(key: K): void {
    const booked = this.#booked.get(key);
    if (booked === undefined) return;
    this.#booked.delete(key);
    this.#sums.book(booked, -1, -booked.bytes);
  }
}

function book(used: Map<string, Used>, key: string, count: number, bytes: number): void {
  const one = used.get(key) ?? { count: 0, bytes: 0 };
  one.count += count;
  one.bytes += bytes;
  if (one.count <= 0) used.delete(key);
  else used.set(key, one);
}
