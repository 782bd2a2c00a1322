/** What the way to each neighbour costs, from what its best link measured: the router's input. */
import type { Medium } from "@godwit/sdk";
import type { Airtime } from "../../kernel/airtime.ts";
import type { TakeAirtime } from "../../route/neighbour.ts";
import type { NodeId } from "../../kernel/ids.ts";
import type { Peer } from "../../peer/peer.ts";
import { bottleneckOf, linkCost } from "../../route/cost.ts";
import { COMPACT_VERSION } from "../../wire/constants.ts";

/** Round trip assumed before the first measurement, ms. */
const RTT_GUESS_MS = { fast: 0.5, medium: 300, slow: 2_000 } as const;

export class LinkCosts {
  /** The last one of each neighbour: costs move in steps, with hysteresis. */
  readonly #last = new Map<NodeId, number>();
  #hopCostMs: number;

  readonly #airtime: Airtime;

  /** `hopCostMs` is added to each link. */
  constructor(hopCostMs: number, airtime: Airtime) {
    this.#hopCostMs = hopCostMs;
    this.#airtime = airtime;
  }

  /** Costs are measured anew by it: the caller asks for those of all neighbours. */
  setHopCost(hopCostMs: number): void {
    this.#hopCostMs = hopCostMs;
    this.#last.clear();
  }

  of(peer: Peer) {
    const link = peer.best ?? peer.links[0]!;
    const { session, rateBitsPerSecond } = link;
    const isCarried = session.isCarried === true;
    const guessMs = (isCarried && session.answerMs) || RTT_GUESS_MS[session.linkClass];
    const baseRttMs = link.isMeasured
      ? (link.rttMinMs ?? guessMs)
      : Math.min(link.rttMinMs ?? guessMs, guessMs);
    const measured = { rateBitsPerSecond, loss: 0, baseRttMs: baseRttMs + 2 * this.#hopCostMs };
    const cost = linkCost(this.#last.get(peer.id), measured);
    this.#last.set(peer.id, cost);
    return {
      cost,
      mtu: session.frameBytesMax,
      bottleneck: bottleneckOf(rateBitsPerSecond),
      profile: session.linkClass,
      rateBitsPerSecond,
      takesBulk: isCarried,
      takeAirtime: this.#takerOf(session.medium, peer.id),
      knowsPaths: session.version >= COMPACT_VERSION && !isCarried,
    };
  }

  #takerOf(medium: Medium | undefined, id: NodeId): TakeAirtime | undefined {
    if (medium === undefined) return undefined;
    return (bytes, need, by = id) => {
      const budget = this.#airtime.of(medium);
      return need === "answer"
        ? budget.takeFrameFor(by, bytes, "routing")
        : budget.takeFrame(bytes, "routing", need);
    };
  }

  forget(id: NodeId): void {
    this.#last.delete(id);
  }
}
