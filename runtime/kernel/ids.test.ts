import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  formatBase32,
  formatBundleId,
  formatHex,
  formatNodeId,
  formatNodeIdAt,
  NODE_ID_BYTES,
  idBytes,
  nodeIdBytes,
  parseBase32,
  parseHex,
  parseNodeId,
  shortId,
} from "./ids.ts";

/** RFC 4648 section 10, in lower case and without padding. */
const vectors = {
  "": "",
  f: "my",
  fo: "mzxq",
  foo: "mzxw6",
  foob: "mzxw6yq",
  fooba: "mzxw6ytb",
  foobar: "mzxw6ytboi",
};

describe("base32", () => {
  test("a text that is longer than any id", () => {
    const bytes = new Uint8Array(5_000).map((_, i) => i * 7);
    expect(formatBase32(bytes)).toHaveLength(8_000);
    expect(parseBase32(formatBase32(bytes))).toEqual(bytes);
  });

  test("the vectors of RFC 4648", () => {
    for (const [text, encoded] of Object.entries(vectors)) {
      expect(formatBase32(Buffer.from(text))).toBe(encoded);
      expect(Buffer.from(parseBase32(encoded.toUpperCase())!).toString()).toBe(text);
    }
  });

  test("round trip of any bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 70 }), (bytes) => {
        expect(parseBase32(formatBase32(bytes))).toEqual(bytes);
      }),
    );
  });

  test("any text is refused or is the one canonical form of its bytes", () => {
    const text = fc.string({
      unit: fc.constantFrom(..."abcdefghijklmnopqrstuvwxyz234567".split("")),
      maxLength: 20,
    });
    fc.assert(
      fc.property(fc.oneof(text, fc.string({ maxLength: 20 })), (candidate) => {
        const bytes = parseBase32(candidate);
        if (bytes !== undefined) expect(formatBase32(bytes)).toBe(candidate.toLowerCase());
      }),
    );
  });
});

describe("node ids", () => {
  test("the text of an id is that of its bytes, wherever they stand and however many were met before", () => {
    const count = 70_000;
    const id = (n: number) => {
      const bytes = new Uint8Array(NODE_ID_BYTES);
      bytes[n % NODE_ID_BYTES] = n & 255;
      bytes[(n + 1) % NODE_ID_BYTES] = (n >> 8) & 255;
      bytes[31] = bytes[31]! | (n >> 16);
      return bytes;
    };
    const frame = new Uint8Array(7 + NODE_ID_BYTES + 3);
    for (let round = 0; round < 2; round++)
      for (let n = 0; n < count; n++) {
        frame.set(id(n), 7);
        const text = formatNodeIdAt(frame, 7);
        if (text !== formatBase32(id(n))) expect(text as string).toBe(formatBase32(id(n)));
        if (formatNodeId(id(n)) !== text) expect(formatNodeId(id(n))).toBe(text);
      }
  });

  test("round trip, either case, short form", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (bytes) => {
        const id = formatNodeId(bytes);
        expect(id).toMatch(/^[a-z2-7]{52}$/);
        expect(parseNodeId(id.toUpperCase())).toBe(id);
        expect(nodeIdBytes(id)).toEqual(bytes);
        expect(shortId(id)).toBe(id.slice(0, 10));
      }),
    );
  });

  test("a wrong length, a wrong letter and stray last bits are refused", () => {
    const good = "a".repeat(52);
    expect(parseNodeId(good) as string).toBe(good);
    for (const bad of [
      good.slice(1),
      `${good}a`,
      `${good.slice(1)}1`,
      `${good.slice(1)}b`,
      "",
      `é${good.slice(1)}`,
    ])
      expect(() => parseNodeId(bad)).toThrow("is not a node id");
    expect(() => formatNodeId(new Uint8Array(31))).toThrow("32 bytes");
  });

  test("the cache is keyed by bytes, not by buffer", () => {
    const bytes = new Uint8Array(64).fill(1, 0, 32);
    const first = formatNodeId(bytes.subarray(0, 32));
    const second = formatNodeId(bytes.subarray(32));
    expect(first).not.toBe(second);
    bytes.fill(0);
    expect(formatNodeId(bytes.subarray(0, 32))).toBe(second);
  });
});

test("hex: exactly the length asked for, nothing but digits", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      expect(parseHex(formatHex(bytes).toUpperCase(), bytes.length)).toEqual(bytes);
    }),
  );
  for (const bad of ["0", "0g", "000", " 00", "0x"]) expect(parseHex(bad, 1)).toBeUndefined();
  const id = new Uint8Array(16).fill(0xab);
  expect(idBytes(formatBundleId(id))).toEqual(id);
});
