import { describe, expect, test } from "bun:test";
import {
  channelHash,
  cryptChannel,
  expandPsk,
  isPublicPsk,
  numberOfKey,
  openPkc,
  sealPkc,
  sharedKey,
} from "./crypto.ts";

const bytes = (hex: string) => Uint8Array.from(Buffer.from(hex, "hex"));
const hex = (of: Uint8Array | undefined) => of && Buffer.from(of).toString("hex");

describe("channels", () => {
  test("a key of one byte stands for the public one, or a neighbour of it", () => {
    expect(hex(expandPsk(Uint8Array.of(1)))).toBe("d4f1bb3a20290759f0bcffabcf4e6901");
    expect(hex(expandPsk(Uint8Array.of(3)))).toBe("d4f1bb3a20290759f0bcffabcf4e6903");
    expect(expandPsk(Uint8Array.of(0)).length).toBe(0);
    expect(isPublicPsk(Uint8Array.of(1))).toBe(true);
    expect(isPublicPsk(new Uint8Array(32))).toBe(false);
  });

  test("LongFast with the public key has the well-known hash 8", () => {
    expect(channelHash("LongFast", Uint8Array.of(1))).toBe(8);
  });

  test("encryption is its own opposite, and another packet's is not", () => {
    const key = expandPsk(Uint8Array.of(1));
    const sealed = cryptChannel(key, { from: 0xa0b0c0d0, id: 7 }, Buffer.from("hello"));
    expect(Buffer.from(cryptChannel(key, { from: 0xa0b0c0d0, id: 7 }, sealed)).toString()).toBe("hello");
    expect(Buffer.from(cryptChannel(key, { from: 0xa0b0c0d0, id: 8 }, sealed)).toString()).not.toBe("hello");
  });
});

// Of the firmware's own test of its crypto: two keys, a packet and what it becomes.
const vector = {
  publicKey: bytes("db18fc50eea47f00251cb784819a3cf5fc361882597f589f0d7ff820e8064457"),
  privateKey: bytes("a00330633e63522f8a4d81ec6d9d1e6617f6c8ffd3a4c698229537d44e522277"),
  sharedKey: "777b1545c9d6f9a2",
  from: 0x0929,
  id: 0x13b2d662,
  sealed: bytes("40df24abfcc30a17a3d9046726099e796a1c036a792b"),
  plain: "08011204746573744800",
};

describe("the seal for one node", () => {
  test("is that of the firmware", () => {
    const key = sharedKey(vector.privateKey, vector.publicKey)!;
    expect(hex(key)?.slice(0, 16)).toBe(vector.sharedKey);
    expect(hex(openPkc(key, vector, vector.sealed))).toBe(vector.plain);
    const again = sealPkc(key, vector, bytes(vector.plain), vector.sealed.subarray(-4));
    expect(hex(again)).toBe(hex(vector.sealed));
  });

  test("opens with no other key, sender or byte", () => {
    const key = sharedKey(vector.privateKey, vector.publicKey)!;
    for (let at = 0; at < vector.sealed.length; at++) {
      const changed = Uint8Array.from(vector.sealed);
      changed[at]! ^= 1;
      expect(openPkc(key, vector, changed)).toBeUndefined();
    }
    expect(openPkc(key, { ...vector, from: 1 }, vector.sealed)).toBeUndefined();
    expect(openPkc(new Uint8Array(32), vector, vector.sealed)).toBeUndefined();
    expect(openPkc(key, vector, vector.sealed.subarray(0, 11))).toBeUndefined();
  });

  test("a point of small order is no key", () => {
    expect(sharedKey(vector.privateKey, new Uint8Array(32))).toBeUndefined();
    expect(sharedKey(vector.privateKey, new Uint8Array(5))).toBeUndefined();
  });
});

test("a node's number is the CRC-32 of its key", () => {
  expect(numberOfKey(Buffer.from("123456789"))).toBe(0xcbf43926);
});
