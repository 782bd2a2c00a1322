/**
 * What lies on the stick: for each direction of each connection one letter, `<to>/<from>.<connection>.letter`, which its
 * writer replaces as a whole. It says everything that the far end has not confirmed, so that a stick may be lost, come late
 * or come twice: the next letter says it again.
 *
 *     0  8 bytes  "GWDROP1\n"
 *     8  1        flags: 1 opener (its writer dialled), 2 end (nothing follows), 4 reset (the connection is unknown)
 *     9  8        where the bytes begin in the stream, big-endian
 *    17  8        how far its writer has read the other direction
 *    25  4        how many bytes
 *    29           the bytes, then the first 8 bytes of the SHA-256 of all before
 */
import { createHash } from "node:crypto";

export const BYTES_MAX = 2 * 1024 * 1024;
const MAGIC = Buffer.from("GWDROP1\n");
const HEAD_BYTES = 29;
const CHECK_BYTES = 8;
export const LETTER_BYTES_MAX = HEAD_BYTES + BYTES_MAX + CHECK_BYTES;
const Flag = { opener: 1, end: 2, reset: 4 } as const;

export interface Letter {
  readonly isOpener: boolean;
  readonly isEnd: boolean;
  readonly isReset: boolean;
  readonly base: number;
  readonly read: number;
  readonly bytes: Uint8Array;
}

const checkOf = (bytes: Uint8Array): Buffer =>
  createHash("sha256").update(bytes).digest().subarray(0, CHECK_BYTES);

export function encodeLetter({ isOpener, isEnd, isReset, base, read, bytes }: Letter): Uint8Array {
  const out = Buffer.alloc(HEAD_BYTES + bytes.length + CHECK_BYTES);
  MAGIC.copy(out);
  out[8] = (isOpener ? Flag.opener : 0) | (isEnd ? Flag.end : 0) | (isReset ? Flag.reset : 0);
  out.writeBigUInt64BE(BigInt(base), 9);
  out.writeBigUInt64BE(BigInt(read), 17);
  out.writeUInt32BE(bytes.length, 25);
  out.set(bytes, HEAD_BYTES);
  checkOf(out.subarray(0, -CHECK_BYTES)).copy(out, out.length - CHECK_BYTES);
  return out;
}

/** Undefined for what is no letter, or only a part of one: sticks are pulled while they are written. */
export function decodeLetter(file: Uint8Array): Letter | undefined {
  const view = Buffer.from(file.buffer, file.byteOffset, file.byteLength);
  if (view.length < HEAD_BYTES + CHECK_BYTES || view.length > LETTER_BYTES_MAX) return undefined;
  if (!view.subarray(0, MAGIC.length).equals(MAGIC)) return undefined;
  if (!checkOf(view.subarray(0, -CHECK_BYTES)).equals(view.subarray(-CHECK_BYTES))) return undefined;
  const [base, read] = [Number(view.readBigUInt64BE(9)), Number(view.readBigUInt64BE(17))];
  const length = view.readUInt32BE(25);
  if (length !== view.length - HEAD_BYTES - CHECK_BYTES) return undefined;
  if (!Number.isSafeInteger(base + length) || !Number.isSafeInteger(read)) return undefined;
  const flags = view[8]!;
  return {
    isOpener: (flags & Flag.opener) !== 0,
    isEnd: (flags & Flag.end) !== 0,
    isReset: (flags & Flag.reset) !== 0,
    base,
    read,
    bytes: view.subarray(HEAD_BYTES, HEAD_BYTES + length),
  };
}
