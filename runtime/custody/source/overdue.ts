/**
 * Which mail of this node waits for longer than the operator expects, for whom and for what. Looks at all of it, and therefore seldom, however
 * often it is asked. Changes nothing.
 */
import { BoundedMap } from "@godwit/sdk/bounded";
import type { NodeId } from "../../kernel/ids.ts";
import type { CustodyContext } from "../context.ts";
import type { Forwarder } from "../forwarding/forwarder.ts";
import type { Found, WaitsFor } from "../oldest.ts";

const LOOK_EVERY_MS = 10_000;
/** Nodes of which it is known when mail for them last moved. */
const MOVED_MAX = 1_024;
/** Of what is held for a node so much shows whether any of it moves. */
const HELD_LOOKED_AT_MAX = 64;

/** The oldest of those that wait for the same. */
export interface Overdue {
  /** The address as its sender wrote it, or a node id. */
  readonly whom: string;
  readonly waitsFor: WaitsFor;
  readonly ageMs: number;
  /** Some mail for it went on within the bound, or some more of a large one: it is its turn that it waits for. */
  readonly isMoving: boolean;
}

interface Look {
  /** What waits, oldest first. */
  found(): Found[];
  nodesOf(address: string): readonly NodeId[];
}

export class OverdueMail {
  readonly #ctx: CustodyContext;
  readonly #forwarder: Forwarder;
  readonly #look: Look;
  readonly #movedAtMs = new BoundedMap<NodeId, number>({ name: "moves of mail", max: MOVED_MAX });
  #list: readonly Overdue[] = [];
  #lookAgainAtMs = Number.NEGATIVE_INFINITY;

  constructor(ctx: CustodyContext, forwarder: Forwarder, look: Look) {
    this.#ctx = ctx;
    this.#forwarder = forwarder;
    this.#look = look;
  }

  /** A neighbour took a message for that node. */
  moved(destination: NodeId): void {
    this.#movedAtMs.renew(destination, this.#ctx.clock.monotonicMs());
  }

  /** Oldest first; up to ten seconds old. */
  get list(): readonly Overdue[] {
    const nowMs = this.#ctx.clock.monotonicMs();
    if (nowMs < this.#lookAgainAtMs) return this.#list;
    this.#lookAgainAtMs = nowMs + LOOK_EVERY_MS;
    const { time, limits } = this.#ctx;
    this.#list = this.#look
      .found()
      .map(({ whom, waitsFor, sinceRunMs }) => ({ whom, waitsFor, ageMs: time.ageMs(sinceRunMs) }))
      .filter(({ ageMs }) => ageMs >= limits.overdueAfterMs)
      .map((one) => ({
        ...one,
        isMoving: this.#look.nodesOf(one.whom).some((node) => this.#isMoving(node)),
      }));
    return this.#list;
  }

  #isMoving(destination: NodeId): boolean {
    const sinceMs = this.#ctx.clock.monotonicMs() - this.#ctx.limits.overdueAfterMs;
    if ((this.#movedAtMs.get(destination) ?? Number.NEGATIVE_INFINITY) >= sinceMs) return true;
    let left = HELD_LOOKED_AT_MAX;
    for (const { movedAtMs } of this.#forwarder.toward(destination)) {
      if (movedAtMs !== undefined && movedAtMs >= sinceMs) return true;
      if (--left === 0) break;
    }
    return false;
  }
}
