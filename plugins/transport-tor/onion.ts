/** Keys: the onion address's own, and the one this node shows to onion addresses that let in only some. Pure. */
import { createHash, createPrivateKey, createPublicKey } from "node:crypto";
import { encodeBase32, onionNameOf } from "./endpoint.ts";
import { Secret } from "@godwit/sdk/secret";

export const SEED_BYTES = 32;
/** DER prefixes of RFC 8410 before the 32 raw bytes. */
const ED25519_DER = Buffer.from("302e020100300506032b657004220420", "hex");
const X25519_DER = Buffer.from("302e020100300506032b656e04220420", "hex");

export interface OnionKey {
  /** 56 characters, without `.onion`. */
  readonly name: string;
  /** For ADD_ONION: `ED25519-V3:` and the expanded key. */
  readonly blob: Secret;
}

function publicKeyOf(prefix: Buffer, secret: Uint8Array): Uint8Array {
  const key = createPrivateKey({ key: Buffer.concat([prefix, secret]), format: "der", type: "pkcs8" });
  return createPublicKey(key).export({ format: "der", type: "spki" }).subarray(-32);
}

/** tor wants the expanded form: SHA-512 of the seed, clamped (RFC 8032 section 5.1.5). */
export function onionKeyOf(seed: Uint8Array): OnionKey {
  const expanded = createHash("sha512").update(seed).digest();
  expanded[0]! &= 248;
  expanded[31]! &= 63;
  expanded[31]! |= 64;
  return {
    name: onionNameOf(publicKeyOf(ED25519_DER, seed)),
    blob: new Secret(`ED25519-V3:${expanded.toString("base64")}`),
  };
}

export interface ClientKey {
  /** What an operator writes into `clients` of others. */
  readonly publicText: string;
  /** For ONION_CLIENT_AUTH_ADD. */
  readonly blob: Secret;
}

export const clientKeyOf = (seed: Uint8Array): ClientKey => ({
  publicText: encodeBase32(publicKeyOf(X25519_DER, seed)).toUpperCase(),
  blob: new Secret(`x25519:${Buffer.from(seed).toString("base64")}`),
});
