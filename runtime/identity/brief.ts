/**
 * Brief records: what mail to a node needs of its record, small enough for one packet of a slow link, under a signature of the
 * node's own. Whoever holds the record makes the brief one of it; nobody else can. docs/protocol/records.md "Brief records".
 */
import { concatBytes, Reader, Writer } from "../wire/bytes.ts";
import { RECORD_BYTES_MAX } from "../wire/constants.ts";
import { SIGNATURE_BYTES } from "./keys.ts";
import { FLAG_BRIEF, type NodeRecord, RecordField } from "./record.ts";

/** Version, flags, node id, sequence, protocol versions. */
const HEAD_BYTES = 42;
const FLAGS_AT = 1;
/** Those that it has from the record as they stand there. */
const copied: readonly number[] = [RecordField.callsign, RecordField.location, RecordField.prekey];

/** Owned by the caller, and not verified; undefined: the node signed none, as earlier releases do not, or it is revoked. */
export function briefOf({ bytes, isRevoked, isBrief }: NodeRecord): Uint8Array | undefined {
  if (isRevoked) return undefined;
  if (isBrief) return bytes.slice();
  const head = bytes.slice(0, HEAD_BYTES);
  head[FLAGS_AT]! |= FLAG_BRIEF;
  const parts: Uint8Array[] = [head];
  const reader = new Reader(bytes.subarray(HEAD_BYTES, bytes.length - SIGNATURE_BYTES));
  while (reader.remaining > 0) {
    const type = reader.varint();
    const value = reader.sizedBytes(RECORD_BYTES_MAX);
    if (copied.includes(type))
      parts.push(new Writer(value.length + 4).varint(type).sizedBytes(value).finish());
    // What it says beside them, and the signature.
    if (type === RecordField.brief) return concatBytes([...parts, value]);
  }
  return undefined;
}
