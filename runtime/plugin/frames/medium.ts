/** A shared channel of a plugin as it travels: what one datagram costs there, in steps of its size. docs/protocol/plugin-frames.md "Shared channels" */
import type { Medium } from "@godwit/sdk";

/** Sizes of which the airtime is told. */
export const AIRTIME_STEPS_MAX = 256;

type To = Parameters<Medium["airtimeMs"]>[1];

/** `one[i]`, `all[i]`: airtime of up to `(i + 1) * stepBytes` bytes, ms; the last of `broadcastBytesMax`. */
export interface MediumFacts {
  readonly rateBitsPerSecond: number;
  readonly broadcastBytesMax: number;
  readonly stepBytes: number;
  readonly one: readonly number[];
  readonly all: readonly number[];
}

const stepsOf = (broadcastBytesMax: number, stepBytes: number): number =>
  Math.ceil(broadcastBytesMax / stepBytes);

export function factsOf(medium: Medium): MediumFacts {
  const { rateBitsPerSecond, broadcastBytesMax } = medium;
  const stepBytes = Math.max(1, Math.ceil(broadcastBytesMax / AIRTIME_STEPS_MAX));
  const sample = (to: To): number[] =>
    Array.from({ length: stepsOf(broadcastBytesMax, stepBytes) }, (_, i) =>
      medium.airtimeMs(Math.min((i + 1) * stepBytes, broadcastBytesMax), to),
    );
  return { rateBitsPerSecond, broadcastBytesMax, stepBytes, one: sample("one"), all: sample("all") };
}

/** Why nobody could go by them. */
export function factsIssue({
  rateBitsPerSecond,
  broadcastBytesMax,
  ...facts
}: MediumFacts): string | undefined {
  for (const costs of [facts.one, facts.all]) {
    if (costs.length !== stepsOf(broadcastBytesMax, facts.stepBytes))
      return "its airtimes are not one for each step";
    // Half: a rate is a figure, and what is told of it need not be to the bit.
    const leastMs = (bytes: number) => (bytes * 8_000) / rateBitsPerSecond / 2;
    if (costs.some((ms, i) => ms < leastMs(Math.min((i + 1) * facts.stepBytes, broadcastBytesMax))))
      return "its airtimes are shorter than its rate allows";
    if (costs.some((ms, i) => i > 0 && ms < costs[i - 1]!)) return "more bytes take less airtime there";
  }
  return undefined;
}

/** Airtime by the next step; of what is larger than all, as of several, ms. */
export function airtimeOf(
  { broadcastBytesMax, stepBytes, ...facts }: MediumFacts,
  bytes: number,
  to: To,
): number {
  const costs = facts[to];
  const whole = Math.floor(bytes / broadcastBytesMax);
  const rest = bytes - whole * broadcastBytesMax;
  const step = Math.max(0, Math.ceil(rest / stepBytes) - 1);
  return whole * costs.at(-1)! + (whole > 0 && rest === 0 ? 0 : costs[step]!);
}
