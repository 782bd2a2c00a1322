/**
 * Structured concurrency: nothing outlives its scope. Closing aborts the signal, waits for every task, then disposes
 * what is owned in reverse order. The first task that fails closes the scope with its error.
 */

export type Dispose = () => void | Promise<void>;

export class Scope {
  readonly name: string;
  readonly #controller = new AbortController();
  readonly #tasks = new Set<Promise<void>>();
  readonly #owned: Dispose[] = [];
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
