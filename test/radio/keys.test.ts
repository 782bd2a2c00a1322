/** Meshtastic's cryptography against OpenSSL, another implementation of the curve, and what is known of real meshes. */
import { expect, test } from "bun:test";
import { createPublicKey, verify } from "node:crypto";
import { seededRandom } from "../../runtime/kernel/random.ts";
import {
  channelHash,
  cryptChannel,
  DEFAULT_PSK,
  expandPsk,
  isSigned,
  newKeyPair,
  nodeNumberOf,
  openFrom,
  sealFor,
  sharedKey,
  signPacket,
} from "./keys.ts";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const bytesOf = (text: string) => new TextEncoder().encode(text);
const KEY = Uint8Array.from({ length: 32 }, (_, at) => at);
const TEXT = bytesOf("a telex of thirty-seven bytes, or so.");

test("the default channel of LongFast has hash 8, as every sniffer shows", () => {
  expect(channelHash("LongFast", expandPsk(DEFAULT_PSK))).toBe(8);
});

test("keys of channels: none, a well-known one by number, and padded ones", () => {
  expect(expandPsk(new Uint8Array()).length).toBe(0);
  expect(expandPsk(Uint8Array.of(0)).length).toBe(0);
  expect(hex(expandPsk(Uint8Array.of(1)))).toBe("d4f1bb3a20290759f0bcffabcf4e6901");
  expect(hex(expandPsk(Uint8Array.of(3)))).toBe("d4f1bb3a20290759f0bcffabcf4e6903");
  expect(hex(expandPsk(Uint8Array.of(7, 8)))).toBe(`0708${"00".repeat(14)}`);
  expect(expandPsk(new Uint8Array(20)).length).toBe(32);
});

test("on a channel: AES-CTR from packet id and sender", () => {
  // openssl enc -aes-256-ctr -K 00..1f -iv 44332211000000008877665500000000
  const sealed = cryptChannel(KEY, 0x5566_7788, 0x1122_3344, TEXT);
  expect(hex(sealed)).toBe(CTR_VECTOR);
  expect(cryptChannel(KEY, 0x5566_7788, 0x1122_3344, sealed)).toEqual(TEXT);
  expect(cryptChannel(new Uint8Array(), 1, 2, TEXT)).toEqual(TEXT);
});

test("between two ends: AES-CCM, and nothing that was changed opens", () => {
  const sealed = sealFor(KEY, 0x5566_7788, 0x1122_3344, 0xdead_beef, TEXT);
  // Made by node:crypto of Node.js, which has aes-256-ccm; then the extra nonce.
  expect(hex(sealed)).toBe(`${CCM_VECTOR}efbeadde`);
  expect(openFrom(KEY, 0x5566_7788, 0x1122_3344, sealed)).toEqual(TEXT);
  for (let at = 0; at < sealed.length; at++) {
    const changed = sealed.slice();
    changed[at]! ^= 1;
    expect(openFrom(KEY, 0x5566_7788, 0x1122_3344, changed)).toBeUndefined();
  }
  expect(openFrom(KEY, 0x5566_7789, 0x1122_3344, sealed)).toBeUndefined();
  expect(openFrom(KEY, 1, 2, new Uint8Array(11))).toBeUndefined();
});

test("a packet between two ends is that of the firmware's own test", () => {
  const bytes = (text: string) => new Uint8Array(Buffer.from(text, "hex"));
  const key = sharedKey(
    bytes("a00330633e63522f8a4d81ec6d9d1e6617f6c8ffd3a4c698229537d44e522277"),
    bytes("db18fc50eea47f00251cb784819a3cf5fc361882597f589f0d7ff820e8064457"),
  );
  expect(hex(key)).toStartWith("777b1545c9d6f9a2");
  const sealed = bytes("40df24abfcc30a17a3d9046726099e796a1c036a792b");
  expect(hex(openFrom(key, 0x0929, 0x13b2_d662, sealed)!)).toBe("08011204746573744800");
  const extra = new DataView(sealed.buffer).getUint32(sealed.length - 4, true);
  expect(sealFor(key, 0x0929, 0x13b2_d662, extra, bytes("08011204746573744800"))).toEqual(sealed);
});

test("both ends come to one key, and a node number is the CRC-32 of a public one", () => {
  const random = seededRandom(1);
  const [a, b] = [newKeyPair(random), newKeyPair(random)];
  expect(sharedKey(a.secretKey, b.publicKey)).toEqual(sharedKey(b.secretKey, a.publicKey));
  // The check value of the CRC's definition.
  expect(nodeNumberOf(bytesOf("123456789"))).toBe(0xcbf4_3926);
});

test("signatures are ordinary ones of Ed25519 under the key that follows from that of X25519", () => {
  const random = seededRandom(2);
  for (let i = 0; i < 8; i++) {
    const { secretKey, publicKey } = newKeyPair(random);
    const payload = random.bytes(i * 7);
    const signature = signPacket(secretKey, 1, 2, 3, payload, random.bytes(64));
    expect(isSigned(publicKey, 1, 2, 3, payload, signature)).toBe(true);
    expect(isSigned(publicKey, 1, 2, 4, payload, signature)).toBe(false);
    expect(isSigned(newKeyPair(random).publicKey, 1, 2, 3, payload, signature)).toBe(false);
    const message = Buffer.concat([Buffer.from(Uint32Array.of(1, 2, 3).buffer), payload]);
    expect(verify(null, message, edwards(publicKey), signature)).toBe(true);
  }
  expect(isSigned(new Uint8Array(32).fill(0xff), 1, 2, 3, TEXT, new Uint8Array(64))).toBe(false);
});

/** The birational map by hand: y = (u - 1) / (u + 1) mod p. */
function edwards(publicKey: Uint8Array) {
  const p = 2n ** 255n - 19n;
  const power = (base: bigint, exponent: bigint): bigint => {
    let [result, square] = [1n, base % p];
    for (let left = exponent; left > 0n; left >>= 1n, square = (square * square) % p)
      if ((left & 1n) === 1n) result = (result * square) % p;
    return result;
  };
  const u = BigInt(`0x${hex(publicKey.toReversed())}`);
  const y = ((u - 1n + p) * power(u + 1n, p - 2n)) % p;
  const x = Buffer.from(y.toString(16).padStart(64, "0"), "hex").reverse().toString("base64url");
  return createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
}

const CTR_VECTOR = "0cffd8f488f06b329f8260e859981d0b3470c633f2e95bcbe81fe616bc32aa2758ff4b8b44";
const CCM_VECTOR =
  "29ac4df55269f676a865b837c4a7f6d97b93ded74dc717c3dd2cdb4bdc14ad8b66550029afbd492f0f6e631c64";
