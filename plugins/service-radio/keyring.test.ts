/** Reading by keys, against figures that are not ours: the tests of the firmware, RFC 3686, Wycheproof, and a packet that somebody recorded off the air. */
import { describe, expect, test } from "bun:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Mesh, Portnums } from "@meshtastic/protobufs";
import { openSeal, PrivateKey, readChannel } from "./ciphers.ts";
import { type KeyFault, Keyring, type KeyringOptions } from "./keyring.ts";
import { channelHash, numberOfKey } from "./names.ts";

const hex = (text: string) => new Uint8Array(Buffer.from(text, "hex"));
const textOf = (bytes: Uint8Array | undefined) => bytes && Buffer.from(bytes).toString("hex");

/** `Data` of a text message "test": port 1, payload, bit field 0. */
const PLAIN = "08011204746573744800";
/** test_PKC of test/test_crypto of the firmware. */
const PKC = {
  from: 0x0929,
  id: 0x13b2d662,
  theirs: hex("db18fc50eea47f00251cb784819a3cf5fc361882597f589f0d7ff820e8064457"),
  ours: hex("a00330633e63522f8a4d81ec6d9d1e6617f6c8ffd3a4c698229537d44e522277"),
  sharedStart: "777b1545c9d6f9a2",
  sealed: hex("40df24abfcc30a17a3d9046726099e796a1c036a792b"),
} as const;
/** A text "Test" on the default channel, off the air with firmware's own key: sender, id, hash and bytes. */
const ON_AIR = { from: 0x25c21b88, id: 0xaba472a5, hash: 8, bytes: hex("2d73fea3706ebf6a16e0") } as const;

const sealedPacket = (from: number, to: number, id: number, channel: number, value: Uint8Array) =>
  create(Mesh.MeshPacketSchema, { from, to, id, channel, payloadVariant: { case: "encrypted", value } });

function ring(options: Partial<KeyringOptions>) {
  const keyring = new Keyring({ channels: [], ...options });
  const faults: KeyFault[] = [];
  const read = (packet: Mesh.MeshPacket) => keyring.read(packet, (reason) => void faults.push(reason));
  return { keyring, faults, read };
}

describe("ciphers", () => {
  test("AES-CTR is that of RFC 3686, whose counter block is the firmware's nonce", () => {
    // Vector 1 has its counter at 1: the block behind the first.
    const key = hex("ae6852f8121067cc4bf7a5765577f39e");
    const text = Buffer.concat([new Uint8Array(16), Buffer.from("Single block msg")]);
    expect(textOf(readChannel(key, 0, 0x30000000, text).slice(16))).toBe("e4095d4fb7a7b3792d6175a3261311b8");
  });

  test.each([
    [
      "504a36999f489cd2fdbc08baff3d88fa00569ba986cba22548ffde80f9806829",
      "c8a9d5a91091ad851c668b0736c1c9a02936c0d3ad62670858088047ba057475",
      "436a2c040cf45fea9b29a0cb81b1f41458f863d0d61b453d0a982720d6d61320",
    ],
    [
      "63aa40c6e38346c5caf23a6df0a5e6c80889a08647e551b3563449befcfc9733",
      "d85d8c061a50804ac488ad774ac716c3f5ba714b2712e048491379a500211958",
      "279df67a7c4611db4708a0e8282b195e5ac0ed6f4b2f292c6fbd0acac30d1332",
    ],
  ])("a secret of two ends is the hash of Wycheproof's: %s", (publicKey, privateKey, secret) => {
    const hashed = new Bun.CryptoHasher("sha256").update(hex(secret)).digest("hex");
    expect(textOf(new PrivateKey(hex(privateKey)).sharedWith(hex(publicKey)))).toBe(hashed);
  });

  test("a key with which everybody has the same secret is none", () => {
    const own = new PrivateKey(hex("18630f93598637c35da623a74559cf944374a559114c7937811041fc8605564a"));
    expect(
      own.sharedWith(hex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f")),
    ).toBeUndefined();
    expect(own.sharedWith(new Uint8Array(32))).toBeUndefined();
    expect(own.sharedWith(new Uint8Array(31))).toBeUndefined();
  });

  test("the seal of the firmware's test opens, and none that is changed anywhere", () => {
    const shared = new PrivateKey(PKC.ours).sharedWith(PKC.theirs)!;
    expect(textOf(shared)).toStartWith(PKC.sharedStart);
    expect(textOf(openSeal(shared, PKC.from, PKC.id, PKC.sealed))).toBe(PLAIN);
    for (let at = 0; at < PKC.sealed.length; at++) {
      const changed = PKC.sealed.slice();
      changed[at]! ^= 1;
      expect(openSeal(shared, PKC.from, PKC.id, changed)).toBeUndefined();
    }
    expect(openSeal(shared, PKC.from + 1, PKC.id, PKC.sealed)).toBeUndefined();
    expect(openSeal(shared, PKC.from, PKC.id + 1, PKC.sealed)).toBeUndefined();
    for (let length = 0; length <= 12; length++)
      expect(openSeal(shared, PKC.from, PKC.id, PKC.sealed.slice(0, length))).toBeUndefined();
  });
});

describe("a channel", () => {
  const psk = Uint8Array.of(1);

  test("that everybody has is read by the shorthand of its key, as recorded off the air", () => {
    expect(channelHash("LongFast", psk)).toBe(ON_AIR.hash);
    const { read } = ring({ channels: [{ name: "LongFast", psk }] });
    const { packet, readBy } = read(
      sealedPacket(ON_AIR.from, 0xffffffff, ON_AIR.id, ON_AIR.hash, ON_AIR.bytes),
    );
    expect(readBy).toEqual({ by: "channel", name: "LongFast" });
    if (packet.payloadVariant.case !== "decoded") throw new Error("it was not read");
    expect(packet.payloadVariant.value.portnum as number).toBe(1);
    expect(new TextDecoder().decode(packet.payloadVariant.value.payload)).toBe("Test");
  });

  test.each([
    ["another key", [{ name: "LongFast", psk: Uint8Array.of(2) }]],
    ["another name", [{ name: "MediumFast", psk }]],
    ["no channel", []],
  ])("of %s stays as it came", (_, channels) => {
    const sent = sealedPacket(ON_AIR.from, 0xffffffff, ON_AIR.id, ON_AIR.hash, ON_AIR.bytes);
    const { packet, readBy } = ring({ channels }).read(sent);
    expect(readBy).toBeUndefined();
    expect(packet).toBe(sent);
  });

  test("is found among others that show the same byte", () => {
    const colliding = { name: "", psk: hex("d4f1bb3a20290759f0bcffabcf4e01ff") };
    for (let byte = 1; channelHash(colliding.name, colliding.psk) !== ON_AIR.hash; byte++)
      colliding.name = `x${String.fromCharCode(byte)}`;
    const { read } = ring({ channels: [colliding, { name: "LongFast", psk }] });
    expect(read(sealedPacket(ON_AIR.from, 0xffffffff, ON_AIR.id, ON_AIR.hash, ON_AIR.bytes)).readBy).toEqual({
      by: "channel",
      name: "LongFast",
    });
  });
});

describe("what is sealed for one radio", () => {
  const number = 0x0a0b0c0d;
  const sent = (to = number, channel = 0) => sealedPacket(PKC.from, to, PKC.id, channel, PKC.sealed);

  test("is read once the sender's key is known, and says whose key it was", () => {
    const { keyring, read } = ring({ privateKey: PKC.ours, number });
    expect(read(sent()).readBy).toBeUndefined();
    keyring.learn(PKC.from, PKC.theirs);
    const { packet, readBy } = read(sent());
    expect(readBy).toEqual({ by: "key" });
    expect(packet.pkiEncrypted).toBe(true);
    expect(textOf(packet.publicKey)).toBe(textOf(PKC.theirs));
    if (packet.payloadVariant.case !== "decoded") throw new Error("it was not read");
    expect(new TextDecoder().decode(packet.payloadVariant.value.payload)).toBe("test");
  });

  test("is not taken for anybody else, nor on a channel: the seal does not cover that", () => {
    const { keyring, read } = ring({ privateKey: PKC.ours, number });
    keyring.learn(PKC.from, PKC.theirs);
    expect(read(sent(number + 1)).readBy).toBeUndefined();
    expect(read(sent(0xffffffff)).readBy).toBeUndefined();
    expect(read(sent(number, 8)).readBy).toBeUndefined();
  });

  test("is for the number of one's key unless it is said to be another", () => {
    const own = numberOfKey(new PrivateKey(PKC.ours).publicKey);
    const { keyring, read } = ring({ privateKey: PKC.ours });
    keyring.learn(PKC.from, PKC.theirs);
    expect(read(sent()).readBy).toBeUndefined();
    expect(read(sent(own)).readBy).toEqual({ by: "key" });
  });
});

describe("keys that nodes say are theirs", () => {
  const proven = new PrivateKey(PKC.ours).publicKey;
  const number = numberOfKey(proven);
  const nodeInfo = (from: number, publicKey: Uint8Array) =>
    create(Mesh.MeshPacketSchema, {
      from,
      payloadVariant: {
        case: "decoded",
        value: create(Mesh.DataSchema, {
          portnum: Portnums.PortNum.NODEINFO_APP,
          payload: toBinary(Mesh.UserSchema, create(Mesh.UserSchema, { publicKey })),
        }),
      },
    });

  test("are heard, and one whose number is the node's takes the place of one that is not, never the other way", () => {
    const { keyring, faults, read } = ring({});
    expect(keyring.proofOf(number)).toBe("unknown");
    read(nodeInfo(number, PKC.theirs));
    expect(keyring.proofOf(number)).toBe("other");
    read(nodeInfo(number, new Uint8Array(32).fill(9)));
    expect(faults).toEqual(["key_changed"]);
    read(nodeInfo(number, proven));
    expect(keyring.proofOf(number)).toBe("key");
    expect(faults).toHaveLength(1);
    read(nodeInfo(number, PKC.theirs));
    expect(keyring.proofOf(number)).toBe("key");
    expect(faults).toEqual(["key_changed", "key_changed"]);
  });

  test("stay while the node is heard, however many others are told of; who was silent for longest is forgotten first", () => {
    const { keyring, read } = ring({});
    const key = (n: number) => new Uint8Array(32).fill(n % 256);
    read(nodeInfo(number, proven));
    read(nodeInfo(7, PKC.theirs));
    for (let n = 0; n < 998; n++) read(nodeInfo(1_000 + n, key(n)));
    read(nodeInfo(number, proven));
    read(nodeInfo(5_000, key(1)));
    expect([keyring.proofOf(number), keyring.proofOf(7)]).toEqual(["key", "unknown"]);
  });

  test("of another length are none", () => {
    const { keyring, faults, read } = ring({});
    for (const length of [0, 31, 33]) read(nodeInfo(number, new Uint8Array(length)));
    expect(keyring.proofOf(number)).toBe("unknown");
    expect(faults).toEqual([]);
  });
});

test("fields that are not known yet survive being read, around the payload and within it", () => {
  // Fields 30 of a packet and 12 of its data, which the definitions do not have, by hand.
  const within = hex(`${PLAIN}6203616263`);
  const encrypted = readChannel(hex("d4f1bb3a20290759f0bcffabcf4e6901"), 7, 9, within);
  const bytes = Buffer.concat([
    toBinary(Mesh.MeshPacketSchema, sealedPacket(7, 0xffffffff, 9, 8, encrypted)),
    hex("f20103646566"),
  ]);
  const { read } = ring({ channels: [{ name: "LongFast", psk: Uint8Array.of(1) }] });
  const { packet } = read(fromBinary(Mesh.MeshPacketSchema, bytes));
  const again = Buffer.from(toBinary(Mesh.MeshPacketSchema, packet)).toString("hex");
  expect(packet.payloadVariant.case).toBe("decoded");
  expect(again).toContain("6203616263");
  expect(again).toContain("f20103646566");
});
