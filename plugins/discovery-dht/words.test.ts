/** Records, slots, keys and the messages of neighbours: there and back, and what is refused. */
import { expect, test } from "bun:test";
import { PEER_MESSAGE_BYTES_MAX, type Random } from "@godwit/sdk";
import { seededRandom } from "@godwit/sdk/testkit";
import fc from "fast-check";
import { decodeCarry, encodeFound, encodeLookUp, encodePort, encodePut } from "./carry.ts";
import { formatId, idBytes, isPlausible, MeshKeys, publishedPeriods, SEAL_BYTES } from "./keys.ts";
import { decodeRecord, decodeSlot, encodeRecord, encodeSlot, SLOT_IDS_MAX } from "./record.ts";

const random: Random = seededRandom(3);
const WEEK_MS = 604_800_000;

test("a record goes without its last endpoints where all are too many for an item", () => {
  const endpoints = Array.from({ length: 20 }, (_, n) => `tcp://${"x".repeat(80)}${n}.example:4860`);
  const encoded = encodeRecord({ callsign: "DUN-A", endpoints });
  expect(encoded.length + SEAL_BYTES).toBeLessThanOrEqual(996);
  const { callsign, endpoints: back } = decodeRecord(encoded)!;
  expect(callsign).toBe("DUN-A");
  expect(back.length).toBeGreaterThan(5);
  expect(back).toEqual(endpoints.slice(0, back.length));
  expect(decodeRecord(encodeRecord({ callsign: undefined, endpoints: [] }))).toEqual({
    ...{ callsign: undefined, endpoints: [] },
  });
});

test("what a hostile member wrote: other versions, lengths that lie, endpoints that are none", () => {
  const record = encodeRecord({ callsign: "A", endpoints: ["tcp://a:1"] });
  for (const broken of [
    new Uint8Array(0),
    Uint8Array.of(2, 0),
    Uint8Array.of(1, 200),
    record.subarray(0, record.length - 1),
    Buffer.concat([record, Uint8Array.of(5, 1)]),
  ])
    expect(decodeRecord(broken)).toBeUndefined();
  const odd = [
    "tcp://a b:1",
    "no endpoint",
    "tcp://a:1#x",
    `tcp://${"a".repeat(220)}:1`,
    "TCP://a:1",
    "tcp://a\n:1",
  ];
  const bytes = odd.map((text) =>
    Buffer.concat([Uint8Array.of(Buffer.from(text).length), Buffer.from(text)]),
  );
  expect(decodeRecord(Buffer.concat([Uint8Array.of(1, 0), ...bytes]))?.endpoints).toEqual([]);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (noise) => {
      decodeRecord(noise);
      decodeSlot(noise);
      decodeCarry(noise);
    }),
  );
});

test("a slot holds thirty ids", () => {
  const ids = Array.from({ length: 40 }, () => random.bytes(32));
  const encoded = encodeSlot(ids);
  expect(encoded.length + SEAL_BYTES).toBeLessThanOrEqual(996);
  expect(decodeSlot(encoded)).toEqual(ids.slice(0, SLOT_IDS_MAX));
  expect(decodeSlot(encoded.subarray(1))).toBeUndefined();
});

test("keys: alike for one seed, apart for others, sealed for one place", () => {
  const [seed, other] = [random.bytes(32), random.bytes(32)];
  const [one, same, foreign] = [new MeshKeys(seed), new MeshKeys(seed), new MeshKeys(other)];
  expect(one.label).toEqual(same.label);
  expect(one.meeting(2_900).publicKey).toEqual(same.meeting(2_900).publicKey);
  const keys = [one.meeting(2_900), one.meeting(2_901), one.meeting("always"), foreign.meeting(2_900)];
  expect(new Set(keys.map(({ publicKey }) => formatId(publicKey))).size).toBe(4);
  const [place, elsewhere] = [Buffer.from("here"), Buffer.from("there")];
  const sealed = one.seal(place, Buffer.from("words"), random);
  expect(Buffer.from(same.open(place, sealed)!).toString()).toBe("words");
  expect([
    same.open(elsewhere, sealed),
    foreign.open(place, sealed),
    one.open(place, sealed.subarray(1)),
  ]).toEqual([...[undefined, undefined, undefined]]);
  expect(one.open(place, new Uint8Array(5))).toBeUndefined();
});

test("weeks of a clock that may be right, none of one that is not set", () => {
  const nowMs = Date.UTC(2026, 10, 30);
  const week = Math.floor(nowMs / WEEK_MS);
  expect(publishedPeriods(nowMs)).toEqual([week, week - 1, week + 1, "always"]);
  expect(publishedPeriods(0)).toEqual(["always"]);
  expect([isPlausible(0), isPlausible(Date.UTC(2025, 11, 31)), isPlausible(nowMs)]).toEqual([
    false,
    false,
    true,
  ]);
});

test("ids there and back", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (bytes) => {
      expect(idBytes(formatId(bytes))).toEqual(bytes);
    }),
  );
  expect([idBytes("a".repeat(51)), idBytes(`${"a".repeat(51)}b`), idBytes("1".repeat(52))]).toEqual([
    ...[undefined, undefined, undefined],
  ]);
});

test("messages of neighbours: each within the bound, item for item; lies are nothing", () => {
  const item = (bytes: number) => ({
    ...{ key: random.bytes(32), label: random.bytes(8), seq: 2 ** 40 + 1 },
    ...{ signature: random.bytes(64), value: random.bytes(bytes) },
  });
  expect(decodeCarry(encodeLookUp())).toEqual({ kind: "lookUp" });
  expect(decodeCarry(encodePort(4_862))).toEqual({ kind: "port", port: 4_862 });
  const one = item(996);
  expect(decodeCarry(encodePut(one))).toEqual({ kind: "put", item: one });
  const many = Array.from({ length: 24 }, (_, n) => item(1 + ((n * 97) % 996)));
  const messages = encodeFound(many);
  expect(messages.every(({ length }) => length <= PEER_MESSAGE_BYTES_MAX)).toBe(true);
  const back = messages.flatMap((message) => {
    const found = decodeCarry(message);
    return found?.kind === "found" ? found.items : [];
  });
  expect(back).toEqual(many);
  for (const broken of [
    new Uint8Array(0),
    Uint8Array.of(9),
    Uint8Array.of(2, 0),
    Uint8Array.of(4, 0, 0),
    encodePut(one).subarray(0, 500),
    Buffer.concat([encodePut(one), Uint8Array.of(1)]),
    encodePut(item(997)),
  ])
    expect(decodeCarry(broken)).toBeUndefined();
});
