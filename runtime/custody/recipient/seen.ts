/**
 * What was ever delivered here: per (sender, store epoch, address) a run-length set of counters, kept without expiry,
 * so that nothing is delivered twice however late it comes. docs/protocol/delivery.md "Exactly once".
 */
import type { Log } from "@godwit/sdk";
import type { NodeId } from "../../kernel/ids.ts";
import { parseMeta } from "../../kernel/json.ts";
import { LIFETIME_MAX_MS } from "../../wire/constants.ts";
import { PLAUSIBLE_WALL_MS } from "../../kernel/clock.ts";
import type { Store, StoreOp } from "../../store/types.ts";

/**
 * Runs kept per set. A counter that would need one more has to wait until others fill gaps, unless a gap is so old that
 * no message can come for it any more: that one is closed. To close a young one would call lost what is on its way.
 */
export const SEEN_RUNS_MAX = 2_048;
/** Senders ever delivered from. Past it a new one is refused: to forget an old one could deliver its mail twice. */
export const SEEN_SENDERS_MAX = 65_536;
/** Sets kept per sender; a sender that keeps inventing store epochs loses its own oldest ones. */
export const SEEN_SETS_PER_SENDER_MAX = 64;
const HOUR_MS = 3_600_000;
/** A day more than the longest lifetime. */
const GAP_DEAD_HOURS = LIFETIME_MAX_MS / HOUR_MS + 24;

/**
 * Sorted, disjoint, non-touching runs of counters. `sinceHour`: hours since 1970 at which the gap below the run was
 * first noticed. Counters only rise, so whatever is missing there was sent before.
 */
export type Runs = [first: number, last: number, sinceHour: number][];

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

/** Closes the lowest dead gap. Hours from before the clock was right count from now on. */
function closeDeadGap(runs: Runs, nowHour: number): boolean {
  if (nowHour < PLAUSIBLE_HOUR) return false;
  for (let i = 1; i < runs.length; i++) {
    const run = runs[i]!;
    if (run[2] < PLAUSIBLE_HOUR) run[2] = nowHour;
    if (nowHour - run[2] < GAP_DEAD_HOURS) continue;
    runs[i - 1]![1] = run[1];
    runs.splice(i, 1);
    return true;
  }
  return false;
}

const PLAUSIBLE_HOUR = Math.floor(PLAUSIBLE_WALL_MS / HOUR_MS);
const hourOf = (wallMs: number): number => Math.floor(wallMs / HOUR_MS);

export class Seen {
  readonly #sendersMax: number;
  readonly #sets = new Map<string, Runs>();
  /** Keys per sender, oldest use first. */
  readonly #bySender = new Map<NodeId, Set<string>>();

  constructor(sendersMax: number = SEEN_SENDERS_MAX) {
    this.#sendersMax = sendersMax;
  }

  async load(store: Store, log: Log, wallMs: number): Promise<void> {
    for (const row of await store.load("seen")) {
      const runs = parseMeta<(readonly [number, number, number?])[]>(row, log, "seen");
      if (!Array.isArray(runs)) continue;
      this.#sets.set(
        row.key,
        runs.map(([first, last, since]) => [first, last, since ?? hourOf(wallMs)]),
      );
      this.#keysOf(row.key.slice(0, row.key.indexOf("/")) as NodeId).add(row.key);
    }
  }

  has(sender: NodeId, epoch: string, address: string, counter: number): boolean {
    const key = setKey(sender, epoch, address);
    const runs = this.#sets.get(key);
    if (runs === undefined || !hasCounter(runs, counter)) return false;
    this.#touch(sender, key);
    return true;
  }

  /**
   * Marks in memory. Answers the key of the set, to be made durable by `op` in the commit of the delivery; undefined
   * when there is no room: the message has to wait for those before it.
   */
  add(sender: NodeId, epoch: string, address: string, counter: number, wallMs: number): string | undefined {
    if (!this.#bySender.has(sender) && this.#bySender.size >= this.#sendersMax) return undefined;
    const key = setKey(sender, epoch, address);
    const runs = this.#sets.get(key) ?? [];
    if (!addCounter(runs, counter, hourOf(wallMs))) return undefined;
    this.#sets.set(key, runs);
    this.#touch(sender, key);
    return key;
  }

  /** What makes the set and what was pushed out by it durable. Once a commit, however many counters it adds. */
  ops(key: string): StoreOp[] {
    const runs = this.#sets.get(key);
    if (runs === undefined) return [];
    const ops: StoreOp[] = [{ op: "put", in: "seen", key, meta: JSON.stringify(runs) }];
    const keys = this.#keysOf(key.slice(0, key.indexOf("/")) as NodeId);
    while (keys.size > SEEN_SETS_PER_SENDER_MAX) {
      const oldest = keys.values().next().value!;
      keys.delete(oldest);
      this.#sets.delete(oldest);
      ops.push({ op: "delete", in: "seen", key: oldest });
    }
    return ops;
  }

  /** Takes back an `add` whose commit failed. */
  undo(sender: NodeId, epoch: string, address: string, counter: number, wallMs: number): void {
    const runs = this.#sets.get(setKey(sender, epoch, address));
    if (runs !== undefined) removeCounter(runs, counter, hourOf(wallMs));
  }

  #touch(sender: NodeId, key: string): void {
    const keys = this.#keysOf(sender);
    keys.delete(key);
    keys.add(key);
  }

  #keysOf(sender: NodeId): Set<string> {
    let keys = this.#bySender.get(sender);
    if (keys === undefined) this.#bySender.set(sender, (keys = new Set()));
    return keys;
  }
}

const setKey = (sender: NodeId, epoch: string, address: string): string => `${sender}/${epoch}/${address}`;
