/**
 * Messages of Linux's netlink (netlink(7)): what any of its families share. Pure: values in, bytes out, and back, with every
 * length checked before it is believed. Numbers are in the machine's byte order, which on every target of ours is
 * little-endian.
 *
 *   | length 4 | type 2 | flags 2 | sequence 4 | port 4 | body ...     aligned to 4; length counts all of it
 *   attribute: | length 2 | type 2 | value ...                         aligned to 4; length counts its head
 *   body of an error: | -errno 4 | head of the request 16 | attributes ...   -errno 0 is an acknowledgement
 */
import { GodwitError } from "../errors.ts";

/** Types below 16 that every family has. */
export const NetlinkControl = { noop: 1, error: 2, done: 3, overrun: 4 } as const;

/** Of `flags`; `replace` and what follows mean this in a request that makes something. */
export const NetlinkFlag = {
  request: 0x1,
  multi: 0x2,
  ack: 0x4,
  /** Of an answer: what was listed changed meanwhile. */
  dumpInterrupted: 0x10,
  dump: 0x300,
  replace: 0x100,
  exclusive: 0x200,
  create: 0x400,
  append: 0x800,
  /** Of an error: its attributes say more. */
  ackTlvs: 0x200,
  /** Of an error: only the head of the request is in it. */
  ackCapped: 0x100,
} as const;

export const HEADER_BYTES = 16;
/** Of one message that is built here; the kernel takes no more in one datagram by default. */
export const MESSAGE_BYTES_MAX = 65_536;
const ATTRIBUTE_HEADER_BYTES = 4;
const ATTRIBUTE_BYTES_MAX = 65_535;
const ATTRIBUTE_TYPE_MASK = 0x3fff;
const ATTRIBUTE_NESTED = 0x8000;
/** Nested attributes that are built into one another. */
const DEPTH_MAX = 8;
/** NLMSGERR_ATTR_MSG. */
const ERROR_TEXT = 1;
const ERROR_TEXT_CHARS_MAX = 200;

export interface NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  /** The socket that asked; 0: the kernel speaks by itself. */
  readonly port: number;
  /** Shares the datagram's memory. */
  readonly body: Uint8Array;
}

/** Value by type; of a type that stands twice, the last. Values share the datagram's memory. */
export type NetlinkAttributes = ReadonlyMap<number, Uint8Array>;

export const align4 = (length: number): number => (length + 3) & ~3;
export const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
/** GODWIT_DECODE. */
export const malformed = (what: string): GodwitError =>
  new GodwitError("GODWIT_DECODE", `netlink: ${what}`, { kind: "protocol" });
const unfit = (what: string): GodwitError =>
  new GodwitError("GODWIT_ENCODE", `netlink: ${what}`, { kind: "bug" });

/**
 * Builds one message: the fixed struct of its type first, then attributes. Throws GODWIT_ENCODE when something does not fit.
 * The sequence number is written by the socket.
 */
export class NetlinkBuilder {
  #bytes = new Uint8Array(256);
  #view = viewOf(this.#bytes);
  #length = HEADER_BYTES;
  #depth = 0;

  constructor(type: number, flags: number) {
    this.#view.setUint16(4, type, true);
    this.#view.setUint16(6, flags, true);
  }

  u8(value: number): this {
    const at = this.#grow(1);
    this.#bytes[at] = value;
    return this;
  }

  u16(value: number): this {
    const at = this.#grow(2);
    this.#view.setUint16(at, value, true);
    return this;
  }

  u32(value: number): this {
    const at = this.#grow(4);
    this.#view.setUint32(at, value, true);
    return this;
  }

  raw(value: Uint8Array): this {
    const at = this.#grow(value.length);
    this.#bytes.set(value, at);
    return this;
  }

  attribute(type: number, value: Uint8Array): this {
    if (ATTRIBUTE_HEADER_BYTES + value.length > ATTRIBUTE_BYTES_MAX)
      throw unfit(`an attribute of ${value.length} bytes`);
    this.u16(ATTRIBUTE_HEADER_BYTES + value.length).u16(type);
    return this.raw(value).#pad();
  }

  attributeU8 = (type: number, value: number): this => this.attribute(type, Uint8Array.of(value));

  attributeU16(type: number, value: number): this {
    return this.attribute(type, Uint8Array.of(value & 0xff, value >>> 8));
  }

  attributeU32(type: number, value: number): this {
    const bytes = new Uint8Array(4);
    viewOf(bytes).setUint32(0, value, true);
    return this.attribute(type, bytes);
  }

  /** With the NUL at its end. */
  attributeText(type: number, text: string): this {
    if (text.includes("\0")) throw unfit("a text with a NUL");
    return this.attribute(type, new TextEncoder().encode(`${text}\0`));
  }

  /** `fill` writes what stands inside. Without `isFlagged`, as the oldest families want it. */
  nest(type: number, fill: (inside: this) => void, isFlagged = true): this {
    if (++this.#depth > DEPTH_MAX) throw unfit("attributes nested too deep");
    const at = this.#length;
    this.u16(0).u16(isFlagged ? type | ATTRIBUTE_NESTED : type);
    fill(this);
    const length = this.#length - at;
    if (length > ATTRIBUTE_BYTES_MAX) throw unfit(`an attribute of ${length} bytes`);
    this.#view.setUint16(at, length, true);
    this.#depth--;
    return this.#pad();
  }

  get length(): number {
    return this.#length;
  }

  /** Owned by the caller. */
  finish(sequence: number): Uint8Array {
    const bytes = this.#bytes.slice(0, align4(this.#length));
    const view = viewOf(bytes);
    view.setUint32(0, this.#length, true);
    view.setUint32(8, sequence, true);
    return bytes;
  }

  #pad(): this {
    this.#grow(align4(this.#length) - this.#length);
    return this;
  }

  /** Answers where the new bytes begin; they are zero. The buffer may be another one after it. */
  #grow(count: number): number {
    const at = this.#length;
    if (at + count > MESSAGE_BYTES_MAX) throw unfit(`a message above ${MESSAGE_BYTES_MAX} bytes`);
    if (at + count > this.#bytes.length) {
      const larger = new Uint8Array(Math.min(MESSAGE_BYTES_MAX, Math.max(at + count, 2 * at)));
      larger.set(this.#bytes);
      this.#bytes = larger;
      this.#view = viewOf(larger);
    }
    this.#length += count;
    return at;
  }
}

/** Every message of one datagram. Throws GODWIT_DECODE. */
export function parseMessages(datagram: Uint8Array): NetlinkMessage[] {
  const view = viewOf(datagram);
  const messages: NetlinkMessage[] = [];
  for (let at = 0; at < datagram.length;) {
    const rest = datagram.length - at;
    const length = rest < HEADER_BYTES ? 0 : view.getUint32(at, true);
    if (length < HEADER_BYTES || length > rest)
      throw malformed(`a message of ${length} bytes where ${rest} are left`);
    messages.push({
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      sequence: view.getUint32(at + 8, true),
      port: view.getUint32(at + 12, true),
      body: datagram.subarray(at + HEADER_BYTES, at + length),
    });
    // By the length that was checked; unlike `&`, this cannot turn negative.
    at += length + ((4 - (length % 4)) % 4);
  }
  return messages;
}

/** In order, repeated types too. Fewer than four bytes at the end are padding. Throws GODWIT_DECODE. */
export function attributeList(bytes: Uint8Array): { readonly type: number; readonly value: Uint8Array }[] {
  const view = viewOf(bytes);
  const found: { type: number; value: Uint8Array }[] = [];
  for (let at = 0; at + ATTRIBUTE_HEADER_BYTES <= bytes.length;) {
    const length = view.getUint16(at, true);
    if (length < ATTRIBUTE_HEADER_BYTES || length > bytes.length - at)
      throw malformed("an attribute does not fit");
    found.push({
      type: view.getUint16(at + 2, true) & ATTRIBUTE_TYPE_MASK,
      value: bytes.subarray(at + ATTRIBUTE_HEADER_BYTES, at + length),
    });
    at += align4(length);
  }
  return found;
}

/** Of a body, what follows its fixed struct of `from` bytes. Throws GODWIT_DECODE. */
export function parseAttributes(body: Uint8Array, from = 0): NetlinkAttributes {
  if (body.length < from) throw malformed(`a body of ${body.length} bytes where ${from} come first`);
  return new Map(attributeList(body.subarray(from)).map(({ type, value }) => [type, value]));
}

/** Undefined where it is missing or of another length. */
export function readU32(attributes: NetlinkAttributes, type: number): number | undefined {
  const value = attributes.get(type);
  return value?.length === 4 ? viewOf(value).getUint32(0, true) : undefined;
}

export function readU16(attributes: NetlinkAttributes, type: number): number | undefined {
  const value = attributes.get(type);
  return value?.length === 2 ? viewOf(value).getUint16(0, true) : undefined;
}

/** Counters beyond 2^53 lose their last digits. */
export function readU64(attributes: NetlinkAttributes, type: number): number | undefined {
  const value = attributes.get(type);
  return value?.length === 8 ? Number(viewOf(value).getBigUint64(0, true)) : undefined;
}

/** Up to its NUL, or to `charsMax` bytes. */
export function readText(attributes: NetlinkAttributes, type: number, charsMax: number): string | undefined {
  const value = attributes.get(type);
  if (value === undefined) return undefined;
  const end = value.indexOf(0);
  return new TextDecoder().decode(value.subarray(0, Math.min(end < 0 ? value.length : end, charsMax)));
}

/** What `error` and `done` say: errno, 0 for all is well, and the kernel's words where it has some. Throws GODWIT_DECODE. */
export function parseOutcome({ type, flags, body }: NetlinkMessage): {
  readonly errno: number;
  readonly text: string | undefined;
} {
  if (body.length < 4) {
    // A `done` of old kernels has no body.
    if (type === NetlinkControl.done && body.length === 0) return { errno: 0, text: undefined };
    throw malformed("an outcome is cut short");
  }
  const view = viewOf(body);
  const errno = 0 - view.getInt32(0, true);
  if (type !== NetlinkControl.error || (flags & NetlinkFlag.ackTlvs) === 0) return { errno, text: undefined };
  if (body.length < 4 + HEADER_BYTES) throw malformed("an error is cut short");
  const isCapped = errno === 0 || (flags & NetlinkFlag.ackCapped) !== 0;
  const requestBytes = isCapped ? HEADER_BYTES : view.getUint32(4, true);
  if (requestBytes < HEADER_BYTES || requestBytes > body.length - 4)
    throw malformed("an error with a request of the wrong length");
  const attributes = parseAttributes(body, Math.min(body.length, 4 + align4(requestBytes)));
  return { errno, text: readText(attributes, ERROR_TEXT, ERROR_TEXT_CHARS_MAX) };
}
