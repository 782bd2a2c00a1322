/**
 * What a trial of a neighbour proves, and for how long it is gone around. Pure: evidence and times in, decision out.
 * docs/decisions/0005-blame-needs-a-witness.md says why; docs/protocol/delivery.md "Missing receipts" is normative.
 */

export interface Evidence {
  /** The neighbour offers a route to the destination still, as it did all the time. */
  readonly isOffered: boolean;
  /** Test bundles that only the suspect was given and acknowledged. */
  readonly taken: number;
  /** Of these, those whose receipt came. */
  readonly answered: number;
  /** Test bundles that went another way and whose receipt came: the destination lives and can answer. */
  readonly witnesses: number;
}

/** `honest`: what it took arrived. `lost`: it did not, and could have. `unknown`: nobody's fault is proven. */
export type Verdict = "honest" | "lost" | "unknown";

export function decideVerdict({ isOffered, taken, answered, witnesses }: Evidence): Verdict {
  if (taken > 0 && answered >= taken) return "honest";
  // Nobody arrives there: it is off, frozen or cut off, and that is nobody's lie.
  if (witnesses === 0) return "unknown";
  // Whoever says that it has no way, or refuses custody, tells the truth.
  if (!isOffered || taken === 0) return "unknown";
  return "lost";
}

export const QUARANTINE_FIRST_MS = 5 * 60_000;
export const QUARANTINE_CAP_MS = 24 * 3_600_000;
/** Good behaviour for this long after the end, and an offence counts as the first again. */
export const OFFENCES_FORGOTTEN_MS = 24 * 3_600_000;

export interface Offence {
  readonly count: number;
  /** Monotonic ms: until then nothing is tried, and after it only a proven delivery ends the quarantine. */
  readonly untilMs: number;
}

export function planQuarantine(before: Offence | undefined, nowMs: number): Offence {
  const isRepeat = before !== undefined && nowMs - before.untilMs < OFFENCES_FORGOTTEN_MS;
  const count = isRepeat ? before.count + 1 : 1;
  return { count, untilMs: nowMs + Math.min(QUARANTINE_FIRST_MS * 2 ** (count - 1), QUARANTINE_CAP_MS) };
}

/** Pause before the same pair may be suspected again, ms, after trials that proved nothing against it. */
export const planImmunity = (acquittals: number): number => Math.min(5_000 * 2 ** acquittals, 300_000);

/** Test bundles for one trial: whoever loses only some mail meets more of them each time it is suspected. */
export const planTests = (acquittals: number): number => Math.min(2 + 2 * acquittals, 8);

/** A receipt is missing after this, ms, where a route of `metric` (0.1 ms units) is offered. */
export const receiptDueMs = (metric: number): number => 3_000 + Math.min(metric * 2, 60_000);
