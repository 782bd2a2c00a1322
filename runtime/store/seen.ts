/**
 * What was ever delivered here: per (sender, store epoch, address) a run-length set of counters, kept without expiry,
 * so that nothing is delivered twice however late it comes. docs/protocol/delivery.md "Exactly once".
 */
import type { NodeId } from "../kernel/ids.ts";
import type { Store, StoreOp } from "./types.ts";

/** Runs kept per set. Past it the two closest runs merge: counters never sent in between count as seen. */
export const SEEN_RUNS_MAX = 2_048;
/** Sets kept per sender; a sender that keeps inventing store epochs loses its own oldest ones. */
export const SEEN_SETS_PER_SENDER_MAX = 64;

/** Sorted, disjoint, non-touching runs [first, last] of counters. */
export type Runs = [first: number, last: number][];

export function hasCounter(runs: Runs, counter: number): boolean {
  const at = runIndex(runs, counter);
  return at >= 0 && counter <= runs[at]![1];
}

/** Adds in place; at most `runsMax` runs remain. */
export function addCounter(runs: Runs, counter: number, runsMax = SEEN_RUNS_MAX): void {
  const at = runIndex(runs, counter);
  const left = runs[at];
  if (left !== undefined && counter <= left[1]) return;
  const right = runs[at + 1];
  const touchesLeft = left !== undefined && left[1] + 1 === counter;
  const touchesRight = right !== undefined && right[0] - 1 === counter;
  if (touchesLeft && touchesRight) {
    left[1] = right[1];
    runs.splice(at + 1, 1);
  } else if (touchesLeft) left[1] = counter;
  else if (touchesRight) right[0] = counter;
  else runs.splice(at + 1, 0, [counter, counter]);
  if (runs.length > runsMax) mergeClosest(runs);
}

/** Removes in place. */
export function removeCounter(runs: Runs, counter: number): void {
  const at = runIndex(runs, counter);
  const run = runs[at];
  if (run === undefined || counter > run[1]) return;
  const rest: Runs = [];
  if (run[0] < counter) rest.push([run[0], counter - 1]);
  if (counter < run[1]) rest.push([counter + 1, run[1]]);
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

function mergeClosest(runs: Runs): void {
  let best = 1;
  for (let i = 2; i < runs.length; i++) {
    if (runs[i]![0] - runs[i - 1]![1] < runs[best]![0] - runs[best - 1]![1]) best = i;
  }
  runs[best - 1]![1] = runs[best]![1];
  runs.splice(best, 1);
}

export class Seen {
  readonly #sets = new Map<string, Runs>();
  /** Keys per sender, oldest use first. */
  readonly #bySender = new Map<NodeId, Set<string>>();

  async load(store: Store): Promise<void> {
    for (const row of await store.load("seen")) {
      this.#sets.set(row.key, JSON.parse(row.meta) as Runs);
      this.#keysOf(row.key.slice(0, row.key.indexOf("/")) as NodeId).add(row.key);
    }
  }

  has(sender: NodeId, epoch: string, address: string, counter: number): boolean {
    const runs = this.#sets.get(setKey(sender, epoch, address));
    return runs !== undefined && hasCounter(runs, counter);
  }

  /** Marks in memory and answers the ops that make it durable; commit them together with the delivery. */
  add(sender: NodeId, epoch: string, address: string, counter: number): StoreOp[] {
    const key = setKey(sender, epoch, address);
    const keys = this.#keysOf(sender);
    const ops: StoreOp[] = [];
    keys.delete(key);
    keys.add(key);
    if (keys.size > SEEN_SETS_PER_SENDER_MAX) {
      const oldest = keys.values().next().value!;
      keys.delete(oldest);
      this.#sets.delete(oldest);
      ops.push({ op: "delete", in: "seen", key: oldest });
    }
    let runs = this.#sets.get(key);
    if (runs === undefined) this.#sets.set(key, (runs = []));
    addCounter(runs, counter);
    ops.push({ op: "put", in: "seen", key, meta: JSON.stringify(runs) });
    return ops;
  }

  /** Takes back an `add` whose commit failed. */
  undo(sender: NodeId, epoch: string, address: string, counter: number): void {
    const runs = this.#sets.get(setKey(sender, epoch, address));
    if (runs !== undefined) removeCounter(runs, counter);
  }

  #keysOf(sender: NodeId): Set<string> {
    let keys = this.#bySender.get(sender);
    if (keys === undefined) this.#bySender.set(sender, (keys = new Set()));
    return keys;
  }
}

const setKey = (sender: NodeId, epoch: string, address: string): string => `${sender}/${epoch}/${address}`;
