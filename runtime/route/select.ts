/**
 * Chooses primary and next hops of a destination among what neighbours say of it. Must never take one that is not feasible, or
 * keep one after its feasibility distance fell: table.ts says why that is all that matters for loops. Everything else here is
 * preference.
 */
import { godwitError } from "../kernel/errors.ts";
import type { Bottleneck } from "../wire/constants.ts";
import { isSameRoute, METRIC_INFINITE, UNREACHABLE, type PlaneRoute } from "../wire/route-messages.ts";
import { CHUNK_ROWS, NO_ROW, ROW_ANY, ROW_BULK, ROW_SUSPECT, type Candidates } from "./candidates.ts";
import type { NextHop } from "./decide.ts";
import { DISTRUST_COST, NEXT_HOPS_MAX, SETTLING_MS, type RouteLimits } from "./limits.ts";
import type { Neighbour } from "./neighbour.ts";
import type { Destination, PlaneName, PlaneState } from "./table.ts";

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

/** METRIC_INFINITE when the sum does not fit: strictly above `metric` otherwise, because a link costs at least 1. */
export const addCost = (metric: number, cost: number): number => Math.min(metric + cost, METRIC_INFINITE);

/**
 * Suspect or in quarantine: a dearer link to everything but the neighbour itself. Link costs are this node's own choice,
 * so that this is preference only, and what is advertised tells others to go around this node, too.
 */
export const isDistrusted = ({ id }: Destination, neighbour: Neighbour, isSuspect: boolean): boolean =>
  (neighbour.isQuarantined || isSuspect) && id !== neighbour.id;

/** Cost of what the neighbour advertises from here, METRIC_INFINITE when it cannot serve the plane. */
function totalOf(
  destination: Destination,
  plane: PlaneName,
  neighbour: Neighbour,
  isSuspect: boolean,
  metric: number,
): number {
  const { link } = neighbour;
  if (plane === "bulk" && link.bottleneck === 2) return METRIC_INFINITE;
  return addCost(metric, link.cost + (isDistrusted(destination, neighbour, isSuspect) ? DISTRUST_COST : 0));
}

const planeAt = (candidates: Candidates, { list }: Destination, row: number, plane: PlaneName): number =>
  candidates.planeAt(list, row, plane === "any" ? ROW_ANY : ROW_BULK);

/** The same, by the first row of the neighbour. */
export function totalAt(
  candidates: Candidates,
  destination: Destination,
  row: number,
  plane: PlaneName,
): number {
  const at = planeAt(candidates, destination, row, plane);
  if (at === NO_ROW) return METRIC_INFINITE;
  const metric = candidates.metricAt(at);
  return totalOf(destination, plane, candidates.neighbourAt(row), candidates.isSuspectAt(row), metric);
}

/**
 * Whether the last selection did not look twice at what the neighbour of this first row offers: it is no next hop, not the
 * cheapest infeasible one, and nothing waits for its hysteresis. Such a one may go, or come, without another selection, which
 * with 250 neighbours looks at 250. `isNew`: it was not there, or said something else, when that selection was made.
 */
export function isPassedOver(
  candidates: Candidates,
  destination: Destination,
  row: number,
  plane: PlaneName,
  isNew: boolean,
): boolean {
  const state = destination[plane];
  if (!Number.isNaN(state.betterSinceMs)) return false;
  const neighbour = candidates.neighbourAt(row);
  const { hops } = state;
  for (let i = 0; i < hops.length; i++) if (hops[i]!.neighbour === neighbour.id) return false;
  const at = planeAt(candidates, destination, row, plane);
  if (at === NO_ROW) return true;
  const metric = candidates.metricAt(at);
  const total = totalOf(destination, plane, neighbour, candidates.isSuspectAt(row), metric);
  if (!state.allows(candidates.seqnoAt(at), metric))
    return isNew ? total >= state.infeasible : total > state.infeasible;
  if (total >= METRIC_INFINITE || !isNew) return true;
  // Whatever was moved before them, the others are in their order.
  const last = hops[NEXT_HOPS_MAX - 1];
  return (
    last !== undefined && (total > last.metric || (total === last.metric && neighbour.id > last.neighbour))
  );
}

/** A feasible candidate, copied out of the columns. */
interface Ranked {
  neighbour: Neighbour | undefined;
  total: number;
  seqno: number;
  mtu: number;
  bottleneck: Bottleneck;
  isSuspect: boolean;
}

const empty = (): Ranked => ({
  neighbour: undefined,
  total: 0,
  seqno: 0,
  mtu: 0,
  bottleneck: 0,
  isSuspect: false,
});
/** Rows are ranked by the million: nothing is made anew for each. Good until the next ranking. */
const places = Array.from({ length: NEXT_HOPS_MAX }, empty);
const heldPlace = empty();
const ranked: Ranked[] = [];

/** Total order, so that equal nodes choose equally whatever came first. */
const isBetter = (total: number, neighbour: Neighbour, than: Ranked): boolean =>
  total < than.total || (total === than.total && neighbour.id < than.neighbour!.id);

/**
 * The cheapest feasible candidates, best first; at most NEXT_HOPS_MAX, and `held` among them if it is feasible. Notes what
 * the cheapest infeasible one would cost.
 */
function rank(
  candidates: Candidates,
  destination: Destination,
  plane: PlaneName,
  held: Neighbour | undefined,
): readonly Ranked[] {
  const state = destination[plane];
  const wanted = plane === "any" ? ROW_ANY : ROW_BULK;
  ranked.length = 0;
  heldPlace.neighbour = undefined;
  let infeasible = METRIC_INFINITE;
  let { chunk, rows } = destination.list;
  for (; chunk >= 0;) {
    const segment = candidates.segmentOf(chunk);
    const first = candidates.firstOf(chunk);
    const end = first + ((rows - 1) % CHUNK_ROWS) + 1;
    for (let at = first; at < end; at++) {
      const flags = segment.flags[at]!;
      if ((flags & wanted) === 0) continue;
      const neighbour = candidates.owner(segment.handle[at]!);
      const isSuspect = (flags & ROW_SUSPECT) !== 0;
      const metric = segment.metric[at]!;
      const total = totalOf(destination, plane, neighbour, isSuspect, metric);
      const seqno = segment.seqno(at);
      if (!state.allows(seqno, metric)) {
        if (total < infeasible) infeasible = total;
        continue;
      }
      if (total >= METRIC_INFINITE) continue;
      if (neighbour === held) {
        fill(heldPlace, neighbour, total, seqno, isSuspect);
        heldPlace.mtu = segment.mtu[at]!;
        heldPlace.bottleneck = segment.bottleneck(at);
      }
      const place = placeFor(total, neighbour);
      if (place === undefined) continue;
      fill(place, neighbour, total, seqno, isSuspect);
      place.mtu = segment.mtu[at]!;
      place.bottleneck = segment.bottleneck(at);
    }
    rows = CHUNK_ROWS;
    chunk = candidates.nextOf(chunk);
  }
  state.infeasible = infeasible;
  const last = ranked.length - 1;
  if (heldPlace.neighbour !== undefined && heldAt(held) < 0) ranked[last] = heldPlace;
  return ranked;
}

/** Where one of that cost stands, the worst having made room; undefined: behind all. */
function placeFor(total: number, neighbour: Neighbour): Ranked | undefined {
  let at = ranked.length;
  if (at === NEXT_HOPS_MAX && !isBetter(total, neighbour, ranked[at - 1]!)) return undefined;
  const place = at === NEXT_HOPS_MAX ? ranked[--at]! : places[at]!;
  for (; at > 0 && isBetter(total, neighbour, ranked[at - 1]!); at--) ranked[at] = ranked[at - 1]!;
  ranked[at] = place;
  return place;
}

function fill(place: Ranked, neighbour: Neighbour, total: number, seqno: number, isSuspect: boolean): void {
  place.neighbour = neighbour;
  place.total = total;
  place.seqno = seqno;
  place.isSuspect = isSuspect;
}

function heldAt(held: Neighbour | undefined): number {
  for (let at = 0; at < ranked.length; at++) if (ranked[at]!.neighbour === held) return at;
  return -1;
}

function moveToFront(at: number): void {
  const held = ranked[at]!;
  for (let to = at; to > 0; to--) ranked[to] = ranked[to - 1]!;
  ranked[0] = held;
}

/** Chooses primary and next hops of one plane from the feasible candidates. Call it whenever any input of it changed. */
export function select(
  candidates: Candidates,
  destination: Destination,
  plane: PlaneName,
  nowMs: number,
  limits: RouteLimits,
): ChangeCode {
  const state = destination[plane];
  rank(candidates, destination, plane, state.primary);
  const at = state.primary === undefined ? -1 : heldAt(state.primary);
  if (at > 0 && !maySwitch(destination, state, ranked[at]!, ranked[0]!, nowMs, limits)) moveToFront(at);
  else {
    state.betterSinceMs = state.clearSinceMs = Number.NaN;
    // It stood where a cheaper one belongs now that it is not held any more.
    if (ranked[at] === heldPlace) rank(candidates, destination, plane, undefined);
  }
  const hopsChanged = putHops(destination, plane);
  const before = state.selected;
  const fresh = selectedRoute(ranked[0], before);
  // Mostly both planes say the same, and thousands of destinations then hold one object instead of two.
  const twin = plane === "bulk" ? destination.any.selected : fresh;
  const after = isSameRoute(twin, fresh) ? twin : fresh;
  const primary = ranked[0]?.neighbour;
  const switched = state.primary !== primary;
  state.primary = primary;
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
export function retest(candidates: Candidates, destination: Destination, plane: PlaneName): boolean {
  const { primary } = destination[plane];
  rank(candidates, destination, plane, primary);
  const at = primary === undefined ? -1 : heldAt(primary);
  if (at < 0) throw godwitError("GODWIT_BUG", "the primary next hop is infeasible after advertising it");
  moveToFront(at);
  return putHops(destination, plane);
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
  if (isDistrusted(destination, held.neighbour!, held.isSuspect)) return true;
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

const mtuOf = ({ mtu, neighbour }: Ranked): number => Math.min(mtu, neighbour!.link.mtu);
const classOf = ({ bottleneck, neighbour }: Ranked): Bottleneck =>
  bottleneck > neighbour!.link.bottleneck ? bottleneck : neighbour!.link.bottleneck;

/** `before`, if it is still that. */
function selectedRoute(best: Ranked | undefined, before: PlaneRoute): PlaneRoute {
  if (best === undefined) return UNREACHABLE;
  const { seqno, total: metric } = best;
  const mtu = mtuOf(best);
  const bottleneck = classOf(best);
  const isSame =
    before.seqno === seqno &&
    before.metric === metric &&
    before.mtu === mtu &&
    before.bottleneck === bottleneck;
  return isSame ? before : { seqno, metric, mtu, bottleneck };
}

function isRanked(hops: readonly NextHop[]): boolean {
  if (hops.length !== ranked.length) return false;
  for (let i = 0; i < hops.length; i++) {
    const hop = hops[i]!;
    const entry = ranked[i]!;
    const isSame =
      hop.neighbour === entry.neighbour!.id &&
      hop.metric === entry.total &&
      hop.mtu === mtuOf(entry) &&
      hop.bottleneck === classOf(entry);
    if (!isSame) return false;
  }
  return true;
}

/** What lies behind the same neighbours comes by the frame, and thousands of destinations then hold one array. */
let lastHops: readonly NextHop[] = [];

/** Mostly both planes have the same hops, and then they share the array. */
function putHops(destination: Destination, plane: PlaneName): boolean {
  const state = destination[plane];
  if (isRanked(state.hops)) return false;
  if (plane === "bulk" && isRanked(destination.any.hops)) {
    state.hops = destination.any.hops;
    return true;
  }
  if (isRanked(lastHops)) {
    state.hops = lastHops;
    return true;
  }
  state.hops = lastHops = ranked.map((entry) => ({
    neighbour: entry.neighbour!.id,
    metric: entry.total,
    mtu: mtuOf(entry),
    bottleneck: classOf(entry),
    isDefault: false,
  }));
  return true;
}
