import { expect, test } from "bun:test";
import { channelHash, isPublicPsk, numberOfKey } from "./names.ts";

test("LongFast with the public key has the well-known hash 8, a neighbour of that key another, none that of the name", () => {
  expect(channelHash("LongFast", Uint8Array.of(1))).toBe(8);
  expect(channelHash("LongFast", Uint8Array.of(3))).toBe(8 ^ 0x01 ^ 0x03);
  expect(channelHash("LongFast", Uint8Array.of(0))).toBe(channelHash("LongFast", new Uint8Array(0)));
});

test("a key of one byte is one that everybody has", () => {
  expect(isPublicPsk(Uint8Array.of(1))).toBe(true);
  expect(isPublicPsk(new Uint8Array(32))).toBe(false);
});

test("a node's number is the CRC-32 of its key", () => {
  expect(numberOfKey(Buffer.from("123456789"))).toBe(0xcbf43926);
});
