/** Every compact frame of docs/protocol/slow.md against its bytes in test/vectors/compact.json, which only grows, and what none of them may hold. */
import { describe, expect, test } from "bun:test";
import vectors from "../../test/vectors/compact.json";
import { formatBundleId, formatHex, formatNodeId } from "../kernel/ids.ts";
import { BundleKind, encodeBundleHeader, makeBundle } from "./bundle.ts";
import * as compact from "./compact.ts";
import { LIFETIME_DEFAULT_MS, LIFETIME_MAX_MS } from "./constants.ts";
import { encodeSessionReceipts } from "./message.ts";
import { encodeSessionHead } from "./sealed.ts";

const bytes = (length: number, fill: number) => new Uint8Array(length).fill(fill);
const [nodeA, nodeB] = [formatNodeId(bytes(32, 0x0a)), formatNodeId(bytes(32, 0x0b))];
const id = formatBundleId(bytes(16, 0xb1));
const agreed = { keyId: 0x01020304, ephemeral: bytes(32, 0xee) };
const sealed = {
  first: new Uint8Array([
    ...encodeSessionHead({ isSegmented: false, counter: 0, agreed }),
    ...bytes(20, 0x5e),
  ]),
  later: new Uint8Array([
    ...encodeSessionHead({ isSegmented: false, counter: 300, id: bytes(8, 0x51) }),
    ...bytes(20, 0x5e),
  ]),
  receipts: encodeSessionReceipts([
    { reference: "b1b1b1b1", status: 1, flags: 0, atS: 0x6955b900, code: bytes(8, 0x61) },
  ]),
};

const common = {
  kind: BundleKind.message as number,
  priority: 2 as const,
  sequence: 7,
  lifetimeMs: LIFETIME_DEFAULT_MS,
  remainingMs: LIFETIME_DEFAULT_MS - 1_000,
  hops: 3,
};
const first: compact.CompactBundle = {
  ...{ ...common, source: undefined, destination: undefined },
  ...compact.shortenSealed(0, sealed.first, () => ({ index: 0 })),
};
const referred: compact.CompactBundle = {
  ...{ ...common, source: { index: 1 }, destination: { index: 255 } },
  ...compact.shortenSealed(0, sealed.later, () => ({ index: 2 })),
};
const defined: compact.CompactBundle = {
  ...{ ...common, source: { index: 1, is: nodeA }, destination: { index: 255, is: nodeB } },
  ...compact.shortenSealed(0, sealed.later, (is) => ({ index: 2, is })),
};
const receipts: compact.CompactBundle = {
  ...{ ...common, kind: BundleKind.receipt, source: { index: 1 }, destination: undefined },
  ...compact.shortenSealed(BundleKind.receipt, sealed.receipts, () => ({ index: 0 })),
};
/** By indices that its receiver gave. */
const answering: compact.CompactBundle = {
  ...{ ...common, source: { index: 3, isReceivers: true }, destination: { index: 4, isReceivers: true } },
  ...compact.shortenSealed(0, sealed.first, () => ({ index: 0 })),
};
/** Of another kind, a lifetime that has no code, and sealed bytes as they are. */
const claim: compact.CompactBundle = {
  ...{ ...common, kind: BundleKind.claim, lifetimeMs: 90_500, remainingMs: 90_500 },
  ...{ source: undefined, destination: { index: 4 }, seal: { kind: "asIs" }, rest: bytes(5, 0x5e) },
};
const ack = { sequences: [250, 251, 2, 120], check: compact.ackCheck([id, id]) };
const refuse = { sequence: 9, check: compact.ackCheck([id]), reason: 7, retryAfterMs: 60_000 };
const hello = { bootId: bytes(8, 0xb0), storeEpoch: bytes(8, 0xe0), recordHash: bytes(8, 0x4e) };

const encoded: Record<string, Uint8Array> = {
  compactBundleFirst: compact.encodeCompactBundle(first, id),
  compactBundleReferred: compact.encodeCompactBundle(referred, id),
  compactBundleDefined: compact.encodeCompactBundle(defined, id),
  compactReceipts: compact.encodeCompactBundle(receipts, id),
  compactClaim: compact.encodeCompactBundle(claim, id),
  compactBundleAnswering: compact.encodeCompactBundle(answering, id),
  compactAck: compact.encodeCompactAck(ack),
  compactRefuse: compact.encodeCompactRefuse(refuse),
  compactUnreadable: compact.encodeUnreadable(9),
  compactHello: compact.encodeCompactHello(hello),
  compactHelloWithTime: compact.encodeCompactHello({ ...hello, wallMs: 1_767_225_600_000 }),
  helloWanted: compact.encodeHelloWanted(),
};

test.each(Object.keys(encoded))("%s has the bytes of its vector", (name) => {
  expect(formatHex(encoded[name]!)).toBe(vectors[name as keyof typeof vectors]);
});

test("no vector is left over", () => {
  // That of packets is compact-packet.test.ts's.
  expect(Object.keys(vectors).toSorted()).toEqual([...Object.keys(encoded), "compactPacket"].toSorted());
});

describe("what is decoded is what was encoded", () => {
  test.each(Object.entries({ first, referred, defined, answering, receipts, claim }))(
    "bundle: %s",
    (name, bundle) => {
      const { check, ...decoded } = compact.decodeCompactBundle(compact.encodeCompactBundle(bundle, id));
      expect(decoded).toEqual({ ...bundle, remainingMs: bundle.lifetimeMs });
      expect(check.length).toBe(compact.needsReferences(bundle) ? 3 : 2);
      const whole = { first, referred, defined, receipts }[name];
      if (whole === undefined) return;
      const original = name === "first" ? sealed.first : name === "receipts" ? sealed.receipts : sealed.later;
      expect(compact.restoreSealed(bundle, "51".repeat(8))).toEqual(original);
    },
  );

  test("acknowledgement, over the end of the numbers; refusal; hello", () => {
    expect(compact.decodeCompactAck(encoded["compactAck"]!)).toEqual(ack);
    expect(compact.decodeCompactRefuse(encoded["compactRefuse"]!)).toEqual(refuse);
    expect(compact.decodeUnreadable(encoded["compactUnreadable"]!)).toBe(9);
    expect(compact.decodeCompactHello(encoded["compactHello"]!)).toEqual({ ...hello, wallMs: undefined });
    expect(compact.decodeCompactHello(encoded["compactHelloWithTime"]!)).toMatchObject({
      wallMs: 1_767_225_600_000,
    });
  });

  test("every lifetime to the millisecond: the id covers it", () => {
    const usual = [60_000, 3_600_000, 2 * 3_600_000, LIFETIME_DEFAULT_MS, 4 * 86_400_000, LIFETIME_MAX_MS];
    for (const lifetimeMs of [...usual, 0, 1, 59_999, 60_001, LIFETIME_MAX_MS - 1]) {
      const bundle = { ...first, lifetimeMs, remainingMs: lifetimeMs };
      const frame = compact.encodeCompactBundle(bundle, id);
      expect(compact.decodeCompactBundle(frame)).toMatchObject({ lifetimeMs, remainingMs: lifetimeMs });
      if (usual.includes(lifetimeMs)) expect(frame.length).toBe(encoded["compactBundleFirst"]!.length);
    }
  });

  test("the check is what the bundle's id begins with", () => {
    const header = { kind: 0, priority: 2, source: nodeA, destination: nodeB, lifetimeMs: 60_000 } as const;
    const made = makeBundle(header, sealed.later);
    const { check } = compact.decodeCompactBundle(compact.encodeCompactBundle(referred, made.id));
    expect(made.id.startsWith(formatHex(check))).toBe(true);
    expect(encodeBundleHeader(header).length).toBeGreaterThan(0);
  });
});

describe("refused", () => {
  const changed = (frame: Uint8Array, at: number, value: number): Uint8Array =>
    frame.map((byte, i) => (i === at ? value : byte));
  const refused = (frame: Uint8Array, words: string) =>
    expect(() => compact.decodeCompactBundle(frame)).toThrow(words);

  test("forms of later versions, lifetimes that nothing stands for or above 30 days, cut ones", () => {
    const frame = encoded["compactBundleFirst"]!;
    refused(changed(encoded["compactReceipts"]!, 1, encoded["compactReceipts"]![1]! | 0xc0), "no known form");
    refused(changed(frame, 3, 159), "lifetime code 159");
    refused(compact.encodeCompactBundle({ ...first, lifetimeMs: LIFETIME_MAX_MS + 1 }, id), "above 30 days");
    for (let length = 0; length < 8; length++) refused(frame.subarray(0, length), "");
  });

  test("receipts that are not whole, none, or more than 16", () => {
    const with_ = (length: number) =>
      compact.encodeCompactBundle({ ...receipts, rest: bytes(length, 1) }, id);
    refused(with_(16), "receipts of 16 bytes");
    refused(with_(0), "receipts of 0 bytes");
    refused(with_(17 * 17), "17 receipts");
    expect(compact.decodeCompactBundle(with_(16 * 17)).rest.length).toBe(272);
  });

  test("a bitmap reaches 128 sequences and no further", () => {
    const long = new Uint8Array([0x73, 0, 0, 0, ...bytes(40, 0xff)]);
    expect(compact.decodeCompactAck(long).sequences.length).toBe(compact.SEQUENCES_MAX);
  });
});
