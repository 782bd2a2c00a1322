/** How far accusers are listened to: each refuted accusation costs one, and comes back with time. Bounded. */
import type { Clock } from "@godwit/sdk";
import { BoundedMap } from "@godwit/sdk/bounded";
import type { NodeId } from "../kernel/ids.ts";
import { epochOf } from "./own-fact.ts";

/** Refuted accusations until an accuser is not heard any more. */
const CREDIT_MAX = 8;
/** One comes back in so long, ms. */
const REGAIN_MS = 60_000;
const ACCUSERS_MAX = 1_024;

export class Credit {
  readonly #clock: Clock;
  /** Least recently refuted first. */
  readonly #spent = new BoundedMap<NodeId, { count: number; atMs: number }>({
    name: "accusers",
    max: ACCUSERS_MAX,
  });

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  has(accuser: NodeId): boolean {
    return this.#countOf(accuser) < CREDIT_MAX;
  }

  spend(accuser: NodeId): void {
    const count = Math.min(CREDIT_MAX, this.#countOf(accuser) + 1);
    this.#spent.renew(accuser, { count, atMs: this.#clock.monotonicMs() });
  }

  /** A node outran its accusers. Who restarted (another epoch) had really been gone. */
  onRaise(accusers: Iterable<NodeId> | undefined, from: number, to: number): void {
    if (accusers === undefined || epochOf(from) !== epochOf(to) || to <= from) return;
    for (const accuser of accusers) this.spend(accuser);
  }

  #countOf(accuser: NodeId): number {
    const spent = this.#spent.get(accuser);
    if (spent === undefined) return 0;
    return Math.max(0, spent.count - Math.floor((this.#clock.monotonicMs() - spent.atMs) / REGAIN_MS));
  }
}
