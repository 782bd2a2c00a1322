/** Where the events of a mesh go: to the hub, to plugins that listen, to the closed mesh. */
import { godwitError } from "../kernel/errors.ts";
import type { MeshEvents } from "../mesh/deps.ts";
import type { ClosedMesh } from "../closed/closed-mesh.ts";
import { memberEvent } from "../view/members.ts";
import type { PeerSignals } from "../view/peers-for-plugins.ts";
import type { MessageSignals } from "../view/mesh-for-plugins.ts";
import type { EventHub } from "../view/event-hub.ts";

/** The same events, and plugins that watch the other nodes are told. */
export const withPeerSignals = (events: MeshEvents, signals: PeerSignals): MeshEvents => ({
  ...events,
  recordChanged: () => signals.fire(),
  peerUp(peer) {
    events.peerUp(peer);
    signals.fire();
  },
  peerDown(peer, reason) {
    events.peerDown(peer, reason);
    signals.fire();
  },
  routeChanged(destination, isReachable) {
    events.routeChanged(destination, isReachable);
    signals.fire();
  },
});

export function meshEvents(
  hub: EventHub,
  signals: MessageSignals,
  closed: () => ClosedMesh | undefined,
): MeshEvents {
  return {
    peerUp: (peer) => {
      hub.emit("peer", "up", { id: peer.id });
      closed()?.onPeerUp(peer);
    },
    system: (from, plaintext) => {
      // While the mesh is still opening: the hop before keeps it.
      const mesh = closed();
      return mesh === undefined
        ? Promise.reject(godwitError("GODWIT_STORE_FAILED", "the node is still starting"))
        : mesh.onSystem(from, plaintext);
    },
    revoked: ({ id, signer, reason }) =>
      hub.emit("peer", "revoked", { id, by: signer, reason: reason ?? null }),
    peerDown: (peer, reason) => hub.emit("peer", "down", { id: peer.id, reason }),
    linkUp: (peer, endpoint) => hub.emit("link", "up", { id: peer.id, endpoint }),
    linkDown: (peer, endpoint, reason) => hub.emit("link", "down", { id: peer.id, endpoint, reason }),
    routeChanged: (destination, isReachable) =>
      hub.emit("route", "changed", { destination, reachable: isReachable }),
    trustChanged: (id, { level, reason, by }) => hub.emit("peer", "trust", { id, level, reason, by }),
    peerQuarantined: (id, reason, forMs) =>
      hub.emit("peer", "quarantined", { id, reason, seconds: Math.round(forMs / 1_000) }),
    peerRestored: (id) => hub.emit("peer", "restored", { id }),
    lostDelivery: (id, destination) => hub.emit("peer", "lost_delivery", { id, destination }),
    honestRoute: (id, destination) => hub.emit("peer", "honest_route", { id, destination }),
    hintHeard: (source, endpoint, nodeId) =>
      hub.emit("discovery", "hint", { source, endpoint, id: nodeId ?? null }),
    joined: (id, invite, callsign) => hub.emit("join", "joined", { id, invite, callsign }),
    inviteConflict: (invite, redeemers) =>
      hub.emit("join", "conflict", { invite, nodes: redeemers.join(" ") }),
    memberChanged: (row, previous) => hub.emit("member", row.state, memberEvent(row, previous)),
    nameConflict: (name, holder, claimant) => hub.emit("name", "conflict", { name, holder, claimant }),
    delivered: (entry) => {
      hub.emit("message", "received", { id: entry.id, from: entry.from, to: entry.to, size: entry.size });
      for (const listener of signals.arrived) listener(entry.id);
    },
    changed: (entry) => {
      hub.emit("message", entry.state, { id: entry.id, to: entry.to, reason: entry.reason });
      for (const listener of signals.changed) listener(entry);
    },
  };
}
