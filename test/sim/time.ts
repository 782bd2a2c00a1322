/**
 * Virtual time of a whole simulated mesh: one heap for everything that happens, one event at a time, promise reactions
 * drained after each. Every event goes into the trace hash, so that two runs of one seed can be compared byte by byte.
 * Must never read a real clock.
 */
import { createHash } from "node:crypto";
import { drainMicrotasks } from "bun:jsc";
import { ManualClock } from "../../runtime/kernel/clock.ts";
import type { Clock, Timer } from "@godwit/sdk";

/** Trace lines gathered before they are hashed together. */
const TRACE_BATCH = 512;

export class SimTime {
  readonly #heap = new ManualClock(0);
  readonly #hash = createHash("sha256");
  #lines: string[] = [];
  #digest: string | undefined;
  /** Events run so far. */
  events = 0;
  /** Called after each event, when promise reactions have run. */
  afterEvent: () => void = () => {};

  get nowMs(): number {
    return this.#heap.monotonicMs();
  }

  /** Runs `fn` as an event of its own, `delayMs` (>= 0) from now. */
  after(delayMs: number, fn: () => void): Timer {
    return this.#heap.after(delayMs, fn);
  }

  /** One line of the trace. It must name nodes by index and say nothing that depends on the machine. */
  note(line: string): void {
    this.#lines.push(line);
    if (this.#lines.length >= TRACE_BATCH) this.#flush();
  }

  /** Runs all events up to `untilMs`, or until `isDone` answers true after one. Time then stands at the last event or `untilMs`. */
  run(untilMs: number, isDone: () => boolean = () => false): void {
    while (this.#heap.runNext(untilMs)) {
      this.events++;
      drainMicrotasks();
      this.afterEvent();
      if (isDone()) return;
    }
    this.#heap.jumpTo(untilMs);
  }

  /** Hex SHA-256 over the trace. Nothing may be noted after. */
  digest(): string {
    this.#flush();
    return (this.#digest ??= this.#hash.digest("hex"));
  }

  #flush(): void {
    if (this.#lines.length === 0) return;
    this.#hash.update(`${this.#lines.join("\n")}\n`);
    this.#lines = [];
  }
}

export interface NodeTimeOptions {
  readonly time: SimTime;
  readonly node: number;
  /** Runs an event of the node now, or later if it stands still, or never if this life is over. */
  readonly dispatch: (kind: string, fn: () => void) => void;
  readonly wallOffsetMs: () => number;
}

/** 2026-06-01, where the simulated world starts. */
export const WORLD_START_MS = 1_780_272_000_000;

/** The clock of one life of one node. After the life nothing it was asked for happens. */
export function nodeClock({ time, dispatch, wallOffsetMs }: NodeTimeOptions): Clock {
  return {
    monotonicMs: () => time.nowMs,
    wallMs: () => time.nowMs + wallOffsetMs(),
    after(delayMs, fn) {
      let isCancelled = false;
      // As the real one: nothing comes sooner than a millisecond, so that rounding never makes time stand still.
      const timer = time.after(Math.max(1, delayMs), () =>
        dispatch("timer", () => {
          if (!isCancelled) fn();
        }),
      );
      return {
        cancel() {
          isCancelled = true;
          timer.cancel();
        },
      };
    },
  };
}
