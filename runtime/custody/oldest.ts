/**
 * How long the oldest open mail of a box has been here, by what it waits for: put together at a scrape, from nothing that is kept for it.
 * Asks for ways of a few only, oldest first. Changes nothing.
 */
import type { Observed } from "../kernel/metrics.ts";

/**
 * `address`: nobody is known under it who could be sealed to. `way`: none leads there. `turn`: it is about to go, or on its way to the next
 * hop. `receipt`: it was handed on.
 */
export type WaitsFor = "address" | "way" | "turn" | "receipt";
const REASONS: readonly WaitsFor[] = ["address", "way", "turn", "receipt"];

/** Of so many it is asked what they wait for. */
const JUDGED_MAX = 256;

export class Oldest {
  /** Running time at which the oldest came. */
  readonly #sinceRunMs = new Map<WaitsFor, number>();
  /** Those that may be asked about, and some more: as many may wait as there are messages. */
  #toward = new Map<string, number>();
  /** Enough are older. */
  #boundRunMs = Number.POSITIVE_INFINITY;

  /** For tests: of how many it is kept since when they wait. */
  get count(): number {
    return this.#toward.size;
  }

  note(reason: WaitsFor, sinceRunMs: number): void {
    keepLess(this.#sinceRunMs, reason, sinceRunMs);
  }

  /** What it waits for is asked at the end, once for all that are for the same. */
  noteToward(whom: string, sinceRunMs: number): void {
    if (sinceRunMs >= this.#boundRunMs) return;
    keepLess(this.#toward, whom, sinceRunMs);
    if (this.#toward.size < 2 * JUDGED_MAX) return;
    const kept = this.#oldestFirst();
    this.#toward = new Map(kept);
    this.#boundRunMs = kept.at(-1)![1];
  }

  /** 0: nothing waits for that. `ageMs` answers how long ago a running time was. */
  ages(
    box: string,
    judge: (whom: string) => WaitsFor,
    ageMs: (sinceRunMs: number) => number,
  ): Observed<"box" | "reason">[] {
    for (const [whom, sinceRunMs] of this.#oldestFirst()) this.note(judge(whom), sinceRunMs);
    return REASONS.map((reason) => {
      const sinceRunMs = this.#sinceRunMs.get(reason);
      return [sinceRunMs === undefined ? 0 : ageMs(sinceRunMs) / 1_000, { box, reason }];
    });
  }

  #oldestFirst(): [whom: string, sinceRunMs: number][] {
    return [...this.#toward].sort(([, a], [, b]) => a - b).slice(0, JUDGED_MAX);
  }
}

function keepLess<Key>(of: Map<Key, number>, key: Key, value: number): void {
  const before = of.get(key);
  if (before === undefined || value < before) of.set(key, value);
}
