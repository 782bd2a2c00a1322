/**
 * Where one packet or bundle goes next. Pure: the whole of the forwarding policy as a function of its arguments, so that
 * it can be tested as a table. Every hop it is given is feasible at this instant, so choosing among them by queue delay
 * cannot make a loop. docs/protocol/routing.md "Forwarding".
 */
import type { NodeId } from "../kernel/ids.ts";
import type { Bottleneck } from "../wire/constants.ts";
import type { Plane } from "../wire/packet.ts";

export interface NextHop {
  readonly neighbour: NodeId;
  /** Cost to the destination over this neighbour, 0.1 ms units. */
  readonly metric: number;
  /** Smallest frame limit of the path, bytes. */
  readonly mtu: number;
  readonly bottleneck: Bottleneck;
  /** An edge node's way into the mesh: only for what starts here, never for what came from a neighbour. */
  readonly isDefault: boolean;
}

export interface ForwardRequest {
  readonly destination: NodeId;
  readonly self: NodeId;
  /** Hops that may still follow; 0 delivers here or nowhere. */
  readonly hopsLeft: number;
  /** Undefined: it starts here. */
  readonly arrivedFrom: NodeId | undefined;
  /** Bytes that must fit a frame of the whole path; 0 when it will be cut to fit. */
  readonly size: number;
  readonly plane: Plane;
  /** A bundle in custody is parked where a packet is dropped. */
  readonly isCustody: boolean;
}

export type ForwardReason = "hop-limit" | "no-route" | "too-big";
export type ForwardDecision =
  | { readonly kind: "deliver" }
  | { readonly kind: "forward"; readonly to: NodeId }
  | { readonly kind: "park"; readonly reason: ForwardReason }
  | { readonly kind: "drop"; readonly reason: ForwardReason };

const DELIVER: ForwardDecision = { kind: "deliver" };

/**
 * `nextHops` best first, all feasible. `queueDelay` answers a neighbour's present send delay in 0.1 ms units. A hop
 * behind the best one is taken only when its metric plus delay is strictly smaller.
 */
export function decideForward(
  request: ForwardRequest,
  nextHops: readonly NextHop[],
  queueDelay: (neighbour: NodeId) => number,
): ForwardDecision {
  if (request.destination === request.self) return DELIVER;
  if (request.hopsLeft <= 0) return halt(request, "hop-limit");
  let best: NextHop | undefined;
  let bestCost = Number.POSITIVE_INFINITY;
  let wayBack: NextHop | undefined;
  let sawTooSmall = false;
  for (const hop of nextHops) {
    if (hop.isDefault && request.arrivedFrom !== undefined) continue;
    if (hop.mtu < request.size) {
      sawTooSmall = true;
      continue;
    }
    if (hop.neighbour === request.arrivedFrom) {
      wayBack = hop;
      continue;
    }
    const cost = hop.metric + roundDelay(queueDelay(hop.neighbour));
    if (cost < bestCost) {
      best = hop;
      bestCost = cost;
    }
  }
  // Two nodes are never each other's feasible hop at one instant, so a way back as the only way means that the route
  // turned while this was under way: going back is progress, not a loop, and the hop limit still counts it.
  best ??= wayBack;
  if (best !== undefined) return { kind: "forward", to: best.neighbour };
  return halt(request, sawTooSmall ? "too-big" : "no-route");
}

const halt = ({ isCustody }: ForwardRequest, reason: ForwardReason): ForwardDecision => ({
  kind: isCustody ? "park" : "drop",
  reason,
});

/** Down to a power of two: small changes of a queue must not move traffic to and fro. */
function roundDelay(units: number): number {
  return units < 1 ? 0 : 2 ** Math.floor(Math.log2(units));
}
