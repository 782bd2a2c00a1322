/** Routed packets joined to the mesh: over the peers to the next hop, and at their end to the part that takes the kind. */
import { Packets } from "../../route/packets.ts";
import type { AirtimeUse } from "../../kernel/airtime.ts";
import { FrameType } from "../../wire/constants.ts";
import { decodePacketHeader, PacketKind } from "../../wire/packet.ts";
import type { PartOf, PartContext } from "../part.ts";
import { queueDelayTo } from "./carrier.ts";

/** What a packet counts as on a channel that all in earshot share. */
const airtimeUse: Readonly<Record<number, AirtimeUse | "mail">> = {
  [PacketKind.transient]: "mail",
  [PacketKind.memberPing]: "membership",
  [PacketKind.memberPong]: "membership",
};

export function packetsPart({ mesh, deps, dispatch }: PartContext): PartOf<Packets> {
  const { identity, clock, random, metrics } = deps;
  const packets = new Packets({
    self: identity.id,
    clock,
    random,
    metrics,
    nextHops: (destination, plane) => mesh.router.nextHops(destination, plane),
    queueDelay: (id) => queueDelayTo(mesh, id),
    send(to, priority, frame) {
      const peer = mesh.peers.get(to);
      const session = peer?.best?.session;
      if (session?.medium !== undefined) {
        const use = airtimeUse[decodePacketHeader(frame).kind] ?? "other";
        if (use !== "mail" && !mesh.peers.airtime.take(session, frame.length, use)) return false;
      }
      return peer?.send(priority, frame) ?? false;
    },
    deliver: (header, payload) => {
      if (mesh.isRefused(header.source)) return "refused";
      return dispatch.packet(header, payload) ? undefined : "unknown_kind";
    },
  });
  return {
    engine: packets,
    frames: [
      {
        types: [FrameType.packet, FrameType.packet],
        take: (from, _type, frame) => packets.onFrame(from, frame),
      },
    ],
  };
}
