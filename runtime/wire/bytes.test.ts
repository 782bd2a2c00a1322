import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { formatNodeId } from "../kernel/ids.ts";
import { Reader, Writer } from "./bytes.ts";

const codeOf = (fn: () => unknown): string => {
  try {
    fn();
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
  return "none";
};

const field = fc.oneof(
  fc.record({ kind: fc.constant("u8" as const), value: fc.integer({ min: 0, max: 0xff }) }),
  fc.record({ kind: fc.constant("u16" as const), value: fc.integer({ min: 0, max: 0xffff }) }),
  fc.record({ kind: fc.constant("u32" as const), value: fc.integer({ min: 0, max: 0xffffffff }) }),
  fc.record({ kind: fc.constant("u48" as const), value: fc.integer({ min: 0, max: 2 ** 48 - 1 }) }),
  fc.record({ kind: fc.constant("varint" as const), value: fc.maxSafeNat() }),
  fc.record({ kind: fc.constant("text" as const), value: fc.string({ unit: "grapheme", maxLength: 300 }) }),
  fc.record({ kind: fc.constant("sized" as const), value: fc.uint8Array({ maxLength: 700 }) }),
  fc.record({
    kind: fc.constant("node" as const),
    value: fc.uint8Array({ minLength: 32, maxLength: 32 }).map(formatNodeId),
  }),
);

test("whatever is written, at whatever capacity, is read back", () => {
  fc.assert(
    fc.property(fc.array(field, { maxLength: 20 }), fc.integer({ min: 0, max: 64 }), (fields, capacity) => {
      const writer = new Writer(capacity);
      for (const { kind, value } of fields) {
        if (kind === "text") writer.text(value);
        else if (kind === "sized") writer.sizedBytes(value);
        else if (kind === "node") writer.nodeId(value);
        else writer[kind](value);
      }
      const { length } = writer;
      const bytes = writer.finish();
      expect([bytes.length, writer.length]).toEqual([length, 0]);
      // An offset within a larger buffer must not matter.
      const shifted = new Uint8Array(bytes.length + 3);
      shifted.set(bytes, 3);
      const reader = new Reader(shifted.subarray(3));
      for (const { kind, value } of fields) {
        const read =
          kind === "text"
            ? reader.text(10_000)
            : kind === "sized"
              ? reader.sizedBytes(700)
              : kind === "node"
                ? reader.nodeId()
                : reader[kind]();
        expect(read).toEqual(value);
      }
      expect(reader.remaining).toBe(0);
    }),
  );
});

describe("varint", () => {
  test("golden", () => {
    const cases: [number, string][] = [
      [0, "00"],
      [127, "7f"],
      [128, "8001"],
      [300, "ac02"],
      [2 ** 32, "8080808010"],
      [Number.MAX_SAFE_INTEGER, "ffffffffffffff0f"],
    ];
    for (const [value, hex] of cases) {
      expect(Buffer.from(new Writer(1).varint(value).finish()).toString("hex")).toBe(hex);
      expect(new Reader(Buffer.from(hex, "hex")).varint()).toBe(value);
    }
  });

  test("only the shortest form, at most 2^53-1, and never past the end", () => {
    for (const hex of [
      "8000",
      "ff00",
      "ffffffffffffff1f",
      "ffffffffffffffff01",
      "ffffffffffffffff",
      "80",
      "",
    ])
      expect(codeOf(() => new Reader(Buffer.from(hex, "hex")).varint())).toBe("GODWIT_DECODE");
  });
});

describe("a bad length or value", () => {
  test("reading beyond the end throws and allocates nothing", () => {
    const short = new Uint8Array([0xff, 0xff, 0xff, 0x7f]);
    expect(codeOf(() => new Reader(short).sizedBytes(2 ** 40))).toBe("GODWIT_DECODE");
    expect(codeOf(() => new Reader(short).sizedBytes(16))).toBe("GODWIT_DECODE");
    expect(codeOf(() => new Reader(short).bytes(5))).toBe("GODWIT_DECODE");
    expect(codeOf(() => new Reader(short).bytes(-1))).toBe("GODWIT_DECODE");
    expect(codeOf(() => new Reader(short).u48())).toBe("GODWIT_DECODE");
    expect(codeOf(() => new Reader(new Uint8Array([2, 0xc3, 0x28])).text(9))).toBe("GODWIT_DECODE");
  });

  test("writing what does not fit is a bug of ours", () => {
    for (const value of [-1, 1.5, 256, Number.NaN, Number.POSITIVE_INFINITY])
      expect(codeOf(() => new Writer().u8(value))).toBe("GODWIT_ENCODE");
    expect(codeOf(() => new Writer().u48(2 ** 48))).toBe("GODWIT_ENCODE");
    expect(codeOf(() => new Writer().varint(2 ** 53))).toBe("GODWIT_ENCODE");
  });
});

test("a byte order mark in a text survives", () => {
  const text = "\ufeffhello";
  expect(new Reader(new Writer().text(text).finish()).text(99)).toBe(text);
});
