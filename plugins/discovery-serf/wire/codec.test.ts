/** msgpack and LZW against a slow reading of their own rules, and what strangers may make of them. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { compress, decompress } from "./lzw.ts";
import {
  type Decoded,
  type Encodable,
  encodeValue,
  decodeValue,
  Float,
  ValueReader,
  ValueScanner,
} from "./msgpack.ts";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

describe("msgpack", () => {
  test.each<[Encodable, string]>([
    [null, "c0"],
    [true, "c3"],
    [127, "7f"],
    [128, "cc80"],
    [256, "cd0100"],
    [65_536, "ce00010000"],
    [2 ** 32, "cf0000000100000000"],
    [-1, "ff"],
    [-33, "d0df"],
    [new Float(1.5), "cb3ff8000000000000"],
    ["x".repeat(31), `bf${"78".repeat(31)}`],
    ["x".repeat(32), `da0020${"78".repeat(32)}`],
    [new Uint8Array(0), "a0"],
    [["a", null], "92a161c0"],
    [{ a: 1 }, "81a16101"],
  ])("%p is written as Go writes it", (value, expected) => {
    expect(hex(encodeValue(value))).toBe(expected);
  });

  test("70,000 bytes are raw32, and text of newer codecs (str8, bin8) is read", () => {
    expect(hex(encodeValue(new Uint8Array(70_000)).subarray(0, 5))).toBe("db00011170");
    expect(decodeValue(Buffer.from("d90161", "hex"))).toEqual(Buffer.from("a"));
    expect(decodeValue(Buffer.from("c40161", "hex"))).toEqual(Buffer.from("a"));
  });

  const values = fc.letrec<{ value: Encodable }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 3 },
      fc.constant(null),
      fc.boolean(),
      fc.maxSafeInteger(),
      fc.string(),
      fc.uint8Array(),
      fc.array(tie("value"), { maxLength: 20 }),
      fc.dictionary(fc.string({ maxLength: 20 }), tie("value"), { maxKeys: 20 }),
    ),
  })).value;
  const plain = (value: Encodable): Decoded => {
    if (typeof value === "string") return new TextEncoder().encode(value);
    if (Array.isArray(value)) return value.map(plain);
    if (value !== null && typeof value === "object" && !(value instanceof Uint8Array))
      return new Map(
        Object.entries(value as Record<string, Encodable>).map(([key, one]) => [key, plain(one)]),
      );
    return value;
  };

  test("what is written is read, and its end is found however it comes in pieces", () => {
    fc.assert(
      fc.property(values, fc.nat(5), (value, step) => {
        const bytes = encodeValue(value);
        expect(decodeValue(bytes)).toEqual(plain(value));
        const scanner = new ValueScanner(0);
        let end: number | undefined;
        for (let at = 0; at < bytes.length && end === undefined; at += step + 1)
          end = scanner.scan(bytes.subarray(0, Math.min(bytes.length, at + step + 1)));
        expect(end).toBe(bytes.length);
      }),
      { numRuns: 200 },
    );
  });

  test("any bytes are a value or an error, never anything else", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        try {
          const reader = new ValueReader(bytes);
          reader.value();
          expect(new ValueScanner(0).scan(bytes)).toBe(reader.at);
        } catch (error) {
          expect(error).toMatchObject({ code: "GODWIT_DECODE" });
        }
      }),
      { numRuns: 500 },
    );
  });

  test.each([
    ["a map that promises four milliards of entries", "df ffffffff"],
    ["a list of as many", "dd ffffffff"],
    ["a text of as many bytes", "db ffffffff 61"],
    ["lists in lists", "91".repeat(100)],
    ["nothing", ""],
    ["a byte that nothing begins with", "c1"],
    ["a key that is a number", "81 01 01"],
  ])("%s is refused", (_what, bytes) => {
    expect(() => decodeValue(Buffer.from(bytes.replaceAll(" ", ""), "hex"))).toThrow("serf: ");
  });

  test("a megabyte of empty values does not become a million", () => {
    const many = Buffer.alloc(1_000_005, 0xc0);
    many.set([0xdd, 0x00, 0x0f, 0x42, 0x40]);
    expect(() => decodeValue(many)).toThrow("values in one message");
  });
});

describe("LZW", () => {
  test("round trips, over every size at which the codes grow or the table is full", () => {
    let state = 1;
    const noise = (length: number) =>
      Uint8Array.from({ length }, () => (state = (state * 1_103_515_245 + 12_345) & 0x7fff_ffff) >> 16);
    for (const length of [
      0, 1, 2, 253, 254, 255, 256, 257, 258, 766, 767, 768, 1_790, 3_836, 3_837, 3_838, 3_839, 3_840, 20_000,
    ])
      for (const bytes of [noise(length), new Uint8Array(length), noise(length).map((byte) => byte & 3)])
        expect(Buffer.compare(decompress(compress(bytes), 100_000), bytes)).toBe(0);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2_000 }), (bytes) => {
        expect(Buffer.compare(decompress(compress(bytes), 2_000), bytes)).toBe(0);
      }),
      { numRuns: 100 },
    );
  });

  test("a bomb is given up at its bound", () => {
    const bomb = compress(new Uint8Array(4_000_000));
    expect(bomb.length).toBeLessThan(10_000);
    expect(() => decompress(bomb, 100_000)).toThrow("become more than 100000");
  });

  test("any bytes are text or an error", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          expect(decompress(bytes, 10_000).length).toBeLessThanOrEqual(10_000);
        } catch (error) {
          expect(error).toMatchObject({ code: "GODWIT_DECODE" });
        }
      }),
      { numRuns: 300 },
    );
  });
});
