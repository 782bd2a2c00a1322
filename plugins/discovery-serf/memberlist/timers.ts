/** Timers of one life, which end together. */
import type { Clock, Random, Timer } from "@godwit/sdk";

export class Timers {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #set = new Set<Timer>();
  readonly #deadlines = new Set<() => void>();
  #isClosed = false;

  constructor(clock: Clock, random: Random) {
    this.#clock = clock;
    this.#random = random;
  }

  nowMs(): number {
    return this.#clock.monotonicMs();
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Never after `close`. */
  after(delayMs: number, fn: () => void): Timer {
    if (this.#isClosed) return { cancel() {} };
    const timer = this.#clock.after(delayMs, () => {
      this.#set.delete(entry);
      fn();
    });
    const entry: Timer = {
      cancel: () => {
        timer.cancel();
        this.#set.delete(entry);
      },
    };
    this.#set.add(entry);
    return entry;
  }

  /** Calls `fn` again and again, first after a random part of the interval; it answers how long until the next, or nothing for the same. */
  every(intervalMs: number, fn: () => number | void): void {
    const again = (delayMs: number) =>
      this.after(delayMs, () => {
        const next = fn();
        again(typeof next === "number" ? next : intervalMs);
      });
    again(this.#random.float() * intervalMs);
  }

  /** As `after`, and at `close` at once if it has not come by then. */
  deadline(delayMs: number, fn: () => void): Timer {
    const done = () => {
      if (this.#deadlines.delete(done)) fn();
    };
    this.#deadlines.add(done);
    if (this.#isClosed) {
      queueMicrotask(done);
      return { cancel: () => void this.#deadlines.delete(done) };
    }
    const timer = this.after(delayMs, done);
    return {
      cancel: () => {
        this.#deadlines.delete(done);
        timer.cancel();
      },
    };
  }

  /** Resolves after that, or at `close`. */
  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => void this.deadline(delayMs, resolve));
  }

  /** What is promised; undefined after that time, or at `close`. */
  within<T>(promise: Promise<T>, ms: number): Promise<T | undefined> {
    return new Promise((resolve, reject) => {
      const timer = this.deadline(ms, () => resolve(undefined));
      promise.then(
        (value) => {
          timer.cancel();
          resolve(value);
        },
        (error: unknown) => {
          timer.cancel();
          reject(error);
        },
      );
    });
  }

  close(): void {
    this.#isClosed = true;
    for (const timer of [...this.#set]) timer.cancel();
    for (const done of [...this.#deadlines]) done();
  }
}
