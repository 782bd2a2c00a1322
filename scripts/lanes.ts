/**
 * When each suite runs, beside which others, and when it is cut off. Owns the order, the lanes and the limits; knows nothing
 * of commands, output or counts, which `run` brings. A limit is for what hangs: no suite fails for being slow.
 */
import type { Suite } from "./suites.ts";

/** A suite is cut off at so many times its share on this machine. */
export const CUT_OFF_FACTOR = 3;
/** For all that is not long together; CI kills everything at 90, and then nobody learns what failed. */
export const TOTAL_MINUTES_MAX = 80;
const LANES_MAX = 4;

/** Two even on one processor: most of a suite's time is waiting. */
export const lanesFor = (processors: number): number => Math.min(LANES_MAX, Math.max(2, processors));

export const shareMsOf = ({ minutes }: Pick<Suite, "minutes">, scale: number): number =>
  minutes * 60_000 * scale;
export const cutOffMsOf = (suite: Pick<Suite, "minutes">, scale: number): number =>
  CUT_OFF_FACTOR * shareMsOf(suite, scale);

/**
 * Of `pending` the one to start now; undefined: wait for one of `running` to end. A stage begins when the one before has
 * ended. Suites that measure time come last in theirs, one by one with nothing beside them; of the others the longest first,
 * so that the lanes end together.
 */
export function nextSuite(
  pending: readonly Suite[],
  running: readonly Suite[],
  lanes: number,
): Suite | undefined {
  const stage = Math.min(...[...pending, ...running].map((suite) => suite.stage));
  const candidates = pending.filter((suite) => suite.stage === stage);
  const loud = candidates.filter((suite) => suite.quiet === undefined);
  if (running.length === 0) return longest(loud) ?? candidates[0];
  if (running.length >= lanes || running.some((suite) => suite.quiet !== undefined)) return undefined;
  const used = new Set(running.flatMap((suite) => suite.uses));
  return longest(loud.filter((suite) => !suite.uses.some((one) => used.has(one))));
}

const longest = (suites: readonly Suite[]): Suite | undefined =>
  suites.reduce<Suite | undefined>(
    (best, suite) => (best !== undefined && best.minutes >= suite.minutes ? best : suite),
    undefined,
  );

export interface LanesOptions<Result> {
  readonly suites: readonly Suite[];
  readonly lanes: number;
  readonly scale: number;
  /** When it fires, what runs is ended and nothing more is started; its reason says why. */
  readonly signal: AbortSignal;
  /** Resolves when the suite has ended, at the latest soon after `limitMs` or after the signal. Never rejects. */
  run(suite: Suite, limitMs: number, signal: AbortSignal): Promise<Result>;
  /** For a suite that was never started, because the signal fired before. */
  notRun(suite: Suite): Result;
}

/** Every suite with its result, in the order of `suites`. */
export async function runLanes<Result>(options: LanesOptions<Result>): Promise<Map<Suite, Result>> {
  const { suites, lanes, scale, signal, run, notRun } = options;
  const pending = [...suites];
  const running = new Map<Suite, Promise<void>>();
  const results = new Map<Suite, Result>();
  const start = (suite: Suite) => {
    pending.splice(pending.indexOf(suite), 1);
    const ended = run(suite, cutOffMsOf(suite, scale), signal).then((result) => {
      running.delete(suite);
      results.set(suite, result);
    });
    running.set(suite, ended);
  };
  for (;;) {
    while (!signal.aborted && pending.length > 0) {
      const next = nextSuite(pending, [...running.keys()], lanes);
      if (next === undefined) break;
      start(next);
    }
    if (running.size === 0) break;
    await Promise.race(running.values());
  }
  return new Map(suites.map((suite) => [suite, results.get(suite) ?? notRun(suite)]));
}
