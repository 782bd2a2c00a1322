/**
 * The routing table and its invariants. Owns destinations and their feasibility distances (candidates.ts: what neighbours say
 * of them; select.ts: the choice among these); must never send, wait or look at a clock. docs/protocol/routing.md is normative, after RFC 8966 sections 3.5 and 3.7.
 *
 * Why it is loop-free: a feasibility distance (FD) is at least as good as everything this node ever advertised for the
 * destination, because `advertise` lowers it before the bytes leave, and it never gets worse. A candidate is a next hop
 * only while what that neighbour advertised is strictly better than our FD. The neighbour's own FD is at least as good
 * as what it advertised, so FDs strictly fall along next hops, in any order of messages. Everything else is preference.
 */
import type { NodeId } from "../kernel/ids.ts";
import { nodeIdBytes } from "../kernel/ids.ts";
import {
  destinationDigest,
  METRIC_INFINITE,
  UNREACHABLE,
  type PlaneRoute,
  type SeqnoProof,
} from "../wire/route-messages.ts";
import { Candidates, noRows } from "./candidates.ts";
import type { NextHop } from "./decide.ts";
import type { Neighbour } from "./neighbour.ts";

export type PlaneName = "any" | "bulk";
export const planeNames: readonly PlaneName[] = ["any", "bulk"];

const NO_HOPS: readonly NextHop[] = [];

/** One plane of one destination. */
export class PlaneState {
  /** Feasibility distance; -1: none, everything finite is feasible. */
  fdSeqno = -1;
  fdMetric = METRIC_INFINITE;
  primary: Neighbour | undefined = undefined;
  /** What this node would advertise now: the primary with its link added. */
  selected: PlaneRoute = UNREACHABLE;
  /** Best first; a new array whenever anything in it changes. */
  hops: readonly NextHop[] = NO_HOPS;
  /** Since when a cheaper primary has been waiting for its hysteresis; NaN: none is. */
  betterSinceMs = Number.NaN;
  /** Since when it has been cheaper by the whole margin; NaN: it is not. */
  clearSinceMs = Number.NaN;
  /** Total of the cheapest infeasible candidate at the last selection: what a newer number would give. */
  infeasible = METRIC_INFINITE;

  isFeasible(route: PlaneRoute): boolean {
    return route.metric < METRIC_INFINITE && this.allows(route.seqno, route.metric);
  }

  /** Of a finite metric: it is strictly better than all that was advertised. */
  allows(seqno: number, metric: number): boolean {
    return seqno > this.fdSeqno || (seqno === this.fdSeqno && metric < this.fdMetric);
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
  /** Of each neighbour that ever said something, in `RouteTable.candidates`; order has no meaning. */
  readonly list = noRows();
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

  get isReachable(): boolean {
    return this.any.primary !== undefined || this.bulk.primary !== undefined;
  }
}

/** Destinations by id and by slot; slots are small integers that per-neighbour columns are indexed by. */
export class RouteTable {
  readonly candidates = new Candidates();
  readonly #byId = new Map<NodeId, Destination>();
  readonly #bySlot: (Destination | undefined)[] = [];
  readonly #freeSlots: number[] = [];
  readonly #destinationsMax: () => number;

  constructor(destinationsMax: () => number) {
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
    return this.#byId.size >= this.#destinationsMax();
  }

  /** The caller has checked `isFull`, or has its own bound (direct neighbours, self), and resets columns at the slot. */
  add(id: NodeId, nowMs: number): Destination {
    const slot = this.#freeSlots.pop() ?? this.#bySlot.length;
    const destination = new Destination(id, slot, nowMs);
    this.#byId.set(id, destination);
    this.#bySlot[slot] = destination;
    return destination;
  }

  /** Neighbours that ever said something of the destination and have not gone. */
  tellersOf({ list }: Destination): Neighbour[] {
    const tellers: Neighbour[] = [];
    this.candidates.forEach(list, (row) => void tellers.push(this.candidates.neighbourAt(row)));
    return tellers;
  }

  remove(destination: Destination): void {
    this.#byId.delete(destination.id);
    this.#bySlot[destination.slot] = undefined;
    this.#freeSlots.push(destination.slot);
  }
}
