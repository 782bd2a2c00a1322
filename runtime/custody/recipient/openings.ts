/**
 * Whose mail is opened next, and how much of it in one turn of the event loop. What a neighbour brings at once may be half a second of
 * agreements, whatever it says: others have their turns between, and neighbours theirs one by one. Owns no mail; whoever waits is bounded by
 * what may wait for the disk.
 */
import type { Clock } from "@godwit/sdk";
import { nextTurn } from "../../kernel/clock.ts";
import type { NodeId } from "../../kernel/ids.ts";

/** Of a turn; as much as all else in the one before took, where that is more, so that a flood that is only read does not keep what is opened waiting. */
const TURN_MS = 4;
const TURN_MAX_MS = 50;

export class Openings {
  readonly #clock: Clock;
  /** By who brought it, and those in the order of their turns. */
  readonly #waiting = new Map<NodeId, (() => void)[]>();
  #spentMs = 0;
  #budgetMs = TURN_MS;
  #isTurning = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** At once where this turn has time left and nobody waits. Rejects with what `open` throws. */
  async run<T>(from: NodeId, open: () => T): Promise<T> {
    if (this.#waiting.size > 0 || this.#spentMs >= this.#budgetMs) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const queue = this.#waiting.get(from);
      if (queue === undefined) this.#waiting.set(from, [resolve]);
      else queue.push(resolve);
      void this.#turn();
      await promise;
    }
    const startedMs = this.#clock.monotonicMs();
    try {
      return open();
    } finally {
      this.#spentMs += this.#clock.monotonicMs() - startedMs;
      void this.#turn();
    }
  }

  /** Ends in a turn in which nobody waits and nothing was spent. */
  async #turn(): Promise<void> {
    if (this.#isTurning || (this.#waiting.size === 0 && this.#spentMs === 0)) return;
    this.#isTurning = true;
    do {
      const startedMs = this.#clock.monotonicMs();
      const before = this.#spentMs;
      await nextTurn();
      const elseMs = this.#clock.monotonicMs() - startedMs - (this.#spentMs - before);
      this.#budgetMs = Math.min(TURN_MAX_MS, Math.max(TURN_MS, elseMs));
      this.#spentMs = 0;
      while (this.#waiting.size > 0 && this.#spentMs < this.#budgetMs) {
        const [from, queue] = this.#waiting.entries().next().value!;
        this.#waiting.delete(from);
        queue.shift()!();
        if (queue.length > 0) this.#waiting.set(from, queue);
        // What was let go on has opened, and said what it took.
        await Promise.resolve();
      }
    } while (this.#waiting.size > 0 || this.#spentMs > 0);
    this.#budgetMs = TURN_MS;
    this.#isTurning = false;
  }
}
