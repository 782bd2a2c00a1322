/** Keys of WireGuard: 32 bytes, as text in base64, and what is agreed with them. Secret ones are a `Secret`. */
import { createPrivateKey, createPublicKey, diffieHellman, type KeyObject } from "node:crypto";
import { Secret } from "@godwit/sdk/secret";

export const KEY_BYTES = 32;
const KEY_TEXT = /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/;

/** The one text of 32 bytes that `wg` prints. */
export const keyText = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64");

/** Undefined for what is no key. Owned by the caller. */
export function parseKey(text: string): Uint8Array | undefined {
  return KEY_TEXT.test(text) ? new Uint8Array(Buffer.from(text, "base64")) : undefined;
}

/** DER before the 32 bytes of an X25519 key (RFC 8410). */
const PKCS8 = Buffer.from("302e020100300506032b656e04220420", "hex");
const SPKI = Buffer.from("302a300506032b656e032100", "hex");

const privateOf = (secret: Secret): KeyObject =>
  createPrivateKey({ key: Buffer.concat([PKCS8, secret.reveal()]), format: "der", type: "pkcs8" });

/** A private key as WireGuard keeps it: clamped. */
export function clamped(bytes: Uint8Array): Secret {
  const key = bytes.slice();
  key[0]! &= 248;
  key[31] = (key[31]! & 127) | 64;
  return new Secret(key);
}

export function publicKeyOf(secret: Secret): Uint8Array {
  const der = createPublicKey(privateOf(secret)).export({ format: "der", type: "spki" });
  return new Uint8Array(der.subarray(SPKI.length));
}

/** X25519; undefined for a public key with which nothing can be agreed (small order). */
export function agree(secret: Secret, publicKey: Uint8Array): Uint8Array | undefined {
  try {
    const shared = diffieHellman({
      privateKey: privateOf(secret),
      publicKey: createPublicKey({ key: Buffer.concat([SPKI, publicKey]), format: "der", type: "spki" }),
    });
    return shared.some((byte) => byte !== 0) ? new Uint8Array(shared) : undefined;
  } catch {
    return undefined;
  }
}
