/**
 * A frame on the air: 16 bytes of header in the clear, then what the channel or the two ends encrypted.
 *
 *     0      4      8      12      13      14         15           16
 *     | to   | from | id   | flags | hash  | next hop | relay node | encrypted
 *
 * Little endian. Flags: hop limit (3 bits), wants an acknowledgement, came by MQTT, hops at the start (3 bits).
 */
export const HEADER_BYTES = 16;
export const FRAME_BYTES_MAX = 255;
export const BROADCAST = 0xffff_ffff;
export const HOPS_MAX = 7;

export interface LoraFrame {
  readonly to: number;
  readonly from: number;
  readonly id: number;
  readonly hopLimit: number;
  readonly wantAck: boolean;
  readonly viaMqtt: boolean;
  readonly hopStart: number;
  /** Of the channel; 0 where the two ends have a key of their own. */
  readonly channelHash: number;
  /** Last byte of a node number; 0: whoever hears it. */
  readonly nextHop: number;
  readonly relayNode: number;
  readonly encrypted: Uint8Array;
}

export function encodeLoraFrame(frame: LoraFrame): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + frame.encrypted.length);
  if (bytes.length > FRAME_BYTES_MAX) throw new Error(`a frame of ${bytes.length} bytes`);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, frame.to, true);
  view.setUint32(4, frame.from, true);
  view.setUint32(8, frame.id, true);
  bytes[12] =
    (frame.hopLimit & 7) |
    (frame.wantAck ? 0x08 : 0) |
    (frame.viaMqtt ? 0x10 : 0) |
    ((frame.hopStart & 7) << 5);
  bytes.set([frame.channelHash, frame.nextHop, frame.relayNode], 13);
  bytes.set(frame.encrypted, HEADER_BYTES);
  return bytes;
}

const decoded = new WeakMap<Uint8Array, LoraFrame>();

/** Undefined: too short. The payload is a view of `bytes`, and always the same one of the same bytes, which all radios in earshot are given. */
export function decodeLoraFrame(bytes: Uint8Array): LoraFrame | undefined {
  const known = decoded.get(bytes);
  if (known !== undefined) return known;
  if (bytes.length < HEADER_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const flags = bytes[12]!;
  const hopStart = flags >> 5;
  const frame: LoraFrame = {
    to: view.getUint32(0, true),
    from: view.getUint32(4, true),
    id: view.getUint32(8, true),
    hopLimit: flags & 7,
    wantAck: (flags & 0x08) !== 0,
    viaMqtt: (flags & 0x10) !== 0,
    hopStart,
    channelHash: bytes[13]!,
    // Who does not say where he started is older than these two bytes.
    nextHop: hopStart === 0 ? 0 : bytes[14]!,
    relayNode: hopStart === 0 ? 0 : bytes[15]!,
    encrypted: bytes.subarray(HEADER_BYTES),
  };
  decoded.set(bytes, frame);
  return frame;
}

export const lastByte = (node: number): number => node & 0xff || 0xff;
