/** A pending call; `cancel` is idempotent and a no-op once the call has happened. */
export interface Timer {
  cancel(): void;
}

/**
 * Time as a plugin sees it. Everything that waits takes its time from here, so that a whole mesh runs in virtual time
 * under a test. Never use `Date`, `setTimeout` or `performance` beside it.
 */
export interface Clock {
  /** Milliseconds that never go back and never jump; the origin is arbitrary. Fractions allowed. */
  monotonicMs(): number;
  /** Milliseconds since 1970 as the machine believes. May be wrong by decades and may jump. For display only. */
  wallMs(): number;
  /** Calls `fn` once, `delayMs` (>= 0) from now, never synchronously. */
  after(delayMs: number, fn: () => void): Timer;
}
