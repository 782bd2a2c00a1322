/**
 * How many updates may be under way to one neighbour: what it keeps up with, found as RFC 5681 finds it for segments. One more for
 * each that is acknowledged until one was not in time, half as many then, and from there on one more for a whole round of them.
 */
import { profileTimers, UPDATES_UNDER_WAY_FIRST } from "./limits.ts";

const FRAMES_MAX = profileTimers.fast.framesInFlightMax;

export class UpdateWindow {
  #frames = UPDATES_UNDER_WAY_FIRST;
  /** From here on it grows slowly. */
  #slowFrom = FRAMES_MAX;

  /** Whole frames. */
  get frames(): number {
    return Math.floor(this.#frames);
  }

  acknowledged(): void {
    const more = this.#frames < this.#slowFrom ? 1 : 1 / this.frames;
    this.#frames = Math.min(this.#frames + more, FRAMES_MAX);
  }

  late(): void {
    this.#frames = this.#slowFrom = Math.max(1, this.#frames / 2);
  }
}
