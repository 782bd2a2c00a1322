/**
 * The dialect of msgpack that Serf speaks: text and bytes both as fixraw, raw16 or raw32 (never str8 or bin), integers of the least width,
 * maps with text keys. Owns the bounds of what strangers may make it build. Pure. Reads the newer types too, because other codecs write them.
 * https://github.com/msgpack/msgpack/blob/master/spec-old.md
 */
import { GodwitError } from "@godwit/sdk";

/** Always a 64-bit float, whatever its value: coordinates. */
export class Float {
  readonly value: number;
  constructor(value: number) {
    this.value = value;
  }
}

export type Encodable =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | Float
  | readonly Encodable[]
  | { readonly [key: string]: Encodable }
  | ReadonlyMap<string, Encodable>;

/** Text and bytes are not told apart on the wire: both come as bytes, views of the input. */
export type Decoded =
  null | boolean | number | bigint | Uint8Array | readonly Decoded[] | ReadonlyMap<string, Decoded>;

/** Containers in containers; Serf has three. */
const DEPTH_MAX = 6;
/** Of one decoding, so that a megabyte of empty values does not become sixty. */
const VALUES_MAX = 100_000;
const KEY_BYTES_MAX = 256;

export const wireError = (what: string): GodwitError =>
  new GodwitError("GODWIT_DECODE", `serf: ${what}`, { kind: "protocol" });

const utf8 = new TextEncoder();
const text = new TextDecoder();

/** Grows by doubling. */
export class ByteWriter {
  #buffer = new Uint8Array(256);
  #view = new DataView(this.#buffer.buffer);
  #length = 0;

  u8(value: number): this {
    this.#room(1);
    this.#buffer[this.#length++] = value;
    return this;
  }

  u16(value: number): this {
    this.#room(2);
    this.#view.setUint16(this.#length, value);
    this.#length += 2;
    return this;
  }

  u32(value: number): this {
    this.#room(4);
    this.#view.setUint32(this.#length, value);
    this.#length += 4;
    return this;
  }

  u64(value: bigint): this {
    this.#room(8);
    this.#view.setBigUint64(this.#length, value);
    this.#length += 8;
    return this;
  }

  f64(value: number): this {
    this.#room(8);
    this.#view.setFloat64(this.#length, value);
    this.#length += 8;
    return this;
  }

  bytes(bytes: Uint8Array): this {
    this.#room(bytes.length);
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
    return this;
  }

  value(value: Encodable): this {
    if (value === null) return this.u8(0xc0);
    if (typeof value === "boolean") return this.u8(value ? 0xc3 : 0xc2);
    if (typeof value === "number" || typeof value === "bigint") return this.#integer(BigInt(value));
    if (typeof value === "string") return this.#raw(utf8.encode(value));
    if (value instanceof Uint8Array) return this.#raw(value);
    if (value instanceof Float) return this.u8(0xcb).f64(value.value);
    if (value instanceof Map) return this.#map([...value]);
    if (Array.isArray(value)) {
      this.#head(value.length, 0x90, 15, 0xdc);
      for (const one of value as readonly Encodable[]) this.value(one);
      return this;
    }
    return this.#map(Object.entries(value as { readonly [key: string]: Encodable }));
  }

  /** The bytes written, the caller's. */
  finish(): Uint8Array {
    return this.#buffer.slice(0, this.#length);
  }

  #map(entries: readonly (readonly [string, Encodable])[]): this {
    this.#head(entries.length, 0x80, 15, 0xde);
    for (const [key, value] of entries) this.#raw(utf8.encode(key)).value(value);
    return this;
  }

  #head(count: number, fix: number, fixMax: number, wide: number): this {
    if (count <= fixMax) return this.u8(fix | count);
    return count <= 0xffff ? this.u8(wide).u16(count) : this.u8(wide + 1).u32(count);
  }

  #raw(bytes: Uint8Array): this {
    return this.#head(bytes.length, 0xa0, 31, 0xda).bytes(bytes);
  }

  #integer(value: bigint): this {
    if (value < 0n) {
      if (value >= -32n) return this.u8(Number(value) & 0xff);
      if (value >= -128n) return this.u8(0xd0).u8(Number(value) & 0xff);
      if (value >= -32_768n) return this.u8(0xd1).u16(Number(value) & 0xffff);
      if (value >= -2_147_483_648n) return this.u8(0xd2).u32(Number(value) >>> 0);
      return this.u8(0xd3).u64(BigInt.asUintN(64, value));
    }
    if (value < 128n) return this.u8(Number(value));
    if (value < 0x100n) return this.u8(0xcc).u8(Number(value));
    if (value < 0x1_0000n) return this.u8(0xcd).u16(Number(value));
    if (value < 0x1_0000_0000n) return this.u8(0xce).u32(Number(value));
    return this.u8(0xcf).u64(value);
  }

  #room(more: number): void {
    if (this.#length + more <= this.#buffer.length) return;
    const wider = new Uint8Array(Math.max(this.#buffer.length * 2, this.#length + more));
    wider.set(this.#buffer.subarray(0, this.#length));
    this.#buffer = wider;
    this.#view = new DataView(wider.buffer);
  }
}

/** The caller's bytes. */
export const encodeValue = (value: Encodable): Uint8Array => new ByteWriter().value(value).finish();

/** What one head byte says: how many bytes of length or value follow, and what kind of thing it is. */
interface Head {
  readonly kind: "raw" | "array" | "map" | "scalar" | "ext";
  /** Bytes behind the first that hold the count, or the scalar itself. */
  readonly width: number;
  /** Where the count is in the first byte. */
  readonly count?: number;
}

function headOf(byte: number): Head | undefined {
  if (byte <= 0x7f || byte >= 0xe0) return { kind: "scalar", width: 0 };
  if (byte <= 0x8f) return { kind: "map", width: 0, count: byte & 15 };
  if (byte <= 0x9f) return { kind: "array", width: 0, count: byte & 15 };
  if (byte <= 0xbf) return { kind: "raw", width: 0, count: byte & 31 };
  return wideHeads[byte - 0xc0];
}

const scalar = (width: number): Head => ({ kind: "scalar", width });
const raw = (width: number): Head => ({ kind: "raw", width });
const ext = (width: number, count?: number): Head =>
  count === undefined ? { kind: "ext", width } : { kind: "ext", width, count };
/** 0xc0 to 0xdf. */
const wideHeads: readonly (Head | undefined)[] = [
  ...[scalar(0), undefined, scalar(0), scalar(0)],
  ...[raw(1), raw(2), raw(4), ext(1), ext(2), ext(4)],
  ...[scalar(4), scalar(8)],
  ...[scalar(1), scalar(2), scalar(4), scalar(8)],
  ...[scalar(1), scalar(2), scalar(4), scalar(8)],
  ...[ext(0, 1), ext(0, 2), ext(0, 4), ext(0, 8), ext(0, 16)],
  ...[raw(1), raw(2), raw(4)],
  ...[
    { kind: "array", width: 2 } as const,
    { kind: "array", width: 4 } as const,
    { kind: "map", width: 2 } as const,
    { kind: "map", width: 4 } as const,
  ],
];

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

function countAt(view: DataView, at: number, { width, count }: Head): number {
  if (count !== undefined) return count;
  return width === 1 ? view.getUint8(at) : width === 2 ? view.getUint16(at) : view.getUint32(at);
}

/**
 * Finds where values end in bytes that are still coming, without building any: each byte is looked at once, however many pieces they
 * come in. Throws GODWIT_DECODE for what is no msgpack.
 */
export class ValueScanner {
  /** Where the next head stands. */
  #at: number;
  #pending: number;

  constructor(from: number, values = 1) {
    this.#at = from;
    this.#pending = values;
  }

  /** Where the last value ends; undefined: more bytes are needed. `bytes` begin where they began in the calls before. */
  scan(bytes: Uint8Array): number | undefined {
    const view = viewOf(bytes);
    while (this.#pending > 0) {
      if (this.#at >= bytes.length) return undefined;
      const head = headOf(bytes[this.#at]!);
      if (head === undefined) throw wireError("a byte that no msgpack value begins with");
      if (this.#at + 1 + head.width > bytes.length) return undefined;
      const count = head.kind === "scalar" ? 0 : countAt(view, this.#at + 1, head);
      const inside = head.kind === "array" ? count : head.kind === "map" ? 2 * count : 0;
      const skipped = head.kind === "raw" ? count : head.kind === "ext" ? count + 1 : 0;
      this.#at += 1 + head.width + skipped;
      this.#pending += inside - 1;
    }
    return this.#at <= bytes.length ? this.#at : undefined;
  }
}

/** Reads values one after another out of bytes that are all there. Throws GODWIT_DECODE. */
export class ValueReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at: number;
  #values = 0;

  constructor(bytes: Uint8Array, at = 0) {
    this.#bytes = bytes;
    this.#view = viewOf(bytes);
    this.#at = at;
  }

  get at(): number {
    return this.#at;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  /** The next `length` bytes, a view. */
  take(length: number): Uint8Array {
    if (length > this.#bytes.length - this.#at) throw wireError("a message ends too early");
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  /** Goes down at most DEPTH_MAX calls, so recursion is safe here. */
  value(depth = 0): Decoded {
    if (++this.#values > VALUES_MAX) throw wireError(`more than ${VALUES_MAX} values in one message`);
    const first = this.take(1)[0]!;
    const head = headOf(first);
    if (head === undefined || head.kind === "ext") throw wireError("a value of a type that Serf has not");
    if (head.kind === "scalar") return this.#scalar(first, head.width);
    const at = this.#at;
    this.take(head.width);
    const count = countAt(this.#view, at, head);
    if (head.kind === "raw") return this.take(count);
    if (depth >= DEPTH_MAX) throw wireError("values too deep in each other");
    // Each has a byte at least: a count that promises more is refused before anything is made for it.
    if (count * (head.kind === "map" ? 2 : 1) > this.#bytes.length - this.#at)
      throw wireError("a message ends too early");
    if (head.kind === "array") {
      const list: Decoded[] = [];
      for (let i = 0; i < count; i++) list.push(this.value(depth + 1));
      return list;
    }
    const map = new Map<string, Decoded>();
    for (let i = 0; i < count; i++) {
      const key = this.value(depth + 1);
      if (!(key instanceof Uint8Array) || key.length > KEY_BYTES_MAX)
        throw wireError("a key that is no short text");
      map.set(text.decode(key), this.value(depth + 1));
    }
    return map;
  }

  #scalar(first: number, width: number): Decoded {
    if (first <= 0x7f) return first;
    if (first >= 0xe0) return first - 0x100;
    const at = this.#at;
    this.take(width);
    const view = this.#view;
    switch (first) {
      case 0xc0:
        return null;
      case 0xc2:
      case 0xc3:
        return first === 0xc3;
      case 0xca:
        return view.getFloat32(at);
      case 0xcb:
        return view.getFloat64(at);
      case 0xcc:
        return view.getUint8(at);
      case 0xcd:
        return view.getUint16(at);
      case 0xce:
        return view.getUint32(at);
      case 0xcf:
        return narrow(view.getBigUint64(at));
      case 0xd0:
        return view.getInt8(at);
      case 0xd1:
        return view.getInt16(at);
      case 0xd2:
        return view.getInt32(at);
      default:
        return narrow(view.getBigInt64(at));
    }
  }
}

const narrow = (value: bigint): number | bigint =>
  value <= BigInt(Number.MAX_SAFE_INTEGER) && value >= BigInt(Number.MIN_SAFE_INTEGER)
    ? Number(value)
    : value;

/** One value and nothing behind it matters: Serf itself lets bytes stand behind a message. */
export const decodeValue = (bytes: Uint8Array): Decoded => new ValueReader(bytes).value();

/** The named fields of a message; every wrong one throws GODWIT_DECODE that names it, a missing one is its zero value, as in Go. */
export class Fields {
  readonly #map: ReadonlyMap<string, Decoded>;

  constructor(value: Decoded) {
    if (!(value instanceof Map)) throw wireError("a message that is no map");
    this.#map = value as ReadonlyMap<string, Decoded>;
  }

  static of(bytes: Uint8Array): Fields {
    return new Fields(decodeValue(bytes));
  }

  get(name: string): Decoded {
    return this.#map.get(name) ?? null;
  }

  /** A view. */
  bytes(name: string, max: number): Uint8Array {
    const value = this.get(name) ?? new Uint8Array(0);
    if (!(value instanceof Uint8Array)) throw wireError(`${name} is no text`);
    if (value.length > max) throw wireError(`${name} has ${value.length} bytes, at most ${max} are allowed`);
    return value;
  }

  text(name: string, max: number): string {
    return text.decode(this.bytes(name, max));
  }

  /** 0 to `max`, at most 2^53 - 1. */
  uint(name: string, max: number): number {
    const value = this.get(name) ?? 0;
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0 || value > max)
      throw wireError(`${name} is no whole number from 0 to ${max}`);
    return value;
  }

  float(name: string): number {
    const value = this.get(name) ?? 0;
    if (typeof value !== "number" || !Number.isFinite(value)) throw wireError(`${name} is no number`);
    return value;
  }

  flag(name: string): boolean {
    return this.get(name) === true;
  }

  list(name: string): readonly Decoded[] {
    const value = this.get(name) ?? [];
    if (!Array.isArray(value)) throw wireError(`${name} is no list`);
    return value as readonly Decoded[];
  }

  map(name: string): ReadonlyMap<string, Decoded> {
    const value = this.get(name) ?? new Map<string, Decoded>();
    if (!(value instanceof Map)) throw wireError(`${name} is no map`);
    return value as ReadonlyMap<string, Decoded>;
  }
}
