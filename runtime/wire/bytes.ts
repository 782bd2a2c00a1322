/**
 * Reading and writing of wire fields. Big-endian; varints are LEB128 (7 bits a byte, least significant first, at most
 * 2^53-1, shortest form required on read). Pure: no I/O, no clock. Every read is bounds-checked and throws
 * GODWIT_DECODE; nothing is allocated on the word of a length field.
 */
import { godwitError } from "../kernel/errors.ts";
import { formatNodeIdAt, NODE_ID_BYTES, nodeIdBytes, type NodeId } from "../kernel/ids.ts";

const textDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const textEncoder = new TextEncoder();

// Byte by byte: a DataView, or a look at `buffer`, moves what a short array holds to memory of its own, at several times the cost of the field.
const u16At = (bytes: Uint8Array, at: number): number => (bytes[at]! << 8) | bytes[at + 1]!;
const u32At = (bytes: Uint8Array, at: number): number => u16At(bytes, at) * 0x10000 + u16At(bytes, at + 2);

/** Reads one borrowed buffer from front to back. Sub-arrays handed out share its memory: copy what you keep. */
export class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get remaining(): number {
    return this.#bytes.length - this.#at;
  }

  get offset(): number {
    return this.#at;
  }

  u8(): number {
    return this.#bytes[this.#take(1)]!;
  }

  u16(): number {
    return u16At(this.#bytes, this.#take(2));
  }

  u32(): number {
    return u32At(this.#bytes, this.#take(4));
  }

  /** 48 bits: exact in a number. */
  u48(): number {
    const at = this.#take(6);
    return u16At(this.#bytes, at) * 2 ** 32 + u32At(this.#bytes, at + 2);
  }

  varint(): number {
    let value = 0;
    let scale = 1;
    for (let i = 0; i < 8; i++) {
      const byte = this.u8();
      value += (byte & 127) * scale;
      if (byte < 128) {
        if (byte === 0 && i > 0) throw decodeError("varint is not in its shortest form");
        if (value > Number.MAX_SAFE_INTEGER) throw decodeError("varint is above 2^53-1");
        return value;
      }
      scale *= 128;
    }
    throw decodeError("varint is longer than 8 bytes");
  }

  /** `length` bytes sharing the buffer's memory. */
  bytes(length: number): Uint8Array {
    const at = this.#take(length);
    return this.#bytes.subarray(at, at + length);
  }

  /** A varint length of at most `lengthMax`, then that many bytes (shared memory). */
  sizedBytes(lengthMax: number): Uint8Array {
    const length = this.varint();
    if (length > lengthMax) throw decodeError(`field of ${length} bytes, at most ${lengthMax} allowed`);
    return this.bytes(length);
  }

  /** As `sizedBytes`, decoded as strict UTF-8. */
  text(lengthMax: number): string {
    const bytes = this.sizedBytes(lengthMax);
    try {
      return textDecoder.decode(bytes);
    } catch {
      throw decodeError("text is not UTF-8");
    }
  }

  nodeId(): NodeId {
    return formatNodeIdAt(this.#bytes, this.#take(NODE_ID_BYTES));
  }

  rest(): Uint8Array {
    return this.bytes(this.remaining);
  }

  #take(length: number): number {
    const at = this.#at;
    if (length < 0 || length > this.#bytes.length - at)
      throw decodeError(`truncated: ${length} bytes wanted, ${this.#bytes.length - at} left`);
    this.#at = at + length;
    return at;
  }
}

const NO_BYTES = new Uint8Array(0);
const COPIED_BYTES_MAX = 1_024;

/** Appends to a buffer that grows by doubling. `finish` hands the bytes over and leaves the writer empty. */
export class Writer {
  #buffer: Uint8Array;
  readonly #isBorrowed: boolean;
  #length = 0;

  /** `room`: bytes that it begins with, or memory of the caller to write to as long as that is enough. */
  constructor(room: number | Uint8Array = 256) {
    this.#isBorrowed = typeof room !== "number";
    this.#buffer = typeof room === "number" ? new Uint8Array(room) : room;
  }

  get length(): number {
    return this.#length;
  }

  u8(value: number): this {
    this.#check(value, 0xff);
    const at = this.#grow(1);
    this.#buffer[at] = value;
    return this;
  }

  u16(value: number): this {
    this.#check(value, 0xffff);
    const at = this.#grow(2);
    this.#put16(at, value);
    return this;
  }

  u32(value: number): this {
    this.#check(value, 0xffffffff);
    const at = this.#grow(4);
    this.#put16(at, value >>> 16);
    this.#put16(at + 2, value);
    return this;
  }

  u48(value: number): this {
    this.#check(value, 2 ** 48 - 1);
    const at = this.#grow(6);
    this.#put16(at, Math.floor(value / 2 ** 32));
    this.#put16(at + 2, Math.floor(value / 2 ** 16) % 2 ** 16);
    this.#put16(at + 4, value % 2 ** 16);
    return this;
  }

  varint(value: number): this {
    this.#check(value, Number.MAX_SAFE_INTEGER);
    let rest = value;
    while (rest > 127) {
      this.u8((rest % 128) | 128);
      rest = Math.floor(rest / 128);
    }
    return this.u8(rest);
  }

  bytes(bytes: Uint8Array): this {
    const at = this.#grow(bytes.length);
    this.#buffer.set(bytes, at);
    return this;
  }

  sizedBytes(bytes: Uint8Array): this {
    return this.varint(bytes.length).bytes(bytes);
  }

  text(text: string): this {
    return this.sizedBytes(textEncoder.encode(text));
  }

  nodeId(id: NodeId): this {
    return this.bytes(nodeIdBytes(id));
  }

  /** The bytes written, owned by the caller unless the memory was somebody's. */
  finish(): Uint8Array {
    const [buffer, length] = [this.#buffer, this.#length];
    this.#buffer = NO_BYTES;
    this.#length = 0;
    if (length === buffer.length) return buffer;
    // A copy of a few bytes costs less than a view of them.
    const isCopied = !this.#isBorrowed && length <= COPIED_BYTES_MAX;
    return isCopied ? buffer.slice(0, length) : buffer.subarray(0, length);
  }

  #put16(at: number, value: number): void {
    this.#buffer[at] = value >>> 8;
    this.#buffer[at + 1] = value;
  }

  /** Call it before reading `#buffer`: it may replace it. */
  #grow(by: number): number {
    const at = this.#length;
    const needed = at + by;
    if (needed > this.#buffer.length) {
      const next = new Uint8Array(Math.max(needed, this.#buffer.length * 2, 64));
      next.set(this.#buffer.subarray(0, at));
      this.#buffer = next;
    }
    this.#length = needed;
    return at;
  }

  #check(value: number, max: number): void {
    if (!Number.isInteger(value) || value < 0 || value > max)
      throw godwitError("GODWIT_ENCODE", `${value} does not fit 0..${max}`);
  }
}

export const decodeError = (message: string) => godwitError("GODWIT_DECODE", message);

/** The parts one behind the other, owned by the caller. */
export function concatBytes(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((total, part) => total + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
