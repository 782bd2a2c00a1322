/** One member under suspicion: ends at the latest after the longest time, sooner the more others confirm it (Lifeguard). */
import type { Timer } from "@godwit/sdk";
import type { Timers } from "./timers.ts";
import { type SuspicionBounds, suspicionMs } from "./timing.ts";

export class Suspicion {
  readonly #timers: Timers;
  readonly #bounds: SuspicionBounds;
  readonly #onEnd: () => void;
  readonly #startMs: number;
  /** Who said so, the first among them, whose word is no confirmation. At most `confirmations` and one. */
  readonly #from: Set<string>;
  #timer: Timer;

  constructor(timers: Timers, bounds: SuspicionBounds, from: string, onEnd: () => void) {
    this.#timers = timers;
    this.#bounds = bounds;
    this.#onEnd = onEnd;
    this.#startMs = timers.nowMs();
    this.#from = new Set([from]);
    this.#timer = timers.after(suspicionMs(bounds, 0), onEnd);
  }

  /** Whether that is news that others should have. */
  confirm(from: string): boolean {
    if (this.#from.size > this.#bounds.confirmations || this.#from.has(from)) return false;
    this.#from.add(from);
    const elapsedMs = this.#timers.nowMs() - this.#startMs;
    this.#timer.cancel();
    const leftMs = suspicionMs(this.#bounds, this.#from.size - 1) - elapsedMs;
    this.#timer = this.#timers.after(Math.max(0, leftMs), this.#onEnd);
    return true;
  }

  cancel(): void {
    this.#timer.cancel();
  }
}
