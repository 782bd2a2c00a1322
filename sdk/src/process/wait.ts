/** Waiting on the injected clock. */
import type { Clock } from "../clock.ts";

/** Resolves after `delayMs`, or as soon as the signal aborts; never rejects. */
export function pause(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const end = () => {
      timer.cancel();
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = clock.after(delayMs, end);
    signal.addEventListener("abort", end, { once: true });
  });
}

/** Pauses between tries: double each time, up to a cap, with a fifth of jitter. */
export class Pauses {
  readonly #firstMs: number;
  readonly #capMs: number;
  readonly #random: { float(): number };
  #nextMs: number;

  constructor(firstMs: number, capMs: number, random: { float(): number }) {
    this.#firstMs = firstMs;
    this.#capMs = capMs;
    this.#random = random;
    this.#nextMs = firstMs;
  }

  next(): number {
    const delayMs = this.#nextMs;
    this.#nextMs = Math.min(this.#capMs, delayMs * 2);
    return delayMs * (0.9 + 0.2 * this.#random.float());
  }

  reset(): void {
    this.#nextMs = this.#firstMs;
  }
}
