/**
 * Meshtastic's two ciphers, to read: AES-CTR under the key of a channel, which proves nothing about who wrote it, and what one radio seals for another (X25519, SHA-256,
 * AES-256-CCM). Nothing here encrypts for the air. Source: CryptoEngine.cpp of 2.8.0; RFC 3610, RFC 7748.
 */
import { createCipheriv, createHash, createPrivateKey, createPublicKey, diffieHellman } from "node:crypto";
import type { KeyObject } from "node:crypto";

export const KEY_BYTES = 32;
const TAG_BYTES = 8;
const EXTRA_NONCE_BYTES = 4;
/** By what a packet that is sealed for one radio is longer. */
export const SEAL_BYTES = TAG_BYTES + EXTRA_NONCE_BYTES;
const BLOCK_BYTES = 16;
const NONCE_BYTES = 13;
/** RFC 3610, section 2.2: a tag of 8 bytes, a length of 2, nothing beside the message. */
const CCM_FLAGS = 0x19;

/** RFC 8410: what stands before 32 bytes of an X25519 key in DER. */
const PRIVATE_PREFIX = Buffer.from("302e020100300506032b656e04220420", "hex");
const PUBLIC_PREFIX = Buffer.from("302a300506032b656e032100", "hex");

/** Packet id, extra nonce, sender, each of 32 bits, the lowest byte first; then zeros. */
function nonceOf(from: number, id: number, extra: number): Buffer {
  const nonce = Buffer.alloc(BLOCK_BYTES);
  nonce.writeUInt32LE(id, 0);
  nonce.writeUInt32LE(extra, 4);
  nonce.writeUInt32LE(from, 8);
  return nonce;
}

const ctr = (key: Uint8Array, counter: Uint8Array, bytes: Uint8Array): Uint8Array =>
  new Uint8Array(createCipheriv(`aes-${key.length * 8}-ctr`, key, counter).update(bytes));

/** `key` of 16 or 32 bytes; none: the bytes are as they came. */
export const readChannel = (key: Uint8Array, from: number, id: number, encrypted: Uint8Array): Uint8Array =>
  key.length === 0 ? encrypted.slice() : ctr(key, nonceOf(from, id, 0), encrypted);

/** One's own key of X25519. Keeps it where nothing prints it. */
export class PrivateKey {
  readonly publicKey: Uint8Array;
  readonly #key: KeyObject;

  /** 32 bytes. */
  constructor(bytes: Uint8Array) {
    this.#key = createPrivateKey({
      key: Buffer.concat([PRIVATE_PREFIX, bytes]),
      format: "der",
      type: "pkcs8",
    });
    const shown = createPublicKey(this.#key).export({ format: "der", type: "spki" });
    this.publicKey = new Uint8Array(shown.subarray(PUBLIC_PREFIX.length));
  }

  /** Of both ends; undefined: that key is none, or one with which everybody has the same secret. */
  sharedWith(publicKey: Uint8Array): Uint8Array | undefined {
    if (publicKey.length !== KEY_BYTES) return undefined;
    try {
      const key = Buffer.concat([PUBLIC_PREFIX, publicKey]);
      const theirs = createPublicKey({ key, format: "der", type: "spki" });
      const secret = diffieHellman({ privateKey: this.#key, publicKey: theirs });
      return new Uint8Array(createHash("sha256").update(secret).digest());
    } catch {
      return undefined;
    }
  }
}

/** Undefined: it was sealed under another key, or changed. */
export function openSeal(
  shared: Uint8Array,
  from: number,
  id: number,
  sealed: Uint8Array,
): Uint8Array | undefined {
  const length = sealed.length - SEAL_BYTES;
  if (length <= 0) return undefined;
  const view = new DataView(sealed.buffer, sealed.byteOffset, sealed.length);
  const nonce = nonceOf(from, id, view.getUint32(length + TAG_BYTES, true)).subarray(0, NONCE_BYTES);
  const blocks = (counter: number) => Buffer.concat([Uint8Array.of(1), nonce, Uint8Array.of(0, counter)]);
  const plain = ctr(shared, blocks(1), sealed.subarray(0, length));
  const authenticated = Buffer.alloc(BLOCK_BYTES * (1 + Math.ceil(length / BLOCK_BYTES)));
  authenticated[0] = CCM_FLAGS;
  authenticated.set(nonce, 1);
  authenticated.writeUInt16BE(length, BLOCK_BYTES - 2);
  authenticated.set(plain, BLOCK_BYTES);
  const chain = createCipheriv("aes-256-cbc", shared, Buffer.alloc(BLOCK_BYTES)).update(authenticated);
  const tag = ctr(shared, blocks(0), chain.subarray(chain.length - BLOCK_BYTES));
  let difference = 0;
  for (let i = 0; i < TAG_BYTES; i++) difference |= tag[i]! ^ sealed[length + i]!;
  return difference === 0 ? plain : undefined;
}
