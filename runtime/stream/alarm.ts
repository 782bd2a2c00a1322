/** One timer that is moved often: a later due time costs nothing, because one that fires early just looks again. */
import type { Clock, Timer } from "@godwit/sdk";

export class Alarm {
  readonly #clock: Clock;
  readonly #ring: () => void;
  #timer: Timer | undefined;
  #atMs = Number.POSITIVE_INFINITY;

  /** `ring` may be called before what was set last is due. */
  constructor(clock: Clock, ring: () => void) {
    this.#clock = clock;
    this.#ring = ring;
  }

  /** Rings at `dueAtMs` (monotonic) or earlier. */
  set(dueAtMs: number): void {
    if (this.#timer !== undefined && this.#atMs <= dueAtMs) return;
    this.cancel();
    this.#atMs = dueAtMs;
    this.#timer = this.#clock.after(Math.max(1, dueAtMs - this.#clock.monotonicMs()), () => {
      this.#timer = undefined;
      this.#ring();
    });
  }

  cancel(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }
}
