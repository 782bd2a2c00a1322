/** Which neighbours a bundle in custody was given to, which refused it, and the one way of a test bundle. Pure. */
import type { NodeId } from "../../kernel/ids.ts";
import { urgencyOfBundle } from "../../wire/urgency.ts";
import type { Carrier, Holding, HopChoice } from "../context.ts";

/** Most neighbours remembered as holding a copy; more than four next hops at once there are not. */
const OFFERED_TO_MAX = 8;
const PINNED_RETRY_MS = 1_000;

export function noteOffered(holding: Holding, to: NodeId): void {
  if (holding.offeredTo?.includes(to) === true) return;
  const last = holding.offeredTo?.slice(1 - OFFERED_TO_MAX) ?? [];
  holding.offeredTo = [...last, to];
}

/** The way of a bundle that may take only one. */
export const pinned = (carrier: Carrier, { via, refusedBy }: Holding, nowMs: number): HopChoice =>
  carrier.isConnected(via!) && (refusedBy?.get(via!) ?? 0) <= nowMs
    ? { kind: "forward", to: via! }
    : { kind: "wait", reason: "the neighbour under test is not there" };

/** A test bundle that cannot go now steps aside, so that mail to the same destination is not held up: until when. */
export const whenPinned = ({ via }: Holding, nowMs: number): number | undefined =>
  via === undefined ? undefined : nowMs + PINNED_RETRY_MS;

export function earliestAfter(
  refusedBy: ReadonlyMap<NodeId, number> | undefined,
  nowMs: number,
): number | undefined {
  let earliest: number | undefined;
  for (const untilMs of refusedBy?.values() ?? []) {
    if (untilMs > nowMs && (earliest === undefined || untilMs < earliest)) earliest = untilMs;
  }
  return earliest;
}

/** The neighbour that routing prefers among those that did not refuse it lately. */
export function chosen(carrier: Carrier, holding: Holding, nowMs: number): HopChoice {
  const { sealedBytes: bytes, arrivedFrom, header, relayedTo } = holding;
  return carrier.nextHop(
    { destination: header.destination, arrivedFrom, bytes, urgency: urgencyOfBundle(header) },
    (id) => (holding.refusedBy?.get(id) ?? 0) > nowMs,
    relayedTo,
  );
}
