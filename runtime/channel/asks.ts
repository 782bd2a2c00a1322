/**
 * Nodes that mail has no way to, and how often each was asked for where a channel is too busy for beacons: mail that waits for one that is away for good must not spend
 * others' airtime without end. Owns no timer. docs/protocol/slow.md "Asked for"
 */
import type { Clock } from "@godwit/sdk";
import { BoundedMap } from "@godwit/sdk/bounded";
import type { NodeId } from "../kernel/ids.ts";

const STUCK_MAX = 64;
/** Of one node so many in that time, ms; then it is forgotten, and mail that waits for it still brings it back. */
export const ASKS_MAX = 16;
export const ASKS_FOR_MS = 86_400_000;

interface Asked {
  times: number;
  readonly sinceMs: number;
}

export class Asks {
  readonly #clock: Pick<Clock, "monotonicMs">;
  readonly #nodes = new BoundedMap<NodeId, Asked>({ name: "nodes asked for on channels", max: STUCK_MAX });

  constructor(clock: Pick<Clock, "monotonicMs">) {
    this.#clock = clock;
  }

  /** Mail waits for it. */
  add(id: NodeId): void {
    this.#forgetOld();
    if (!this.#nodes.has(id)) this.#nodes.set(id, { times: 0, sinceMs: this.#clock.monotonicMs() });
  }

  delete(id: NodeId): void {
    this.#nodes.delete(id);
  }

  /** Mail waits for one that may be asked for still. */
  get areLeft(): boolean {
    return this.least(() => true) !== undefined;
  }

  get ids(): readonly NodeId[] {
    this.#forgetOld();
    return [...this.#nodes.keys()];
  }

  /** Of those that `mayBe` asked for whoever was least. */
  least(mayBe: (id: NodeId) => boolean): NodeId | undefined {
    let least: NodeId | undefined;
    let leastTimes = ASKS_MAX;
    for (const id of this.ids) {
      const { times } = this.#nodes.get(id)!;
      if (times >= leastTimes || !mayBe(id)) continue;
      least = id;
      leastTimes = times;
    }
    return least;
  }

  /** A question for it has left. */
  note(id: NodeId): void {
    const asked = this.#nodes.get(id);
    if (asked !== undefined) asked.times++;
  }

  #forgetOld(): void {
    const beforeMs = this.#clock.monotonicMs() - ASKS_FOR_MS;
    for (const [id, { sinceMs }] of this.#nodes) if (sinceMs <= beforeMs) this.#nodes.delete(id);
  }
}
