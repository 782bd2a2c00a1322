import { expect, test } from "bun:test";
import fc from "fast-check";
import vectors from "../../test/vectors/closed.json";
import { formatHex } from "../kernel/ids.ts";
import {
  decodeRevocationDigest,
  decodeRevocationFrame,
  decodeRevocationList,
  encodeRevocationDigest,
  encodeRevocationFrame,
  encodeRevocationList,
} from "./revocation-messages.ts";

const hex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "hex"));

test("golden vectors", () => {
  const digest = { count: 300, digest: hex("d1d1d1d1d1d1d1d1") };
  const list = {
    first: "0000000000000000",
    last: "8000000000000001",
    names: ["0a0a0a0a0a0a0a0a", "8000000000000001"],
  };
  expect(formatHex(encodeRevocationDigest(digest))).toBe(vectors.revocationDigest);
  expect(decodeRevocationDigest(hex(vectors.revocationDigest))).toEqual(digest);
  expect(formatHex(encodeRevocationList(list))).toBe(vectors.revocationList);
  expect(decodeRevocationList(hex(vectors.revocationList))).toEqual(list);
  expect(formatHex(encodeRevocationFrame(hex("c0ffee")))).toBe(vectors.revocation);
  expect(decodeRevocationFrame(hex(vectors.revocation))).toEqual(hex("c0ffee"));
});

test("lists that are out of order, out of range or cut short are refused", () => {
  const [one, two] = ["01".repeat(8), "02".repeat(8)];
  const frame = (...names: string[]) => hex(`51${names.join("")}`);
  for (const bad of [
    frame(two, one),
    frame(one, two, two, one),
    frame(one, two, one, one),
    frame(one, one, two),
    frame(one, two, one).subarray(0, 20),
    frame(one),
  ])
    expect(() => decodeRevocationList(bad)).toThrow(expect.objectContaining({ code: "GODWIT_DECODE" }));
});

test("every list survives", () => {
  const name = fc.uint8Array({ minLength: 8, maxLength: 8 }).map(formatHex);
  fc.assert(
    fc.property(fc.uniqueArray(name, { maxLength: 40 }), (unsorted) => {
      const names = unsorted.sort();
      const list = { first: "00".repeat(8), last: "ff".repeat(8), names };
      expect(decodeRevocationList(encodeRevocationList(list))).toEqual(list);
    }),
  );
});
