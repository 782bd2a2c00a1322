/** What the mesh is told of the configuration. */
import type { Config } from "../config/load.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { TrustLevel } from "../trust/book.ts";
import { custodyLimitsDefault, type CustodyLimits } from "../custody/context.ts";

/** Of the disk, for each of outbox, transit and inbox: what is left is for the store itself and for others. */
const DISK_SHARE = 0.25;

/** `diskBytes`: size of the disk that the state lies on, if it is known. No box is larger than a part of it, whatever was asked for. */
export function limitsOf({ delivery }: Config, diskBytes: number | undefined): CustodyLimits {
  const fitting = (bytes: number): number =>
    Math.min(bytes, Math.floor((diskBytes ?? Number.POSITIVE_INFINITY) * DISK_SHARE));
  return {
    ...custodyLimitsDefault,
    lifetimeDefaultMs: delivery.lifetimeMs,
    overdueAfterMs: delivery.overdueAfterMs,
    failoverDelayMs: delivery.failoverDelayMs,
    outboxMessagesMax: delivery.outboxMessagesMax,
    outboxBytesMax: fitting(delivery.outboxBytesMax),
    transitMessagesMax: delivery.transitMessagesMax,
    transitBytesMax: fitting(delivery.transitBytesMax),
    neighbourShare: delivery.neighbourShare,
    inboxMessagesMax: delivery.inboxMessagesMax,
    inboxBytesMax: fitting(delivery.inboxBytesMax),
    inboxRetentionMs: delivery.inboxRetentionMs,
  };
}

export function trustOf({ trust }: Config): Map<NodeId, TrustLevel> {
  const levels = new Map<NodeId, TrustLevel>();
  for (const id of trust.trusted) levels.set(id, "trusted");
  for (const id of trust.blocked) levels.set(id, "blocked");
  return levels;
}
