/**
 * What a reload changes in the running node, setting by setting. Owns nothing: each part takes its own settings in anew, for what there
 * is and what comes. Which settings these are is config/effect.ts; its types refuse a row there that nothing here applies.
 */
import type { ApiServers } from "../api/server.ts";
import type { ConfiguredTokenStore } from "../api/tokens.ts";
import type { LiveKey } from "../config/effect.ts";
import type { Config } from "../config/load.ts";
import type { Mesh } from "../mesh/mesh.ts";
import type { Ground } from "./ground.ts";
import { meshSettingsOf, secretSettingsOf, tokensOf } from "./settings.ts";

export interface LiveParts {
  readonly ground: Ground;
  readonly mesh: Pick<Mesh, "configure">;
  readonly forwards: { configure(config: Config): void };
  readonly tokens: ConfiguredTokenStore;
  readonly api: Pick<ApiServers, "listenOn">;
  readonly publicRead: { configure(config: Config): void };
  /** Of the log that the node was given. */
  applyLog(node: Config["node"]): void;
}

type Apply = (config: Config) => void;

/** By setting; many are taken in by one part at once. Only secrets and tokens can throw, and then have changed nothing. */
function appliers(parts: LiveParts): Readonly<Record<LiveKey, Apply>> {
  const { ground, mesh, forwards, tokens, api, publicRead, applyLog } = parts;
  const secrets: Apply = (config) => ground.secrets.configure(secretSettingsOf(config));
  const token: Apply = (config) => tokens.configure(tokensOf(config));
  const clock: Apply = () => ground.time.check();
  const log: Apply = ({ node }) => applyLog(node);
  const core: Apply = (config) => mesh.configure(meshSettingsOf(config, ground.diskBytes));
  const listen: Apply = (config) => api.listenOn(config.api.listen);
  const forward: Apply = (config) => forwards.configure(config);
  return {
    "node.network_secret": secrets,
    "network.secret_overlap": secrets,
    "network.rotate": secrets,
    "api.tokens": token,
    "api.listen": listen,
    "api.public_read": (config) => publicRead.configure(config),
    "node.clock": clock,
    "node.log_level": log,
    "node.log_format": log,
    names: core,
    "trust.trusted": core,
    "trust.blocked": core,
    "trust.promote_after": core,
    "trust.promote_onions_after": core,
    "trust.review_every": core,
    "trust.rules": core,
    "peers.links_wanted": core,
    "peers.dial_networks": core,
    "delivery.lifetime": core,
    "delivery.overdue_after": core,
    "delivery.failover_delay": core,
    "delivery.outbox_messages_max": core,
    "delivery.outbox_bytes_max": core,
    "delivery.transit_messages_max": core,
    "delivery.transit_bytes_max": core,
    "delivery.neighbour_share": core,
    "delivery.inbox_messages_max": core,
    "delivery.inbox_bytes_max": core,
    "delivery.inbox_retention": core,
    "routing.hop_cost": core,
    "routing.destinations_max": core,
    forwards: forward,
    forward_allow: forward,
  };
}

/** What applies the changed settings of a configuration to these parts, each part once. Throws what they throw. */
export function liveSettings(parts: LiveParts): (changed: readonly LiveKey[], config: Config) => void {
  const table = appliers(parts);
  const { inForce } = parts.ground;
  return (changed, config) => {
    const before = inForce.config;
    inForce.config = config;
    try {
      for (const apply of new Set(changed.map((key) => table[key]))) apply(config);
    } catch (error) {
      inForce.config = before;
      throw error;
    }
  };
}
