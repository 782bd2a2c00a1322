/**
 * Says something again until somebody stops it: after growing pauses, never while the last time still waits to leave, nor before an answer to it
 * can be there. docs/protocol/slow.md "Timers"
 */
import type { Backoff } from "../kernel/backoff.ts";
import type { Clock, Timer } from "../kernel/clock.ts";
import { type Departure, newDeparture } from "../kernel/departure.ts";

/** Less than a timer resolves is nothing left. */
const TIMER_RESOLUTION_MS = 1;

export interface RepeatingDeps {
  readonly clock: Clock;
  readonly backoff: Pick<Backoff, "nextMs" | "reset">;
  /** From when it has left until an answer can be there, ms; 0: only the pauses count, since nothing waits for long. */
  answerMs(): number;
}

export class Repeating {
  readonly #deps: RepeatingDeps;
  #say: ((departure: Departure) => void) | undefined;
  #timer: Timer | undefined;

  constructor(deps: RepeatingDeps) {
    this.#deps = deps;
  }

  /** Says it for the first time, instead of whatever was said before. */
  start(say: (departure: Departure) => void): void {
    this.stop();
    this.#deps.backoff.reset();
    this.#say = say;
    this.#again();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#say = undefined;
  }

  #again(): void {
    const say = this.#say;
    if (say === undefined) return;
    const departure = newDeparture();
    say(departure);
    // It may have stopped this, or begun something else.
    if (this.#say === say) this.#wait(departure, this.#deps.backoff.nextMs());
  }

  #wait(departure: Departure, pauseMs: number, delayMs = pauseMs): void {
    const { clock, answerMs } = this.#deps;
    this.#timer?.cancel();
    this.#timer = clock.after(delayMs, () => {
      const nowMs = clock.monotonicMs();
      const waitMs = answerMs();
      const leftMs = (departure.leftAtMs ?? nowMs) + Math.max(pauseMs, waitMs) - nowMs;
      if (waitMs > 0 && leftMs >= TIMER_RESOLUTION_MS) this.#wait(departure, pauseMs, leftMs);
      else this.#again();
    });
  }
}
