/**
 * LZW as memberlist has it (the `lzw` package of Go, least significant bit first, 8-bit literals): codes of 9 to 12 bits, 256 clears the
 * table, 257 ends. Pure. What a stranger's bytes may become is the caller's bound.
 */
import { wireError } from "./msgpack.ts";

const CLEAR = 256;
const END = 257;
const FIRST = 258;
const WIDTH_MIN = 9;
const WIDTH_MAX = 12;
const CODES = 1 << WIDTH_MAX;

/** Of `decompress`; shared by all calls, each of which is over before the next begins. */
const prefix = new Uint16Array(CODES);
const suffix = new Uint8Array(CODES);
const reversed = new Uint8Array(CODES);

/** The caller's bytes. Throws GODWIT_DECODE as soon as there would be more than `bytesMax`, or for what is no LZW. */
export function decompress(input: Uint8Array, bytesMax: number): Uint8Array {
  let output = new Uint8Array(Math.min(bytesMax, Math.max(256, input.length * 4)));
  let length = 0;
  let width = WIDTH_MIN;
  /** The code assigned last, or one before the first. */
  let top = END;
  let last = -1;
  let bits = 0;
  let held = 0;
  let at = 0;
  const put = (bytes: Uint8Array, from: number) => {
    const count = bytes.length - from;
    if (length + count > bytesMax) throw wireError(`compressed bytes that become more than ${bytesMax}`);
    if (length + count > output.length) {
      const wider = new Uint8Array(Math.min(bytesMax, Math.max(output.length * 2, length + count)));
      wider.set(output.subarray(0, length));
      output = wider;
    }
    output.set(bytes.subarray(from), length);
    length += count;
  };
  for (;;) {
    while (held < width) {
      if (at >= input.length) throw wireError("compressed bytes end too early");
      bits |= input[at++]! << held;
      held += 8;
    }
    const code = bits & ((1 << width) - 1);
    bits >>>= width;
    held -= width;
    if (code === END) return output.slice(0, length);
    if (code === CLEAR) {
      width = WIDTH_MIN;
      top = END;
      last = -1;
      continue;
    }
    if (code > top && !(code === top + 1 && last >= 0))
      throw wireError("compressed bytes with an unknown code");
    let end = CODES;
    let walk = code;
    if (code > top) {
      // The one code that is used while it is made: what the last one was, and its first byte again.
      let first = last;
      while (first >= FIRST) first = prefix[first]!;
      reversed[--end] = first;
      walk = last;
    }
    while (walk >= FIRST) {
      reversed[--end] = suffix[walk]!;
      walk = prefix[walk]!;
    }
    reversed[--end] = walk;
    put(reversed, end);
    if (last >= 0 && top < CODES - 1) {
      top++;
      prefix[top] = last;
      suffix[top] = walk;
    }
    last = code;
    // One code late, as the writer counts: it has assigned the code that the next byte completes.
    if (top + 1 >= 1 << width && width < WIDTH_MAX) width++;
  }
}

/** Twice and more as many places as codes, so that one is found in a step or two. */
const PLACES = 16_384;
/** Shared by all calls, each of which is over before the next begins: code and byte, and the code that they have together. */
const keys = new Int32Array(PLACES);
const codes = new Uint16Array(PLACES);

const placeOf = (key: number): number => {
  let place = (Math.imul(key, 0x9e37_79b1) >>> 18) & (PLACES - 1);
  while (keys[place] !== -1 && keys[place] !== key) place = (place + 1) & (PLACES - 1);
  return place;
};

/** The caller's bytes. */
export function compress(input: Uint8Array): Uint8Array {
  // A code of at most 12 bits for each byte, a clear for each full table, and both ends.
  const output = new Uint8Array(Math.ceil((input.length * WIDTH_MAX) / 8) + (input.length >> 9) + 16);
  let length = 0;
  let bits = 0;
  let held = 0;
  let width = WIDTH_MIN;
  let top = END;
  keys.fill(-1);
  const write = (code: number) => {
    bits |= code << held;
    held += width;
    while (held >= 8) {
      output[length++] = bits & 0xff;
      bits >>>= 8;
      held -= 8;
    }
  };
  write(CLEAR);
  let code = -1;
  for (const byte of input) {
    if (code < 0) {
      code = byte;
      continue;
    }
    const key = (code << 8) | byte;
    const place = placeOf(key);
    if (keys[place] === key) {
      code = codes[place]!;
      continue;
    }
    write(code);
    top++;
    if (top >= 1 << width) width++;
    if (top >= CODES - 1) {
      write(CLEAR);
      width = WIDTH_MIN;
      top = END;
      keys.fill(-1);
    } else {
      keys[place] = key;
      codes[place] = top;
    }
    code = byte;
  }
  if (code >= 0) {
    write(code);
    top++;
    if (top >= 1 << width && width < WIDTH_MAX) width++;
  }
  write(END);
  if (held > 0) output[length++] = bits & 0xff;
  return output.slice(0, length);
}
