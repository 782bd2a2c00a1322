/** Jittered exponential backoff, the budget that turns repeated crashes into a failure, and a limit of rate. */
import type { Clock } from "./clock.ts";
import type { Random } from "./random.ts";

export { TokenBucket } from "@godwit/sdk";

export interface BackoffOptions {
  readonly firstMs: number;
  readonly capMs: number;
  /** Growth per failure, > 1. */
  readonly factor?: number;
}

/** Delay sequence: first, first*factor, ... up to cap, each scaled by a uniform 0.75 to 1.25 so that crowds spread. */
export class Backoff {
  readonly #options: BackoffOptions;
  readonly #random: Random;
  #failures = 0;

  constructor(options: BackoffOptions, random: Random) {
    this.#options = options;
    this.#random = random;
  }

  get failures(): number {
    return this.#failures;
  }

  /** The pause before the next try, in ms; counts one failure. */
  nextMs(): number {
    const { firstMs, capMs, factor = 2 } = this.#options;
    const exponent = Math.min(this.#failures++, 40);
    return Math.min(capMs, firstMs * factor ** exponent) * (0.75 + this.#random.float() / 2);
  }

  reset(): void {
    this.#failures = 0;
  }
}

/** At most `crashesMax` crashes within `windowMs`; more means: give up and say so. */
export class CrashBudget {
  readonly #clock: Clock;
  readonly #crashesMax: number;
  readonly #windowMs: number;
  #crashes: number[] = [];

  constructor(clock: Clock, crashesMax: number, windowMs: number) {
    this.#clock = clock;
    this.#crashesMax = crashesMax;
    this.#windowMs = windowMs;
  }

  /** Counts a crash; false when the budget is spent. */
  spend(): boolean {
    const nowMs = this.#clock.monotonicMs();
    this.#crashes = this.#crashes.filter((atMs) => nowMs - atMs < this.#windowMs);
    this.#crashes.push(nowMs);
    if (this.#crashes.length > this.#crashesMax + 1) this.#crashes.shift();
    return this.#crashes.length <= this.#crashesMax;
  }
}
