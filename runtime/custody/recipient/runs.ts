/**
 * Which counters of one set came, as runs. Pure: owns neither sets nor rows. To call one seen that never came would lose a
 * message, to forget one would deliver it twice.
 */
import { COVERED_FROM_MS } from "../../time/node-time.ts";
import { LIFETIME_MAX_MS } from "../../wire/constants.ts";

/**
 * Runs kept per set. A counter that would need one more has to wait until others fill gaps, unless a gap is so old that
 * no message can come for it any more: that one is closed. To close a young one would call lost what is on its way.
 */
export const SEEN_RUNS_MAX = 2_048;
const HOUR_MS = 3_600_000;
/** A day more than the longest lifetime. */
const GAP_DEAD_HOURS = LIFETIME_MAX_MS / HOUR_MS + 24;

/**
 * Sorted, disjoint, non-touching runs of counters. `sinceHour`: hours since 1970 at which the gap below the run was
 * first noticed: of running time counted from 2026, in rows of earlier releases of the wall clock. Counters only rise, so whatever is missing there was sent before.
 */
export type Runs = [first: number, last: number, sinceHour: number][];

/** Whether a list is what this file makes: to believe another would call seen what never came, or the other way round. */
export function areRuns(list: readonly unknown[]): boolean {
  let above = -2;
  return (
    list.length <= SEEN_RUNS_MAX &&
    list.every((run) => {
      if (!Array.isArray(run)) return false;
      const [first, last, since] = run as unknown[];
      if (!Number.isSafeInteger(first) || !Number.isSafeInteger(last)) return false;
      if ((first as number) < above + 2 || (last as number) < (first as number)) return false;
      above = last as number;
      return since === undefined || Number.isSafeInteger(since);
    })
  );
}

export function hasCounter(runs: Runs, counter: number): boolean {
  const at = runIndex(runs, counter);
  return at >= 0 && counter <= runs[at]![1];
}

/** Adds in place. False, and nothing changed, when it needs a run more than `runsMax` and no gap is dead. */
export function addCounter(
  runs: Runs,
  counter: number,
  nowHour: number,
  runsMax: number = SEEN_RUNS_MAX,
): boolean {
  const at = runIndex(runs, counter);
  const left = runs[at];
  if (left !== undefined && counter <= left[1]) return true;
  const right = runs[at + 1];
  const touchesLeft = left !== undefined && left[1] + 1 === counter;
  const touchesRight = right !== undefined && right[0] - 1 === counter;
  if (touchesLeft && touchesRight) {
    left[1] = right[1];
    runs.splice(at + 1, 1);
  } else if (touchesLeft) left[1] = counter;
  else if (touchesRight) right[0] = counter;
  else {
    if (runs.length >= runsMax && !closeDeadGap(runs, nowHour)) return false;
    runs.splice(runIndex(runs, counter) + 1, 0, [counter, counter, right?.[2] ?? nowHour]);
  }
  return true;
}

/** Removes in place. */
export function removeCounter(runs: Runs, counter: number, nowHour: number): void {
  const at = runIndex(runs, counter);
  const run = runs[at];
  if (run === undefined || counter > run[1]) return;
  const rest: Runs = [];
  if (run[0] < counter) rest.push([run[0], counter - 1, run[2]]);
  if (counter < run[1]) rest.push([counter + 1, run[1], nowHour]);
  runs.splice(at, 1, ...rest);
}

/** Index of the last run that starts at or before `counter`, or -1. */
function runIndex(runs: Runs, counter: number): number {
  let low = 0;
  let high = runs.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (runs[middle]![0] <= counter) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** Closes the lowest dead gap. Hours that this clock never showed count from now on. */
function closeDeadGap(runs: Runs, nowHour: number): boolean {
  if (nowHour < COVERED_FROM_HOUR) return false;
  for (let i = 1; i < runs.length; i++) {
    const run = runs[i]!;
    if (run[2] < COVERED_FROM_HOUR || run[2] > nowHour) run[2] = nowHour;
    if (nowHour - run[2] < GAP_DEAD_HOURS) continue;
    runs[i - 1]![1] = run[1];
    runs.splice(i, 1);
    return true;
  }
  return false;
}

const COVERED_FROM_HOUR = Math.floor(COVERED_FROM_MS / HOUR_MS);
export const hourOf = (ms: number): number => Math.floor(ms / HOUR_MS);

/** Every counter of either; what neither has stays a gap, from `nowHour` on. */
export function mergedRuns(a: Runs, b: Runs, nowHour: number): Runs {
  const merged: Runs = [];
  for (const [first, last] of [...a, ...b].sort((one, other) => one[0] - other[0])) {
    const top = merged.at(-1);
    if (top !== undefined && first <= top[1] + 1) top[1] = Math.max(top[1], last);
    else merged.push([first, last, nowHour]);
  }
  return merged;
}
