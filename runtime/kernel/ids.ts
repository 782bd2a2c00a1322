/** Branded ids and their text forms. Node ids: 32 bytes as 52 characters of lower-case base32 (RFC 4648 section 6, no padding). */
import { godwitError } from "./errors.ts";

/** An Ed25519 public key in text form: 52 characters of lower-case base32. */
export type NodeId = string & { readonly brand: "NodeId" };
/** 16 bytes as 32 characters of lower-case hex: names a message for its sender and recipient, see docs/protocol/delivery.md. */
export type MessageId = string & { readonly brand: "MessageId" };
/** 16 bytes as 32 characters of lower-case hex: names a sealed bundle for relays. */
export type BundleId = string & { readonly brand: "BundleId" };

export const NODE_ID_BYTES = 32;
export const NODE_ID_CHARS = 52;
export const MESSAGE_ID_BYTES = 16;
export const BUNDLE_ID_BYTES = 16;

const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";
const VALUES = new Int8Array(128).fill(-1);
for (let i = 0; i < 32; i++) {
  VALUES[ALPHABET.charCodeAt(i)] = i;
  VALUES[ALPHABET.toUpperCase().charCodeAt(i)] = i;
}

export function formatBase32(bytes: Uint8Array): string {
  let out = "";
  let held = 0;
  let bits = 0;
  for (const byte of bytes) {
    held = ((held << 8) | byte) & 0xffff;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      out += ALPHABET[(held >> bits) & 31];
    }
  }
  return bits > 0 ? out + ALPHABET[(held << (5 - bits)) & 31] : out;
}

/** Undefined unless `text` is canonical base32 in either case (no stray trailing bits). */
export function parseBase32(text: string): Uint8Array | undefined {
  const out = new Uint8Array(Math.floor((text.length * 5) / 8));
  let held = 0;
  let bits = 0;
  let at = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    const value = code < 128 ? VALUES[code]! : -1;
    if (value < 0) return undefined;
    held = ((held << 5) | value) & 0xfff;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      out[at++] = (held >> bits) & 255;
    }
  }
  return bits < 5 && (held & ((1 << bits) - 1)) === 0 ? out : undefined;
}

/** Ids repeat endlessly on the wire, so text forms are cached by their bytes; bounded, cleared whole when full. */
const nodeIdCache = new Map<string, NodeId>();
const NODE_ID_CACHE_MAX = 65_536;

/** Text form of 32 raw bytes. Does not check that they are a good key; `identity/keys` does. */
export function formatNodeId(bytes: Uint8Array): NodeId {
  if (bytes.length !== NODE_ID_BYTES)
    throw godwitError("GODWIT_ID_INVALID", `a node id has 32 bytes, got ${bytes.length}`);
  const key = bytes.toHex();
  let id = nodeIdCache.get(key);
  if (id === undefined) {
    id = formatBase32(bytes) as NodeId;
    if (nodeIdCache.size >= NODE_ID_CACHE_MAX) nodeIdCache.clear();
    nodeIdCache.set(key, id);
  }
  return id;
}

/** Accepts either case; throws GODWIT_ID_INVALID. */
export function parseNodeId(text: string): NodeId {
  const bytes = text.length === NODE_ID_CHARS ? parseBase32(text) : undefined;
  if (bytes === undefined)
    throw godwitError("GODWIT_ID_INVALID", `"${text.slice(0, 60)}" is not a node id: 52 characters a-z2-7`);
  return text.toLowerCase() as NodeId;
}

const nodeBytesCache = new Map<NodeId, Uint8Array>();

/** The 32 bytes of an id. Shared and cached: never write to them. */
export function nodeIdBytes(id: NodeId): Uint8Array {
  let bytes = nodeBytesCache.get(id);
  if (bytes === undefined) {
    bytes = parseBase32(id)!;
    if (nodeBytesCache.size >= NODE_ID_CACHE_MAX) nodeBytesCache.clear();
    nodeBytesCache.set(id, bytes);
  }
  return bytes;
}

/** First 10 characters, for people. */
export const shortId = (id: NodeId): string => id.slice(0, 10);

export const formatHex = (bytes: Uint8Array): string => bytes.toHex();

/** Undefined unless `text` is exactly `length` bytes of hex. */
export function parseHex(text: string, length: number): Uint8Array | undefined {
  if (text.length !== 2 * length || !/^[0-9a-fA-F]*$/.test(text)) return undefined;
  return Uint8Array.fromHex(text);
}

export const formatMessageId = (bytes: Uint8Array): MessageId => formatHex(bytes) as MessageId;
export const formatBundleId = (bytes: Uint8Array): BundleId => formatHex(bytes) as BundleId;
export const idBytes = (id: MessageId | BundleId): Uint8Array => Uint8Array.fromHex(id);
