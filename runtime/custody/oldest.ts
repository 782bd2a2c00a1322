/**
 * How long the oldest open mail of a box has been here, by what it waits for: put together when it is asked for, from nothing that is kept for it.
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

/** The oldest of those that wait for the same. */
export interface Found {
  /** An address or a node. */
  readonly whom: string;
  readonly waitsFor: WaitsFor;
  /** Running time at which it came. */
  readonly sinceRunMs: number;
}

export class Oldest {
  readonly #known = new Map<WaitsFor, Found>();
  /** Those that may be asked about, and some more: as many may wait as there are messages. */
  #toward = new Map<string, number>();
  /** Enough are older. */
  #boundRunMs = Number.POSITIVE_INFINITY;

  /** For tests: of how many it is kept since when they wait. */
  get count(): number {
    return this.#toward.size;
  }

  note(waitsFor: WaitsFor, whom: string, sinceRunMs: number): void {
    const before = this.#known.get(waitsFor);
    if (before === undefined || sinceRunMs < before.sinceRunMs)
      this.#known.set(waitsFor, { whom, waitsFor, sinceRunMs });
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

  /** Of what was noted with its reason the oldest of each, of the rest one for each that it is for; oldest first. */
  found(judge: (whom: string) => WaitsFor): Found[] {
    const judged = this.#oldestFirst().map(([whom, sinceRunMs]) => ({
      whom,
      waitsFor: judge(whom),
      sinceRunMs,
    }));
    return [...this.#known.values(), ...judged].sort((a, b) => a.sinceRunMs - b.sinceRunMs);
  }

  /** 0: nothing waits for that. `ageMs` answers how long ago a running time was. */
  ages(
    box: string,
    judge: (whom: string) => WaitsFor,
    ageMs: (sinceRunMs: number) => number,
  ): Observed<"box" | "reason">[] {
    const found = this.found(judge);
    return REASONS.map((reason) => {
      const oldest = found.find(({ waitsFor }) => waitsFor === reason);
      return [oldest === undefined ? 0 : ageMs(oldest.sinceRunMs) / 1_000, { box, reason }];
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
