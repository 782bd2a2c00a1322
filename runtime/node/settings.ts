/** What the parts of a node are told of its configuration, at the start and by a reload. */
import type { ConfiguredToken } from "../api/tokens.ts";
import type { SecretSettings } from "../closed/secrets.ts";
import type { Config } from "../config/load.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { MeshSettings } from "../mesh/deps.ts";
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

/** What the mesh takes in anew by a reload, too. */
export const meshSettingsOf = (config: Config, diskBytes: number | undefined): MeshSettings => ({
  limits: limitsOf(config, diskBytes),
  names: config.names,
  trust: trustOf(config),
  trustRules: config.trust.rules,
  promoteAfterMs: config.trust.promoteAfterMs,
  promoteOnionsAfterMs: config.trust.promoteOnionsAfterMs,
  reviewMs: config.trust.reviewMs,
  linksWanted: config.peers.linksWanted,
  dialNetworks: config.peers.dialNetworks,
  destinationsMax: config.routing.destinationsMax,
  hopCostMs: config.routing.hopCostMs,
});

/** What the network secrets take in anew by a reload, too. */
export const secretSettingsOf = ({ node, network }: Config): SecretSettings => ({
  configured: node.networkSecrets.map((secret) => secret.reveal()),
  policy: network.rotate,
  overlapMs: network.secretOverlapMs,
});

export const tokensOf = ({ api }: Config): ConfiguredToken[] =>
  api.tokens.map(({ secret, scopes, label }) => ({ secret: secret.reveal(), scopes, label }));

function trustOf({ trust }: Config): Map<NodeId, TrustLevel> {
  const levels = new Map<NodeId, TrustLevel>();
  for (const id of trust.trusted) levels.set(id, "trusted");
  for (const id of trust.blocked) levels.set(id, "blocked");
  return levels;
}
