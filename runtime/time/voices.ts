/**
 * What neighbours' clocks say of ours. Pure. Only those have a say whom somebody here chose or who proved themselves in a closed
 * mesh: identities are free, and an hour that a stranger names would be worth nothing. docs/decisions/0013-who-confirms-a-clock.md.
 */

/** Clocks that differ by less agree. */
export const CLOCK_TOLERANCE_MS = 300_000;
/** One neighbour that the operator trusts, or two that are known for long. */
const WEIGHT_NEEDED = 2;

export interface Voice {
  /** Its wall clock as of now, ms since 1970. */
  readonly wallMs: number;
  /** `trusted`: by the operator's word. `known`: a member of a closed mesh that was linked for long enough. */
  readonly standing: "trusted" | "known";
}

export type Verdict = "agree" | "deny" | "silent";

export function hearVoices(wallMs: number, voices: Iterable<Voice>): Verdict {
  let agreeing = 0;
  let denying = 0;
  for (const voice of voices) {
    const weight = voice.standing === "trusted" ? WEIGHT_NEEDED : 1;
    if (Math.abs(voice.wallMs - wallMs) <= CLOCK_TOLERANCE_MS) agreeing += weight;
    else denying += weight;
  }
  if (agreeing >= WEIGHT_NEEDED && agreeing > denying) return "agree";
  return denying >= WEIGHT_NEEDED ? "deny" : "silent";
}
