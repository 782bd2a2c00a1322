/**
 * The gossip keys: the first one seals, each is tried to open. Owns AES-GCM as memberlist frames it; keeps nothing on a disk. A key proves
 * that somebody knows it and never who.
 *
 *   | version 1 | nonce 12 | ciphertext | tag 16 |     version 1: as it is; 0: padded to 16 as in PKCS #7, which is read and never written
 */
import { createCipheriv, createDecipheriv } from "node:crypto";
import { GodwitError } from "@godwit/sdk";

export const SEAL_OVERHEAD = 29;
/** Each costs every packet that no earlier one opens. */
export const KEYS_MAX = 8;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const CIPHERS = { 16: "aes-128-gcm", 24: "aes-192-gcm", 32: "aes-256-gcm" } as const;

/** 16, 24 or 32 bytes: AES-128, AES-192, AES-256. */
export const isKeyLength = (length: number): length is 16 | 24 | 32 => length in CIPHERS;

/** Of base64 as `serf keygen` prints it; undefined for what is no key. */
export function parseKey(text: string): Uint8Array | undefined {
  const trimmed = text.trim();
  if (!/^[A-Za-z0-9+/]{22,44}={0,2}$/.test(trimmed)) return undefined;
  const key = Uint8Array.from(Buffer.from(trimmed, "base64"));
  return isKeyLength(key.length) ? key : undefined;
}

export const formatKey = (key: Uint8Array): string => Buffer.from(key).toString("base64");

const refused = (message: string): GodwitError =>
  new GodwitError("GODWIT_REQUEST_INVALID", message, { kind: "config" });

export class Keyring {
  #keys: Uint8Array[];

  /** The first is primary. Throws RangeError for none, for too many, or for a length that is none. */
  constructor(keys: readonly Uint8Array[]) {
    if (keys.length === 0 || keys.length > KEYS_MAX || !keys.every(({ length }) => isKeyLength(length)))
      throw new RangeError(`a keyring has 1 to ${KEYS_MAX} keys of 16, 24 or 32 bytes`);
    this.#keys = keys.map((key) => key.slice());
  }

  /** The primary first. Shared: never write to them. */
  get keys(): readonly Uint8Array[] {
    return this.#keys;
  }

  has(key: Uint8Array): boolean {
    return this.#indexOf(key) >= 0;
  }

  /** Throws GODWIT_REQUEST_INVALID for what is no key or one too many. A known one stays where it is. */
  install(key: Uint8Array): void {
    if (!isKeyLength(key.length)) throw refused("key size must be 16, 24 or 32 bytes");
    if (this.has(key)) return;
    if (this.#keys.length >= KEYS_MAX)
      throw refused(`the keyring is full with ${KEYS_MAX} keys: remove one first`);
    this.#keys = [...this.#keys, key.slice()];
  }

  /** Makes it primary. Throws GODWIT_REQUEST_INVALID for one that is not installed. */
  use(key: Uint8Array): void {
    const index = this.#indexOf(key);
    if (index < 0) throw refused("requested key is not in the keyring");
    this.#keys = [this.#keys[index]!, ...this.#keys.filter((_, i) => i !== index)];
  }

  /** Throws GODWIT_REQUEST_INVALID for the primary. One that is not there is removed already. */
  remove(key: Uint8Array): void {
    const index = this.#indexOf(key);
    if (index === 0) throw refused("removing the primary key is not allowed");
    this.#keys = this.#keys.filter((_, i) => i !== index);
  }

  /** `nonce`: 12 bytes, never used before under any key. The caller's bytes. */
  seal(plain: Uint8Array, nonce: Uint8Array, aad: Uint8Array): Uint8Array {
    const key = this.#keys[0]!;
    const cipher = createCipheriv(CIPHERS[key.length as 16 | 24 | 32], key, nonce);
    if (aad.length > 0) cipher.setAAD(aad);
    const body = cipher.update(plain);
    cipher.final();
    return new Uint8Array(Buffer.concat([Uint8Array.of(1), nonce, body, cipher.getAuthTag()]));
  }

  /** Undefined: no key opens it. */
  open(sealed: Uint8Array, aad: Uint8Array): Uint8Array | undefined {
    const version = sealed[0];
    if (sealed.length < SEAL_OVERHEAD || (version !== 0 && version !== 1)) return undefined;
    const nonce = sealed.subarray(1, 1 + NONCE_BYTES);
    const body = sealed.subarray(1 + NONCE_BYTES, sealed.length - TAG_BYTES);
    const tag = sealed.subarray(sealed.length - TAG_BYTES);
    for (const key of this.#keys) {
      const decipher = createDecipheriv(CIPHERS[key.length as 16 | 24 | 32], key, nonce);
      decipher.setAAD(aad);
      decipher.setAuthTag(tag);
      const plain = decipher.update(body);
      try {
        decipher.final();
      } catch {
        continue;
      }
      return version === 1 ? plain : unpadded(plain);
    }
    return undefined;
  }

  #indexOf(key: Uint8Array): number {
    return this.#keys.findIndex((known) => Buffer.compare(known, key) === 0);
  }
}

function unpadded(plain: Uint8Array): Uint8Array | undefined {
  const count = plain.at(-1) ?? 0;
  return count >= 1 && count <= 16 && count <= plain.length
    ? plain.subarray(0, plain.length - count)
    : undefined;
}
