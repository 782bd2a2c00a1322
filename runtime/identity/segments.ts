/**
 * Segments of a long sealed message: AES-256-GCM, numbered, the last one marked, so that none can be cut off, moved or repeated (STREAM: Hoang,
 * Reyhanitabar, Rogaway and Vizár, 2015). Owns their sizes; the key comes from what stands before them, in whichever form. Specified by
 * docs/protocol/sealing.md, "Segments".
 */
import { assert, asGodwitError, godwitError } from "../kernel/errors.ts";
import { BODY_BYTES_MAX } from "../wire/constants.ts";
import { CipherState, KEY_BYTES, MESSAGE_BYTES_MAX, TAG_BYTES } from "./noise.ts";

/** Largest plaintext: a body with its inner header. */
export const SEAL_PLAINTEXT_MAX = BODY_BYTES_MAX + 65_536;
/** Longest plaintext that is sealed whole, and of one segment. */
export const SEAL_WHOLE_MAX = MESSAGE_BYTES_MAX - KEY_BYTES - TAG_BYTES;
export const SEAL_SEGMENT_MAX = MESSAGE_BYTES_MAX - TAG_BYTES;

const NOT_LAST = Uint8Array.of(0);
const LAST = Uint8Array.of(1);

/** A long message that is sealed piece by piece, in whatever order. */
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

/** `key`: 32 bytes that no other plaintext shares. Throws GODWIT_TOO_BIG. */
export function sealingUnder(key: Uint8Array, opening: Uint8Array, plaintextBytes: number): SegmentSealing {
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

/** Throws GODWIT_TOO_BIG for a plaintext that nobody takes. */
export function checkPlaintextBytes(bytes: number): void {
  if (bytes > SEAL_PLAINTEXT_MAX)
    throw godwitError("GODWIT_TOO_BIG", `a sealed message has at most ${SEAL_PLAINTEXT_MAX} bytes`);
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

/** What was opened once, by its key and the bytes before its first segment. Undefined: so many bytes are none that segments add up to. */
export function openingUnder(
  key: Uint8Array,
  sealedBytes: number,
  openingBytes: number,
): SegmentOpening | undefined {
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

/** All of it, owned by the caller. `sealed`: what follows the opening. Throws GODWIT_DECODE. */
export function openAll(
  { segmentBytes, tagBytes, plainBytes, segment }: SegmentOpening,
  sealed: Uint8Array,
): Uint8Array {
  const plaintext = new Uint8Array(plainBytes);
  const size = segmentBytes + tagBytes;
  for (let index = 0; index * segmentBytes < plainBytes; index++)
    plaintext.set(segment(index, sealed.subarray(index * size, (index + 1) * size)), index * segmentBytes);
  return plaintext;
}

/** Whatever fails, it does not open; but a fault of ours is told as one. */
export function authentic<T>(open: () => T): T {
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
