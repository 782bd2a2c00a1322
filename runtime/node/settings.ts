/** What the mesh is told of the configuration. */
import type { Config } from "../config/load.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { TrustLevel } from "../trust/book.ts";
import { custodyLimitsDefault, type CustodyLimits } from "../custody/context.ts";

export function limitsOf({ delivery }: Config): CustodyLimits {
  return {
    ...custodyLimitsDefault,
    lifetimeDefaultMs: delivery.lifetimeMs,
    failoverDelayMs: delivery.failoverDelayMs,
    outboxMessagesMax: delivery.outboxMessagesMax,
    outboxBytesMax: delivery.outboxBytesMax,
    transitMessagesMax: delivery.transitMessagesMax,
    transitBytesMax: delivery.transitBytesMax,
    neighbourShare: delivery.neighbourShare,
    inboxMessagesMax: delivery.inboxMessagesMax,
    inboxBytesMax: delivery.inboxBytesMax,
    inboxRetentionMs: delivery.inboxRetentionMs,
  };
}

export function trustOf({ trust }: Config): Map<NodeId, TrustLevel> {
  const levels = new Map<NodeId, TrustLevel>();
  for (const id of trust.trusted) levels.set(id, "trusted");
  for (const id of trust.blocked) levels.set(id, "blocked");
  return levels;
}
