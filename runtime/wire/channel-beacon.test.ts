import { expect, test } from "bun:test";
import fc from "fast-check";
import { formatNodeId } from "../kernel/ids.ts";
import {
  CHANNEL_ASK_BYTES,
  CHANNEL_BEACON_BYTES,
  CHANNEL_BEACON_BYTES_MAX,
  decodeChannelBeacon,
  encodeChannelBeacon,
  GATEWAY_CODE_MAX,
  gatewayCode,
  whoIs,
} from "./channel-beacon.ts";
import { createHmac } from "node:crypto";

const key = new Uint8Array(32).fill(7);
const other = new Uint8Array(32).fill(8);
const beacon = { who: "0102030405ff", number: 2 ** 40 + 5, gateway: 9, earshot: 0xbeef } as const;

test("vector: every byte of a beacon", () => {
  const bytes = encodeChannelBeacon(key, beacon);
  const said = "010102030405ff01000000000513beef";
  const tag = createHmac("sha256", key).update(Buffer.from(said, "hex")).digest("hex").slice(0, 12);
  expect(bytes.toHex()).toBe(said + tag);
  expect(bytes.length).toBe(CHANNEL_BEACON_BYTES);
});

test("vector: one that asks", () => {
  const bytes = encodeChannelBeacon(key, { ...beacon, asks: "a1a2a3a4a5a6" });
  const said = "010102030405ff01000000000553beefa1a2a3a4a5a6";
  const tag = createHmac("sha256", key).update(Buffer.from(said, "hex")).digest("hex").slice(0, 12);
  expect(bytes.toHex()).toBe(said + tag);
  expect(bytes.length).toBe(CHANNEL_ASK_BYTES);
});

test("what is written is read, under any of the keys", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 6, maxLength: 6 }),
      fc.nat(2 ** 31),
      fc.option(fc.nat(GATEWAY_CODE_MAX), { nil: undefined }),
      fc.nat(0xffff),
      fc.constantFrom(undefined, "a1a2a3a4a5a6"),
      (who, number, gateway, earshot, asks) => {
        const said = { who: who.toHex(), number, gateway, earshot, asks };
        expect(decodeChannelBeacon([other, key], encodeChannelBeacon(key, said))).toEqual(said);
      },
    ),
  );
});

test("another mesh's, a changed one and anything else is passed over", () => {
  const bytes = encodeChannelBeacon(key, beacon);
  expect(decodeChannelBeacon([other], bytes)).toBeUndefined();
  for (let at = 0; at < bytes.length; at++) {
    const changed = bytes.slice();
    changed[at]! ^= 1;
    expect(decodeChannelBeacon([key], changed)).toBeUndefined();
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (noise) => decodeChannelBeacon([key], noise) === undefined),
  );
});

test("a longer one of a later version is read as far as it is known, up to 40 bytes", () => {
  const longer = (extra: number) => {
    const said = Buffer.concat([encodeChannelBeacon(key, beacon).subarray(0, -6), new Uint8Array(extra)]);
    return Buffer.concat([said, createHmac("sha256", key).update(said).digest().subarray(0, 6)]);
  };
  const room = CHANNEL_BEACON_BYTES_MAX - CHANNEL_BEACON_BYTES;
  expect(decodeChannelBeacon([key], longer(room))).toEqual(beacon);
  expect(decodeChannelBeacon([key], longer(room + 1))).toBeUndefined();
});

test("a node has another name under each key, and none shows its id", () => {
  const id = formatNodeId(new Uint8Array(32).fill(5));
  expect(whoIs(key, id)).toMatch(/^[0-9a-f]{12}$/);
  expect(whoIs(key, id)).not.toBe(whoIs(other, id));
  expect(whoIs(key, id)).not.toBe("050505050505");
});

test("little changes of a cost are none", () => {
  expect([1, 2, 100, 120, 127, 128, 2 ** 32].map(gatewayCode)).toEqual([1, 2, 7, 7, 7, 8, 31]);
});
