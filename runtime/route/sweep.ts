/**
 * Forgets what is gone: retractions of neighbours that outlived a hold time, and then the destinations that nobody offers, with their
 * feasibility distances. Must never forget one while anybody may still go by what this node told of it. docs/protocol/routing.md "The rule
 * that prevents loops"
 */
import type { Timer } from "@godwit/sdk";
import type { RouteCore } from "./core.ts";
import type { Neighbour } from "./neighbour.ts";
import type { Destination } from "./table.ts";

interface SweepDeps {
  /** What was told of it lasts still, whoever acknowledged what. */
  holds(destination: Destination): boolean;
  forget(destination: Destination): void;
}

export class Sweep {
  readonly #core: RouteCore;
  readonly #deps: SweepDeps;
  #timer: Timer | undefined;

  constructor(core: RouteCore, deps: SweepDeps) {
    this.#core = core;
    this.#deps = deps;
  }

  /** Something may have to go when a hold time is over. */
  arm(): void {
    this.#timer ??= this.#core.after(this.#core.limits.holdMs, () => {
      this.#timer = undefined;
      this.#sweep();
    });
  }

  /** Tombstones that outlived a whole period go, and with the last of them the feasibility distances. */
  #sweep(): void {
    let remaining = 0;
    for (const destination of this.#core.table.values()) {
      if (destination === this.#core.self) continue;
      remaining += this.#sweepTombstones(destination);
      if (destination.isReachable) continue;
      if (!this.#isForgettable(destination)) {
        remaining++;
        continue;
      }
      this.#deps.forget(destination);
    }
    for (const neighbour of this.#core.neighbours.values()) neighbour.sweptSerial = neighbour.newestSerial;
    if (remaining > 0) this.arm();
  }

  /** Answers how many tombstones are too young to go. */
  #sweepTombstones(destination: Destination): number {
    const { candidates } = this.#core.table;
    let young = 0;
    const old: Neighbour[] = [];
    candidates.forEach(destination.list, (row) => {
      if (!candidates.isRetractedAt(row)) return;
      const neighbour = candidates.neighbourAt(row);
      if (candidates.serialAt(row) > neighbour.sweptSerial) young++;
      else old.push(neighbour);
    });
    for (const neighbour of old) candidates.drop(destination.list, neighbour);
    return young;
  }

  /** Nobody offers it, the hold time is over, and every neighbour has acknowledged that it is gone. */
  #isForgettable(destination: Destination): boolean {
    if (destination.list.rows > 0 || this.#deps.holds(destination)) return false;
    if (this.#core.now() - destination.unreachableSinceMs < this.#core.limits.holdMs) return false;
    for (const neighbour of this.#core.neighbours.values())
      if (neighbour.wasTold(destination.slot) || neighbour.isUnderWay(destination.slot)) return false;
    return true;
  }

  close(): void {
    this.#timer?.cancel();
  }
}
