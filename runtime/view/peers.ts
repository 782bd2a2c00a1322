/** The nodes that this one has met, as the API shows them: trust, links, quarantine. */
import type { Clock } from "@godwit/sdk";
import type { PeerView } from "./contract/node.ts";
import { isoTime } from "../kernel/clock.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { Mesh } from "../mesh/mesh.ts";
import type { TrustView } from "../trust/book.ts";
import { scoreOf } from "../trust/history.ts";

export interface PeerViewDeps {
  readonly mesh: Mesh;
  readonly clock: Clock;
}

type Peer = NonNullable<ReturnType<Mesh["peers"]["get"]>>;
type CallsignOf = (id: NodeId) => string | null;

/** The neighbours whose links give answers. */
export function reachableViews({ mesh, clock }: PeerViewDeps, callsignOf: CallsignOf): PeerView[] {
  return [...mesh.peers.connected]
    .filter(({ isDoubted }) => !isDoubted)
    .map((peer) => linkedView({ mesh, clock }, peer, callsignOf));
}

/** Every node that this one has met or is told of. */
export function metViews({ mesh, clock }: PeerViewDeps, callsignOf: CallsignOf): PeerView[] {
  const views = new Map<NodeId, PeerView>();
  for (const { id, lastSeenMs } of mesh.book.nodes) {
    views.set(id, {
      id,
      callsign: callsignOf(id),
      ...trustView(mesh.book.standing(id)),
      state: mesh.isRefused(id) ? "blocked" : "disconnected",
      links: [],
      revoked: mesh.records.isRevoked(id),
      last_seen: lastSeenMs > 0 ? isoTime(lastSeenMs) : null,
      quarantine: quarantineOf(mesh, clock, id),
    });
  }
  for (const { nodeId, state } of mesh.dialer.targets) {
    const view = nodeId === undefined ? undefined : views.get(nodeId);
    if (view?.state === "disconnected" && state === "dialing") view.state = "connecting";
  }
  for (const peer of mesh.peers.connected) views.set(peer.id, linkedView({ mesh, clock }, peer, callsignOf));
  return [...views.values()];
}

function linkedView({ mesh, clock }: PeerViewDeps, peer: Peer, callsignOf: CallsignOf): PeerView {
  const nowMs = clock.monotonicMs();
  const heardAtMs = peer.isDoubted ? Math.max(...peer.links.map((link) => link.heardAtMs)) : nowMs;
  return {
    id: peer.id,
    callsign: callsignOf(peer.id),
    ...trustView(mesh.book.standing(peer.id)),
    state: peer.isDoubted ? "silent" : "connected",
    links: peer.links.map((link) => ({
      transport: link.session.remoteEndpoint.split(":")[0] ?? "",
      address: link.session.remoteEndpoint,
      direction: link.session.direction,
      rtt_ms: link.rttMs === undefined ? null : Math.round(link.rttMs * 1000) / 1000,
      mtu: link.session.frameBytesMax,
      up_seconds: Math.floor((nowMs - link.upAtMs) / 1000),
      secret_epoch: link.session.secretEpoch ?? null,
    })),
    revoked: false,
    last_seen: isoTime(clock.wallMs() - (nowMs - heardAtMs)),
    quarantine: quarantineOf(mesh, clock, peer.id),
  };
}

function quarantineOf(mesh: Mesh, clock: Clock, id: NodeId): PeerView["quarantine"] {
  const state = mesh.quarantine.stateOf(id);
  if (state === undefined) return null;
  const { reason, untilMs, offences } = state;
  return { reason, until: isoTime(clock.wallMs() + untilMs - clock.monotonicMs()), offences };
}

const trustView = ({ level, by, reason, untilMs, history }: TrustView) => ({
  trust: level,
  trust_by: by,
  trust_reason: reason ?? null,
  trust_until: untilMs === undefined ? null : isoTime(untilMs),
  score: Math.round(scoreOf(history) * 1_000) / 1_000,
});
