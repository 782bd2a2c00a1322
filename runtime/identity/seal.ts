/**
 * Sealing a message end to end: Noise K to the recipient's prekey, or to its identity key when none is known. Owns the
 * sealed format and its segments for large bodies. Opening proves the sender and everything in `associated`. Must never
 * hand out a byte of plaintext before all of it is authenticated. Specified by docs/protocol/sealing.md.
 */
import { BoundedMap } from "@godwit/sdk/bounded";
import type { Random } from "@godwit/sdk";
import { assert, asGodwitError, godwitError } from "../kernel/errors.ts";
import type { NodeId } from "../kernel/ids.ts";
import { CipherState, HandshakeState, KEY_BYTES, MESSAGE_BYTES_MAX, TAG_BYTES } from "./noise.ts";
import { concatBytes, decodeError, Reader, Writer } from "../wire/bytes.ts";
import { BODY_BYTES_MAX } from "../wire/constants.ts";
import { dhPublicKeyOf, type DhKey, type Identity } from "./keys.ts";
import type { Prekey } from "./record.ts";

/** First byte of sealed bytes, append-only: one Noise message, or a Noise message and segments. */
export const SealForm = { whole: 1, segmented: 2 } as const;

/** Largest plaintext: a body with its inner header. */
export const SEAL_PLAINTEXT_MAX = BODY_BYTES_MAX + 65_536;
const HEAD_BYTES = 5;
/** What sealing adds to a plaintext that fits one Noise message: form, key id, ephemeral key, tag. */
export const SEAL_OVERHEAD_BYTES = HEAD_BYTES + KEY_BYTES + TAG_BYTES;
/** Longest plaintext of the whole form, and of one segment. */
export const SEAL_WHOLE_MAX = MESSAGE_BYTES_MAX - KEY_BYTES - TAG_BYTES;
export const SEAL_SEGMENT_MAX = MESSAGE_BYTES_MAX - TAG_BYTES;
/** The Noise message before segments carries the length of the plaintext. */
const OPENING_BYTES = KEY_BYTES + 4 + TAG_BYTES;

/** Key id of a recipient's identity key: the mail has no forward secrecy. */
export const IDENTITY_KEY_ID = 0;

const LABEL = new TextEncoder().encode("godwit seal 1\0");
const NOT_LAST = Uint8Array.of(0);
const LAST = Uint8Array.of(1);

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

/** A long message that is sealed piece by piece, in whatever order: the same bytes as `sealTo` makes of it at once. */
export interface SegmentSealing {
  /** What stands before the first segment. */
  readonly opening: Uint8Array;
  /** Plaintext of one segment, the last one shorter, and what sealing adds to each. */
  readonly segmentBytes: number;
  readonly tagBytes: number;
  /** That segment, owned by the caller. `plaintext` is borrowed, and must be what was sealed under this before, if it was. */
  segment(index: number, plaintext: Uint8Array): Uint8Array;
}

/** Of a plaintext above SEAL_WHOLE_MAX bytes. `random` as for `sealTo`, and derived from the whole plaintext if at all. Throws as that does. */
export function sealInSegments(
  input: Omit<SealInput, "plaintext">,
  plaintextBytes: number,
  random: Random,
): SegmentSealing {
  if (plaintextBytes > SEAL_PLAINTEXT_MAX)
    throw godwitError("GODWIT_TOO_BIG", `a sealed message has at most ${SEAL_PLAINTEXT_MAX} bytes`);
  const { head, noise } = beginSeal(input, SealForm.segmented, random);
  const opening = concatBytes([head, noise.writeMessage(new Writer(4).u32(plaintextBytes).finish())]);
  const key = noise.split().send;
  const last = Math.ceil(plaintextBytes / SEAL_SEGMENT_MAX) - 1;
  return {
    opening,
    segmentBytes: SEAL_SEGMENT_MAX,
    tagBytes: TAG_BYTES,
    segment(index, plaintext) {
      // One nonce, one plaintext: what is no whole segment of this message is not sealed.
      const bytes = Math.min(SEAL_SEGMENT_MAX, plaintextBytes - index * SEAL_SEGMENT_MAX);
      assert(index >= 0 && plaintext.length === bytes, "a segment has its length");
      return new CipherState(key, index).encrypt(index === last ? LAST : NOT_LAST, plaintext);
    },
  };
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
  const reader = new Reader(input.sealed);
  const form = reader.u8();
  const keyId = reader.u32();
  if (form !== SealForm.whole && form !== SealForm.segmented)
    throw decodeError(`seal form ${form} is not known`);
  const key = keyId === IDENTITY_KEY_ID ? input.identity.dh : input.prekeys.find(keyId);
  if (key === undefined) throw decodeError("sealed to a prekey that this node does not have or has deleted");
  try {
    const noise = new HandshakeState({
      pattern: "K",
      role: "responder",
      s: rememberingKey(key, dhPublicKeyOf(input.from)),
      rs: dhPublicKeyOf(input.from),
      prologue: prologueOf(form, keyId, input.from, input.identity.id, input.associated),
      random: drawsNothing,
    });
    const plaintext =
      form === SealForm.whole ? noise.readMessage(reader.rest()) : openSegments(noise, reader);
    return { plaintext, forwardSecret: keyId !== IDENTITY_KEY_ID };
  } catch (error) {
    if (asGodwitError(error).kind === "bug") throw error;
    throw godwitError(
      "GODWIT_DECODE",
      "the seal does not open: forged, damaged, or not for this node",
      error,
    );
  }
}

function openSegments(noise: HandshakeState, reader: Reader): Uint8Array {
  const opening = new Reader(noise.readMessage(reader.bytes(OPENING_BYTES)));
  const length = opening.u32();
  const segments = Math.ceil(length / SEAL_SEGMENT_MAX);
  // The length is the sender's own, but nothing is allocated unless that many bytes are really here.
  if (
    length <= SEAL_WHOLE_MAX ||
    length > SEAL_PLAINTEXT_MAX ||
    reader.remaining !== length + segments * TAG_BYTES
  )
    throw decodeError("segments do not add up to the length of the message");
  const cipher = new CipherState(noise.split().receive);
  const plaintext = new Uint8Array(length);
  for (let at = 0; at < length; at += SEAL_SEGMENT_MAX) {
    const size = Math.min(SEAL_SEGMENT_MAX, length - at);
    const isLast = at + size === length;
    plaintext.set(cipher.decrypt(isLast ? LAST : NOT_LAST, reader.bytes(size + TAG_BYTES)), at);
  }
  return plaintext;
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

/** Shared secrets kept for each own key. */
const SECRETS_MAX = 4_096;
const rememberedSecrets = new WeakMap<DhKey, BoundedMap<string, Uint8Array>>();

/**
 * A key with a memory for the static-static half, which is the same for every message between two keys and costs as
 * much as all the rest. It reveals no more than the key in the same memory does, and goes when that one goes, so that a
 * deleted prekey leaves nothing behind. What is agreed with an ephemeral key is never kept: the opener names the one
 * static key that counts, the sealer agrees with no other.
 */
function rememberingKey(key: DhKey, onlyWith?: Uint8Array): DhKey {
  let secrets = rememberedSecrets.get(key);
  if (secrets === undefined)
    rememberedSecrets.set(key, (secrets = new BoundedMap({ name: "agreed secrets", max: SECRETS_MAX })));
  const kept = secrets;
  return {
    publicKey: key.publicKey,
    agree(remotePublic) {
      if (onlyWith !== undefined && Buffer.compare(onlyWith, remotePublic) !== 0)
        return key.agree(remotePublic);
      const name = Buffer.from(remotePublic).toString("latin1");
      let secret = kept.get(name);
      if (secret === undefined) {
        secret = key.agree(remotePublic);
        kept.set(name, secret);
      }
      return secret.slice();
    },
  };
}

const drawsNothing: Random = {
  bytes: () => refuse(),
  float: () => refuse(),
  below: () => refuse(),
};
function refuse(): never {
  throw godwitError("GODWIT_BUG", "opening a seal draws no randomness");
}
