/**
 * Frames that spread revocations over a link, each as `docs/protocol/records.md` "Spreading" draws it. A list names
 * nodes by the first 8 bytes of their id.
 *
 *   revocationDigest  | 0x50 | count varint | digest 8 |
 *   revocationList    | 0x51 | first 8 | last 8 | names 8 ..., ascending |   all that the sender holds in first..last
 *   revocation        | 0x52 | record |
 */
import { FrameType } from "./constants.ts";
import { decodeError, Writer } from "./bytes.ts";
import { frameReader } from "./peer-messages.ts";

export const REVOCATION_NAME_BYTES = 8;
export const REVOCATION_DIGEST_BYTES = 8;
/** Type, first and last. */
export const REVOCATION_LIST_HEAD_BYTES = 1 + 2 * REVOCATION_NAME_BYTES;

export interface RevocationDigest {
  readonly count: number;
  /** First 8 bytes of SHA-256 over the ids of the revoked, ascending. */
  readonly digest: Uint8Array;
}

/** Names as lower-case hex, so that they compare as their bytes do. */
export interface RevocationList {
  readonly first: string;
  readonly last: string;
  readonly names: readonly string[];
}

export const encodeRevocationDigest = ({ count, digest }: RevocationDigest): Uint8Array =>
  new Writer(16).u8(FrameType.revocationDigest).varint(count).bytes(digest).finish();

export function decodeRevocationDigest(frame: Uint8Array): RevocationDigest {
  const reader = frameReader(frame, FrameType.revocationDigest);
  return { count: reader.varint(), digest: reader.bytes(REVOCATION_DIGEST_BYTES).slice() };
}

export function encodeRevocationList({ first, last, names }: RevocationList): Uint8Array {
  const writer = new Writer(REVOCATION_LIST_HEAD_BYTES + names.length * REVOCATION_NAME_BYTES).u8(
    FrameType.revocationList,
  );
  for (const name of [first, last, ...names]) writer.bytes(Buffer.from(name, "hex"));
  return writer.finish();
}

export function decodeRevocationList(frame: Uint8Array): RevocationList {
  const reader = frameReader(frame, FrameType.revocationList);
  const next = (): string => Buffer.from(reader.bytes(REVOCATION_NAME_BYTES)).toString("hex");
  const first = next();
  const last = next();
  if (first > last) throw decodeError("revocation list has an empty range");
  const names: string[] = [];
  while (reader.remaining > 0) {
    const name = next();
    if (name < first || name > last || (names.length > 0 && name <= names.at(-1)!))
      throw decodeError("revocation list is out of order");
    names.push(name);
  }
  return { first, last, names };
}

export const encodeRevocationFrame = (record: Uint8Array): Uint8Array =>
  new Writer(1 + record.length).u8(FrameType.revocation).bytes(record).finish();

/** Shares the memory of `frame`. */
export const decodeRevocationFrame = (frame: Uint8Array): Uint8Array =>
  frameReader(frame, FrameType.revocation).rest();
