/**
 * Meshtastic's cryptography, as its firmware has it: keys and hashes of channels, AES-CTR, the encryption between two ends (X25519, SHA-256,
 * AES-CCM), signatures (XEdDSA) and the node number. It proves nothing about who speaks on a channel; that is Meshtastic's own affair.
 */
import { createCipheriv, createHash } from "node:crypto";
import { ed25519, x25519 } from "@noble/curves/ed25519.js";
import type { Random } from "@godwit/sdk";

/** The public key of every default channel. */
const WELL_KNOWN = Uint8Array.from([
  0xd4, 0xf1, 0xbb, 0x3a, 0x20, 0x29, 0x07, 0x59, 0xf0, 0xbc, 0xff, 0xab, 0xcf, 0x4e, 0x69, 0x01,
]);
export const DEFAULT_PSK = Uint8Array.of(1);

/** The AES key of a pre-shared key as it is configured: nothing, the number of a well-known one, or one that is padded to 16 or 32 bytes. */
export function expandPsk(psk: Uint8Array): Uint8Array {
  if (psk.length === 0) return psk;
  if (psk.length === 1) {
    if (psk[0] === 0) return new Uint8Array();
    const key = WELL_KNOWN.slice();
    key[15] = (key[15]! + psk[0]! - 1) & 0xff;
    return key;
  }
  const key = new Uint8Array(psk.length <= 16 ? 16 : 32);
  key.set(psk.subarray(0, 32));
  return key;
}

const xor = (bytes: Uint8Array): number => bytes.reduce((sum, byte) => sum ^ byte, 0);
/** What stands in each frame of a channel: a hint, which others share. */
export const channelHash = (name: string, key: Uint8Array): number =>
  xor(new TextEncoder().encode(name)) ^ xor(key);

function nonceOf(from: number, id: number, extra = 0): Uint8Array {
  const nonce = new Uint8Array(16);
  const view = new DataView(nonce.buffer);
  view.setUint32(0, id, true);
  view.setUint32(4, extra, true);
  view.setUint32(8, from, true);
  return nonce;
}

/** Both ways. Without a key the bytes are as they were. */
export function cryptChannel(key: Uint8Array, from: number, id: number, bytes: Uint8Array): Uint8Array {
  if (key.length === 0) return bytes.slice();
  const cipher = createCipheriv(key.length === 16 ? "aes-128-ctr" : "aes-256-ctr", key, nonceOf(from, id));
  return new Uint8Array(cipher.update(bytes));
}

const TAG_BYTES = 8;
const EXTRA_BYTES = 4;
/** What a message between two ends is longer by. */
export const PKC_BYTES = TAG_BYTES + EXTRA_BYTES;

export interface KeyPair {
  readonly secretKey: Uint8Array;
  readonly publicKey: Uint8Array;
}

export function newKeyPair(random: Random): KeyPair {
  const secretKey = random.bytes(32);
  return { secretKey, publicKey: x25519.getPublicKey(secretKey) };
}

/** CRC-32 of the public key: the node number since firmware 2.8. */
export const nodeNumberOf = (publicKey: Uint8Array): number => Bun.hash.crc32(publicKey);

export const sharedKey = (secretKey: Uint8Array, publicKey: Uint8Array): Uint8Array =>
  new Uint8Array(createHash("sha256").update(x25519.getSharedSecret(secretKey, publicKey)).digest());

export function sealFor(
  key: Uint8Array,
  from: number,
  id: number,
  extra: number,
  plain: Uint8Array,
): Uint8Array {
  const nonce = nonceOf(from, id, extra).subarray(0, 13);
  const sealed = new Uint8Array(plain.length + PKC_BYTES);
  const { crypt, tag } = ccm(key, nonce);
  sealed.set(crypt(plain));
  sealed.set(tag(plain), plain.length);
  new DataView(sealed.buffer).setUint32(plain.length + TAG_BYTES, extra, true);
  return sealed;
}

/** Undefined: another key, or changed. */
export function openFrom(
  key: Uint8Array,
  from: number,
  id: number,
  sealed: Uint8Array,
): Uint8Array | undefined {
  const length = sealed.length - PKC_BYTES;
  if (length < 0) return undefined;
  const view = new DataView(sealed.buffer, sealed.byteOffset, sealed.length);
  const nonce = nonceOf(from, id, view.getUint32(length + TAG_BYTES, true)).subarray(0, 13);
  const { crypt, tag } = ccm(key, nonce);
  const plain = crypt(sealed.subarray(0, length));
  const told = sealed.subarray(length, length + TAG_BYTES);
  return tag(plain).every((byte, at) => byte === told[at]) ? plain : undefined;
}

/** AES-CCM with a nonce of 13 bytes and a tag of 8 (RFC 3610, L = 2, M = 8): the one that the firmware has and Bun has not. */
function ccm(key: Uint8Array, nonce: Uint8Array) {
  const block = (counter: number): Uint8Array => {
    const bytes = new Uint8Array(16);
    bytes[0] = 1;
    bytes.set(nonce, 1);
    bytes[14] = counter >> 8;
    bytes[15] = counter & 0xff;
    return bytes;
  };
  return {
    crypt: (bytes: Uint8Array) => new Uint8Array(createCipheriv("aes-256-ctr", key, block(1)).update(bytes)),
    tag: (plain: Uint8Array) => {
      const blocks = new Uint8Array(16 + 16 * Math.ceil(plain.length / 16));
      blocks[0] = 8 * ((TAG_BYTES - 2) / 2) + 1;
      blocks.set(nonce, 1);
      blocks[14] = plain.length >> 8;
      blocks[15] = plain.length & 0xff;
      blocks.set(plain, 16);
      const chain = createCipheriv("aes-256-cbc", key, new Uint8Array(16)).update(blocks);
      const mask = createCipheriv("aes-256-ctr", key, block(0)).update(new Uint8Array(16));
      return Uint8Array.from({ length: TAG_BYTES }, (_, at) => chain.at(at - 16)! ^ mask[at]!);
    },
  };
}

export const isSameKey = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((byte: number, at: number) => byte === b[at]);

export const SIGNATURE_BYTES = 64;
const { Point } = ed25519;
const order = Point.Fn.ORDER;

const fromLittle = (bytes: Uint8Array): bigint => BigInt(`0x${Buffer.from(bytes).reverse().toString("hex")}`);
const toLittle = (value: bigint): Uint8Array =>
  new Uint8Array(Buffer.from(value.toString(16).padStart(64, "0"), "hex").reverse());
const sha512 = (...parts: Uint8Array[]): bigint => {
  const hash = createHash("sha512");
  for (const part of parts) hash.update(part);
  return fromLittle(hash.digest()) % order;
};

function signedBytes(from: number, id: number, port: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(12 + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, from, true);
  view.setUint32(4, id, true);
  view.setUint32(8, port, true);
  bytes.set(payload, 12);
  return bytes;
}

/** XEdDSA (Signal's specification, revision 1) over sender, id, port and payload. `noise`: 64 bytes. */
export function signPacket(
  secretKey: Uint8Array,
  from: number,
  id: number,
  port: number,
  payload: Uint8Array,
  noise: Uint8Array,
): Uint8Array {
  const message = signedBytes(from, id, port, payload);
  const clamped = secretKey.slice();
  clamped[0]! &= 0xf8;
  clamped[31] = (clamped[31]! & 0x7f) | 0x40;
  const scalar = fromLittle(clamped) % order;
  const encoded = Point.BASE.multiply(scalar).toBytes();
  const a = (encoded[31]! & 0x80) === 0 ? scalar : order - scalar;
  encoded[31]! &= 0x7f;
  const prefix = new Uint8Array(32).fill(0xff);
  prefix[0] = 0xfe;
  const r = sha512(prefix, toLittle(a), message, noise);
  const commitment = Point.BASE.multiply(r).toBytes();
  const s = (r + sha512(commitment, encoded, message) * a) % order;
  const signature = new Uint8Array(SIGNATURE_BYTES);
  signature.set(commitment);
  signature.set(toLittle(s), 32);
  return signature;
}

/** By the key that the sender is known by, which is one of X25519. */
export function isSigned(
  publicKey: Uint8Array,
  from: number,
  id: number,
  port: number,
  payload: Uint8Array,
  signature: Uint8Array,
): boolean {
  try {
    return ed25519.verify(signature, signedBytes(from, id, port, payload), edwardsKeyOf(publicKey));
  } catch {
    return false;
  }
}

/** y = (u - 1) / (u + 1), with the sign that signers choose. */
function edwardsKeyOf(publicKey: Uint8Array): Uint8Array {
  const { Fp } = Point;
  const u = Fp.create(fromLittle(publicKey) & ((1n << 255n) - 1n));
  return toLittle(Fp.mul(Fp.sub(u, 1n), Fp.inv(Fp.add(u, 1n))));
}
