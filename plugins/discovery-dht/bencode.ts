/**
 * Bencoding (BEP 3) of what strangers send: one value that fills the whole datagram, of bounded depth and number of values, integers in
 * their one form. Keys of a dictionary may stand in any order, as some write them, and never twice. Pure: bytes in, values out.
 */

/** A byte string, an integer, a list or a dictionary whose keys are bytes as Latin-1. */
export type Bencoded = Uint8Array | number | readonly Bencoded[] | ReadonlyMap<string, Bencoded>;

const DEPTH_MAX = 6;
/** No message of the protocol has a quarter of it. */
const VALUES_MAX = 256;

const [I, L, D, E, COLON, MINUS, ZERO, NINE] = [0x69, 0x6c, 0x64, 0x65, 0x3a, 0x2d, 0x30, 0x39] as const;

class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;
  #values = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  /** Undefined: it is none. Byte strings are views. */
  value(depth: number): Bencoded | undefined {
    if (depth > DEPTH_MAX || ++this.#values > VALUES_MAX) return undefined;
    const kind = this.#bytes[this.#at];
    if (kind === I) {
      this.#at++;
      return this.#integer(E, true);
    }
    if (kind === L) return this.#list(depth);
    if (kind === D) return this.#dictionary(depth);
    return this.#string();
  }

  #list(depth: number): Bencoded | undefined {
    const list: Bencoded[] = [];
    for (this.#at++; this.#bytes[this.#at] !== E;) {
      const value = this.value(depth + 1);
      if (value === undefined) return undefined;
      list.push(value);
    }
    this.#at++;
    return list;
  }

  #dictionary(depth: number): Bencoded | undefined {
    const map = new Map<string, Bencoded>();
    for (this.#at++; this.#bytes[this.#at] !== E;) {
      const key = this.#string();
      const value = key === undefined ? undefined : this.value(depth + 1);
      if (key === undefined || value === undefined) return undefined;
      const name = Buffer.from(key).toString("latin1");
      if (map.has(name)) return undefined;
      map.set(name, value);
    }
    this.#at++;
    return map;
  }

  #string(): Uint8Array | undefined {
    const length = this.#integer(COLON, false);
    if (length === undefined || length > this.#bytes.length - this.#at) return undefined;
    return this.#bytes.subarray(this.#at, (this.#at += length));
  }

  /** Up to 2^53 - 1 either way, no leading zeros, no -0. */
  #integer(end: number, mayBeNegative: boolean): number | undefined {
    const isNegative = mayBeNegative && this.#bytes[this.#at] === MINUS;
    if (isNegative) this.#at++;
    const start = this.#at;
    let value = 0;
    for (; ; this.#at++) {
      const digit = this.#bytes[this.#at];
      if (digit === end) break;
      if (digit === undefined || digit < ZERO || digit > NINE) return undefined;
      value = value * 10 + (digit - ZERO);
      if (!Number.isSafeInteger(value)) return undefined;
    }
    const digits = this.#at - start;
    this.#at++;
    const isCanonical = digits === 1 ? !(isNegative && value === 0) : this.#bytes[start] !== ZERO;
    return digits > 0 && isCanonical ? (isNegative ? -value : value) : undefined;
  }
}

/** Undefined: that is no bencoding, or more of it than is read. Byte strings of the answer are views of `bytes`. */
export function decodeBencode(bytes: Uint8Array): Bencoded | undefined {
  const reader = new Reader(bytes);
  const value = reader.value(0);
  return reader.isAtEnd ? value : undefined;
}

/** What is encoded: as `Bencoded`, texts as UTF-8, and objects as dictionaries, whose undefined fields are left out. */
export type Encodable =
  Uint8Array | string | number | readonly Encodable[] | { readonly [key: string]: Encodable | undefined };

/** Keys in their order. Integers have to be safe ones. */
export function encodeBencode(value: Encodable): Buffer {
  const parts: Uint8Array[] = [];
  const text = (words: string) => parts.push(Buffer.from(words));
  const write = (one: Encodable): void => {
    if (typeof one === "number") text(`i${one}e`);
    else if (typeof one === "string") write(Buffer.from(one));
    else if (one instanceof Uint8Array) {
      text(`${one.length}:`);
      parts.push(one);
    } else if (isList(one)) {
      text("l");
      one.forEach(write);
      text("e");
    } else {
      text("d");
      for (const key of Object.keys(one).sort()) {
        const field = one[key];
        if (field === undefined) continue;
        write(key);
        write(field);
      }
      text("e");
    }
  };
  write(value);
  return Buffer.concat(parts);
}

const isList = (value: Encodable): value is readonly Encodable[] => Array.isArray(value);
