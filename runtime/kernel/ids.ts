/** Branded ids and their text forms. Node ids: 32 bytes as 52 characters of lower-case base32 (RFC 4648 section 6, no padding). */
import { godwitError } from "./errors.ts";
import { systemRandom } from "./random.ts";

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
const CODES = new TextEncoder().encode(ALPHABET);
const VALUES = new Int8Array(128).fill(-1);
for (let i = 0; i < 32; i++) {
  VALUES[ALPHABET.charCodeAt(i)] = i;
  VALUES[ALPHABET.toUpperCase().charCodeAt(i)] = i;
}

/** Where a text is put together; what is longer has one of its own. */
const textScratch = Buffer.alloc(1_024);

export function formatBase32(bytes: Uint8Array): string {
  const chars = Math.ceil((bytes.length * 8) / 5);
  // Appended one by one they would be as many strings, each of which names the one before.
  const text = chars <= textScratch.length ? textScratch : Buffer.alloc(chars);
  let held = 0;
  let bits = 0;
  let at = 0;
  for (let i = 0; i < bytes.length; i++) {
    held = ((held << 8) | bytes[i]!) & 0xffff;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text[at++] = CODES[(held >> bits) & 31]!;
    }
  }
  if (bits > 0) text[at++] = CODES[(held << (5 - bits)) & 31]!;
  return text.toString("latin1", 0, at);
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

/** Ids kept in each of the caches, which are forgotten whole when full. */
const NODE_ID_CACHE_MAX = 65_536;

/**
 * Text forms of ids by their bytes: ids repeat endlessly on the wire, and to look one up makes nothing.
 * Which place an id has in the table is by keys of this process, so that nobody can choose thousands that have the same one: the upper half
 * of a sum of 16-bit words, each times a key of 32 bits, is strongly universal (Thorup, "High speed hashing for integers and strings", 2.3).
 */
class TextForms {
  static readonly #KEYS = new Uint32Array(systemRandom.bytes(4 * (NODE_ID_BYTES / 2 + 1)).buffer);
  /** 1 and the number of the id there; 0: none. A power of two, at most half full. */
  #places = new Int32Array(256);
  #bytes = new Uint8Array(0);
  #ids: NodeId[] = [];

  /** Of the 32 bytes at `from`. */
  of(bytes: Uint8Array, from: number): NodeId {
    const mask = this.#places.length - 1;
    for (let place = this.#first(bytes, from); ; place = (place + 1) & mask) {
      const number = this.#places[place]! - 1;
      if (number < 0) return this.#add(bytes.slice(from, from + NODE_ID_BYTES));
      if (this.#isAt(number, bytes, from)) return this.#ids[number]!;
    }
  }

  #add(bytes: Uint8Array): NodeId {
    if (this.#ids.length === NODE_ID_CACHE_MAX) {
      this.#places.fill(0);
      this.#ids = [];
    }
    const id = formatBase32(bytes) as NodeId;
    const number = this.#ids.push(id) - 1;
    if (this.#ids.length * NODE_ID_BYTES > this.#bytes.length) {
      const longer = new Uint8Array(Math.max(64 * NODE_ID_BYTES, 2 * this.#bytes.length));
      longer.set(this.#bytes);
      this.#bytes = longer;
    }
    this.#bytes.set(bytes, number * NODE_ID_BYTES);
    if (2 * this.#ids.length <= this.#places.length) this.#place(number);
    else {
      this.#places = new Int32Array(2 * this.#places.length);
      for (let i = 0; i <= number; i++) this.#place(i);
    }
    return id;
  }

  #place(number: number): void {
    let place = this.#first(this.#bytes, number * NODE_ID_BYTES);
    while (this.#places[place] !== 0) place = (place + 1) & (this.#places.length - 1);
    this.#places[place] = number + 1;
  }

  /** Where it is looked for first. */
  #first(bytes: Uint8Array, from: number): number {
    let sum = TextForms.#KEYS[NODE_ID_BYTES / 2]!;
    for (let i = 0; i < NODE_ID_BYTES / 2; i++)
      sum += Math.imul(TextForms.#KEYS[i]!, (bytes[from + 2 * i]! << 8) | bytes[from + 2 * i + 1]!);
    // 16 good bits, spread over places that may be twice as many.
    return Math.floor((((sum >>> 0) >>> 16) * this.#places.length) / 2 ** 16);
  }

  #isAt(number: number, bytes: Uint8Array, from: number): boolean {
    const at = number * NODE_ID_BYTES;
    for (let i = 0; i < NODE_ID_BYTES; i++) if (this.#bytes[at + i] !== bytes[from + i]) return false;
    return true;
  }
}
const textForms = new TextForms();

/** Text form of 32 raw bytes. Does not check that they are a good key; `identity/keys` does. */
export function formatNodeId(bytes: Uint8Array): NodeId {
  if (bytes.length !== NODE_ID_BYTES)
    throw godwitError("GODWIT_ID_INVALID", `a node id has 32 bytes, got ${bytes.length}`);
  return textForms.of(bytes, 0);
}

/** The same of those 32 of `bytes` that begin at `from`, all of which must be there. */
export const formatNodeIdAt = (bytes: Uint8Array, from: number): NodeId => textForms.of(bytes, from);

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
