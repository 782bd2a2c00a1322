/** Hole punching joined to the mesh: its packets, the nodes it may try, and where its hints go. */
import type { Peer } from "../../peer/peer.ts";
import { Punching } from "../../peer/punch.ts";
import { FrameType } from "../../wire/constants.ts";
import { PacketKind } from "../../wire/packet.ts";
import type { PartOf, PartContext } from "../part.ts";

export function punchingPart({ mesh, deps, kept }: PartContext): PartOf<Punching> {
  const { identity, network, clock, random, log, metrics, verify } = deps;
  const punching = new Punching({
    ...{ self: identity.id, network, clock, random, log, metrics, verify },
    regard: kept.acquaintances,
    endpoints: () => mesh.ownRecord.endpoints,
    sign: (bytes) => identity.sign(bytes),
    isBlocked: (id) => mesh.isRefused(id),
    isNeighbour: (id) => mesh.peers.get(id) !== undefined,
    members: () =>
      [...kept.records.all].map(({ record }) => record.id).filter((id) => mesh.router.reachable(id)),
    sendPacket: (to, payload) => void mesh.packets.send(to, PacketKind.punch, payload, { priority: 1 }),
    hint: (hint) => void mesh.hints.add("punch", hint, "member"),
  });
  const tellAll = ({ links }: Peer) => {
    for (const { session } of links) punching.tell(session);
  };
  return {
    engine: punching,
    frames: [
      {
        types: [FrameType.observed, FrameType.observed],
        take: (from, _type, frame) => punching.onObserved(from, frame),
      },
    ],
    packets: [{ kind: PacketKind.punch, take: ({ source }, payload) => punching.onPacket(source, payload) }],
    peerUp: ({ id }) => punching.onNeighbourUp(id),
    linkUp: (_peer, { session }) => punching.tell(session),
    linkMeasured: tellAll,
  };
}
