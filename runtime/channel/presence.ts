/**
 * How long a neighbour on a shared channel counts as there. Pure: told of time and of what was heard, it answers what to do. Beacons keep alive what a
 * session has proved, for two days. Then, and where others may have made the silence, the neighbour is asked on its link: what it does not
 * answer there is gone. docs/protocol/slow.md "Beacons"
 */

/** Shortest interval of beacons, ms: Trickle's Imin. */
export const BEACON_MIN_MS = 60_000;
/** Longest pause between two beacons of a node, ms. */
export const BEACON_MAX_MS = 3_600_000;
/** A node of which nothing was heard for so long, in time in which it would have spoken, may be gone, ms. */
export const HEARD_FOR_MS = 6 * BEACON_MAX_MS;
/** Beacons stand for a proof for so long behind the last one, ms. */
export const HINTED_FOR_MS = 48 * 3_600_000;
/** So long a neighbour in doubt has to answer, ms: both ends may have to wait for airtime. */
export const ANSWER_FOR_MS = 1_800_000;
/** Pauses between questions, ms: doubled to the largest. */
const ASK_FIRST_MS = 300_000;

export interface Judgement {
  readonly isThere: boolean;
  /** It is to be asked on its link now. */
  readonly isAsked: boolean;
}

/** All times are of the channel: they stand still while it is too busy for beacons. */
export class Presence {
  #provedAtMs: number;
  #doubtedAtMs: number | undefined;
  /** Until it proves itself, or is heard while that counts. */
  #isGone = false;
  #askedAtMs = Number.NEGATIVE_INFINITY;
  #asked = 0;

  constructor(nowMs: number) {
    this.#provedAtMs = nowMs;
  }

  /** Something that its session proves came. */
  prove(nowMs: number): void {
    this.#provedAtMs = nowMs;
    this.#doubtedAtMs = undefined;
    this.#isGone = false;
    this.#asked = 0;
  }

  /** It was heard on its link so lately that it needs no beacons. */
  isProved(nowMs: number): boolean {
    return nowMs - this.#provedAtMs < HEARD_FOR_MS;
  }

  /** A beacon of its name stands for a proof. */
  takesHints(nowMs: number): boolean {
    return nowMs - this.#provedAtMs < HINTED_FOR_MS;
  }

  /** `isHeard`: beacons of its name are. `isShutOut`: some were passed over, by whatever others had said in it. */
  judge(nowMs: number, isHeard: boolean, isShutOut: boolean): Judgement {
    if (this.isProved(nowMs) || (isHeard && this.takesHints(nowMs))) {
      this.#doubtedAtMs = undefined;
      this.#isGone = false;
      return { isThere: true, isAsked: false };
    }
    this.#doubtedAtMs ??= nowMs;
    const isInDoubt = isHeard || isShutOut;
    this.#isGone ||= !isInDoubt || nowMs - this.#doubtedAtMs >= ANSWER_FOR_MS;
    const pauseMs = Math.min(HEARD_FOR_MS, ASK_FIRST_MS * 2 ** this.#asked);
    return { isThere: !this.#isGone, isAsked: isInDoubt && nowMs - this.#askedAtMs >= pauseMs };
  }

  /** The question has left. */
  noteAsked(nowMs: number): void {
    this.#askedAtMs = nowMs;
    this.#asked++;
  }
}
