/** Round trips, golden bytes (append-only: they are the wire), and garbage. docs/protocol/routing.md draws the frames. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { GodwitError } from "../kernel/errors.ts";
import { formatHex, formatNodeId } from "../kernel/ids.ts";
import type { Bottleneck } from "./constants.ts";
import {
  appendUpdateEntry,
  BEACON_BYTES_MAX,
  beginUpdate,
  decodeBeacon,
  decodeProofFrame,
  decodeRecordReply,
  decodeRecordRequest,
  decodeRouteAck,
  decodeRouteDigest,
  decodeRouteResync,
  decodeSeqnoRequest,
  decodeUpdateHeader,
  destinationDigest,
  encodeBeacon,
  encodeProofFrame,
  encodeRecordReply,
  encodeRecordRequest,
  encodeRouteAck,
  encodeRouteDigest,
  encodeRouteResync,
  encodeSeqnoRequest,
  entryDigest,
  METRIC_INFINITE,
  readUpdateEntry,
  seqnoSigningBytes,
  UNREACHABLE,
  UPDATE_ENTRY_BYTES_MAX,
  type PlaneRoute,
  type SeqnoProof,
  type UpdateEntry,
} from "./route-messages.ts";

const destination = formatNodeId(Uint8Array.from({ length: 32 }, (_, i) => i));
const ID_HEX = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const recordHash = new Uint8Array(8).fill(0xaa);
const proof: SeqnoProof = { seqno: 2 ** 24 + 5, recordHash, signature: new Uint8Array(64).fill(0xbb) };
const PROOF_HEX = `000001000005${"aa".repeat(8)}${"bb".repeat(64)}`;
const any: PlaneRoute = { seqno: 2 ** 24 + 5, metric: 300, mtu: 1_400, bottleneck: 2 };
const bulk: PlaneRoute = { seqno: 2 ** 24 + 4, metric: 5_000, mtu: 60_000, bottleneck: 1 };
const both: PlaneRoute = { ...any, bottleneck: 1 };

function update(...entries: [PlaneRoute, PlaneRoute, SeqnoProof | undefined][]): Uint8Array {
  const writer = beginUpdate(0x01020304, 77, 4_096);
  for (const [a, b, p] of entries) appendUpdateEntry(writer, destination, a, b, p);
  return writer.finish();
}

const golden: [string, Uint8Array, string][] = [
  ["update, nothing", update(), "10000102030400000000004d"],
  [
    "update, retraction",
    update([UNREACHABLE, UNREACHABLE, undefined]),
    `10000102030400000000004d${ID_HEX}00`,
  ],
  [
    "update, one path for both planes, with proof",
    update([both, both, proof]),
    `10000102030400000000004d${ID_HEX}5f000001000005ac02f80a${PROOF_HEX}`,
  ],
  [
    "update, two paths",
    update([any, bulk, undefined]),
    `10000102030400000000004d${ID_HEX}63000001000005ac02f80a0000010000048827e0d403`,
  ],
  [
    "update, any only",
    update([any, UNREACHABLE, undefined]),
    `10000102030400000000004d${ID_HEX}21000001000005ac02f80a`,
  ],
  ["ack", encodeRouteAck({ tag: 0x01020304, serial: 77 }), "110102030400000000004d"],
  [
    "seqno request",
    encodeSeqnoRequest({ tag: 0x01020304, destination, seqno: 2 ** 24 + 6, planes: 3, hopsLeft: 64 }),
    `1201020304${ID_HEX}0000010000060340`,
  ],
  [
    "digest",
    encodeRouteDigest({ tag: 0x01020304, serial: 77, sums: Uint32Array.from({ length: 16 }, (_, i) => i) }),
    `130102030400000000004d${Array.from({ length: 16 }, (_, i) => i.toString(16).padStart(8, "0")).join("")}`,
  ],
  ["resync", encodeRouteResync({ buckets: 0x8001, ownTag: 5, peerTag: 6 }), "1480010000000500000006"],
  ["record request", encodeRecordRequest({ destination, recordHash }), `15${ID_HEX}${"aa".repeat(8)}`],
  ["record", encodeRecordReply({ destination, record: new Uint8Array([1, 2, 3]) }), `16${ID_HEX}03010203`],
  [
    "beacon, edge",
    encodeBeacon({ seqno: 7, hasProof: false, gatewayMetric: undefined }),
    "100100000000000007",
  ],
  [
    "beacon, gateway",
    encodeBeacon({ seqno: 7, hasProof: true, gatewayMetric: 300 }),
    "100103000000000007ac02",
  ],
  ["proof, of the sender", encodeProofFrame({ of: "sender", proof }), `100200${PROOF_HEX}`],
  ["proof, of the receiver", encodeProofFrame({ of: "receiver", proof }), `100201${PROOF_HEX}`],
  [
    "what a proof signs",
    seqnoSigningBytes("telex", destination, 2 ** 24 + 5, recordHash),
    `14${Buffer.from("godwit route seqno 1").toString("hex")}05${Buffer.from("telex").toString("hex")}${ID_HEX}000001000005${"aa".repeat(8)}`,
  ],
];

/** Computed apart from this code, from the page. */
const GOLDEN_DIGESTS = [175271234, 4290556923];

describe("golden bytes", () => {
  test.each(golden)("%s", (_name, bytes, hex) => expect(formatHex(bytes)).toBe(hex));

  test("digest of an entry", () => {
    const hash = destinationDigest(Uint8Array.from({ length: 32 }, (_, i) => i));
    expect(entryDigest(hash, UNREACHABLE, UNREACHABLE)).toBe(0);
    expect(entryDigest(hash, any, bulk)).toBe(GOLDEN_DIGESTS[0]!);
    expect(entryDigest(hash, any, UNREACHABLE)).toBe(GOLDEN_DIGESTS[1]!);
  });
});

const u48 = fc.integer({ min: 0, max: 2 ** 48 - 1 });
const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const nodeId = fc.uint8Array({ minLength: 32, maxLength: 32 }).map(formatNodeId);
const route = (classMax: number) =>
  fc.record({
    seqno: u48,
    metric: fc.integer({ min: 0, max: METRIC_INFINITE - 1 }),
    mtu: fc.integer({ min: 0, max: 65_535 }),
    bottleneck: fc.integer({ min: 0, max: classMax }) as fc.Arbitrary<Bottleneck>,
  });
const maybe = (arbitrary: fc.Arbitrary<PlaneRoute>) => fc.oneof(fc.constant(UNREACHABLE), arbitrary);
const anyProof = fc.record({
  seqno: u48,
  recordHash: fc.uint8Array({ minLength: 8, maxLength: 8 }),
  signature: fc.uint8Array({ minLength: 64, maxLength: 64 }),
});
const entry: fc.Arbitrary<UpdateEntry> = fc
  .record({
    destination: nodeId,
    any: maybe(route(2)),
    bulk: maybe(route(1)),
    isShared: fc.boolean(),
    proof: fc.option(anyProof, { nil: undefined }),
  })
  .map(({ isShared, ...each }) => (isShared ? { ...each, any: each.bulk } : each));

describe("round trips", () => {
  test("updates", () => {
    fc.assert(
      fc.property(u32, u48, fc.array(entry, { maxLength: 5 }), (tag, serial, entries) => {
        const writer = beginUpdate(tag, serial, 12 + 5 * UPDATE_ENTRY_BYTES_MAX);
        for (const each of entries) {
          const before = writer.length;
          appendUpdateEntry(writer, each.destination, each.any, each.bulk, each.proof);
          expect(writer.length - before).toBeLessThanOrEqual(UPDATE_ENTRY_BYTES_MAX);
        }
        const header = decodeUpdateHeader(writer.finish());
        expect([header.tag, header.serial]).toEqual([tag, serial]);
        const found: UpdateEntry[] = [];
        while (header.entries.remaining > 0) found.push(readUpdateEntry(header.entries));
        expect(found).toEqual(entries);
      }),
    );
  });

  test("the small frames, with bytes of a later version behind them", () => {
    const later = (frame: Uint8Array) => new Uint8Array([...frame, 9, 9, 9]);
    fc.assert(
      fc.property(u32, u48, nodeId, anyProof, (tag, serial, id, signed) => {
        expect(decodeRouteAck(later(encodeRouteAck({ tag, serial })))).toEqual({ tag, serial });
        const request = { tag, destination: id, seqno: serial, planes: 1 + (tag % 3), hopsLeft: tag % 256 };
        expect(decodeSeqnoRequest(later(encodeSeqnoRequest(request)))).toEqual(request);
        const resync = { buckets: tag & 0xffff, ownTag: (tag || 1) >>> 0, peerTag: 3 };
        expect(decodeRouteResync(later(encodeRouteResync(resync)))).toEqual(resync);
        const wanted = { destination: id, recordHash: signed.recordHash };
        expect(decodeRecordRequest(later(encodeRecordRequest(wanted)))).toEqual(wanted);
        const reply = { destination: id, record: signed.signature };
        expect(decodeRecordReply(later(encodeRecordReply(reply)))).toEqual(reply);
        const beacon = {
          seqno: serial,
          hasProof: tag % 2 === 0,
          gatewayMetric: tag === 2 ** 32 - 1 ? undefined : tag,
          wantsBeacon: tag % 3 === 0,
        };
        expect(encodeBeacon(beacon).length).toBeLessThanOrEqual(BEACON_BYTES_MAX);
        expect(decodeBeacon(later(encodeBeacon(beacon)))).toEqual(beacon);
        const shown = { of: tag % 2 === 0 ? "sender" : "receiver", proof: signed } as const;
        expect(decodeProofFrame(later(encodeProofFrame(shown)))).toEqual(shown);
        const sums = Uint32Array.from({ length: 16 }, (_, i) => (tag * i) >>> 0);
        expect(decodeRouteDigest(later(encodeRouteDigest({ tag, serial, sums })))).toEqual({
          tag,
          serial,
          sums,
        });
      }),
    );
  });
});

describe("garbage", () => {
  const decoders: [number, (frame: Uint8Array) => unknown][] = [
    [
      0x10,
      (frame) => {
        const { entries } = decodeUpdateHeader(frame);
        while (entries.remaining > 0) readUpdateEntry(entries);
      },
    ],
    [0x10, decodeBeacon],
    [0x10, decodeProofFrame],
    [0x11, decodeRouteAck],
    [0x12, decodeSeqnoRequest],
    [0x13, decodeRouteDigest],
    [0x14, decodeRouteResync],
    [0x15, decodeRecordRequest],
    [0x16, decodeRecordReply],
  ];

  test("decodes or throws GODWIT_DECODE, nothing else", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.boolean(), (bytes, keepsType) => {
        for (const [type, decode] of decoders) {
          const frame = keepsType ? new Uint8Array([type, ...bytes]) : bytes;
          try {
            decode(frame);
          } catch (error) {
            expect(error).toBeInstanceOf(GodwitError);
            expect((error as GodwitError).code).toBe("GODWIT_DECODE");
          }
        }
      }),
    );
  });

  const header = "10000102030400000000004d";
  const parse = (hex: string) => {
    const { entries } = decodeUpdateHeader(new Uint8Array(Buffer.from(header + hex, "hex")));
    while (entries.remaining > 0) readUpdateEntry(entries);
  };
  test.each([
    ["shared without bulk", `${ID_HEX}05000001000005ac02f80a`],
    ["shared with another class", `${ID_HEX}1f000001000005ac02f80a`],
    ["class 3", `${ID_HEX}31000001000005ac02f80a`],
    ["bulk over a slow path", `${ID_HEX}82000001000005ac02f80a`],
    ["infinite metric", `${ID_HEX}01000001000005ffffffff0ff80a`],
    ["mtu of 2^16", `${ID_HEX}01000001000005ac02808004`],
    ["cut in the metric", `${ID_HEX}01000001000005ac`],
  ])("refuses %s", (_name, hex) => expect(() => parse(hex)).toThrow());
});
