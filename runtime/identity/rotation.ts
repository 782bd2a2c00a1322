/**
 * The order that replaces a network's secret: a generation, the secret, and the authority's signature where the network
 * has one. Owns its encoding and verification; pure. It travels sealed end to end, so that nobody on the way sees the
 * secret. Specified by docs/protocol/link.md, "Epochs".
 */
import { createHash } from "node:crypto";
import { godwitError } from "../kernel/errors.ts";
import type { NodeId } from "../kernel/ids.ts";
import { decodeError, Reader, Writer } from "../wire/bytes.ts";
import { SystemKind } from "../wire/constants.ts";
import { SIGNATURE_BYTES } from "./keys.ts";
import type { Signer, Verify } from "./record.ts";

export const ROTATION_VERSION = 1;
export const ROTATION_SECRET_BYTES_MIN = 16;
export const ROTATION_SECRET_BYTES_MAX = 128;

export interface Rotation {
  /** 1 to 2^32-1; a higher one replaces every lower one. */
  readonly generation: number;
  readonly secret: Uint8Array;
  /** 64 bytes; undefined where any member may rotate. */
  readonly signature: Uint8Array | undefined;
}

const sha256 = (bytes: Uint8Array | string): Uint8Array =>
  new Uint8Array(createHash("sha256").update(bytes).digest());

/** The secret stands in it as a hash, so that the signed text may be shown. */
const rotationMessage = (generation: number, secret: Uint8Array, network: string): Uint8Array =>
  new Writer(128)
    .bytes(new TextEncoder().encode("godwit network secret 1\0"))
    .bytes(sha256(network))
    .u32(generation)
    .bytes(sha256(secret))
    .finish();

export const signRotation = (
  authority: Signer,
  { generation, secret }: Pick<Rotation, "generation" | "secret">,
  network: string,
): Rotation => ({
  generation,
  secret,
  signature: authority.sign(rotationMessage(generation, secret, network)),
});

export const isSignedRotation = (
  { generation, secret, signature }: Rotation,
  authority: NodeId,
  network: string,
  verify: Verify,
): boolean =>
  signature !== undefined && verify(authority, rotationMessage(generation, secret, network), signature);

/** | kind u8 = 1 | version u8 = 1 | generation u32 | secret, sized | signature 64 or nothing | */
export function encodeRotation({ generation, secret, signature }: Rotation): Uint8Array {
  if (secret.length < ROTATION_SECRET_BYTES_MIN || secret.length > ROTATION_SECRET_BYTES_MAX)
    throw godwitError("GODWIT_ENCODE", "rotation: the secret is too short or too long");
  return new Writer(256)
    .u8(SystemKind.networkSecret)
    .u8(ROTATION_VERSION)
    .u32(generation)
    .sizedBytes(secret)
    .bytes(signature ?? new Uint8Array(0))
    .finish();
}

/** Owned by the caller. Throws GODWIT_DECODE. Does not verify. */
export function decodeRotation(bytes: Uint8Array): Rotation {
  const reader = new Reader(bytes);
  if (reader.u8() !== SystemKind.networkSecret) throw decodeError("not a network secret");
  const version = reader.u8();
  if (version !== ROTATION_VERSION) throw decodeError(`rotation version ${version} is not known`);
  const generation = reader.u32();
  const secret = reader.sizedBytes(ROTATION_SECRET_BYTES_MAX).slice();
  if (generation === 0 || secret.length < ROTATION_SECRET_BYTES_MIN)
    throw decodeError("rotation without generation or with too short a secret");
  const signature = reader.remaining === 0 ? undefined : reader.bytes(SIGNATURE_BYTES).slice();
  if (reader.remaining > 0) throw decodeError("rotation is too long");
  return { generation, secret, signature };
}
