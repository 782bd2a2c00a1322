/**
 * Bundles waiting for one destination: four priorities, within one small bundles first (first come, first served),
 * then large ones by size. Large and small are separate, because they may take different planes of routing.
 */
import type { Holding } from "../context.ts";

/** Sealed bytes above which a bundle counts as bulk: held at the source rather than entering a slow radio. */
export const BULK_BYTES = 4_096;
const PRIORITY_COUNT = 4;

class Lane {
  /** A dead front is left behind by `shift` and cut now and then: amortised constant time. */
  #items: (Holding | undefined)[] = [];
  #head = 0;

  get length(): number {
    return this.#items.length - this.#head;
  }

  peek(): Holding | undefined {
    return this.#items[this.#head];
  }

  shift(): void {
    this.#items[this.#head++] = undefined;
    if (this.#head > 64 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
  }

  push(holding: Holding): void {
    this.#items.push(holding);
  }

  keep(isKept: (holding: Holding) => boolean): void {
    this.#items = this.#items.filter((holding) => holding !== undefined && isKept(holding));
    this.#head = 0;
  }

  unshift(holding: Holding): void {
    if (this.#head > 0) this.#items[--this.#head] = holding;
    else this.#items.unshift(holding);
  }

  /** Keeps the lane sorted by size; equal sizes in order of arrival. */
  insertBySize(holding: Holding): void {
    let low = this.#head;
    let high = this.#items.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#items[middle]!.sealedBytes <= holding.sealedBytes) low = middle + 1;
      else high = middle;
    }
    this.#items.splice(low, 0, holding);
  }
}

/** Left-overs below which a lane is not worth cutting. */
const STALE_MIN = 64;

export class ReadyQueue {
  #stale = 0;
  #isDraining = false;
  readonly #small = Array.from({ length: PRIORITY_COUNT }, () => new Lane());
  readonly #bulk = Array.from({ length: PRIORITY_COUNT }, () => new Lane());

  /** Entries, those that are no longer ready included. */
  get length(): number {
    let total = 0;
    for (let i = 0; i < PRIORITY_COUNT; i++) total += this.#small[i]!.length + this.#bulk[i]!.length;
    return total;
  }

  /** A holding in here is about to be no longer ready. Its entry goes when such outweigh the others: amortised. */
  forget(leaving: Holding): void {
    const length = this.length;
    this.#stale++;
    if (this.#isDraining || (this.#stale < length && (this.#stale < STALE_MIN || this.#stale * 2 < length)))
      return;
    this.#stale = 0;
    for (const lane of [...this.#small, ...this.#bulk])
      lane.keep((holding) => holding !== leaving && holding.state === "ready");
  }

  /** `again`: it was tried and keeps its place at the front. */
  push(holding: Holding, again = false): void {
    if (holding.sealedBytes > BULK_BYTES) this.#bulk[holding.header.priority]!.insertBySize(holding);
    else if (again) this.#small[holding.header.priority]!.unshift(holding);
    else this.#small[holding.header.priority]!.push(holding);
  }

  /**
   * Offers holdings in order. `take` answers whether the holding left the queue; false blocks its lane for this round,
   * not the others. Holdings that are no longer ready (removed meanwhile) are skipped.
   */
  drain(take: (holding: Holding) => boolean): void {
    if (this.#isDraining) return; // what `take` calls may come back here
    this.#isDraining = true;
    try {
      this.#drain(take);
    } finally {
      this.#isDraining = false;
    }
  }

  #drain(take: (holding: Holding) => boolean): void {
    for (let priority = 0; priority < PRIORITY_COUNT; priority++) {
      for (const lane of [this.#small[priority]!, this.#bulk[priority]!]) {
        for (let holding = lane.peek(); holding !== undefined; holding = lane.peek()) {
          if (holding.state !== "ready") this.#stale = Math.max(0, this.#stale - 1);
          else if (!take(holding)) break;
          lane.shift();
        }
      }
    }
  }
}
