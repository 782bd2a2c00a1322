import type { Clock, Timer } from "../src/index.ts";

interface Pending {
  readonly atMs: number;
  readonly order: number;
  readonly delayMs: number;
  readonly fn: () => void;
}

/** A clock that stands still until it is told otherwise. Timers run in order of time, then of their making. */
export class ManualClock implements Clock {
  #nowMs = 0;
  #made = 0;
  readonly #epochMs: number;
  readonly #pending = new Set<Pending>();

  /** `epochMs`: what the wall shows at the start. */
  constructor(epochMs = 1_800_000_000_000) {
    this.#epochMs = epochMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#epochMs + this.#nowMs;
  }

  /** Throws RangeError for a delay that is negative or no number: a real timer would run at once, or never. */
  after(delayMs: number, fn: () => void): Timer {
    if (!(delayMs >= 0)) throw new RangeError(`a delay of ${delayMs} ms`);
    const pending: Pending = { atMs: this.#nowMs + delayMs, order: this.#made++, delayMs, fn };
    this.#pending.add(pending);
    return { cancel: () => void this.#pending.delete(pending) };
  }

  /** Delays of the timers that are set, as they were asked for. */
  get pendingDelays(): readonly number[] {
    return [...this.#pending].map(({ delayMs }) => delayMs);
  }

  /** Runs what falls due within `ms`, timers set meanwhile included. Promise reactions run only after it returns. */
  advance(ms: number): void {
    const untilMs = this.#nowMs + ms;
    for (let due = this.#first(untilMs); due !== undefined; due = this.#first(untilMs)) {
      this.#pending.delete(due);
      this.#nowMs = due.atMs;
      due.fn();
    }
    this.#nowMs = untilMs;
  }

  #first(untilMs: number): Pending | undefined {
    let first: Pending | undefined;
    for (const pending of this.#pending)
      if (
        pending.atMs <= untilMs &&
        (first === undefined ||
          pending.atMs < first.atMs ||
          (pending.atMs === first.atMs && pending.order < first.order))
      )
        first = pending;
    return first;
  }
}
