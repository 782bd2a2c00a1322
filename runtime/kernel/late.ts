/**
 * What may not be possible yet and is tried until it is: a listener on an address that this machine gets later, or on a port that
 * another program still has. Owns the retries; a node goes on meanwhile and says what it lacks.
 */
import type { Clock, Timer } from "@godwit/sdk";

/** As often as transports look again. */
const RETRY_MS = 2_000;

export interface LateDeps<Opened> {
  readonly clock: Clock;
  /** Throws when it cannot be opened now; synchronous. */
  open(): Opened;
  /** Told in words that it cannot be opened, once for each reason, and with undefined that it is, also at the first try. */
  changed?(error: unknown): void;
}

export class Late<Opened> {
  readonly #deps: LateDeps<Opened>;
  #opened: Opened | undefined;
  #reason: string | undefined;
  #timer: Timer | undefined;

  /** Tries at once. */
  constructor(deps: LateDeps<Opened>) {
    this.#deps = deps;
    this.#try();
  }

  get opened(): Opened | undefined {
    return this.#opened;
  }

  /** Why it is not open; undefined when it is. */
  get reason(): string | undefined {
    return this.#reason;
  }

  /** No try comes after this. What is open stays the caller's. */
  stop(): void {
    this.#timer?.cancel();
  }

  #try(): void {
    const { clock, open, changed } = this.#deps;
    try {
      this.#opened = open();
      this.#reason = undefined;
      changed?.(undefined);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const isNew = reason !== this.#reason;
      this.#reason = reason;
      this.#timer = clock.after(RETRY_MS, () => this.#try());
      if (isNew) changed?.(error);
    }
  }
}
