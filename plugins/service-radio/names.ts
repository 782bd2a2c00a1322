/** By what Meshtastic names a channel and a node: nothing here opens or seals. Pure. Source: Channels.cpp and CryptoEngine.cpp of 2.8.0. */
/** The key that everybody has: a key of one byte n is this one with n - 1 added to its last byte. */
const PUBLIC_KEY = Buffer.from("d4f1bb3a20290759f0bcffabcf4e6901", "hex");
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

/** The number that 2.8 gives to a node with that key. */
export const numberOfKey = (publicKey: Uint8Array): number => Bun.hash.crc32(publicKey) >>> 0;
