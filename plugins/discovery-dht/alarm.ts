/** A wait that others may end. */
import type { Clock } from "@godwit/sdk";

export class Alarm {
  readonly #clock: Clock;
  #wake: (() => void) | undefined;
  #isRung = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Ends the wait that is under way, or the next one. */
  ring(): void {
    this.#isRung = true;
    this.#wake?.();
  }

  /** One at a time. Resolves after `delayMs`, when it rings, or as soon as the signal aborts. */
  wait(delayMs: number, signal: AbortSignal): Promise<void> {
    if (this.#isRung || signal.aborted) {
      this.#isRung = false;
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      const end = (): void => {
        timer.cancel();
        signal.removeEventListener("abort", end);
        this.#wake = undefined;
        this.#isRung = false;
        resolve();
      };
      const timer = this.#clock.after(Math.max(0, delayMs), end);
      signal.addEventListener("abort", end, { once: true });
      this.#wake = end;
    });
  }
}
