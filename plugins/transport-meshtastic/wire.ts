/**
 * What this transport puts before a datagram in a packet of its port, and takes off again. Pure. docs/protocol/meshtastic.md
 */

/** Magic and version: other programs may use the port. */
const MAGIC = 0xd1;
const HEAD_BYTES = 2;
/** Of a packet of ours, with all before the datagram. */
export const PACKET_BYTES_MAX = 200;
export const DATAGRAM_BYTES_MAX = PACKET_BYTES_MAX - HEAD_BYTES;

/** In the second byte: the far end dialled, and which of its connections this is. */
const FROM_DIALLER = 0x80;
/** Numbers of connections: 0 to 126. */
export const NUMBERS = 0x7f;
const TO_ALL = 0x7f;
const RESET = 0xff;

export type Head =
  | { readonly kind: "pipe"; readonly isFromDialler: boolean; readonly number: number }
  | { readonly kind: "all" }
  /** A connection of that head is not known. */
  | { readonly kind: "reset" };

export function encodePacket(head: Head, body: Uint8Array): Uint8Array {
  const packet = new Uint8Array(HEAD_BYTES + body.length);
  packet[0] = MAGIC;
  packet[1] = headByte(head);
  packet.set(body, HEAD_BYTES);
  return packet;
}

export const headByte = (head: Head): number =>
  head.kind === "all"
    ? TO_ALL
    : head.kind === "reset"
      ? RESET
      : (head.isFromDialler ? FROM_DIALLER : 0) | head.number;

/** Undefined: of another program, or another version. The body is borrowed. */
export function decodePacket(
  packet: Uint8Array,
): { readonly head: Head; readonly body: Uint8Array } | undefined {
  if (packet.length < HEAD_BYTES || packet.length > PACKET_BYTES_MAX || packet[0] !== MAGIC) return undefined;
  return { head: decodeHead(packet[1]!), body: packet.subarray(HEAD_BYTES) };
}

export function decodeHead(byte: number): Head {
  if (byte === TO_ALL) return { kind: "all" };
  if (byte === RESET) return { kind: "reset" };
  return { kind: "pipe", isFromDialler: (byte & FROM_DIALLER) !== 0, number: byte & NUMBERS };
}

/** On the air, ms, by bytes of what a pipe writes. */
export const packetBytesOf = (datagramBytes: number): number => HEAD_BYTES + datagramBytes;
