/**
 * Structured concurrency: nothing outlives its scope. Closing aborts the signal and ends the timers, waits for every
 * task, then disposes what is owned, child scopes among it, in reverse order. The first task that fails closes the
 * scope with its error.
 */
import type { Clock, Timer } from "@godwit/sdk";

export type Dispose = () => void | Promise<void>;

export class Scope {
  readonly name: string;
  readonly #controller = new AbortController();
  readonly #tasks = new Set<Promise<void>>();
  readonly #owned: Dispose[] = [];
  readonly #timers = new Set<Timer>();
  readonly #onFailure: (error: unknown, task: string) => void;
  readonly #parentAbort: (() => void) | undefined;
  readonly #parentSignal: AbortSignal | undefined;
  #closing: Promise<void> | undefined;

  /** `onFailure` sees the error of a task (not an abort); by default the scope closes and `close()` rejects with it. */
  constructor(
    name: string,
    options: { parent?: AbortSignal; onFailure?: (error: unknown, task: string) => void } = {},
  ) {
    this.name = name;
    this.#onFailure = options.onFailure ?? ((error) => void this.close(error).catch(() => {}));
    if (options.parent !== undefined) {
      this.#parentSignal = options.parent;
      this.#parentAbort = () => void this.close().catch(() => {});
      if (options.parent.aborted) queueMicrotask(this.#parentAbort);
      else options.parent.addEventListener("abort", this.#parentAbort, { once: true });
    }
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get isClosed(): boolean {
    return this.#closing !== undefined;
  }

  /** A scope that ends in this one's turn at the latest: after what was owned later, before what was owned earlier. */
  child(name: string): Scope {
    const child = new Scope(`${this.name}.${name}`);
    const dispose = () => child.close();
    this.own(dispose);
    child.signal.addEventListener("abort", () => this.#disown(dispose), { once: true });
    return child;
  }

  /** The same time, and timers that end with the scope. After close none is set. */
  clock(clock: Clock): Clock {
    return {
      monotonicMs: () => clock.monotonicMs(),
      wallMs: () => clock.wallMs(),
      after: (delayMs, fn) => this.#after(clock, delayMs, fn),
    };
  }

  #after(clock: Clock, delayMs: number, fn: () => void): Timer {
    const timer: Timer = {
      cancel: () => {
        if (this.#timers.delete(timer)) armed.cancel();
      },
    };
    if (this.#closing !== undefined) return timer;
    const armed = clock.after(delayMs, () => {
      this.#timers.delete(timer);
      fn();
    });
    this.#timers.add(timer);
    return timer;
  }

  /** Starts a task that ends with the scope. After close it is not started. */
  spawn(name: string, task: (signal: AbortSignal) => Promise<void>): void {
    if (this.#closing !== undefined) return;
    const running: Promise<void> = (async () => {
      try {
        await task(this.signal);
      } catch (error) {
        if (!this.signal.aborted) this.#onFailure(error, name);
      }
    })().finally(() => this.#tasks.delete(running));
    this.#tasks.add(running);
  }

  /** Registers a disposer, run in reverse order at close. After close it runs at once. */
  own(dispose: Dispose): void {
    if (this.#closing === undefined) this.#owned.push(dispose);
    else void disposeQuietly(dispose);
  }

  /** What ended by itself; while the scope closes it is on its list, and ends twice without harm. */
  #disown(dispose: Dispose): void {
    const at = this.#owned.indexOf(dispose);
    if (this.#closing === undefined && at >= 0) this.#owned.splice(at, 1);
  }

  /** Idempotent; every caller gets the same promise. A task of the scope must not wait for it. Rejects with the first error of `reason` or of a disposer. */
  close(reason?: unknown): Promise<void> {
    if (this.#closing === undefined) {
      // Set before anything runs: an abort listener may well close the scope it listens to.
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      this.#closing = promise;
      this.#close(reason).then(resolve, reject);
    }
    return this.#closing;
  }

  async #close(reason: unknown): Promise<void> {
    if (this.#parentAbort !== undefined) this.#parentSignal?.removeEventListener("abort", this.#parentAbort);
    this.#controller.abort(reason ?? new DOMException(`${this.name} closed`, "AbortError"));
    for (const timer of this.#timers) timer.cancel();
    while (this.#tasks.size > 0) await Promise.allSettled([...this.#tasks]);
    let firstError: unknown = reason;
    for (const dispose of this.#owned.reverse()) {
      try {
        await dispose();
      } catch (error) {
        firstError ??= error;
      }
    }
    this.#owned.length = 0;
    if (firstError !== undefined) throw firstError;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

async function disposeQuietly(dispose: Dispose): Promise<void> {
  try {
    await dispose();
  } catch {
    // Nobody is left to hear of it.
  }
}
