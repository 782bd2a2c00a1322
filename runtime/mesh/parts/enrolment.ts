/** A member's side of joining, joined to the mesh: its neighbours hear which invitations were used. */
import { Enrolment } from "../../join/enrolment.ts";
import { hasOtherPath } from "../../kernel/named-places.ts";
import { FrameType } from "../../wire/constants.ts";
import type { PartOf, PartContext } from "../part.ts";

export function enrolmentPart({ mesh, deps, kept, scope }: PartContext): PartOf<Enrolment> {
  const { identity, network, clock, time, random, log, metrics, store, verify, events } = deps;
  const enrolment = new Enrolment({
    regard: mesh.acquaintances,
    fullTables: kept.fullTables,
    identity,
    network,
    clock,
    time,
    random,
    log,
    metrics,
    store,
    verify,
    signal: scope.signal,
    records: kept.records,
    secrets: () => deps.liveSecrets(),
    airtime: () => mesh.channels.airtime,
    tell: (to, frame) => mesh.peers.tell(to, "control", frame, "redemptions"),
    connected: () => mesh.peers.connected,
    isReachable: (id) => mesh.router.reachable(id),
    mayPassOn: (nodeId, endpoint) =>
      !hasOtherPath(endpoint) &&
      mesh.places.refusalOfEndpoint(endpoint, [{ by: "member", nodeId }]) === undefined,
    events,
  });
  return {
    engine: enrolment,
    frames: [
      {
        types: [FrameType.redemptions, FrameType.redemptions],
        take: (from, _type, frame) => enrolment.onFrame(from, frame),
      },
    ],
    load: () => enrolment.load(),
    peerUp: (peer) => enrolment.onPeerUp(peer),
    linkUp: (peer) => enrolment.onWritable(peer),
    writable: (peer) => enrolment.onWritable(peer),
    peerDown: ({ id }) => enrolment.onPeerDown(id),
    stop: () => enrolment.stop(),
  };
}
