/**
 * Sealed bytes of mail sessions under the key of one message: a synthetic IV (HMAC-SHA-256 over all that is said is tag and counter block of
 * AES-256-CTR), whole or before segments. Owns what is bound to them; knows of no session but its id. Must never hand out plaintext before all of it is
 * authenticated. Specified by docs/protocol/sealing.md, "Sessions".
 */
import { createCipheriv, timingSafeEqual } from "node:crypto";
import { assert, godwitError } from "../kernel/errors.ts";
import type { NodeId } from "../kernel/ids.ts";
import { concatBytes, decodeError, Reader, Writer } from "../wire/bytes.ts";
import { TAG_BYTES } from "./noise.ts";
import {
  checkPlaintextBytes,
  openingUnder,
  SEAL_WHOLE_MAX,
  sealingUnder,
  type SegmentOpening,
  type SegmentSealing,
} from "./segments.ts";
import { derive, Derived } from "./session-keys.ts";
import { RECEIPT_CODE_BYTES } from "../wire/message.ts";
import { encodeContext, type MailContext } from "../wire/mail-compact.ts";
import { encodeSessionHead, SESSION_ID_BYTES, type SessionAgreement } from "../wire/sealed.ts";

const LABEL = new TextEncoder().encode("godwit seal 3\0");
const DIGEST_BYTES = 32;
/** Sealed before segments: length u32 and SHA-256 of the whole plaintext. */
const TOLD_BYTES = 4 + DIGEST_BYTES;

/** How one message is sealed in a session: enough to seal it again. Whoever has it opens that message and no other. */
export interface SessionSeal {
  /** Of the session; or of what its recipient keeps of that, which is `context` then. */
  readonly id: Uint8Array;
  /** What it was agreed by, where that travels along. */
  readonly agreed: SessionAgreement | undefined;
  /** 0 to COUNTER_MAX. */
  readonly counter: number;
  /** 32 bytes. */
  readonly key: Uint8Array;
  /** What the message may refer to, where it is sealed for the first time. */
  readonly context?: MailContext | undefined;
}

/** What is bound beside the bytes themselves. */
export interface SessionBinding {
  readonly network: string;
  readonly from: NodeId;
  readonly to: NodeId;
  /** The bundle header. */
  readonly associated: Uint8Array;
}

/** All that is authenticated beside the plaintext, with its length before it. */
function boundTo(head: Uint8Array, { network, from, to, associated }: SessionBinding): Uint8Array {
  const bound = new Writer(256)
    .u32(0)
    .bytes(LABEL)
    .text(network)
    .bytes(head)
    .nodeId(from)
    .nodeId(to)
    .bytes(associated)
    .finish();
  new Writer(bound).u32(bound.length - 4);
  return bound;
}

const cipherOf = (key: Uint8Array, tag: Uint8Array) =>
  createCipheriv("aes-256-ctr", derive(key, Derived.cipher), tag);

/** Tag and ciphertext. The counter block follows from all that is said: one key for two plaintexts shows whether they are equal, and no more. */
function sealSynthetic(key: Uint8Array, bound: Uint8Array, plaintext: Uint8Array): [Uint8Array, Uint8Array] {
  // Copied: a view would move what a short array holds to memory of its own, at several times the cost.
  const tag = derive(key, Derived.tag, bound, plaintext).slice(0, TAG_BYTES);
  return [tag, cipherOf(key, tag).update(plaintext)];
}

function openSynthetic(
  key: Uint8Array,
  bound: Uint8Array,
  tag: Uint8Array,
  ciphertext: Uint8Array,
): Uint8Array {
  const plaintext = new Uint8Array(cipherOf(key, tag).update(ciphertext));
  const expected = derive(key, Derived.tag, bound, plaintext).slice(0, TAG_BYTES);
  if (!timingSafeEqual(expected, tag))
    throw godwitError("GODWIT_SEAL_FORGED", "the seal of a session does not open");
  return plaintext;
}

/** Sealed bytes, owned by the caller; the same for the same arguments. Of at most SEAL_WHOLE_MAX bytes. */
export function sealInSession(seal: SessionSeal, binding: SessionBinding, plaintext: Uint8Array): Uint8Array {
  assert(plaintext.length <= SEAL_WHOLE_MAX, "a longer message is sealed in segments");
  const head = encodeSessionHead({ ...seal, isSegmented: false });
  return concatBytes([head, ...sealSynthetic(seal.key, boundTo(head, binding), plaintext)]);
}

/**
 * A message above SEAL_WHOLE_MAX bytes, whose `digest` is the SHA-256 of its plaintext: the key of its segments follows from that, or one counter of
 * an old disk would use it for two. Throws GODWIT_TOO_BIG.
 */
export function sealSegmentsInSession(
  seal: SessionSeal,
  binding: SessionBinding,
  plaintextBytes: number,
  digest: Uint8Array,
): SegmentSealing {
  checkPlaintextBytes(plaintextBytes);
  const head = encodeSessionHead({ ...seal, isSegmented: true });
  const told = new Writer(TOLD_BYTES).u32(plaintextBytes).bytes(digest).finish();
  const [tag, ciphertext] = sealSynthetic(seal.key, boundTo(head, binding), told);
  const opening = concatBytes([head, tag, ciphertext]);
  return sealingUnder(derive(seal.key, Derived.segments, tag), opening, plaintextBytes);
}

/** The plaintext, owned by the caller, of whole sealed bytes whose head takes `headBytes`. Throws GODWIT_SEAL_FORGED. */
export function openInSession(
  key: Uint8Array,
  binding: SessionBinding,
  sealed: Uint8Array,
  headBytes: number,
): Uint8Array {
  const reader = new Reader(sealed);
  const head = reader.bytes(headBytes);
  const tag = reader.bytes(TAG_BYTES);
  const ciphertext = reader.rest();
  if (ciphertext.length > SEAL_WHOLE_MAX) throw decodeError("a message that long comes in segments");
  return openSynthetic(key, boundTo(head, binding), tag, ciphertext);
}

/** `opening`: at least what stands before the first segment. Throws GODWIT_SEAL_FORGED, GODWIT_DECODE. */
export function openSegmentsInSession(
  key: Uint8Array,
  binding: SessionBinding,
  opening: Uint8Array,
  headBytes: number,
  sealedBytes: number,
): SegmentOpening {
  const reader = new Reader(opening);
  const head = reader.bytes(headBytes);
  const tag = reader.bytes(TAG_BYTES);
  const told = openSynthetic(key, boundTo(head, binding), tag, reader.bytes(TOLD_BYTES));
  const segments = openingUnder(derive(key, Derived.segments, tag), sealedBytes, reader.offset);
  // The length is the sender's own, but nothing is allocated unless that many bytes are really here.
  if (segments?.plainBytes !== new Reader(told).u32())
    throw decodeError("segments do not add up to the length of the message");
  return segments;
}

/** Receipts within a session: proof, to the sender, that this very message was opened. 8 bytes. */
export const receiptCode = (key: Uint8Array, said: Uint8Array): Uint8Array =>
  derive(key, Derived.receipt, said).slice(0, RECEIPT_CODE_BYTES);

/**
 * Names a session together with what its recipient keeps of it, by the `key` of the message that it was kept with: who keeps anything else does not know
 * that name. 8 bytes.
 */
export const contextIdOf = (key: Uint8Array, context: MailContext): Uint8Array =>
  derive(key, Derived.context, encodeContext(context)).slice(0, SESSION_ID_BYTES);
