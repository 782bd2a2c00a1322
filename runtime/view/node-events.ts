/** What happens at the node, in the words of the API, for whoever subscribes. Owns the translation; keeps no event. */
import type { Clock } from "@godwit/sdk";
import { isoTime } from "../kernel/clock.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { Heard } from "../kernel/hub.ts";
import type { MeshEvents } from "../mesh/events.ts";
import type { RunningPlugin } from "../plugin/host/instance.ts";
import type { NodeEvent } from "./contract/node.ts";
import { memberEvent } from "./members.ts";
import { progressNumbers } from "./progress.ts";

/** All that the hub of a whole node tells. */
export interface HubEvents extends MeshEvents {
  pluginHealth: RunningPlugin;
  /** The sockets or endpoints of some transport are others. */
  listeningChanged: undefined;
  /** Bytes that are missing before mail is taken, told when room went; 0 when it came back. */
  storeRoom: number;
  /** A row of the store that the disk damaged: it is there no more. */
  storeDamaged: { readonly in: string; readonly key: string };
  /** Somebody here asked what a name means. */
  nameResolved: { readonly name: string; readonly id: NodeId };
}

type Words = { readonly what: string; readonly data: NodeEvent["data"] };
type Translation<Event> = readonly [family: NodeEvent["family"], words: (event: Event) => Words];
type Translations = { readonly [Kind in keyof HubEvents]: Translation<HubEvents[Kind]> | undefined };

const says = (what: string, data: NodeEvent["data"]): Words => ({ what, data });

/** Undefined: no event of the API. */
const translations: Translations = {
  peerUp: ["peer", ({ id }) => says("up", { id })],
  peerDown: ["peer", ({ peer, reason }) => says("down", { id: peer.id, reason })],
  linkUp: ["link", ({ peer, endpoint }) => says("up", { id: peer.id, endpoint })],
  linkDown: ["link", ({ peer, endpoint, reason }) => says("down", { id: peer.id, endpoint, reason })],
  routeChanged: [
    "route",
    ({ destination, isReachable }) => says("changed", { destination, reachable: isReachable }),
  ],
  recordChanged: undefined,
  namesChanged: undefined,
  revoked: ["peer", ({ id, signer, reason }) => says("revoked", { id, by: signer, reason: reason ?? null })],
  trustChanged: ["peer", ({ id, grant: { level, reason, by } }) => says("trust", { id, level, reason, by })],
  onionConsidered: [
    "peer",
    ({ id, onion: { endpoint, source }, reason }) => says("considered", { id, endpoint, source, reason }),
  ],
  peerQuarantined: [
    "peer",
    ({ neighbour, reason, forMs }) =>
      says("quarantined", { id: neighbour, reason, seconds: Math.round(forMs / 1_000) }),
  ],
  peerRestored: ["peer", (id) => says("restored", { id })],
  lostDelivery: [
    "peer",
    ({ neighbour, destination }) => says("lost_delivery", { id: neighbour, destination }),
  ],
  honestRoute: ["peer", ({ neighbour, destination }) => says("honest_route", { id: neighbour, destination })],
  hintHeard: [
    "discovery",
    ({ source, endpoint, nodeId }) => says("hint", { source, endpoint, id: nodeId ?? null }),
  ],
  joined: ["join", ({ id, inviteId, callsign }) => says("joined", { id, invite: inviteId, callsign })],
  inviteConflict: [
    "join",
    ({ inviteId, redeemers }) => says("conflict", { invite: inviteId, nodes: redeemers.join(" ") }),
  ],
  memberForgotten: undefined,
  memberChanged: ["member", ({ row, previous }) => says(row.state, memberEvent(row, previous))],
  identityDoubled: ["peer", ({ id, state }) => says("double", { id, state })],
  storeBehind: ["peer", (id) => says("behind", { id })],
  clockChanged: ["clock", ({ state, reason }) => says(state, { reason })],
  nameConflict: ["name", ({ name, holder, claimant }) => says("conflict", { name, holder, claimant })],
  nameResolved: ["name", ({ name, id }) => says("resolved", { name, id })],
  delivered: ["message", ({ entry: { id, from, to, size } }) => says("received", { id, from, to, size })],
  outboxChanged: ["message", ({ state, id, to, reason }) => says(state, { id, to, reason })],
  outboxProgress: ["message", ({ id, ...progress }) => says("sending", { id, ...progressNumbers(progress) })],
  storeRoom: [
    "store",
    (missingBytes) => says(missingBytes > 0 ? "full" : "room", { missing_bytes: missingBytes }),
  ],
  storeDamaged: ["store", ({ in: collection, key }) => says("damaged", { collection, key })],
  listeningChanged: undefined,
  pluginHealth: [
    "plugin",
    ({ instance: { name, type }, health: { state, reason } }) =>
      says("health", { name, type, state, reason: reason ?? null }),
  ],
};

export class NodeEvents {
  readonly #listeners = new Set<(event: NodeEvent) => void>();
  readonly #clock: Clock;

  constructor(hub: Heard<HubEvents>, clock: Clock) {
    this.#clock = clock;
    for (const kind of Object.keys(translations) as (keyof HubEvents)[]) this.#translate(hub, kind);
  }

  subscribe(onEvent: (event: NodeEvent) => void): { close(): void } {
    // A wrapper of its own, so that one function subscribed twice is two subscriptions.
    const listener = (event: NodeEvent) => onEvent(event);
    this.#listeners.add(listener);
    return { close: () => void this.#listeners.delete(listener) };
  }

  #translate<Kind extends keyof HubEvents>(hub: Heard<HubEvents>, kind: Kind): void {
    const translation = translations[kind];
    if (translation === undefined) return;
    const [family, words] = translation;
    hub.on(kind, (told) => {
      if (this.#listeners.size === 0) return;
      const { what, data } = words(told);
      const event: NodeEvent = { family, type: `${family}.${what}`, at: isoTime(this.#clock.wallMs()), data };
      for (const listener of [...this.#listeners]) listener(event);
    });
  }
}
