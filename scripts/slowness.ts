/**
 * How much longer than by itself a piece of work takes while something is measured, because of all else that the machine
 * does: floors of tests that assert wall time are that many times as wide. With nothing beside it is 1.0 to 1.4.
 */

/** Shorter than a scheduler's slice, so that the fastest ones were not interrupted: about 4 ms together. */
const WORK_BYTES = 2 ** 20;
const ROUNDS = 12;
const EVERY_MS = 50;
/** A timer comes this much late on any machine. */
const LATE_MS = 1;

const work = new Uint8Array(WORK_BYTES).fill(7);
/** Of all that this process did. */
let fastestMs = Number.POSITIVE_INFINITY;

/** Watches from now until it is disposed of, for less than a tenth of a processor. */
export class Slowness implements Disposable {
  #timer: Timer;
  #sumMs = 0;
  #count = 0;

  constructor() {
    this.#timer = this.#next();
  }

  /** At least 1; 1 before the first look. */
  get factor(): number {
    return this.#count === 0 ? 1 : Math.max(1, this.#sumMs / this.#count / fastestMs);
  }

  #next(): Timer {
    const dueMs = performance.now() + EVERY_MS;
    return setTimeout(() => {
      const startMs = performance.now();
      for (let round = 0; round < ROUNDS; round++) Bun.hash.adler32(work);
      const ms = performance.now() - startMs;
      fastestMs = Math.min(fastestMs, ms);
      this.#sumMs += ms + Math.max(0, startMs - dueMs - LATE_MS);
      this.#count += 1;
      this.#timer = this.#next();
    }, EVERY_MS);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
