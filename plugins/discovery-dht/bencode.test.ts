import { expect, test } from "bun:test";
import fc from "fast-check";
import { type Bencoded, decodeBencode, type Encodable, encodeBencode } from "./bencode.ts";

const bytes = (text: string) => new Uint8Array(Buffer.from(text, "latin1"));
const decode = (text: string) => decodeBencode(bytes(text));

test("the examples of BEP 3", () => {
  expect(decode("4:spam")).toEqual(bytes("spam"));
  expect([decode("i3e"), decode("i-3e"), decode("i0e")]).toEqual([3, -3, 0]);
  expect(decode("l4:spam4:eggse")).toEqual([bytes("spam"), bytes("eggs")]);
  expect(decode("d3:cow3:moo4:spam4:eggse")).toEqual(
    new Map([
      ["cow", bytes("moo")],
      ["spam", bytes("eggs")],
    ]),
  );
  expect(encodeBencode({ spam: ["a", "b"], cow: 7 }).toString()).toBe("d3:cowi7e4:spaml1:a1:bee");
});

test("what is no bencoding, or too much of it, is nothing", () => {
  for (const text of [
    ...[
      "",
      "i",
      "ie",
      "i-e",
      "i-0e",
      "i03e",
      "i3",
      "i9007199254740992e",
      "3:ab",
      "03:abc",
      "-1:a",
      ":",
      "l",
      "d",
      "d1:ae",
    ],
    ...["di1e1:ae", "d1:a1:b1:a1:ce", "i1ei2e", "4:spamx", "x", "99999999999999999999:a", "l".repeat(10_000)],
    `${"l".repeat(8)}${"e".repeat(8)}`,
    `l${"i1e".repeat(256)}e`,
  ])
    expect(decode(text)).toBeUndefined();
  expect(decode(`${"l".repeat(7)}${"e".repeat(7)}`)).toBeDefined();
});

const value: fc.Arbitrary<Encodable> = fc.letrec<{ value: Encodable }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 3 },
    fc.maxSafeInteger(),
    fc.uint8Array({ maxLength: 40 }),
    fc.array(tie("value"), { maxLength: 4 }),
    fc.dictionary(fc.stringMatching(/^[a-z]{1,5}$/), tie("value"), { maxKeys: 4 }),
  ),
})).value;

const asDecoded = (one: Encodable): Bencoded =>
  typeof one === "number" || one instanceof Uint8Array
    ? one === 0
      ? 0
      : one
    : Array.isArray(one)
      ? one.map(asDecoded)
      : new Map(Object.entries(one).map(([key, field]) => [key, asDecoded(field as Encodable)]));

test("what is encoded is decoded again; bytes that were changed never throw", () => {
  fc.assert(
    fc.property(value, fc.nat(), fc.nat({ max: 255 }), (one, at, byte) => {
      const encoded = encodeBencode(one);
      const back = decodeBencode(encoded);
      if (back === undefined) throw new Error(`lost: ${encoded.toString("latin1")}`);
      expect(Bun.deepEquals(normal(back), normal(asDecoded(one)))).toBe(true);
      encoded[at % encoded.length] = byte;
      decodeBencode(encoded);
    }),
    { numRuns: 300 },
  );
});

/** Keys in order, bytes as text. */
function normal(one: Bencoded): unknown {
  if (one instanceof Uint8Array) return `bytes ${Buffer.from(one).toString("hex")}`;
  if (one instanceof Map)
    return [...(one as ReadonlyMap<string, Bencoded>)]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, field]) => [key, normal(field)]);
  return Array.isArray(one) ? one.map(normal) : one;
}
