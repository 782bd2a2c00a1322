/**
 * When a changed setting takes effect. One table: a reload goes by it, `config explain` and docs/configuration.md show it, and the
 * types make node/live.ts have something that applies each setting that a reload changes. Pure.
 */
import type { Config } from "./load.ts";

interface OnReload {
  readonly at: "reload";
  /** Why this very change waits for the next start all the same; undefined: it does not. */
  readonly unless?: (before: Config, after: Config) => string | undefined;
  /** The same for the manual: when that is. */
  readonly exception?: string;
}

interface AtStart {
  readonly at: "start";
  /** Completes "at the next start, because ...". */
  readonly because: string;
}

/** `instances`: the plugin host builds the tables that changed anew. */
type Effect = OnReload | AtStart | { readonly at: "instances" };

interface Setting {
  /** What is compared. Of no meaning for instances. */
  readonly of: (config: Config) => unknown;
  readonly effect: Effect;
}

const onReload = (of: Setting["of"], more: Omit<OnReload, "at"> = {}) =>
  ({ of, effect: { at: "reload", ...more } }) as const;
const atStart = (of: Setting["of"], because: string) => ({ of, effect: { at: "start", because } }) as const;
const instances = { of: () => undefined, effect: { at: "instances" } } as const;

const isOpen = ({ node }: Config): boolean => node.networkSecrets.length === 0;
const OPENED = "links of an open and of a closed mesh cannot stand beside each other";

/** By the key of the file, or of the list or table that it stands in. In this order they are applied: what can fail comes first. */
export const settings = {
  "node.network_secret": onReload(({ node }) => node.networkSecrets, {
    unless: (before, after) => (isOpen(before) === isOpen(after) ? undefined : OPENED),
    exception: `the first one, or none any more: at the next start, because ${OPENED}`,
  }),
  "network.secret_overlap": onReload(({ network }) => network.secretOverlapMs),
  "network.rotate": onReload(({ network }) => network.rotate),
  "api.tokens": onReload(({ api }) => api.tokens),
  "node.callsign": atStart(
    ({ node }) => node.callsign,
    "its record, its mail and its neighbours know the node by that name for all of a life",
  ),
  "node.location": atStart(
    ({ node }) => node.location,
    "its record and its mail stand at that location for all of a life",
  ),
  "node.tags": atStart(({ node }) => node.tags, "its record says them for all of a life"),
  "node.network": atStart(
    ({ node }) => node.network,
    "links, records and seals of a life are made for one mesh",
  ),
  "node.state_dir": atStart(({ node }) => node.stateDir, "the identity and the store there are opened once"),
  "node.clock": onReload(({ node }) => node.clock),
  "node.log_level": onReload(({ node }) => node.logLevel),
  "node.log_format": onReload(({ node }) => node.logFormat),
  transports: instances,
  discovery: instances,
  services: instances,
  engines: instances,
  heal: instances,
  "api.listen": onReload(({ api }) => api.listen),
  "api.profile": atStart(({ api }) => api.isProfiled, "who may ask is settled when the API opens"),
  "api.public_read": onReload(({ api }) => api.publicRead),
  "api.socket": atStart(({ api }) => api.socket, "the command line finds the running node by it"),
  names: onReload(({ names }) => [...names].sort(([a], [b]) => (a < b ? -1 : 1))),
  "trust.trusted": onReload(({ trust }) => trust.trusted.toSorted()),
  "trust.blocked": onReload(({ trust }) => trust.blocked.toSorted()),
  "trust.promote_after": onReload(({ trust }) => trust.promoteAfterMs),
  "trust.promote_onions_after": onReload(({ trust }) => trust.promoteOnionsAfterMs),
  "trust.review_every": onReload(({ trust }) => trust.reviewMs),
  "trust.rules": onReload(({ trust }) => trust.rules),
  "peers.links_wanted": onReload(({ peers }) => peers.linksWanted),
  "peers.dial_networks": onReload(({ peers }) => peers.dialNetworks),
  "network.authority": atStart(
    ({ network }) => network.authority,
    "names, records and revocations of a life are judged by one authority as they come in",
  ),
  forwards: onReload(({ forwards }) => forwards),
  forward_allow: onReload(({ forwardAllow }) => forwardAllow),
  "delivery.lifetime": onReload(({ delivery }) => delivery.lifetimeMs),
  "delivery.overdue_after": onReload(({ delivery }) => delivery.overdueAfterMs),
  "delivery.failover_delay": onReload(({ delivery }) => delivery.failoverDelayMs),
  "delivery.outbox_messages_max": onReload(({ delivery }) => delivery.outboxMessagesMax),
  "delivery.outbox_bytes_max": onReload(({ delivery }) => delivery.outboxBytesMax),
  "delivery.transit_messages_max": onReload(({ delivery }) => delivery.transitMessagesMax),
  "delivery.transit_bytes_max": onReload(({ delivery }) => delivery.transitBytesMax),
  "delivery.neighbour_share": onReload(({ delivery }) => delivery.neighbourShare),
  "delivery.inbox_messages_max": onReload(({ delivery }) => delivery.inboxMessagesMax),
  "delivery.inbox_bytes_max": onReload(({ delivery }) => delivery.inboxBytesMax),
  "delivery.inbox_retention": onReload(({ delivery }) => delivery.inboxRetentionMs),
  "routing.hop_cost": onReload(({ routing }) => routing.hopCostMs),
  "routing.destinations_max": onReload(({ routing }) => routing.destinationsMax),
  machine: atStart(({ machine }) => machine, "PID 1 reads it when the machine boots"),
} as const satisfies Readonly<Record<string, Setting>>;

export type SettingKey = keyof typeof settings;
/** Those that a reload applies to the running node. */
export type LiveKey = {
  [Key in SettingKey]: (typeof settings)[Key]["effect"]["at"] extends "reload" ? Key : never;
}[SettingKey];

/** The setting that a key belongs to: `api.tokens[].scopes`, `api.tokens[0].scopes`, `transports.lan.listen`. Undefined: no key. */
export function settingOf(path: string): SettingKey | undefined {
  const keys = Object.keys(settings) as SettingKey[];
  return keys.find((key) => path === key || path.startsWith(`${key}.`) || path.startsWith(`${key}[`));
}

/** When a change of the key counts, as people read it: "on reload", or "at the next start, because ...". Undefined: no key. */
export function effectWords(path: string): string | undefined {
  const key = settingOf(path);
  if (key === undefined) return undefined;
  const { effect }: Setting = settings[key];
  if (effect.at === "start") return `at the next start, because ${effect.because}`;
  return effect.at === "reload" && effect.exception !== undefined
    ? `on reload; ${effect.exception}`
    : "on reload";
}
