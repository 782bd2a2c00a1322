/**
 * Every frame of docs/protocol/frames.md and delivery.md against its bytes in test/vectors/frames.json, which only
 * grows: what one release sends the next must read. Routing frames have theirs in route-messages.test.ts.
 */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import vectors from "../../test/vectors/frames.json";
import { formatBundleId, formatHex, formatMessageId, formatNodeId } from "../kernel/ids.ts";
import * as bundle from "./bundle.ts";
import { LIFETIME_MAX_MS } from "./constants.ts";
import * as compact from "./mail-compact.ts";
import * as message from "./message.ts";
import * as packet from "./packet.ts";
import * as peer from "./peer-messages.ts";

const bytes = (length: number, fill: number) => new Uint8Array(length).fill(fill);
const nodeA = formatNodeId(bytes(32, 0x0a));
const nodeB = formatNodeId(bytes(32, 0x0b));
const bundleId = formatBundleId(bytes(16, 0xb1));
const messageId = formatMessageId(bytes(16, 0x3e));

const header: bundle.BundleHeader = {
  kind: 0,
  priority: 2,
  source: nodeA,
  destination: nodeB,
  lifetimeMs: 259_200_000,
};
const trace = [{ node: nodeA, atMs: 1_767_225_600_123 }];
const journey: bundle.Journey = { remainingMs: 259_199_000, hops: 1, trace };
const sealed = bytes(5, 0x5e);
const made = bundle.makeBundle(header, sealed);
const offer: bundle.Offer = { id: bundleId, header, journey, sealedBytes: 1_000_000 };
/** Four blocks, of which the last is short. */
const offerWithSums: bundle.Offer = { ...offer, sums: bytes(4 * 16, 0x80) };
const hello: peer.Hello = {
  versionMin: 1,
  versionMax: 2,
  bootId: bytes(8, 0xb0),
  storeEpoch: bytes(8, 0xe0),
  record: bytes(4, 0x4e),
};
const packetHeader: packet.PacketHeader = {
  priority: 3,
  plane: "bulk",
  hopsLeft: 64,
  kind: 2,
  destination: nodeB,
  source: nodeA,
};
const inner: message.InnerMessage = {
  mailEpoch: bytes(8, 0xe0),
  counter: 300,
  to: "DUN-A",
  createdAtMs: 1_767_225_600_000,
  machines: [nodeA, nodeB],
  failoverDelayMs: 60_000,
  subject: "höhe",
  contentType: "text/plain",
  body: bytes(3, 0x42),
};
const telex: message.InnerMessage = { ...inner, to: "LON-B", machines: [], failoverDelayMs: 0, subject: "" };
const context: compact.MailContext = {
  mailEpoch: inner.mailEpoch,
  counter: 301,
  createdAtS: 1_767_225_000,
  to: "LON-B",
};
const alone: compact.Implied = { id: nodeB, callsign: "LON-B", context: undefined };
const inContext: compact.Implied = { ...alone, context };
const withAll: message.InnerMessage = {
  ...inner,
  mailEpoch: bytes(8, 0xe1),
  createdAtMs: 1_767_224_999_000,
  contentType: "image/png",
};
const receipt: message.Receipt = {
  status: 1,
  messageId,
  bundleId,
  atMs: 1_767_225_600_000,
  isUnconfirmed: true,
  trace,
};
const sessionReceipts: message.SessionReceipt[] = [
  { ...message.briefOf(receipt), code: bytes(8, 0x61) },
  { reference: "01020304", status: 15, flags: 14, atS: 0xffff_ffff, code: bytes(8, 0x62) },
];
const want = { id: bundleId, offset: 65_536, length: 1_048_576 };
const chunk = { id: bundleId, offset: 32_768, bytes: bytes(3, 0xcc) };
const refuse = { id: bundleId, reason: 2, retryAfterMs: 5_000 };

interface Case {
  encoded(): Uint8Array;
  decode(bytes: Uint8Array): unknown;
  readonly value: unknown;
  /** Bytes of a later version behind the known ones are skipped. */
  readonly skipsTail: boolean;
}
const cases: Readonly<Record<string, Case>> = {
  hello: { encoded: () => peer.encodeHello(hello), decode: peer.decodeHello, value: hello, skipsTail: true },
  helloWithTime: {
    encoded: () => peer.encodeHello({ ...hello, wallMs: 1_767_225_600_000 }),
    decode: peer.decodeHello,
    value: { ...hello, wallMs: 1_767_225_600_000 },
    skipsTail: true,
  },
  probe: {
    encoded: () => peer.encodeProbe(0xdeadbeef),
    decode: peer.decodeProbe,
    value: 0xdeadbeef,
    skipsTail: true,
  },
  probeReply: {
    encoded: () => peer.encodeProbeReply(1),
    decode: peer.decodeProbeReply,
    value: 1,
    skipsTail: true,
  },
  goodbye: {
    encoded: () => peer.encodeGoodbye(peer.GoodbyeReason.version),
    decode: peer.decodeGoodbye,
    value: 4,
    skipsTail: true,
  },
  packet: {
    encoded: () => packet.encodePacket(packetHeader, bytes(4, 0x99)),
    decode: (frame) => ({ ...packet.decodePacketHeader(frame), payload: packet.packetPayload(frame) }),
    value: { ...packetHeader, payload: bytes(4, 0x99) },
    skipsTail: false,
  },
  bundle: {
    encoded: () => bundle.encodeBundleFrame(made, journey),
    decode: bundle.decodeBundleFrame,
    value: { bundle: made, journey },
    skipsTail: false,
  },
  custodyAck: {
    encoded: () => bundle.encodeCustodyAck([bundleId, made.id]),
    decode: bundle.decodeCustodyAck,
    value: [bundleId, made.id],
    skipsTail: false,
  },
  custodyRefuse: {
    encoded: () => bundle.encodeCustodyRefuse(refuse.id, refuse.reason, refuse.retryAfterMs),
    decode: bundle.decodeCustodyRefuse,
    value: refuse,
    skipsTail: true,
  },
  offer: {
    encoded: () => bundle.encodeOffer(offer),
    decode: bundle.decodeOffer,
    value: offer,
    skipsTail: true,
  },
  offerWithSums: {
    encoded: () => bundle.encodeOffer(offerWithSums),
    decode: bundle.decodeOffer,
    value: offerWithSums,
    skipsTail: true,
  },
  want: {
    encoded: () => bundle.encodeWant(want.id, want.offset, want.length),
    decode: bundle.decodeWant,
    value: want,
    skipsTail: true,
  },
  chunk: {
    encoded: () => bundle.encodeChunk(chunk.id, chunk.offset, chunk.bytes),
    decode: bundle.decodeChunk,
    value: chunk,
    skipsTail: false,
  },
  innerMessage: {
    encoded: () => message.encodeInnerMessage(inner),
    decode: message.decodeInnerMessage,
    value: inner,
    skipsTail: false,
  },
  compactAlone: {
    encoded: () => compact.encodeCompact(compact.compactStart(telex, alone)!, telex),
    decode: (frame) => compact.decodeMail(frame, alone),
    value: telex,
    skipsTail: false,
  },
  compactInContext: {
    encoded: () => compact.encodeCompact(compact.compactStart(telex, inContext)!, telex),
    decode: (frame) => compact.decodeMail(frame, inContext),
    value: telex,
    skipsTail: false,
  },
  compactWithAll: {
    encoded: () => compact.encodeCompact(compact.compactStart(withAll, inContext)!, withAll),
    decode: (frame) => compact.decodeMail(frame, inContext),
    value: withAll,
    skipsTail: false,
  },
  compactByReferences: {
    encoded: () => compact.encodeCompact(compact.compactStart(withAll, inContext, true)!, withAll),
    decode: (frame) => compact.decodeMail(frame, { ...inContext, machinesAt: () => [nodeB, nodeA] }),
    value: withAll,
    skipsTail: false,
  },
  mailContext: {
    encoded: () => compact.encodeContext(context),
    decode: compact.decodeContext,
    value: context,
    skipsTail: true,
  },
  receipt: {
    encoded: () => message.encodeReceipt(receipt),
    decode: message.decodeReceipt,
    value: receipt,
    skipsTail: true,
  },
  receiptBody: {
    encoded: () => message.encodeReceiptBody([message.encodeReceipt(receipt), bytes(2, 1)], bytes(64, 0x51)),
    decode: message.decodeReceiptBody,
    value: { receipts: [message.encodeReceipt(receipt), bytes(2, 1)], signature: bytes(64, 0x51) },
    skipsTail: true,
  },
  sessionReceipts: {
    encoded: () => message.encodeSessionReceipts(sessionReceipts),
    decode: message.decodeSessionReceipts,
    value: sessionReceipts,
    skipsTail: true,
  },
  receiptsWanted: {
    encoded: () => message.encodeReceiptsWanted([messageId, messageId]),
    decode: message.decodeReceiptsWanted,
    value: [messageId, messageId],
    skipsTail: true,
  },
  claim: {
    encoded: () => message.encodeClaim({ messageId, sender: nodeA }),
    decode: message.decodeClaim,
    value: { messageId, sender: nodeA },
    skipsTail: true,
  },
  claimAnswer: {
    encoded: () => message.encodeClaimAnswer(messageId, 3),
    decode: message.decodeClaimAnswer,
    value: { messageId, answer: 3 },
    skipsTail: true,
  },
};

/** Hashed or signed, never decoded. */
const derived: Readonly<Record<string, () => string>> = {
  bundleHeader: () => formatHex(bundle.encodeBundleHeader(header)),
  bundleId: () => made.id,
  messageId: () => message.messageIdOf(nodeA, inner.to, inner.mailEpoch, inner.counter),
  receiptHash: () => formatHex(message.receiptHash(message.encodeReceipt(receipt))),
  receiptSaid: () => formatHex(message.receiptSaid(message.briefOf(receipt), bundleId)),
  receiptSigningBytes: () =>
    formatHex(message.receiptSigningBytes("telex", nodeB, nodeA, [bytes(16, 1), bytes(16, 2)])),
};
const golden = vectors as Readonly<Record<string, string>>;

describe("golden bytes", () => {
  for (const [name, { encoded, decode, value, skipsTail }] of Object.entries(cases)) {
    test(name, () => {
      expect(formatHex(encoded())).toBe(golden[name] ?? "missing");
      const frame = new Uint8Array(Buffer.from(golden[name]!, "hex"));
      expect(decode(frame)).toEqual(value);
      if (skipsTail) expect(decode(new Uint8Array([...frame, 1, 2, 3]))).toEqual(value);
    });
  }

  for (const [name, make] of Object.entries(derived))
    test(name, () => expect(make()).toBe(golden[name] ?? "missing"));

  test("none is left over", () => {
    expect(Object.keys(golden).sort()).toEqual([...Object.keys(cases), ...Object.keys(derived)].sort());
  });
});

describe("bytes of strangers", () => {
  const onlyDecodeErrors = (frame: Uint8Array, decode: (bytes: Uint8Array) => unknown) => {
    try {
      decode(frame);
    } catch (error) {
      expect((error as { code?: string }).code).toBe("GODWIT_DECODE");
    }
  };

  for (const [name, { encoded, decode }] of Object.entries(cases)) {
    test(`${name}: cut, flipped, stretched or random, it decodes or is refused with GODWIT_DECODE`, () => {
      const valid = encoded();
      for (let length = 0; length < valid.length; length++)
        onlyDecodeErrors(valid.subarray(0, length), decode);
      const mutation = fc.record({ at: fc.nat(valid.length - 1), value: fc.integer({ min: 0, max: 255 }) });
      fc.assert(
        fc.property(fc.array(mutation, { minLength: 1, maxLength: 6 }), (mutations) => {
          const frame = valid.slice();
          for (const { at, value } of mutations) frame[at] = value;
          onlyDecodeErrors(frame, decode);
        }),
        { numRuns: 60 },
      );
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 300 }), (tail) => {
          onlyDecodeErrors(tail, decode);
          onlyDecodeErrors(new Uint8Array([valid[0]!, ...tail]), decode);
        }),
        { numRuns: 60 },
      );
    });
  }
});

describe("rules beyond the layout", () => {
  const refused = (fn: () => unknown, why: string) => expect(fn).toThrow(why);

  test("a hello of an empty version range", () => {
    refused(() => peer.decodeHello(peer.encodeHello({ ...hello, versionMin: 3 })), "empty version range");
  });

  test("a header with bytes behind it would get another id at the next hop", () => {
    const long = new Uint8Array([...bundle.encodeBundleHeader(header), 0]);
    refused(() => bundle.decodeBundleHeader(long), "1 bytes too many");
    expect(bundle.bundleIdOf(bundle.encodeBundleHeader(header), sealed)).toBe(made.id);
  });

  test("an offer whose sums are cut short, or over blocks of another size, is one without", () => {
    const encoded = bundle.encodeOffer(offerWithSums);
    const plain = bundle.encodeOffer(offer);
    expect(encoded.subarray(0, plain.length)).toEqual(plain);
    for (let length = plain.length; length < encoded.length; length++)
      expect(bundle.decodeOffer(encoded.subarray(0, length)).sums).toBeUndefined();
    encoded[plain.length] = 17;
    expect(bundle.decodeOffer(encoded)).toEqual(offer);
  });

  test("the sum of a block is the beginning of its SHA-256, and the last block is short", () => {
    expect([262_143, 262_144, 262_145, 1_000_000].map(bundle.blocksIn)).toEqual([1, 1, 2, 4]);
    expect(Buffer.from(bundle.blockSum(Buffer.from("abc"))).toString("hex")).toBe(
      "ba7816bf8f01cfea414140de5dae2223",
    );
  });

  test("session receipts and requests for signed ones of nothing or of too many, and signed receipts are none of a session", () => {
    const of = (count: number) => Array.from({ length: count }, () => sessionReceipts[0]!);
    const ids = (count: number) => Array.from({ length: count }, () => messageId);
    for (const count of [0, 17]) {
      refused(() => message.decodeSessionReceipts(message.encodeSessionReceipts(of(count))), "1 to 16");
      refused(() => message.decodeReceiptsWanted(message.encodeReceiptsWanted(ids(count))), "1 to 16");
    }
    expect(message.encodeSessionReceipts(of(16)).length).toBe(274);
    // Earlier releases take the one for the other, and refuse it.
    refused(() => message.decodeReceiptBody(message.encodeSessionReceipts(of(1))), "0 receipts");
    const signed = message.encodeReceiptBody([message.encodeReceipt(receipt)], bytes(64, 1));
    expect(message.decodeSessionReceipts(signed)).toBeUndefined();
  });

  test("the time of a session receipt ends where 32 bits do", () => {
    const times = [-5, 999, 2_000, 2 ** 45].map((atMs) => message.briefOf({ ...receipt, atMs }).atS);
    expect(times).toEqual([0, 0, 2, 0xffff_ffff]);
  });

  test("priority above 3, lifetime above 30 days, an offer of nothing or of too much", () => {
    refused(
      () => bundle.decodeBundleHeader(bundle.encodeBundleHeader({ ...header, priority: 4 as 3 })),
      "priority",
    );
    refused(
      () =>
        bundle.decodeBundleHeader(bundle.encodeBundleHeader({ ...header, lifetimeMs: LIFETIME_MAX_MS + 1 })),
      "30 days",
    );
    for (const sealedBytes of [0, bundle.SEALED_BYTES_MAX + 1])
      refused(() => bundle.decodeOffer(bundle.encodeOffer({ ...offer, sealedBytes })), "sealed bytes");
  });

  test("no neighbour gives a bundle more life than its source did", () => {
    const longer = { ...journey, remainingMs: LIFETIME_MAX_MS };
    const { journey: read } = bundle.decodeBundleFrame(bundle.encodeBundleFrame(made, longer));
    expect(read.remainingMs).toBe(header.lifetimeMs);
    expect(bundle.decodeOffer(bundle.encodeOffer({ ...offer, journey: longer })).journey.remainingMs).toBe(
      header.lifetimeMs,
    );
  });

  test("a trace of 33 nodes, a receipt bundle of 0 or 17, a message to 17 machines", () => {
    const long = Array.from({ length: 33 }, () => trace[0]!);
    refused(
      () => bundle.decodeBundleFrame(bundle.encodeBundleFrame(made, { ...journey, trace: long })),
      "trace of 33",
    );
    refused(() => message.decodeReceipt(message.encodeReceipt({ ...receipt, trace: long })), "trace of 33");
    for (const count of [0, 17]) {
      const receipts = Array.from({ length: count }, () => bytes(2, 1));
      refused(() => message.decodeReceiptBody(message.encodeReceiptBody(receipts, bytes(64, 1))), "receipts");
    }
    const machines = Array.from({ length: 17 }, () => nodeA);
    refused(
      () => message.decodeInnerMessage(message.encodeInnerMessage({ ...inner, machines })),
      "17 machines",
    );
  });

  test("the longest journey fits whatever a writer began with", () => {
    const full = { ...journey, trace: Array.from({ length: 32 }, () => trace[0]!) };
    expect(bundle.decodeOffer(bundle.encodeOffer({ ...offer, journey: full })).journey).toEqual(full);
  });

  test("decoded bundles own their bytes", () => {
    const frame = bundle.encodeBundleFrame(made, journey);
    const decoded = bundle.decodeBundleFrame(frame);
    frame.fill(0);
    expect(decoded.bundle.sealed).toEqual(sealed);
  });

  test("spending a hop changes one byte of the packet and nothing else", () => {
    const frame = packet.encodePacket(packetHeader, bytes(4, 1));
    packet.spendHop(frame);
    expect(packet.decodePacketHeader(frame)).toEqual({ ...packetHeader, hopsLeft: 63 });
    frame[1] = 0xfb; // unknown flags are ignored
    expect(packet.decodePacketHeader(frame)).toMatchObject({ priority: 3, plane: "any" });
  });
});
