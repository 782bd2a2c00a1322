/**
 * The last lines of a node's log, in memory, for whoever asks the node itself. Holds what the log wrote and no more: what
 * `log_level` keeps out is not here either. The oldest give way, by number and by bytes.
 */
import { type Clock, isoTime } from "./clock.ts";
import type { LogKeeper, LogLevel } from "./log.ts";

export const RECENT_LINES_MAX = 2_000;
export const RECENT_BYTES_MAX = 256 * 1024;

/** Upwards. */
const RANK: Readonly<Record<LogLevel, number>> = { debug: 0, info: 1, warn: 2, error: 3 };

export interface RecentLine {
  /** From 1 since `startedAt`, without gaps but for a line that is larger than all of this. */
  readonly number: number;
  readonly level: LogLevel;
  /** When it was written; monotonic. */
  readonly atMs: number;
  /** One JSON object: time, level, event, and the fields. */
  readonly json: string;
}

export interface RecentWanted {
  /** Only those with a higher number. */
  readonly after: number;
  /** Only these and graver ones. */
  readonly level: LogLevel;
  /** Only those written at this time or later; monotonic. */
  readonly sinceMs: number;
}

export class RecentLog implements LogKeeper {
  /** ISO 8601: numbers are of one and the same log only while this stays. */
  readonly startedAt: string;
  readonly #clock: Clock;
  readonly #lines: RecentLine[] = [];
  readonly #waiting = new Set<() => void>();
  #bytes = 0;
  #last = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.startedAt = isoTime(clock.wallMs());
  }

  /** The number of the newest line; 0 before the first. */
  get last(): number {
    return this.#last;
  }

  add(level: LogLevel, json: string): void {
    // A character is two bytes at most in the engine's memory.
    const bytes = json.length * 2;
    this.#last++;
    if (bytes > RECENT_BYTES_MAX) return;
    while (this.#lines.length >= RECENT_LINES_MAX || this.#bytes + bytes > RECENT_BYTES_MAX)
      this.#bytes -= this.#lines.shift()!.json.length * 2;
    this.#lines.push({ number: this.#last, level, atMs: this.#clock.monotonicMs(), json });
    this.#bytes += bytes;
    for (const wake of [...this.#waiting]) wake();
  }

  /** Oldest first. */
  read({ after, level, sinceMs }: RecentWanted): readonly RecentLine[] {
    return this.#lines.filter(
      (line) => line.number > after && line.atMs >= sinceMs && RANK[line.level] >= RANK[level],
    );
  }

  /** How many lines after `after` are gone already. */
  lostAfter(after: number): number {
    const oldest = this.#lines[0]?.number ?? this.#last + 1;
    return Math.max(0, oldest - 1 - after);
  }

  /** Resolves at the next line, or when the signal aborts. */
  next(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        this.#waiting.delete(wake);
        signal.removeEventListener("abort", wake);
        resolve();
      };
      if (signal.aborted) return resolve();
      this.#waiting.add(wake);
      signal.addEventListener("abort", wake, { once: true });
    });
  }
}
