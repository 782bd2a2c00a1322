/** Which members are worth a direct link: pure, and the same for the same facts. docs/protocol/punch.md "Whom to call" */
import type { NodeId } from "../kernel/ids.ts";

/** Direct links that calls may have made at once. */
export const PUNCHED_MAX = 16;
/** Calls begun in one round. */
export const CALLS_PER_ROUND_MAX = 2;
export const RETRY_FIRST_MS = 10_000;
export const RETRY_CAP_MS = 600_000;

export interface PunchCandidate {
  readonly id: NodeId;
  /** Bytes that this node sent that way of late. */
  readonly trafficBytes: number;
  /** Calls in a row that made no link. */
  readonly failures: number;
  readonly calledAtMs: number;
}

export interface PunchFacts {
  readonly self: NodeId;
  readonly nowMs: number;
  /** Links to nodes that were called. */
  readonly punched: number;
  /** Reachable members that are no neighbours. */
  readonly candidates: readonly PunchCandidate[];
}

export const retryAfterMs = (failures: number): number =>
  failures === 0 ? 0 : Math.min(RETRY_CAP_MS, RETRY_FIRST_MS * 2 ** Math.min(failures - 1, 16));

/**
 * Most traffic first, then by id. Of two without traffic between them the smaller id calls, so that they do not do so
 * both; whoever has something to send does not wait for the other.
 */
export function planPunches({ self, nowMs, punched, candidates }: PunchFacts): NodeId[] {
  return candidates
    .filter(({ id, trafficBytes }) => trafficBytes > 0 || self < id)
    .filter(({ failures, calledAtMs }) => nowMs - calledAtMs >= retryAfterMs(failures))
    .toSorted((a, b) => b.trafficBytes - a.trafficBytes || (a.id < b.id ? -1 : 1))
    .slice(0, Math.max(0, Math.min(CALLS_PER_ROUND_MAX, PUNCHED_MAX - punched)))
    .map(({ id }) => id);
}
