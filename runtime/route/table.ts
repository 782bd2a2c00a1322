/**
 * The routing table and its invariants. Owns candidates, feasibility distances and the choice of next hops; must never
 * send, wait or look at a clock. docs/protocol/routing.md is normative, after RFC 8966 sections 3.5 and 3.7.
 *
 * Why it is loop-free: a feasibility distance (FD) is at least as good as everything this node ever advertised for the
 * destination, because `advertise` lowers it before the bytes leave, and it never gets worse. A candidate is a next hop
 * only while what that neighbour advertised is strictly better than our FD. The neighbour's own FD is at least as good
 * as what it advertised, so FDs strictly fall along next hops, in any order of messages. Everything else is preference.
 */
import { godwitError } from "../kernel/errors.ts";
import type { NodeId } from "../kernel/ids.ts";
import { nodeIdBytes } from "../kernel/ids.ts";
import {
  destinationDigest,
  isSameRoute,
  METRIC_INFINITE,
  UNREACHABLE,
  type PlaneRoute,
  type SeqnoProof,
} from "../wire/route-messages.ts";
import type { NextHop } from "./decide.ts";
import { DISTRUST_COST, NEXT_HOPS_MAX, SETTLING_MS, type RouteLimits } from "./limits.ts";
import type { Neighbour } from "./neighbour.ts";

export type PlaneName = "any" | "bulk";
export const planeNames: readonly PlaneName[] = ["any", "bulk"];

/** What one neighbour advertises for one destination. Kept as a tombstone after a retraction, for its serial. */
export interface Candidate {
  readonly neighbour: Neighbour;
  /** Serial of the update that said so: an older one arriving late changes nothing. */
  serial: number;
  any: PlaneRoute;
  bulk: PlaneRoute;
  /** Mail handed to it for this destination is missing, and a trial is on. */
  isSuspect?: boolean;
}

const NO_HOPS: readonly NextHop[] = [];

/** One plane of one destination. */
export class PlaneState {
  /** Feasibility distance; -1: none, everything finite is feasible. */
  fdSeqno = -1;
  fdMetric = METRIC_INFINITE;
  primary: Candidate | undefined = undefined;
  /** What this node would advertise now: the primary with its link added. */
  selected: PlaneRoute = UNREACHABLE;
  /** Best first; a new array whenever anything in it changes. */
  hops: readonly NextHop[] = NO_HOPS;
  /** Since when a cheaper primary has been waiting for its hysteresis; NaN: none is. */
  betterSinceMs = Number.NaN;
  /** Since when it has been cheaper by the whole margin; NaN: it is not. */
  clearSinceMs = Number.NaN;

  isFeasible(route: PlaneRoute): boolean {
    if (route.metric >= METRIC_INFINITE) return false;
    return route.seqno > this.fdSeqno || (route.seqno === this.fdSeqno && route.metric < this.fdMetric);
  }

  /**
   * Lowers the FD to what is about to be advertised; true when it changed, and then every next hop must be tested again
   * (`select`) before anything else happens.
   */
  advertise(route: PlaneRoute): boolean {
    if (route.seqno < this.fdSeqno) return false;
    if (route.seqno === this.fdSeqno && route.metric >= this.fdMetric) return false;
    this.fdSeqno = route.seqno;
    this.fdMetric = route.metric;
    return true;
  }
}

export class Destination {
  readonly id: NodeId;
  readonly slot: number;
  readonly digestHash: number;
  /** The low four bits of the first byte of the id. */
  readonly bucket: number;
  /** One per neighbour that ever said something; order has no meaning. */
  readonly candidates: Candidate[] = [];
  readonly any = new PlaneState();
  readonly bulk = new PlaneState();
  /** Newest sequence number that the originator is known to have issued; -1: none. */
  verifiedSeqno = -1;
  /** The proof of it, to be handed on. Undefined for a slow neighbour known by its session alone. */
  proof: SeqnoProof | undefined = undefined;
  reachableSinceMs = Number.NaN;
  unreachableSinceMs: number;

  constructor(id: NodeId, slot: number, nowMs: number) {
    this.id = id;
    this.slot = slot;
    this.digestHash = destinationDigest(nodeIdBytes(id));
    this.bucket = nodeIdBytes(id)[0]! & 15;
    this.unreachableSinceMs = nowMs;
  }

  candidateOf(neighbour: Neighbour): Candidate | undefined {
    const { candidates } = this;
    for (let i = 0; i < candidates.length; i++)
      if (candidates[i]!.neighbour === neighbour) return candidates[i];
    return undefined;
  }

  /** Forgets all that the neighbour said; answers whether it had said anything reachable. The caller selects anew. */
  dropCandidate(neighbour: Neighbour): boolean {
    const { candidates } = this;
    for (let i = 0; i < candidates.length; i++) {
      const candidate = candidates[i]!;
      if (candidate.neighbour !== neighbour) continue;
      candidates[i] = candidates[candidates.length - 1]!;
      candidates.pop();
      neighbour.rows--;
      return candidate.any !== UNREACHABLE || candidate.bulk !== UNREACHABLE;
    }
    return false;
  }

  get isReachable(): boolean {
    return this.any.primary !== undefined || this.bulk.primary !== undefined;
  }
}

/** What `select` found to have changed on one plane, most urgent first. */
export const Change = {
  none: 0,
  /** Only alternates: nothing to tell anybody. */
  hops: 1,
  /** Cheaper, or only a newer sequence number. */
  decrease: 2,
  /** Dearer, another mtu or class; a first route. */
  soon: 3,
  /** No feasible route any more. */
  retracted: 4,
} as const;
export type ChangeCode = (typeof Change)[keyof typeof Change];

/** METRIC_INFINITE when the sum does not fit: strictly above `route.metric` otherwise, because a link costs at least 1. */
export function addCost(route: PlaneRoute, cost: number): number {
  return Math.min(route.metric + cost, METRIC_INFINITE);
}

/**
 * Suspect or in quarantine: a dearer link to everything but the neighbour itself. Link costs are this node's own choice,
 * so that this is preference only, and what is advertised tells others to go around this node, too.
 */
export const isDistrusted = ({ id }: Destination, { neighbour, isSuspect }: Candidate): boolean =>
  id !== neighbour.id && (neighbour.isQuarantined || isSuspect === true);

/** Cost of the candidate on that plane from here, METRIC_INFINITE when it cannot serve it. */
export function totalMetric(destination: Destination, candidate: Candidate, plane: PlaneName): number {
  const { neighbour } = candidate;
  if (plane === "bulk" && neighbour.link.bottleneck === 2) return METRIC_INFINITE;
  const cost = neighbour.link.cost + (isDistrusted(destination, candidate) ? DISTRUST_COST : 0);
  return addCost(plane === "any" ? candidate.any : candidate.bulk, cost);
}

interface Ranked {
  readonly candidate: Candidate;
  readonly total: number;
}

/** Total order, so that equal nodes choose equally whatever came first. */
const isBetter = (a: Ranked, b: Ranked): boolean =>
  a.total < b.total || (a.total === b.total && a.candidate.neighbour.id < b.candidate.neighbour.id);

/** The cheapest feasible candidates, best first; at most NEXT_HOPS_MAX, and `sticky` among them if it is feasible. */
function rank(destination: Destination, plane: PlaneName, sticky: Candidate | undefined): Ranked[] {
  const state = destination[plane];
  const ranked: Ranked[] = [];
  for (const candidate of destination.candidates) {
    if (!state.isFeasible(candidate[plane])) continue;
    const entry = { candidate, total: totalMetric(destination, candidate, plane) };
    if (entry.total >= METRIC_INFINITE) continue;
    let at = ranked.length;
    while (at > 0 && isBetter(entry, ranked[at - 1]!)) at--;
    if (at < NEXT_HOPS_MAX || candidate === sticky) ranked.splice(at, 0, entry);
    if (ranked.length > NEXT_HOPS_MAX)
      ranked.splice(ranked[NEXT_HOPS_MAX]!.candidate === sticky ? NEXT_HOPS_MAX - 1 : NEXT_HOPS_MAX, 1);
  }
  return ranked;
}

/** Chooses primary and next hops of one plane from the feasible candidates. Call it whenever any input of it changed. */
export function select(
  destination: Destination,
  plane: PlaneName,
  nowMs: number,
  limits: RouteLimits,
): ChangeCode {
  const state = destination[plane];
  const ranked = rank(destination, plane, state.primary);
  const heldAt = ranked.findIndex((entry) => entry.candidate === state.primary);
  if (heldAt > 0 && !maySwitch(destination, state, ranked[heldAt]!, ranked[0]!, nowMs, limits)) {
    const [held] = ranked.splice(heldAt, 1);
    ranked.unshift(held!);
  } else state.betterSinceMs = state.clearSinceMs = Number.NaN;
  const hopsChanged = putHops(destination, plane, ranked);
  const before = state.selected;
  const fresh = selectedRoute(ranked[0], plane);
  // Mostly both planes say the same, and thousands of destinations then hold one object instead of two.
  const twin = plane === "bulk" ? destination.any.selected : fresh;
  const after = isSameRoute(twin, fresh) ? twin : fresh;
  const switched = state.primary !== ranked[0]?.candidate;
  state.primary = ranked[0]?.candidate;
  if (isSameRoute(before, after)) return switched || hopsChanged ? Change.hops : Change.none;
  state.selected = after;
  if (after === UNREACHABLE) return Change.retracted;
  // A newer number alone is no news to anybody but those who asked for it, and they are told at once; flooding every
  // raise with haste would cost a large mesh more than the cut that caused it.
  const isDecrease =
    after.metric <= before.metric &&
    before.metric < METRIC_INFINITE &&
    after.mtu === before.mtu &&
    after.bottleneck === before.bottleneck;
  return isDecrease ? Change.decrease : Change.soon;
}

/**
 * The FD has just been lowered: next hops that are no longer strictly better go at once. The primary stays, because its
 * own advertisement plus a link of at least 1 is what the FD was lowered to. Answers whether any hop changed.
 */
export function retest(destination: Destination, plane: PlaneName): boolean {
  const state = destination[plane];
  const ranked = rank(destination, plane, state.primary);
  const heldAt = ranked.findIndex((entry) => entry.candidate === state.primary);
  if (heldAt < 0) throw godwitError("GODWIT_BUG", "the primary next hop is infeasible after advertising it");
  const [held] = ranked.splice(heldAt, 1);
  ranked.unshift(held!);
  return putHops(destination, plane, ranked);
}

function maySwitch(
  destination: Destination,
  state: PlaneState,
  held: Ranked,
  best: Ranked,
  nowMs: number,
  limits: RouteLimits,
): boolean {
  // Not a matter of taste: what is handed to the held one is lost.
  if (isDistrusted(destination, held.candidate)) return true;
  if (limits.switchRatio <= 1 && limits.switchUnits <= 0) return true;
  const isCheaper = best.total + limits.switchUnits <= held.total;
  const isClear = isCheaper && best.total * limits.switchRatio <= held.total;
  if (isClear && nowMs - destination.reachableSinceMs < SETTLING_MS) return true;
  state.betterSinceMs = isCheaper ? since(state.betterSinceMs, nowMs) : Number.NaN;
  state.clearSinceMs = isClear ? since(state.clearSinceMs, nowMs) : Number.NaN;
  return (
    nowMs - state.clearSinceMs >= limits.switchSustainMs ||
    nowMs - state.betterSinceMs >= limits.switchSteadyMs
  );
}

const since = (sinceMs: number, nowMs: number): number => (Number.isNaN(sinceMs) ? nowMs : sinceMs);

function selectedRoute(best: Ranked | undefined, plane: PlaneName): PlaneRoute {
  if (best === undefined) return UNREACHABLE;
  const { link } = best.candidate.neighbour;
  const route = best.candidate[plane];
  return {
    seqno: route.seqno,
    metric: best.total,
    mtu: Math.min(route.mtu, link.mtu),
    bottleneck: route.bottleneck > link.bottleneck ? route.bottleneck : link.bottleneck,
  };
}

function matches(hops: readonly NextHop[], plane: PlaneName, ranked: readonly Ranked[]): boolean {
  if (hops.length !== ranked.length) return false;
  for (let i = 0; i < hops.length; i++) {
    const hop = hops[i]!;
    const { candidate, total } = ranked[i]!;
    const { id, link } = candidate.neighbour;
    const route = candidate[plane];
    const isSame =
      hop.neighbour === id &&
      hop.metric === total &&
      hop.mtu === Math.min(route.mtu, link.mtu) &&
      hop.bottleneck === Math.max(route.bottleneck, link.bottleneck);
    if (!isSame) return false;
  }
  return true;
}

/** Mostly both planes have the same hops, and then they share the array. */
function putHops(destination: Destination, plane: PlaneName, ranked: readonly Ranked[]): boolean {
  const state = destination[plane];
  const twin = plane === "bulk" ? destination.any : undefined;
  const isSame = matches(state.hops, plane, ranked);
  if (isSame) return false;
  if (twin !== undefined && matches(twin.hops, plane, ranked)) {
    state.hops = twin.hops;
    return true;
  }
  state.hops = ranked.map((entry) => {
    const { mtu, bottleneck } = selectedRoute(entry, plane);
    const { neighbour } = entry.candidate;
    return { neighbour: neighbour.id, metric: entry.total, mtu, bottleneck, isDefault: false };
  });
  return true;
}

/** Destinations by id and by slot; slots are small integers that per-neighbour columns are indexed by. */
export class RouteTable {
  readonly #byId = new Map<NodeId, Destination>();
  readonly #bySlot: (Destination | undefined)[] = [];
  readonly #freeSlots: number[] = [];
  readonly #destinationsMax: number;

  constructor(destinationsMax: number) {
    this.#destinationsMax = destinationsMax;
  }

  get size(): number {
    return this.#byId.size;
  }

  /** One above the largest slot ever given out. */
  get slots(): number {
    return this.#bySlot.length;
  }

  get(id: NodeId): Destination | undefined {
    return this.#byId.get(id);
  }

  at(slot: number): Destination | undefined {
    return this.#bySlot[slot];
  }

  values(): IterableIterator<Destination> {
    return this.#byId.values();
  }

  get isFull(): boolean {
    return this.#byId.size >= this.#destinationsMax;
  }

  /** The caller has checked `isFull`, or has its own bound (direct neighbours, self), and resets columns at the slot. */
  add(id: NodeId, nowMs: number): Destination {
    const slot = this.#freeSlots.pop() ?? this.#bySlot.length;
    const destination = new Destination(id, slot, nowMs);
    this.#byId.set(id, destination);
    this.#bySlot[slot] = destination;
    return destination;
  }

  remove(destination: Destination): void {
    this.#byId.delete(destination.id);
    this.#bySlot[destination.slot] = undefined;
    this.#freeSlots.push(destination.slot);
  }
}
