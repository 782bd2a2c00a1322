/**
 * The routed packet: best effort, no custody. Carries transient messages, traces and streams.
 *
 *   0        1        2        3        4                36               68
 *   | 0x20   | flags  | hops   | kind   | destination 32 | source 32      | payload ...
 *
 * flags: bits 0-1 priority, bit 2 plane (0 any, 1 bulk), others zero and ignored. Fixed offsets let a relay forward
 * by changing one byte in place.
 */
import { formatNodeId, type NodeId } from "../kernel/ids.ts";
import { FrameType, type Priority } from "./constants.ts";
import { decodeError, Writer } from "./bytes.ts";

export const PacketKind = {
  transient: 1,
  traceRequest: 2,
  traceReply: 3,
  stream: 4,
  punch: 5,
  memberPing: 6,
  memberPong: 7,
} as const;
export const PACKET_HEADER_BYTES = 68;

const HOPS_OFFSET = 2;

export interface PacketHeader {
  readonly priority: Priority;
  readonly plane: "any" | "bulk";
  readonly hopsLeft: number;
  readonly kind: number;
  readonly destination: NodeId;
  readonly source: NodeId;
}

export function encodePacket(header: PacketHeader, payload: Uint8Array): Uint8Array {
  return new Writer(PACKET_HEADER_BYTES + payload.length)
    .u8(FrameType.packet)
    .u8(header.priority | (header.plane === "bulk" ? 4 : 0))
    .u8(header.hopsLeft)
    .u8(header.kind)
    .nodeId(header.destination)
    .nodeId(header.source)
    .bytes(payload)
    .finish();
}

export function decodePacketHeader(frame: Uint8Array): PacketHeader {
  if (frame.length < PACKET_HEADER_BYTES)
    throw decodeError(`packet of ${frame.length} bytes is shorter than its header`);
  const flags = frame[1]!;
  return {
    priority: (flags & 3) as Priority,
    plane: (flags & 4) === 0 ? "any" : "bulk",
    hopsLeft: frame[HOPS_OFFSET]!,
    kind: frame[3]!,
    destination: formatNodeId(frame.subarray(4, 36)),
    source: formatNodeId(frame.subarray(36, 68)),
  };
}

/** Shares the frame's memory. */
export const packetPayload = (frame: Uint8Array): Uint8Array => frame.subarray(PACKET_HEADER_BYTES);

/** One hop less, in place: the frame is about to be copied into the next link's batch. */
export function spendHop(frame: Uint8Array): void {
  frame[HOPS_OFFSET] = frame[HOPS_OFFSET]! - 1;
}

export type Plane = "any" | "bulk";

/** What a transient message's seal covers besides itself: kind, destination and source of its packet. */
export const packetAssociated = (header: { kind: number; destination: NodeId; source: NodeId }): Uint8Array =>
  encodePacket({ priority: 0, plane: "any", hopsLeft: 0, ...header }, new Uint8Array(0)).subarray(
    3,
    PACKET_HEADER_BYTES,
  );
