/**
 * Sealing a message end to end: Noise K to the recipient's prekey, or to its identity key when none is known. Owns the
 * sealed format and its segments for large bodies. Opening proves the sender and everything in `associated`. Must never
 * hand out a byte of plaintext before all of it is authenticated. Specified by docs/protocol/sealing.md.
 */
import type { Random } from "@godwit/sdk";
import { assert, godwitError } from "../kernel/errors.ts";
import type { NodeId } from "../kernel/ids.ts";
import { concatBytes, decodeError, Reader, Writer } from "../wire/bytes.ts";
import { SealForm } from "../wire/sealed.ts";
import { dhPublicKeyOf, type DhKey, type Identity } from "./keys.ts";
import { HandshakeState, KEY_BYTES, TAG_BYTES } from "./noise.ts";
import type { Prekey } from "./record.ts";
import { rememberingKey } from "./remembering-key.ts";
import {
  authentic,
  checkPlaintextBytes,
  openAll,
  openingUnder,
  SEAL_SEGMENT_MAX,
  SEAL_WHOLE_MAX,
  sealingUnder,
  type SegmentOpening,
  type SegmentSealing,
} from "./segments.ts";

const HEAD_BYTES = 5;
/** What sealing adds to a plaintext that fits one Noise message: form, key id, ephemeral key, tag. */
export const SEAL_OVERHEAD_BYTES = HEAD_BYTES + KEY_BYTES + TAG_BYTES;
/** The Noise message before segments carries the length of the plaintext. */
const OPENING_BYTES = KEY_BYTES + 4 + TAG_BYTES;
/** What stands before the first segment in all. */
export const SEAL_OPENING_BYTES = HEAD_BYTES + OPENING_BYTES;

/** Key id of a recipient's identity key: the mail has no forward secrecy. */
export const IDENTITY_KEY_ID = 0;

const LABEL = new TextEncoder().encode("godwit seal 1\0");

export interface SealInput {
  readonly from: Identity;
  readonly to: NodeId;
  /** The recipient's, from its verified record. Without one: its identity key. */
  readonly prekey?: Prekey;
  /** Borrowed until the call returns; at most SEAL_PLAINTEXT_MAX bytes. */
  readonly plaintext: Uint8Array;
  /** Authenticated, not sent: the recipient must come to the same bytes. */
  readonly associated: Uint8Array;
}

/**
 * Sealed bytes, owned by the caller. `random` gives the 32 bytes of the ephemeral key; whoever makes them repeatable
 * must derive them from a secret and from all of the input, or a key and nonce would meet two plaintexts. Throws
 * GODWIT_TOO_BIG, GODWIT_ID_INVALID, or GODWIT_HANDSHAKE_FAILED for a prekey of small order.
 */
export function sealTo(input: SealInput, random: Random): Uint8Array {
  const { plaintext } = input;
  if (plaintext.length > SEAL_WHOLE_MAX) {
    const sealing = sealInSegments(input, plaintext.length, random);
    const parts = [sealing.opening];
    for (let at = 0; at < plaintext.length; at += SEAL_SEGMENT_MAX)
      parts.push(sealing.segment(at / SEAL_SEGMENT_MAX, plaintext.subarray(at, at + SEAL_SEGMENT_MAX)));
    return concatBytes(parts);
  }
  const { head, noise } = beginSeal(input, SealForm.whole, random);
  return concatBytes([head, noise.writeMessage(plaintext)]);
}

/** Of a plaintext above SEAL_WHOLE_MAX bytes. `random` as for `sealTo`, and derived from the whole plaintext if at all. Throws as that does. */
export function sealInSegments(
  input: Omit<SealInput, "plaintext">,
  plaintextBytes: number,
  random: Random,
): SegmentSealing {
  checkPlaintextBytes(plaintextBytes);
  const { head, noise } = beginSeal(input, SealForm.segmented, random);
  const opening = concatBytes([head, noise.writeMessage(new Writer(4).u32(plaintextBytes).finish())]);
  return sealingUnder(noise.split().send, opening, plaintextBytes);
}

function beginSeal(
  { from, to, prekey, associated }: Omit<SealInput, "plaintext">,
  form: number,
  random: Random,
): { head: Uint8Array; noise: HandshakeState } {
  const keyId = prekey?.keyId ?? IDENTITY_KEY_ID;
  assert(prekey === undefined || keyId !== IDENTITY_KEY_ID, "key id 0 is the identity key's");
  const noise = new HandshakeState({
    pattern: "K",
    role: "initiator",
    s: rememberingKey(from.dh),
    rs: prekey?.publicKey ?? dhPublicKeyOf(to),
    prologue: prologueOf(form, keyId, from.id, to, associated),
    random,
  });
  return { head: new Writer(HEAD_BYTES).u8(form).u32(keyId).finish(), noise };
}

export interface OpenInput {
  readonly identity: Identity;
  readonly prekeys: { find(keyId: number): DhKey | undefined };
  /** Who is said to have sealed it. */
  readonly from: NodeId;
  /** Borrowed until the call returns. */
  readonly sealed: Uint8Array;
  readonly associated: Uint8Array;
}

/** The plaintext, owned by the caller. Throws GODWIT_DECODE unless `from` sealed exactly this for this node. */
export function openSealed(input: OpenInput): {
  readonly plaintext: Uint8Array;
  readonly forwardSecret: boolean;
} {
  const { sealed } = input;
  if (sealed[0] === SealForm.segmented) {
    const { forwardSecret, ...opening } = openInSegments({ ...input, opening: sealed }, sealed.length)!;
    return { plaintext: openAll(opening, sealed.subarray(opening.openingBytes)), forwardSecret };
  }
  const { noise, reader, forwardSecret } = beginOpening(input);
  return { plaintext: authentic(() => noise.readMessage(reader.rest())), forwardSecret };
}

/**
 * `opening` holds at least the first bytes of `sealedBytes` that belong together. Undefined: they were sealed as a whole. Throws GODWIT_DECODE
 * unless `from` sealed for this node what begins so.
 */
export function openInSegments(
  input: Omit<OpenInput, "sealed"> & { readonly opening: Uint8Array },
  sealedBytes: number,
): (SegmentOpening & { readonly forwardSecret: boolean }) | undefined {
  if (input.opening[0] !== SealForm.segmented) return undefined;
  const { noise, reader, forwardSecret } = beginOpening({ ...input, sealed: input.opening });
  const told = authentic(() => new Reader(noise.readMessage(reader.bytes(OPENING_BYTES))).u32());
  const opening = openingUnder(noise.split().receive, sealedBytes, SEAL_OPENING_BYTES);
  // The length is the sender's own, but nothing is allocated unless that many bytes are really here.
  if (opening === undefined || opening.plainBytes !== told)
    throw decodeError("segments do not add up to the length of the message");
  return { ...opening, forwardSecret };
}

function beginOpening({ sealed, identity, prekeys, from, associated }: OpenInput): {
  noise: HandshakeState;
  reader: Reader;
  forwardSecret: boolean;
} {
  const reader = new Reader(sealed);
  const form = reader.u8();
  const keyId = reader.u32();
  if (form !== SealForm.whole && form !== SealForm.segmented)
    throw decodeError(`seal form ${form} is not known`);
  const key = keyId === IDENTITY_KEY_ID ? identity.dh : prekeys.find(keyId);
  if (key === undefined) throw decodeError("sealed to a prekey that this node does not have or has deleted");
  const noise = authentic(
    () =>
      new HandshakeState({
        pattern: "K",
        role: "responder",
        s: rememberingKey(key, dhPublicKeyOf(from)),
        rs: dhPublicKeyOf(from),
        prologue: prologueOf(form, keyId, from, identity.id, associated),
        random: drawsNothing,
      }),
  );
  return { noise, reader, forwardSecret: keyId !== IDENTITY_KEY_ID };
}

/** Both ids stand here because Noise K to a prekey would not say whose prekey it is. */
const prologueOf = (
  form: number,
  keyId: number,
  from: NodeId,
  to: NodeId,
  associated: Uint8Array,
): Uint8Array =>
  new Writer(96 + associated.length)
    .bytes(LABEL)
    .u8(form)
    .u32(keyId)
    .nodeId(from)
    .nodeId(to)
    .bytes(associated)
    .finish();

const drawsNothing: Random = {
  bytes: () => refuse(),
  float: () => refuse(),
  below: () => refuse(),
};
function refuse(): never {
  throw godwitError("GODWIT_BUG", "opening a seal draws no randomness");
}
