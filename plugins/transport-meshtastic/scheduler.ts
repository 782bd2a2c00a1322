/**
 * What this node may send of a channel that others share, in milliseconds on the air: a share of all time, saved up to a bound. Owns the datagrams that
 * wait for it, of one radio; each comes to one end. Never decides what is worth sending: who is urgent passes others, nothing more.
 */
import type { Clock, Timer } from "@godwit/sdk";

/** Datagrams that wait, of all pipes. */
export const WAITING_MAX = 32;
/** What saves up at most: enough for the handshake of a link, ms; on slow presets four of the largest packets. */
const SAVED_MS = 20_000;
const SAVED_PACKETS = 4;
/** A wait shorter than this is none: it is what rounding left of one, ms. */
const ROUNDING_MS = 0.01;

export interface Waiting {
  readonly costMs: number;
  /** Smaller goes first. */
  readonly rank: number;
  /** The channel is not too busy for it now. What is behind it in rank waits with it. */
  isAdmitted(): boolean;
  /** It has its airtime. False: the radio does not take it now, and it waits on. */
  send(): boolean;
  /** It will not be sent. */
  drop(): void;
}

export class Scheduler {
  readonly #clock: Clock;
  readonly #share: number;
  readonly #savedMaxMs: number;
  #waiting: Waiting[] = [];
  #savedMs: number;
  #atMs: number;
  #timer: Timer | undefined;
  #isOver = false;

  /** `share`: of all time, 0 to 1. `largestMs`: of the largest packet. */
  constructor(clock: Clock, share: number, largestMs: number) {
    this.#clock = clock;
    this.#share = share;
    this.#savedMaxMs = Math.max(SAVED_MS, SAVED_PACKETS * largestMs);
    this.#savedMs = this.#savedMaxMs;
    this.#atMs = clock.monotonicMs();
  }

  get isFull(): boolean {
    return this.#waiting.length >= WAITING_MAX;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Unused airtime, ms; below 0: owed. */
  get savedMs(): number {
    const nowMs = this.#clock.monotonicMs();
    this.#savedMs = Math.min(this.#savedMaxMs, this.#savedMs + (nowMs - this.#atMs) * this.#share);
    this.#atMs = nowMs;
    return this.#savedMs;
  }

  /** False: there is no room, and nothing of it is called. Nothing of it is called within; what is less urgent and came last may give it its place, and is dropped. */
  offer(waiting: Waiting): boolean {
    if (this.#isOver) return false;
    if (this.isFull) {
      const last = this.#waiting.at(-1)!;
      if (waiting.rank > 0 || last.rank === 0) return false;
      this.#waiting.pop();
      this.#clock.after(0, () => last.drop());
    }
    const at = this.#waiting.findLastIndex(({ rank }) => rank <= waiting.rank);
    this.#waiting.splice(at + 1, 0, waiting);
    this.#arm(true);
    return true;
  }

  /** The radio may take some again, or the channel admits more. */
  again(): void {
    this.#arm(true);
  }

  /** What waits is dropped. */
  close(): void {
    this.#isOver = true;
    this.#timer?.cancel();
    for (const waiting of this.#waiting.splice(0)) waiting.drop();
  }

  #arm(isNew: boolean): void {
    if (isNew) this.#timer?.cancel();
    else if (this.#timer !== undefined) return;
    this.#timer = undefined;
    const first = this.#waiting[0];
    if (first === undefined || this.#isOver || !first.isAdmitted()) return;
    this.#timer = this.#clock.after(this.#waitMs(first), () => {
      this.#timer = undefined;
      this.#release();
    });
  }

  /** What is larger than all that saves up leaves when that is there, and the rest is owed. */
  #waitMs({ costMs }: Waiting): number {
    return Math.max(0, (Math.min(costMs, this.#savedMaxMs) - this.savedMs) / this.#share);
  }

  #release(): void {
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      if (!first.isAdmitted()) return;
      if (this.#waitMs(first) > ROUNDING_MS) return this.#arm(false);
      // Taken off before: what it calls may offer others.
      this.#waiting.shift();
      if (!first.send()) {
        this.#waiting.unshift(first);
        return;
      }
      this.#savedMs -= first.costMs;
      if (this.#isOver) return;
    }
  }
}
