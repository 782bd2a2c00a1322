/**
 * Frames of joining: what a newcomer and a member say to each other in a session under an invitation, and how members
 * tell one another that one was used. docs/protocol/join.md draws them. Decoders skip bytes behind the fields they know.
 */
import { RECORD_BYTES_MAX } from "./constants.ts";
import { FrameType } from "./constants.ts";
import { decodeError, type Reader, Writer } from "./bytes.ts";
import { frameReader } from "./peer-messages.ts";

const ENROL_VERSION = 1;
/** A network secret of a configuration has at most 4,096 bytes. */
const SECRET_BYTES_MAX = 4_096;
const GRANT_SECRETS_MAX = 4;
/** Of an authority's signature, where the secret came by its order (identity/rotation.ts). */
const ORDER_SIGNATURE_BYTES = 64;
export const GRANT_RECORDS_MAX = 16;
const CALLSIGN_BYTES_MAX = 32;
/** identity/invite.ts makes them. */
const REDEMPTION_BYTES = 147;

/** Append-only. Why a member does not let a newcomer in. */
export const EnrolRefusal = {
  expired: 1,
  used: 2,
  unsure: 3,
  busy: 4,
  storeFailed: 5,
  noRoom: 6,
  usesFull: 7,
} as const;
export type EnrolRefusalCode = (typeof EnrolRefusal)[keyof typeof EnrolRefusal];

/** What the newcomer wants to be called, empty for nothing. */
export const encodeEnrolRequest = (callsign: string): Uint8Array =>
  new Writer(48).u8(FrameType.enrolRequest).u8(ENROL_VERSION).text(callsign).finish();

export function decodeEnrolRequest(frame: Uint8Array): string {
  const reader = frameReader(frame, FrameType.enrolRequest);
  if (reader.u8() === 0) throw decodeError("enrol request of version 0");
  return reader.text(CALLSIGN_BYTES_MAX);
}

/** How far the life of a secret is: which of two is newer, and when the older one ends. */
export interface SecretLife {
  /** 0 for one of a configuration. */
  readonly generation: number;
  /** Running time until it opens no link any more, whole ms above 0; undefined while nothing replaces it. */
  readonly retiresInMs: number | undefined;
  /** 64 bytes, the authority's; not verified. */
  readonly signature: Uint8Array | undefined;
}

export interface EnrolGrant {
  /** Live network secrets, newest first: 1 to 4. */
  readonly secrets: readonly Uint8Array[];
  /** Signed node records, the acceptor's own first; not verified. */
  readonly records: readonly Uint8Array[];
  /** Of each secret, in the same order; none from a member of an earlier version. */
  readonly lives: readonly SecretLife[];
}

/** As many records as fit `bytesMax`; undefined when not even the secrets do. */
export function encodeEnrolGrant(
  { secrets, records, lives }: EnrolGrant,
  bytesMax: number,
): Uint8Array | undefined {
  const head = new Writer(256).u8(FrameType.enrolGrant).u8(ENROL_VERSION).varint(secrets.length);
  for (const secret of secrets) head.sizedBytes(secret);
  const tail = encodeLives(lives);
  let left = bytesMax - head.length - 1 - tail.length;
  if (left < 0) return undefined;
  const fitting: Uint8Array[] = [];
  for (const record of records.slice(0, GRANT_RECORDS_MAX)) {
    left -= record.length + 2;
    if (left < 0) break;
    fitting.push(record);
  }
  head.varint(fitting.length);
  for (const record of fitting) head.sizedBytes(record);
  return head.bytes(tail).finish();
}

/** Nothing for none, so that such a grant reads as one of an earlier version. */
function encodeLives(lives: readonly SecretLife[]): Uint8Array {
  if (lives.length === 0) return new Uint8Array(0);
  const writer = new Writer(8 + lives.length * (11 + ORDER_SIGNATURE_BYTES)).varint(lives.length);
  for (const { generation, retiresInMs, signature } of lives)
    writer
      .u32(generation)
      .u48(retiresInMs ?? 0)
      .sizedBytes(signature ?? new Uint8Array(0));
  return writer.finish();
}

function readLives(reader: Reader, secrets: number): SecretLife[] {
  if (reader.remaining === 0) return [];
  const count = reader.varint();
  if (count !== secrets) throw decodeError(`enrol grant with ${count} lives of ${secrets} secrets`);
  return Array.from({ length: count }, () => {
    const generation = reader.u32();
    const retiresInMs = reader.u48() || undefined;
    const signature = reader.sizedBytes(ORDER_SIGNATURE_BYTES);
    if (signature.length !== 0 && signature.length !== ORDER_SIGNATURE_BYTES)
      throw decodeError(`enrol grant with a signature of ${signature.length} bytes`);
    return {
      generation,
      retiresInMs,
      signature: signature.length === 0 ? undefined : new Uint8Array(signature),
    };
  });
}

/** The parts are copies owned by the caller. */
export function decodeEnrolGrant(frame: Uint8Array): EnrolGrant {
  const reader = frameReader(frame, FrameType.enrolGrant);
  if (reader.u8() === 0) throw decodeError("enrol grant of version 0");
  const secretCount = reader.varint();
  if (secretCount === 0 || secretCount > GRANT_SECRETS_MAX)
    throw decodeError(`enrol grant with ${secretCount} secrets`);
  const secrets = Array.from({ length: secretCount }, () => {
    const secret = new Uint8Array(reader.sizedBytes(SECRET_BYTES_MAX));
    if (secret.length === 0) throw decodeError("enrol grant with an empty secret");
    return secret;
  });
  const recordCount = reader.varint();
  if (recordCount > GRANT_RECORDS_MAX) throw decodeError(`enrol grant with ${recordCount} records`);
  const records = Array.from(
    { length: recordCount },
    () => new Uint8Array(reader.sizedBytes(RECORD_BYTES_MAX)),
  );
  return { secrets, records, lives: readLives(reader, secretCount) };
}

export const encodeEnrolRefuse = (reason: EnrolRefusalCode): Uint8Array =>
  new Writer(2).u8(FrameType.enrolRefuse).u8(reason).finish();
/** Unknown reasons are passed on. */
export const decodeEnrolRefuse = (frame: Uint8Array): number =>
  frameReader(frame, FrameType.enrolRefuse).u8();

/** Frames with all of them, each of at most `bytesMax`; each redemption has 147 bytes. */
export function encodeRedemptions(redemptions: readonly Uint8Array[], bytesMax: number): Uint8Array[] {
  const perFrame = Math.floor((bytesMax - 3) / REDEMPTION_BYTES);
  const frames: Uint8Array[] = [];
  if (perFrame < 1) return frames;
  for (let from = 0; from < redemptions.length; from += perFrame) {
    const some = redemptions.slice(from, from + perFrame);
    const writer = new Writer(3 + some.length * REDEMPTION_BYTES)
      .u8(FrameType.redemptions)
      .varint(some.length);
    for (const redemption of some) writer.bytes(redemption);
    frames.push(writer.finish());
  }
  return frames;
}

/** Not verified; they share the frame's memory. */
export function decodeRedemptions(frame: Uint8Array): Uint8Array[] {
  const reader = frameReader(frame, FrameType.redemptions);
  const count = reader.varint();
  if (count > reader.remaining / REDEMPTION_BYTES) throw decodeError(`${count} redemptions do not fit`);
  return Array.from({ length: count }, () => reader.bytes(REDEMPTION_BYTES));
}
