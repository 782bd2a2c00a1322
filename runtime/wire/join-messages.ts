/**
 * Frames of joining: what a newcomer and a member say to each other in a session under an invitation, and how members
 * tell one another that one was used. docs/protocol/join.md draws them. Decoders skip bytes behind the fields they know.
 */
import { RECORD_BYTES_MAX } from "./constants.ts";
import { FrameType } from "./constants.ts";
import { decodeError, Writer } from "./bytes.ts";
import { frameReader } from "./peer-messages.ts";

const ENROL_VERSION = 1;
/** A network secret of a configuration has at most 4,096 bytes. */
const SECRET_BYTES_MAX = 4_096;
const GRANT_SECRETS_MAX = 4;
export const GRANT_RECORDS_MAX = 16;
const CALLSIGN_BYTES_MAX = 32;
/** identity/invite.ts makes them. */
const REDEMPTION_BYTES = 147;

/** Append-only. Why a member does not let a newcomer in. */
export const EnrolRefusal = { expired: 1, used: 2, unsure: 3, busy: 4, storeFailed: 5, noRoom: 6 } as const;
export type EnrolRefusalCode = (typeof EnrolRefusal)[keyof typeof EnrolRefusal];

/** What the newcomer wants to be called, empty for nothing. */
export const encodeEnrolRequest = (callsign: string): Uint8Array =>
  new Writer(48).u8(FrameType.enrolRequest).u8(ENROL_VERSION).text(callsign).finish();

export function decodeEnrolRequest(frame: Uint8Array): string {
  const reader = frameReader(frame, FrameType.enrolRequest);
  if (reader.u8() === 0) throw decodeError("enrol request of version 0");
  return reader.text(CALLSIGN_BYTES_MAX);
}

export interface EnrolGrant {
  /** Live network secrets, newest first: 1 to 4. */
  readonly secrets: readonly Uint8Array[];
  /** Signed node records, the acceptor's own first; not verified. */
  readonly records: readonly Uint8Array[];
}

/** As many records as fit `bytesMax`; undefined when not even the secrets do. */
export function encodeEnrolGrant({ secrets, records }: EnrolGrant, bytesMax: number): Uint8Array | undefined {
  const head = new Writer(256).u8(FrameType.enrolGrant).u8(ENROL_VERSION).varint(secrets.length);
  for (const secret of secrets) head.sizedBytes(secret);
  let left = bytesMax - head.length - 1;
  if (left < 0) return undefined;
  const fitting: Uint8Array[] = [];
  for (const record of records.slice(0, GRANT_RECORDS_MAX)) {
    left -= record.length + 2;
    if (left < 0) break;
    fitting.push(record);
  }
  head.varint(fitting.length);
  for (const record of fitting) head.sizedBytes(record);
  return head.finish();
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
  return { secrets, records };
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
