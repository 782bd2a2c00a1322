/** SHA-256 of what is here as a whole. One hasher for all: a new one for each digest costs twice as much. Keeps nothing between two calls. */

/** Begins anew with each digest. */
const hasher = new Bun.CryptoHasher("sha256");

/** Of the parts one behind the other: 32 bytes, owned by the caller. */
export function sha256(first: Uint8Array, second?: Uint8Array): Uint8Array {
  hasher.update(first);
  if (second !== undefined) hasher.update(second);
  return new Uint8Array(hasher.digest());
}

/** The first `bytes` of it in hex. */
export function sha256Hex(bytes: number, first: Uint8Array, second?: Uint8Array): string {
  hasher.update(first);
  if (second !== undefined) hasher.update(second);
  return hasher.digest("hex").slice(0, 2 * bytes);
}
