/** Which part of the mesh takes a packet that has reached its end here. */
import type { Custody } from "../custody/custody.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { Punching } from "../peer/punch.ts";
import type { Streams } from "../stream/streams.ts";
import type { MeshMembers } from "./members.ts";
import { packetAssociated, type PacketHeader, PacketKind } from "../wire/packet.ts";

export interface PacketTakers {
  readonly streams: Streams;
  readonly punching: Punching;
  readonly members: MeshMembers;
  readonly custody: Custody;
  /** Blocked or revoked. */
  isRefused(id: NodeId): boolean;
}

/** A packet that has reached its end here, by its kind. */
export function deliverPacket(mesh: PacketTakers, header: PacketHeader, payload: Uint8Array): void {
  const { source, kind, priority } = header;
  if (mesh.isRefused(source)) return;
  if (kind === PacketKind.stream) return mesh.streams.onPacket(header, payload);
  if (kind === PacketKind.punch) return mesh.punching.onPacket(source, payload);
  if (kind === PacketKind.memberPing) return mesh.members.handlePing(source, payload);
  if (kind === PacketKind.memberPong) return mesh.members.handlePong(source, payload);
  if (kind === PacketKind.transient)
    mesh.custody.deliverTransient(source, payload, packetAssociated(header), priority);
}
