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
  /**
   * That segment, owned by the caller; with `into`, which has room for it, at the beginning of that. `plaintext` is borrowed, and must be what was
   * sealed under this before, if it was.
   */
  segment(index: number, plaintext: Uint8Array, into?: Uint8Array): Uint8Array;
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
    segment(index, plaintext, into) {
      // One nonce, one plaintext: what is no whole segment of this message is not sealed.
      const bytes = Math.min(SEAL_SEGMENT_MAX, plaintextBytes - index * SEAL_SEGMENT_MAX);
      assert(index >= 0 && plaintext.length === bytes, "a segment has its length");
      return new CipherState(key, index).encrypt(index === last ? LAST : NOT_LAST, plaintext, into);
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
  const { sealed } = input;
  if (sealed[0] === SealForm.segmented) {
    const { forwardSecret, ...opening } = openInSegments({ ...input, opening: sealed }, sealed.length)!;
    return { plaintext: openAll(opening, sealed.subarray(opening.openingBytes)), forwardSecret };
  }
  const { noise, reader, forwardSecret } = beginOpening(input);
  return { plaintext: authentic(() => noise.readMessage(reader.rest())), forwardSecret };
}

/** A long message, opened piece by piece. Nobody may be shown any of it before every segment was opened. */
export interface SegmentOpening {
  /** Sealed bytes before the first segment. */
  readonly openingBytes: number;
  /** Plaintext of one segment, the last one shorter, and what sealing added to each. */
  readonly segmentBytes: number;
  readonly tagBytes: number;
  /** Of all segments. */
  readonly plainBytes: number;
  /** Opens this message and no other; whoever keeps it keeps the message. */
  readonly key: Uint8Array;
  /** Plaintext of a whole sealed segment, owned by the caller. Throws GODWIT_DECODE. */
  segment(index: number, sealed: Uint8Array): Uint8Array;
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
  const opening = segmentsUnder(noise.split().receive, sealedBytes);
  // The length is the sender's own, but nothing is allocated unless that many bytes are really here.
  if (opening === undefined || opening.plainBytes !== told)
    throw decodeError("segments do not add up to the length of the message");
  return { ...opening, forwardSecret };
}

/** What was opened once, by its key. Undefined: so many bytes are none that segments add up to. */
export function segmentsUnder(key: Uint8Array, sealedBytes: number): SegmentOpening | undefined {
  const openingBytes = HEAD_BYTES + OPENING_BYTES;
  const segments = Math.ceil((sealedBytes - openingBytes) / (SEAL_SEGMENT_MAX + TAG_BYTES));
  const plainBytes = sealedBytes - openingBytes - segments * TAG_BYTES;
  const lastBytes = plainBytes - (segments - 1) * SEAL_SEGMENT_MAX;
  if (plainBytes <= SEAL_WHOLE_MAX || plainBytes > SEAL_PLAINTEXT_MAX || lastBytes < 1) return undefined;
  return {
    openingBytes,
    segmentBytes: SEAL_SEGMENT_MAX,
    tagBytes: TAG_BYTES,
    plainBytes,
    key,
    segment: (index, sealed) =>
      authentic(() => new CipherState(key, index).decrypt(index === segments - 1 ? LAST : NOT_LAST, sealed)),
  };
}

function openAll(
  { segmentBytes, tagBytes, plainBytes, segment }: SegmentOpening,
  sealed: Uint8Array,
): Uint8Array {
  const plaintext = new Uint8Array(plainBytes);
  const size = segmentBytes + tagBytes;
  for (let index = 0; index * segmentBytes < plainBytes; index++)
    plaintext.set(segment(index, sealed.subarray(index * size, (index + 1) * size)), index * segmentBytes);
  return plaintext;
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

/** Whatever fails, it does not open; but a fault of ours is told as one. */
function authentic<T>(open: () => T): T {
  try {
    return open();
  } catch (error) {
    if (asGodwitError(error).kind === "bug") throw error;
    throw godwitError(
      "GODWIT_DECODE",
      "the seal does not open: forged, damaged, or not for this node",
      error,
    );
  }
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
