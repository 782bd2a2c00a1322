/**
 * The datagrams of transport.udp, normative in docs/protocol/udp.md. Pure: bytes in, values out.
 *
 *   0        1                  9
 *   | kind 1 | connection id 8  | ...
 *   data       | sequence 4 | payload |        feedback   | highest 4 | received 4 |
 *   probe      | nonce 4 | zeros |             probeAck   | nonce 4 |
 *   challenge  | nonce 8 |                     response   | nonce 8 |          reset   |
 */
export const UdpKind = {
  data: 0xd1,
  feedback: 0xd2,
  probe: 0xd3,
  probeAck: 0xd4,
  challenge: 0xd5,
  response: 0xd6,
  reset: 0xd7,
} as const;

/** Set in the kind by the end that dialled, so that a node which reaches itself tells its two ends apart. */
export const DIALLER_FLAG = 0x08;
export const CONNECTION_ID_BYTES = 8;
export const HEAD_BYTES = 9;
export const DATA_HEAD_BYTES = 13;
/** Before the payload of a data datagram. */
export const SEQUENCE_BYTES = 4;
export const CHALLENGE_NONCE_BYTES = 8;
export const PROBE_BYTES_MIN = 4;

export interface UdpDatagram {
  readonly kind: number;
  readonly isFromDialler: boolean;
  /** Connection id as latin-1 text. */
  readonly id: string;
  /** What follows the head; shares memory. */
  readonly body: Uint8Array;
}

/** Smallest body of each kind; the fixed ones may grow in later versions. */
const BODY_BYTES_MIN: Readonly<Record<number, number>> = {
  [UdpKind.data]: 5,
  [UdpKind.feedback]: 8,
  [UdpKind.probe]: PROBE_BYTES_MIN,
  [UdpKind.probeAck]: 4,
  [UdpKind.challenge]: 8,
  [UdpKind.response]: 8,
  [UdpKind.reset]: 0,
};

/** Undefined for what is none of ours. Never throws. */
export function decodeUdp(bytes: Uint8Array): UdpDatagram | undefined {
  if (bytes.length < HEAD_BYTES) return undefined;
  const kind = bytes[0]! & ~DIALLER_FLAG;
  const least = BODY_BYTES_MIN[kind];
  if (least === undefined || bytes.length < HEAD_BYTES + least) return undefined;
  return {
    kind,
    isFromDialler: (bytes[0]! & DIALLER_FLAG) !== 0,
    id: String.fromCharCode(...bytes.subarray(1, HEAD_BYTES)),
    body: bytes.subarray(HEAD_BYTES),
  };
}

/** A datagram of `bodyBytes` behind the head, zero but for what `fill` puts there; owned by the caller. */
export function encodeUdp(
  kind: number,
  isFromDialler: boolean,
  id: Uint8Array,
  bodyBytes: number,
  fill: (body: Uint8Array, view: DataView) => void = () => {},
): Uint8Array {
  const out = new Uint8Array(HEAD_BYTES + bodyBytes);
  out[0] = isFromDialler ? kind | DIALLER_FLAG : kind;
  out.set(id, 1);
  fill(out.subarray(HEAD_BYTES), new DataView(out.buffer, HEAD_BYTES));
  return out;
}

export function encodeData(
  isFromDialler: boolean,
  id: Uint8Array,
  sequence: number,
  payload: Uint8Array,
): Uint8Array {
  const out = new Uint8Array(DATA_HEAD_BYTES + payload.length);
  out[0] = isFromDialler ? UdpKind.data | DIALLER_FLAG : UdpKind.data;
  out.set(id, 1);
  out[9] = sequence >>> 24;
  out[10] = sequence >>> 16;
  out[11] = sequence >>> 8;
  out[12] = sequence;
  out.set(payload, DATA_HEAD_BYTES);
  return out;
}

export const readU32 = (bytes: Uint8Array, at: number): number =>
  ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
