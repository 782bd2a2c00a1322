/**
 * AES-256-GCM over whole records: the hot path of every link. One cipher object per record is what node:crypto offers;
 * everything else is kept from allocating. Knows no framing and no counters' meaning.
 */
import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject } from "node:crypto";

export const NONCE_BYTES = 12;
/** Holds any record with its length prefix, or any batch. */
const BUFFER_BYTES = 2 + 65_535;

/** One direction's key and nonce scratch. */
export interface RecordKey {
  readonly key: KeyObject;
  readonly nonce: Uint8Array;
  readonly nonceView: DataView;
}

export function recordKey(raw: Uint8Array): RecordKey {
  const nonce = new Uint8Array(NONCE_BYTES);
  return { key: createSecretKey(raw), nonce, nonceView: new DataView(nonce.buffer) };
}

/** Nonce: `header` (0 on streams), three zero bytes, the counter as 64 bits big-endian. */
function setNonce(key: RecordKey, header: number, counter: number): void {
  key.nonce[0] = header;
  key.nonceView.setUint32(4, Math.floor(counter / 2 ** 32));
  key.nonceView.setUint32(8, counter >>> 0);
}

/** Writes ciphertext and tag to `out` from `at`; answers the end. */
export function sealRecord(
  key: RecordKey,
  header: number,
  counter: number,
  plaintext: Uint8Array,
  out: Uint8Array,
  at: number,
  tagBytes: number,
): number {
  setNonce(key, header, counter);
  const cipher = createCipheriv("aes-256-gcm", key.key, key.nonce, { authTagLength: tagBytes });
  if (plaintext.length > 0) out.set(cipher.update(plaintext), at);
  cipher.final();
  out.set(cipher.getAuthTag(), at + plaintext.length);
  return at + plaintext.length + tagBytes;
}

/** The plaintext (owned by the caller, a true Uint8Array), or undefined when the tag is wrong. */
export function openRecord(
  key: RecordKey,
  header: number,
  counter: number,
  sealed: Uint8Array,
  tagBytes: number,
): Uint8Array | undefined {
  const length = sealed.length - tagBytes;
  if (length < 0) return undefined;
  setNonce(key, header, counter);
  try {
    const decipher = createDecipheriv("aes-256-gcm", key.key, key.nonce, { authTagLength: tagBytes });
    decipher.setAuthTag(sealed.subarray(length));
    const plaintext = decipher.update(sealed.subarray(0, length));
    decipher.final();
    // A Buffer's `slice` shares memory where a Uint8Array's copies, so no Buffer may reach a frame handler.
    return new Uint8Array(plaintext.buffer, plaintext.byteOffset, plaintext.length);
  } catch {
    return undefined;
  }
}

/**
 * Scratch buffers are shared by all links, because 250 links with 192 KiB each would be 48 MB; a link holds one only
 * while a batch or a partial record is open. Taking and releasing (not one static buffer) keeps pipes that deliver
 * synchronously correct. Small ones are for batches that may stay small: what is said to 250 links in one turn would
 * otherwise take 16 MB for 250 frames of some bytes.
 */
const pool: Uint8Array[] = [];
const POOL_MAX = 16;
export const SMALL_BUFFER_BYTES = 1_024;
const smallPool: Uint8Array[] = [];
const SMALL_POOL_MAX = 256;

export const takeBuffer = (): Uint8Array => pool.pop() ?? new Uint8Array(BUFFER_BYTES);

export const takeSmallBuffer = (): Uint8Array => smallPool.pop() ?? new Uint8Array(SMALL_BUFFER_BYTES);

export function releaseBuffer(buffer: Uint8Array): void {
  if (buffer.length === SMALL_BUFFER_BYTES) {
    if (smallPool.length < SMALL_POOL_MAX) smallPool.push(buffer);
  } else if (pool.length < POOL_MAX) pool.push(buffer);
}
