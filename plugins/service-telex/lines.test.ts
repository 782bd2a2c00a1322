import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type Item, LineReader } from "./lines.ts";

const bytesOf = (text: string) => [...new TextEncoder().encode(text)];

function read(bytes: Iterable<number>, options: { max?: number; isPlain?: boolean } = {}) {
  const replies: number[] = [];
  const reader = new LineReader({
    lineBytesMax: options.max ?? 100,
    reply: (out) => void replies.push(...out),
  });
  if (options.isPlain === true) reader.setPlain();
  const items: Item[] = [];
  for (const byte of bytes) {
    const item = reader.push(byte);
    if (item !== undefined) items.push(item);
  }
  return { items, replies, reader };
}

const lines = (items: readonly Item[]) =>
  items.map((item) => (item.kind === "line" ? item.text : `<${item.kind}>`));

describe("lines", () => {
  test.each([
    ["a\r\nb\nc\rd\r\0e\r\n", ["a", "b", "c", "d", "e"]],
    ["\r\n\r\n\n", ["", "", ""]],
    ["caf\u00e9\u00e9\b\n", ["caf\u00e9"]],
    ["abc\x7f\x7fx\n", ["ax"]],
    ["wrong\x15right\n", ["right"]],
    ["\b\b\x15ok\n", ["ok"]],
    ["half\x03whole\n", ["<interrupt>", "whole"]],
    ["a\x05b\n", ["<who>", "ab"]],
    ["a\x04b\n\x04", ["ab", "<end>"]],
    ["a\x07\x1b[2Jb\tc\n", ["a[2Jb\tc"]],
  ])("%j gives %j", (text, wanted) => {
    expect(lines(read(bytesOf(text)).items)).toEqual(wanted);
  });

  test("telnet's own bytes are taken out, and each offer is turned down once", () => {
    const bytes = [255, 253, 3, 255, 253, 3, 255, 251, 31, 255, 254, 5, 255, 252, 6, ...bytesOf("a")];
    bytes.push(255, 250, 31, 0, 80, 255, 255, 0, 24, 255, 240, ...bytesOf("b"), 255, 241, 255, 247);
    bytes.push(...bytesOf("c"), 255, 246, 255, 244, ...bytesOf("d"), 255, 248, ...bytesOf("e\r\n"));
    const { items, replies } = read(bytes);
    expect(lines(items)).toEqual(["<who>", "<interrupt>", "e"]);
    expect(replies).toEqual([255, 252, 3, 255, 254, 31]);
  });

  test("an escaped 255 is data, and no UTF-8", () => {
    expect(read([65, 255, 255, 10]).items).toEqual([{ kind: "line", text: "A\ufffd", isUtf8: false }]);
  });

  test("programs' bytes are what they are", () => {
    expect(lines(read(bytesOf("a\x05\b\x03b\r\n"), { isPlain: true }).items)).toEqual(["a\x05\b\x03b"]);
    expect(read([255, 253, 10], { isPlain: true }).items).toMatchObject([{ isUtf8: false }]);
  });

  test("the bound is exact, what is past it is told once, and the next line is whole", () => {
    const at = (length: number) => lines(read(bytesOf(`${"x".repeat(length)}\nnext\n`), { max: 300 }).items);
    expect(at(300)).toEqual(["x".repeat(300), "next"]);
    expect(at(301)).toEqual(["<too-long>", "next"]);
    expect(at(5_000)).toEqual(["<too-long>", "next"]);
  });

  test("a last line without its end", () => {
    const { reader, items } = read(bytesOf("a\nb"));
    expect(lines([...items, reader.finish()!])).toEqual(["a", "b"]);
    expect(reader.finish()).toBeUndefined();
  });

  test("property: plain lines are those between line ends, however long, and nothing grows", () => {
    const lineText = fc.string({ unit: "grapheme", maxLength: 60 }).filter((text) => !/[\r\n]/.test(text));
    fc.assert(
      fc.property(fc.array(lineText, { maxLength: 20 }), (wanted) => {
        const bytes = wanted.flatMap((line) => bytesOf(`${line}\n`));
        const expected = wanted.map((line) =>
          bytesOf(line).length > 100
            ? "<too-long>"
            : new TextDecoder().decode(Uint8Array.from(bytesOf(line))),
        );
        expect(lines(read(bytes, { isPlain: true }).items)).toEqual(expected);
      }),
    );
  });

  test("property: any bytes are read without a fault in bounded memory, and a line after them is heard", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 20_000 }), fc.boolean(), (bytes, isPlain) => {
        const { reader, replies, items } = read(bytes, { max: 6_000, isPlain });
        expect(reader.bufferBytes).toBeLessThanOrEqual(6_000);
        expect(replies.length).toBeLessThanOrEqual(2 * 256 * 3);
        for (const item of items)
          if (item.kind === "line") expect(item.text.length).toBeLessThanOrEqual(6_000);
        // Out of whatever telnet state they left it in.
        for (const byte of [255, 240, 0, 10, ...bytesOf("hello\n")]) {
          const item = reader.push(byte);
          if (item !== undefined) items.push(item);
        }
        expect(lines(items).at(-1)).toBe("hello");
      }),
      { numRuns: 60 },
    );
  });
});
