/**
 * Time for the whole runtime. Owns the one place where the process reads its clocks; everything else gets a `Clock`
 * passed in, so that `test/sim` runs the same code in virtual time. Must never be imported for its `systemClock`
 * except by composition (node/node.ts, cli, scripts).
 */
import type { Clock, Timer } from "@godwit/sdk";

export type { Clock, Timer };

/** No machine's clock was right before this: 2026-01-01. Earlier readings are those of a board without a clock. */
export const PLAUSIBLE_WALL_MS = 1_767_225_600_000;

export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(delayMs, fn) {
    if (delayMs <= 0) {
      // A timer waits for a millisecond at least, and whoever only gives others their turn would wait that long each time.
      const immediate = setImmediate(fn);
      return { cancel: () => clearImmediate(immediate) };
    }
    let handle: ReturnType<typeof setTimeout>;
    const arm = (leftMs: number) => {
      handle =
        leftMs > TIMER_MAX_MS
          ? setTimeout(() => arm(leftMs - TIMER_MAX_MS), TIMER_MAX_MS)
          : setTimeout(fn, Math.max(leftMs, 0));
    };
    arm(delayMs);
    return { cancel: () => clearTimeout(handle) };
  },
};

/** setTimeout treats anything above 2^31-1 as 1 ms; a node lives longer than 24 days. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/**
 * Makes each turn of the real event loop last so much longer while `isNeeded`, by blocking it: for what the engine tries again in every turn
 * and nobody can tell it to leave. Only for composition, as `systemClock`.
 */
export function lengthenTurns(byMs: number, isNeeded: () => boolean): void {
  setImmediate(() => {
    if (!isNeeded()) return;
    Bun.sleepSync(byMs);
    lengthenTurns(byMs, isNeeded);
  });
}

/** Until the event loop has been round once: for what waits for a disk or a socket, which take their time whatever a simulated clock says. */
export const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Resolves after `delayMs`, rejects with the signal's reason as soon as it aborts. Leaves no timer or listener. */
export function sleep(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason as Error);
    const onAbort = () => {
      timer.cancel();
      reject(signal.reason as Error);
    };
    const timer = clock.after(delayMs, () => {
      signal.removeEventListener("abort", onAbort);
      resolve();
    });
    signal.addEventListener("abort", onAbort, { once: true });
  });
}

/**
 * Until the next whole multiple of `periodMs` that is half a period away or more: an idle node that looks after several things wakes up once
 * for all of them.
 */
export function untilMultiple(clock: Clock, periodMs: number): number {
  const leftMs = periodMs - (clock.monotonicMs() % periodMs);
  return leftMs < periodMs / 2 ? leftMs + periodMs : leftMs;
}

/** Calls `fn` every `periodMs` (plus what `jitterMs` returns each time) until cancelled. A throw in `fn` stops it. */
export function every(
  clock: Clock,
  periodMs: number,
  fn: () => void,
  jitterMs: () => number = () => 0,
): Timer {
  let timer = clock.after(periodMs + jitterMs(), tick);
  let cancelled = false;
  function tick() {
    fn();
    if (!cancelled) timer = clock.after(periodMs + jitterMs(), tick);
  }
  return {
    cancel() {
      cancelled = true;
      timer.cancel();
    },
  };
}

/** A clock that moves only when told to. Ships beside the real one; unit tests and the simulator use it. */
export class ManualClock implements Clock {
  #nowMs = 0;
  #sequence = 0;
  /** Binary heap ordered by (time, sequence): same-time timers fire in the order they were set. */
  readonly #heap: { atMs: number; sequence: number; fn: (() => void) | undefined }[] = [];
  wallOffsetMs: number;

  constructor(wallStartMs = 1_700_000_000_000) {
    this.wallOffsetMs = wallStartMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#nowMs + this.wallOffsetMs;
  }

  after(delayMs: number, fn: () => void): Timer {
    const entry = {
      atMs: this.#nowMs + Math.max(delayMs, 0),
      sequence: this.#sequence++,
      fn: fn as (() => void) | undefined,
    };
    const heap = this.#heap;
    heap.push(entry);
    let child = heap.length - 1;
    while (child > 0) {
      const parent = (child - 1) >> 1;
      if (!isEarlier(heap[child]!, heap[parent]!)) break;
      swap(heap, child, parent);
      child = parent;
    }
    return {
      cancel() {
        entry.fn = undefined;
      },
    };
  }

  /** When the next live timer is due (monotonic ms), or undefined if there is none. */
  nextAtMs(): number | undefined {
    while (this.#heap.length > 0 && this.#heap[0]!.fn === undefined) this.#pop();
    return this.#heap[0]?.atMs;
  }

  /** Runs the one earliest timer if it is due at or before `limitMs`; answers whether one ran. */
  runNext(limitMs: number): boolean {
    const atMs = this.nextAtMs();
    if (atMs === undefined || atMs > limitMs) return false;
    const entry = this.#pop()!;
    this.#nowMs = Math.max(this.#nowMs, entry.atMs);
    const fn = entry.fn!;
    entry.fn = undefined;
    fn();
    return true;
  }

  /** Moves time to `atMs` without running anything. */
  jumpTo(atMs: number): void {
    this.#nowMs = Math.max(this.#nowMs, atMs);
  }

  /** Moves time on by `byMs`, running what falls due, promise reactions included. */
  async advance(byMs: number): Promise<void> {
    const untilMs = this.#nowMs + byMs;
    for (;;) {
      await nextTurn();
      if (!this.runNext(untilMs)) break;
    }
    this.jumpTo(untilMs);
    await nextTurn();
  }

  #pop() {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (heap.length === 0 || last === undefined) return top;
    heap[0] = last;
    let parent = 0;
    for (;;) {
      let least = parent;
      const left = 2 * parent + 1;
      if (left < heap.length && isEarlier(heap[left]!, heap[least]!)) least = left;
      if (left + 1 < heap.length && isEarlier(heap[left + 1]!, heap[least]!)) least = left + 1;
      if (least === parent) return top;
      swap(heap, parent, least);
      parent = least;
    }
  }
}

const isEarlier = (a: { atMs: number; sequence: number }, b: { atMs: number; sequence: number }) =>
  a.atMs < b.atMs || (a.atMs === b.atMs && a.sequence < b.sequence);

function swap<T>(heap: T[], i: number, j: number) {
  const held = heap[i]!;
  heap[i] = heap[j]!;
  heap[j] = held;
}

/** Lets pending promise reactions run: a macrotask round trip drains every chain of microtasks. */

/** ISO 8601 of ms since 1970. A clock can stand anywhere a 48-bit number reaches; Date cannot show all of it. */
export const isoTime = (ms: number): string => new Date(Math.min(Math.max(ms, 0), 8.64e15)).toISOString();
