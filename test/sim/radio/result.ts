/** What a radio world showed, in figures. */
import { isControl, type EarlyRepeat } from "./airtime.ts";
import type { Miss } from "./medium.ts";

export interface RadioResult {
  readonly faults: readonly string[];
  readonly events: number;
  readonly traceHash: string;
  readonly outcomes: Readonly<Record<string, number>>;
  readonly sent: number;
  /** Of what was accepted, delivered within ten minutes, 0 to 1. */
  readonly onTime: number;
  readonly delivered: number;
  readonly delayP50Ms: number;
  readonly delayP95Ms: number;
  /** Shares of the channel, as the average node with a radio hears it, since the start, and while mail was offered, by kind. */
  readonly shares: Readonly<Record<string, number>>;
  readonly talkShares: Readonly<Record<string, number>>;
  readonly control: number;
  readonly talkControl: number;
  /** Largest share of one node, own airtime. */
  readonly ownMost: number;
  readonly early: readonly EarlyRepeat[];
  readonly misses: Readonly<Record<Miss, number>>;
  readonly refused: number;
  readonly links: number;
  readonly frames: Readonly<Record<string, number>>;
}

const ON_TIME_MS = 600_000;

/** From the sending of each delivered message to its arrival, ms; `sent`: how many were accepted. */
export function delaysOf(delaysMs: readonly number[], sent: number) {
  const sorted = delaysMs.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.floor(sorted.length * share)] ?? Number.NaN;
  return {
    sent,
    onTime: sorted.filter((ms) => ms <= ON_TIME_MS).length / Math.max(1, sent),
    delivered: sorted.length / Math.max(1, sent),
    delayP50Ms: at(0.5),
    delayP95Ms: at(0.95),
  };
}

/** Of a span of `ms`, between two readings of airtime by kind. */
export function sharesOf(
  now: ReadonlyMap<string, number>,
  before: ReadonlyMap<string, number>,
  ms: number,
): Record<string, number> {
  return Object.fromEntries([...now].map(([kind, air]) => [kind, (air - (before.get(kind) ?? 0)) / ms]));
}

export const controlOf = (shares: Readonly<Record<string, number>>): number =>
  Object.entries(shares).reduce((sum, [kind, share]) => sum + (isControl(kind) ? share : 0), 0);
