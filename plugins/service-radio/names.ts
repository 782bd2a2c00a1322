/**
 * What Meshtastic puts around a packet: a channel's key (AES-CTR, which proves nothing of who wrote) and the seal for one node (X25519, AES-256-CCM). Pure.
 * Source: CryptoEngine.cpp, Channels.cpp and aes-ccm.cpp of 2.8.0.
 */
import {
  createCipheriv,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  hash,
  timingSafeEqual,
} from "node:crypto";

/** The key that everybody has: a key of one byte n is this one with n - 1 added to its last byte. */
const PUBLIC_KEY = Buffer.from("d4f1bb3a20290759f0bcffabcf4e6901", "hex");
const TAG_BYTES = 8;
const EXTRA_NONCE_BYTES = 4;
const KEY_BYTES = 32;

/** Of a channel as it is configured, to the key that is used; no bytes: none is. */
export function expandPsk(psk: Uint8Array): Uint8Array {
  if (psk.length === 0 || (psk.length === 1 && psk[0] === 0)) return new Uint8Array(0);
  if (psk.length === 1) {
    const key = Uint8Array.from(PUBLIC_KEY);
    key[15] = (key[15]! + psk[0]! - 1) & 0xff;
    return key;
  }
  const key = new Uint8Array(psk.length <= 16 ? 16 : KEY_BYTES);
  key.set(psk.subarray(0, key.length));
  return key;
}

/** Anybody may read and write there. */
export const isPublicPsk = (psk: Uint8Array): boolean => psk.length <= 1;

/** The byte by which a packet shows its channel; many have the same. */
export function channelHash(displayName: string, psk: Uint8Array): number {
  let sum = 0;
  for (const byte of Buffer.from(displayName)) sum ^= byte;
  for (const byte of expandPsk(psk)) sum ^= byte;
  return sum;
}

export interface PacketName {
  readonly from: number;
  readonly id: number;
}

/** Both ways: what was encrypted, or is to be. What comes of a wrong key is rubbish, and nothing says so. */
export function cryptChannel(key: Uint8Array, { from, id }: PacketName, bytes: Uint8Array): Uint8Array {
  if (key.length === 0) return bytes.slice();
  const counter = Buffer.alloc(16);
  counter.writeUInt32LE(id, 0);
  counter.writeUInt32LE(from, 8);
  const cipher = createCipheriv(key.length === KEY_BYTES ? "aes-256-ctr" : "aes-128-ctr", key, counter);
  return Uint8Array.from(Buffer.concat([cipher.update(bytes), cipher.final()]));
}

/** DER around 32 bytes of X25519 (RFC 8410). */
const PRIVATE_HEAD = Buffer.from("302e020100300506032b656e04220420", "hex");
const PUBLIC_HEAD = Buffer.from("302a300506032b656e032100", "hex");

/** SHA-256 of what both ends know. Undefined: one of them is no key. */
export function sharedKey(privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array | undefined {
  if (privateKey.length !== KEY_BYTES || publicKey.length !== KEY_BYTES) return undefined;
  try {
    const secret = diffieHellman({
      privateKey: createPrivateKey({
        key: Buffer.concat([PRIVATE_HEAD, privateKey]),
        format: "der",
        type: "pkcs8",
      }),
      publicKey: createPublicKey({
        key: Buffer.concat([PUBLIC_HEAD, publicKey]),
        format: "der",
        type: "spki",
      }),
    });
    return hash("sha256", secret, "buffer");
  } catch {
    // A point of small order.
    return undefined;
  }
}

/** Opens what was sealed for one node; undefined: with another key, or it was changed. */
export function openPkc(
  key: Uint8Array,
  { from, id }: PacketName,
  bytes: Uint8Array,
): Uint8Array | undefined {
  const textBytes = bytes.length - TAG_BYTES - EXTRA_NONCE_BYTES;
  if (textBytes < 0) return undefined;
  const nonce = pkcNonce(from, id, bytes.subarray(textBytes + TAG_BYTES));
  const plain = ctr(key, nonce, bytes.subarray(0, textBytes));
  const tag = bytes.subarray(textBytes, textBytes + TAG_BYTES);
  return timingSafeEqual(ccmTag(key, nonce, plain), tag) ? plain : undefined;
}

/** `extra`: four bytes that are never the same again for this key. */
export function sealPkc(
  key: Uint8Array,
  { from, id }: PacketName,
  plain: Uint8Array,
  extra: Uint8Array,
): Uint8Array {
  const nonce = pkcNonce(from, id, extra);
  return Uint8Array.from(Buffer.concat([ctr(key, nonce, plain), ccmTag(key, nonce, plain), extra]));
}

/** The extra nonce takes the place of the upper half of the packet's id. */
function pkcNonce(from: number, id: number, extra: Uint8Array): Uint8Array {
  const nonce = Buffer.alloc(13);
  nonce.writeUInt32LE(id, 0);
  nonce.set(extra, 4);
  nonce.writeUInt32LE(from, 8);
  return nonce;
}

// CCM (RFC 3610) with M = 8 and L = 2, by hand: the cipher of this runtime has no such mode.

const aes = (key: Uint8Array, blocks: Uint8Array): Uint8Array => {
  const cipher = createCipheriv("aes-256-ecb", key, null).setAutoPadding(false);
  return Buffer.concat([cipher.update(blocks), cipher.final()]);
};

function counterBlock(nonce: Uint8Array, counter: number): Uint8Array {
  const block = Buffer.alloc(16);
  block[0] = 1;
  block.set(nonce, 1);
  block.writeUInt16BE(counter, 14);
  return block;
}

function ctr(key: Uint8Array, nonce: Uint8Array, bytes: Uint8Array): Uint8Array {
  const blocks = Buffer.concat(
    Array.from({ length: Math.ceil(bytes.length / 16) }, (_, at) => counterBlock(nonce, at + 1)),
  );
  const stream = aes(key, blocks);
  return bytes.map((byte, at) => byte ^ stream[at]!);
}

function ccmTag(key: Uint8Array, nonce: Uint8Array, plain: Uint8Array): Uint8Array {
  const head = Buffer.from(counterBlock(nonce, plain.length));
  head[0] = 8 * ((TAG_BYTES - 2) / 2) + 1;
  let sum = aes(key, head);
  for (let at = 0; at < plain.length; at += 16) {
    const block = Uint8Array.from(sum);
    for (let i = 0; i < 16 && at + i < plain.length; i++) block[i]! ^= plain[at + i]!;
    sum = aes(key, block);
  }
  const mask = aes(key, counterBlock(nonce, 0));
  return sum.slice(0, TAG_BYTES).map((byte, at) => byte ^ mask[at]!);
}

/** The number that 2.8 gives to a node with that key. */
export const numberOfKey = (publicKey: Uint8Array): number => Bun.hash.crc32(publicKey) >>> 0;
