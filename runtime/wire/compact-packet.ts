/**
 * A packet on a link of class slow without the ends of the link. Nothing answers a packet, so nothing in it depends on what an earlier
 * frame said. docs/protocol/slow.md "Packets" is normative.
 */
import { NODE_ID_BYTES, type NodeId, nodeIdBytes } from "../kernel/ids.ts";
import { Writer } from "./bytes.ts";
import { FrameType } from "./constants.ts";
import { PACKET_HEADER_BYTES } from "./packet.ts";
import { frameReader } from "./peer-messages.ts";

/** Bits of a packet's own flags; a packet with others goes as it is. */
const PACKET_FLAGS = 0x07;
const TO_RECEIVER = 0x40;
const FROM_SENDER = 0x80;
/** In an ordinary packet: flags, hops, kind, destination, source. */
const OFFSETS = { flags: 1, hops: 2, kind: 3, destination: 4, source: 4 + NODE_ID_BYTES };

export interface LinkEnds {
  readonly sender: NodeId;
  readonly receiver: NodeId;
}

/** PACKET: type | flags | hops | kind | [destination 32] | [source 32] | payload. Undefined where it would not be shorter. */
export function shortenPacket(frame: Uint8Array, { sender, receiver }: LinkEnds): Uint8Array | undefined {
  if (frame.length < PACKET_HEADER_BYTES || (frame[OFFSETS.flags]! & ~PACKET_FLAGS) !== 0) return undefined;
  const destination = frame.subarray(OFFSETS.destination, OFFSETS.source);
  const source = frame.subarray(OFFSETS.source, PACKET_HEADER_BYTES);
  const isTo = isSame(destination, nodeIdBytes(receiver));
  const isFrom = isSame(source, nodeIdBytes(sender));
  if (!isTo && !isFrom) return undefined;
  const writer = new Writer(frame.length)
    .u8(FrameType.compactPacket)
    .u8(frame[OFFSETS.flags]! | (isTo ? TO_RECEIVER : 0) | (isFrom ? FROM_SENDER : 0))
    .u8(frame[OFFSETS.hops]!)
    .u8(frame[OFFSETS.kind]!);
  if (!isTo) writer.bytes(destination);
  if (!isFrom) writer.bytes(source);
  return writer.bytes(frame.subarray(PACKET_HEADER_BYTES)).finish();
}

/** The ordinary packet, owned by the caller. */
export function restorePacket(frame: Uint8Array, { sender, receiver }: LinkEnds): Uint8Array {
  const reader = frameReader(frame, FrameType.compactPacket);
  const flags = reader.u8();
  const writer = new Writer(PACKET_HEADER_BYTES + frame.length)
    .u8(FrameType.packet)
    .u8(flags & PACKET_FLAGS)
    .u8(reader.u8())
    .u8(reader.u8());
  writer.bytes((flags & TO_RECEIVER) === 0 ? reader.bytes(NODE_ID_BYTES) : nodeIdBytes(receiver));
  writer.bytes((flags & FROM_SENDER) === 0 ? reader.bytes(NODE_ID_BYTES) : nodeIdBytes(sender));
  return writer.bytes(reader.rest()).finish();
}

const isSame = (a: Uint8Array, b: Uint8Array): boolean => a.every((byte, i) => byte === b[i]);
