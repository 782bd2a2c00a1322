import { describe, expect, test } from "bun:test";
import { createCipheriv } from "node:crypto";
import { join } from "node:path";
import fc from "fast-check";
import { formatHex, formatNodeId } from "../kernel/ids.ts";
import { COUNTER_MAX, decodeSessionHead } from "../wire/sealed.ts";
import { openAll, SEAL_PLAINTEXT_MAX, SEAL_SEGMENT_MAX, SEAL_WHOLE_MAX } from "./segments.ts";
import { ReceivingKeys } from "./session-keys.ts";
import type { MailContext } from "../wire/mail-compact.ts";
import {
  contextIdOf,
  openInSession,
  openSegmentsInSession,
  receiptCode,
  sealInSession,
  sealSegmentsInSession,
  type SessionBinding,
  type SessionSeal,
} from "./session-seal.ts";
import {
  referenceContextId,
  referenceCounterMode,
  referenceHash,
  type ReferenceHead,
  referenceKey,
  referenceOpen,
  type ReferencePlace,
  referenceSeal,
  referenceSegments,
  referenceSessionId,
  referenceHead,
  referenceSynthetic,
} from "./testing-session-reference.ts";
import { codeOf, createPair, rootOfPair, VECTOR_NETWORK } from "./testing-sessions.ts";

const pair = createPair();
const { ann, bea, prekey, publics } = pair;
const root = rootOfPair(pair);
const id = new Uint8Array(referenceSessionId(publics.e, ann.publicKey, prekey.keyId));
const agreed = { keyId: prekey.keyId, ephemeral: publics.e };
const binding: SessionBinding = {
  ...{ network: VECTOR_NETWORK, from: ann.id, to: bea.id },
  associated: Uint8Array.of(0xad, 0xda),
};
const pattern = (length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, at) => (at * 7 + (at >> 8)) & 255);
const sha256 = (bytes: Uint8Array): Uint8Array => new Bun.CryptoHasher("sha256").update(bytes).digest();

const sealAt = (counter: number, isFirst: boolean, key = referenceKey(root, counter)): SessionSeal => ({
  ...{ id, counter, key: new Uint8Array(key) },
  agreed: isFirst ? agreed : undefined,
});

/** Whole or in segments, as the sealer does it. */
function seal(under: SessionSeal, plaintext: Uint8Array, bound = binding): Uint8Array {
  if (plaintext.length <= SEAL_WHOLE_MAX) return sealInSession(under, bound, plaintext);
  const { opening, segment } = sealSegmentsInSession(under, bound, plaintext.length, sha256(plaintext));
  const parts = [opening];
  for (let at = 0; at * SEAL_SEGMENT_MAX < plaintext.length; at++)
    parts.push(segment(at, plaintext.subarray(at * SEAL_SEGMENT_MAX, (at + 1) * SEAL_SEGMENT_MAX)));
  return new Uint8Array(Buffer.concat(parts));
}

function open(sealed: Uint8Array, bound = binding, keys = new ReceivingKeys(root)): Uint8Array {
  const head = decodeSessionHead(sealed);
  const key = keys.key(head.counter);
  if (!head.isSegmented) return openInSession(key, bound, sealed, head.bytes);
  const segments = openSegmentsInSession(key, bound, sealed, head.bytes, sealed.length);
  return openAll(segments, sealed.subarray(segments.openingBytes));
}

const headOf = (counter: number, isFirst: boolean): ReferenceHead =>
  isFirst ? { first: { keyId: prekey.keyId, e: publics.e }, counter } : { later: { sessionId: id }, counter };
const placeOf = ({ network, associated }: SessionBinding): ReferencePlace => ({
  ...{ network, sender: ann.publicKey, recipient: bea.publicKey, associated },
});

/** The code judged by the reference, both ways, and the overhead that the page says. */
function judge(counter: number, isFirst: boolean, plaintext: Uint8Array, bound: SessionBinding): void {
  const key = referenceKey(root, counter);
  const [head, place] = [headOf(counter, isFirst), placeOf(bound)];
  const sealed = seal(sealAt(counter, isFirst), plaintext, bound);
  const expected = referenceSeal(key, head, place, plaintext);
  expect(Buffer.compare(sealed, expected)).toBe(0);
  expect(Buffer.compare(open(expected, bound), plaintext)).toBe(0);
  expect(Buffer.compare(referenceOpen(key, head, place, sealed)!, plaintext)).toBe(0);
  const varint = counter < 128 ? 1 : counter < 16_384 ? 2 : 3;
  const isSegmented = plaintext.length > SEAL_WHOLE_MAX;
  const segments = isSegmented ? 36 + 16 * Math.ceil(plaintext.length / SEAL_SEGMENT_MAX) : 0;
  expect(sealed.length - plaintext.length).toBe((isFirst ? 53 : 25) + varint + segments);
}

const counters = fc.integer({ min: 0, max: COUNTER_MAX });
const network = fc.oneof(
  fc.string({ maxLength: 40 }),
  fc.string({ unit: "grapheme", maxLength: 200 }),
  fc.constantFrom("", "\0", "é", "e\u0301", "\ufeffmesh", "😀".repeat(40)),
);

describe("sealing in a session", () => {
  test("the vectors stand in the protocol page", async () => {
    const page = await Bun.file(join(import.meta.dir, "../../docs/protocol/sealing.md")).text();
    const source = await Bun.file(import.meta.path).text();
    const vectors = [...source.matchAll(/\(?"([0-9a-f]{64,})"/g)].map((match) => match[1]!);
    expect(vectors.length).toBe(4);
    for (const vector of vectors) expect(page.replaceAll("\n", "")).toContain(vector);
  });

  test("golden: all four forms, by the reference and by the code", () => {
    const text = new TextEncoder().encode("ARRIVED SAFELY");
    for (const [counter, isFirst, plaintext, hex] of [
      [
        0,
        true,
        text,
        "0301020304132c442be010fbd57e72603328aa76e71fccc1503aae219327d14d9c9993f472004f505a9721f35a5e2609b3e6f694a1ccb1245bf392339b4a3f4055d1011c",
      ],
      [
        300,
        false,
        text,
        "041fbaa880a74982c0ac0229768a1d7f8f77aa2c9822648211185fb67e8e9f5a4174df8f1e553f90b7",
      ],
      [1, true, pattern(70_000), "5a484533e2e324d546cacc561eb3da287827908fedae69f8e56c1deac972a7ca"],
      [
        COUNTER_MAX,
        false,
        pattern(70_000),
        "4e541550d756be53a97838998310bddfd79f46a2138f37c4360f0f29a9381f1f",
      ],
    ] as const) {
      const told = (sealed: Uint8Array) => formatHex(plaintext === text ? sealed : sha256(sealed));
      const reference = referenceSeal(
        referenceKey(root, counter),
        headOf(counter, isFirst),
        placeOf(binding),
        plaintext,
      );
      expect(told(reference)).toBe(hex);
      expect(told(seal(sealAt(counter, isFirst), plaintext))).toBe(hex);
    }
  });

  test("whole: byte for byte the reference, of any counter, network, associated data and plaintext", () => {
    fc.assert(
      fc.property(
        ...([
          counters,
          fc.boolean(),
          fc.uint8Array({ maxLength: 2_000 }),
          network,
          fc.uint8Array({ maxLength: 400 }),
        ] as const),
        (counter, isFirst, plaintext, name, associated) =>
          judge(counter, isFirst, plaintext, { ...binding, network: name, associated }),
      ),
      { numRuns: 300 },
    );
  });

  test("sizes around every border: byte for byte the reference, with the overhead that the page says", () => {
    const borders = [
      0,
      1,
      15,
      16,
      17,
      SEAL_WHOLE_MAX - 1,
      SEAL_WHOLE_MAX,
      SEAL_WHOLE_MAX + 1,
      SEAL_SEGMENT_MAX,
      SEAL_SEGMENT_MAX + 1,
    ];
    for (const length of [
      ...borders,
      2 * SEAL_SEGMENT_MAX - 1,
      2 * SEAL_SEGMENT_MAX,
      2 * SEAL_SEGMENT_MAX + 1,
      300_000,
    ])
      for (const isFirst of [true, false]) judge(length & COUNTER_MAX, isFirst, pattern(length), binding);
    for (const counter of [0, 127, 128, 16_383, 16_384, COUNTER_MAX])
      judge(counter, true, pattern(9), binding);
  });

  test("the cipher counts in 128 bits, as the reference does", () => {
    const key = pattern(32);
    for (const block of [
      "ff".repeat(16),
      `${"ff".repeat(15)}fe`,
      `00${"ff".repeat(15)}`,
      `${"00".repeat(8)}${"ff".repeat(8)}`,
      `${"00".repeat(12)}ffffffff`,
    ]) {
      const counter = new Uint8Array(Buffer.from(block, "hex"));
      const cipher = createCipheriv("aes-256-ctr", key, counter);
      expect(new Uint8Array(cipher.update(pattern(100)))).toEqual(
        new Uint8Array(referenceCounterMode(key, counter, pattern(100))),
      );
    }
  });

  test("the longest plaintext comes back, one byte more is not sealed", () => {
    const plaintext = new Uint8Array(SEAL_PLAINTEXT_MAX).fill(3);
    expect(Buffer.compare(open(seal(sealAt(0, true), plaintext)), plaintext)).toBe(0);
    expect(codeOf(() => seal(sealAt(0, true), new Uint8Array(SEAL_PLAINTEXT_MAX + 1)))).toBe(
      "GODWIT_TOO_BIG",
    );
  });

  test("the same message in the same place is the same bytes; in another place they have nothing in common", () => {
    for (const plaintext of [pattern(600), pattern(70_000)]) {
      const sealed = seal(sealAt(7, false), plaintext);
      expect(Buffer.compare(seal(sealAt(7, false), plaintext), sealed)).toBe(0);
      const others = [
        seal(sealAt(8, false), plaintext),
        seal(sealAt(7, false), plaintext, { ...binding, associated: Uint8Array.of(1) }),
        seal(sealAt(7, false), plaintext, { ...binding, network: "other" }),
        seal(sealAt(7, true), plaintext).subarray(28),
      ];
      for (const other of others)
        expect(sameBytes(sealed.subarray(10), other.subarray(10))).toBeLessThan(0.02);
    }
  });
});

/** The share of places at which two have the same byte: 1/256 of what is random. */
function sameBytes(one: Uint8Array, other: Uint8Array): number {
  const length = Math.min(one.length, other.length);
  let same = 0;
  for (let at = 0; at < length; at++) same += one[at] === other[at] ? 1 : 0;
  return same / length;
}

describe("what does not open", () => {
  test("any other bit of head, tag and ciphertext, and every cut", () => {
    for (const isFirst of [true, false]) {
      const sealed = seal(sealAt(300, isFirst), pattern(30));
      // By the key of its counter: whatever else the head says is bound as well.
      const { bytes } = decodeSessionHead(sealed);
      const key = referenceKey(root, 300);
      const openFixed = (changed: Uint8Array) => openInSession(key, binding, changed, bytes);
      expect(openFixed(sealed)).toEqual(pattern(30));
      for (let bit = 0; bit < 8 * sealed.length; bit++) {
        const changed = sealed.slice();
        changed[bit >> 3]! ^= 1 << (bit & 7);
        expect(codeOf(() => openFixed(changed))).toBe("GODWIT_SEAL_FORGED");
        expect(codeOf(() => open(changed))).toMatch(/^GODWIT_(SEAL_FORGED|DECODE)$/);
      }
      for (let length = 0; length < sealed.length; length++) {
        expect(codeOf(() => openFixed(sealed.subarray(0, length)))).toBe(
          length < bytes + 16 ? "GODWIT_DECODE" : "GODWIT_SEAL_FORGED",
        );
      }
      expect(codeOf(() => openFixed(Uint8Array.of(...sealed, 0)))).toBe("GODWIT_SEAL_FORGED");
    }
  });

  test("any other bit of what is bound: associated data, network, both ids, the key", () => {
    const key = referenceKey(root, 5);
    const sealed = seal(sealAt(5, false), pattern(20));
    const { bytes } = decodeSessionHead(sealed);
    const refused = (bound: SessionBinding, under = key) =>
      expect(codeOf(() => openInSession(under, bound, sealed, bytes))).toBe("GODWIT_SEAL_FORGED");
    expect(codeOf(() => openInSession(key, binding, sealed, bytes))).toBe("nothing thrown");
    for (let bit = 0; bit < 16; bit++) {
      const associated = binding.associated.slice();
      associated[bit >> 3]! ^= 1 << (bit & 7);
      refused({ ...binding, associated });
    }
    refused({ ...binding, associated: new Uint8Array(0) });
    refused({ ...binding, associated: Uint8Array.of(0xad, 0xda, 0) });
    for (const name of ["", "Telex", "telex\0", "tele", "teley"]) refused({ ...binding, network: name });
    for (let bit = 0; bit < 256; bit++) {
      const turned = (publicKey: Uint8Array) =>
        formatNodeId(publicKey.map((byte, at) => (at === bit >> 3 ? byte ^ (1 << (bit & 7)) : byte)));
      refused({ ...binding, from: turned(ann.publicKey) });
      refused({ ...binding, to: turned(bea.publicKey) });
    }
    refused({ ...binding, from: bea.id, to: ann.id });
    for (let bit = 0; bit < 256; bit += 7) {
      const other = key.slice();
      other[bit >> 3]! ^= 1 << (bit & 7);
      refused(binding, other);
    }
  });

  test("nothing moves between network and head, nor between what is bound and what is sealed", () => {
    const key = referenceKey(root, 5);
    const associated = Uint8Array.of(1, 2, 3);
    const sealed = sealInSession(sealAt(5, false), { ...binding, associated }, Uint8Array.of(4, 5, 6));
    const { bytes } = decodeSessionHead(sealed);
    for (const moved of [Uint8Array.of(1, 2, 3, 4), Uint8Array.of(1, 2)])
      expect(codeOf(() => openInSession(key, { ...binding, associated: moved }, sealed, bytes))).toBe(
        "GODWIT_SEAL_FORGED",
      );
  });

  test("a changed segment, or segments of another message, cut, swapped, repeated", () => {
    const plaintext = pattern(3 * SEAL_SEGMENT_MAX + 100);
    const sealed = seal(sealAt(9, true), plaintext);
    const start = 54 + 36;
    const size = SEAL_SEGMENT_MAX + 16;
    const segmentsOf = (bytes: Uint8Array) =>
      [0, 1, 2, 3].map((at) => bytes.subarray(start + at * size, start + (at + 1) * size));
    const build = (...parts: (Uint8Array | undefined)[]) =>
      new Uint8Array(Buffer.concat([sealed.subarray(0, start), ...parts.map((part) => part!)]));
    const [a, b, c, last] = segmentsOf(sealed);
    expect(Buffer.compare(open(build(a, b, c, last)), plaintext)).toBe(0);
    const other = plaintext.slice();
    other[plaintext.length - 1]! ^= 1;
    // The same counter, and plaintext that differs in its last bit: every segment has another key.
    const twin = segmentsOf(seal(sealAt(9, true), other));
    expect(sameBytes(twin[0]!, a!)).toBeLessThan(0.01);
    for (const wrong of [
      build(a, c, b, last),
      build(a, a, c, last),
      build(a, b, c),
      build(a, b, last),
      build(a, b, c, last, last),
      build(twin[0], b, c, last),
      build(a, b, c, twin[3]),
      build(a, b, c, last!.subarray(1)),
      build(),
    ])
      expect(codeOf(() => open(wrong))).toBe("GODWIT_DECODE");
    for (let at = 0; at < sealed.length; at += at < start ? 1 : 9_973) {
      const changed = sealed.slice();
      changed[at]! ^= 0x80;
      expect(codeOf(() => open(changed))).toMatch(/^GODWIT_(SEAL_FORGED|DECODE)$/);
    }
  });

  test("a length before the segments that they do not have, by whoever has the key", () => {
    const under = sealAt(9, false);
    const plaintext = pattern(70_000);
    const honest = seal(under, plaintext);
    const openingBytes = 1 + 8 + 1 + 16 + 36;
    const made = (isSegmented: boolean, plain: Uint8Array) =>
      referenceSynthetic(under.key, referenceHead(headOf(9, false), isSegmented), placeOf(binding), plain);
    const openingOf = (bytes: number) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(bytes);
      return made(true, Buffer.concat([length, sha256(plaintext)]));
    };
    for (const told of [0, 69_999, 70_001, SEAL_WHOLE_MAX, 2 ** 32 - 1]) {
      const sealed = referenceSegments(under.key, openingOf(told), plaintext);
      expect(codeOf(() => open(sealed))).toBe("GODWIT_DECODE");
    }
    expect(Buffer.compare(openingOf(70_000), honest.subarray(0, openingBytes))).toBe(0);
    // Short mail in segments, and long mail in one piece, are nobody's.
    expect(codeOf(() => open(made(false, pattern(SEAL_WHOLE_MAX + 1))))).toBe("GODWIT_DECODE");
    expect(codeOf(() => open(made(false, pattern(SEAL_WHOLE_MAX))))).toBe("nothing thrown");
    const short = referenceSegments(
      under.key,
      made(true, Buffer.concat([Buffer.from([0, 0, 0, 5]), sha256(pattern(5))])),
      pattern(5),
    );
    expect(codeOf(() => open(short))).toBe("GODWIT_DECODE");
    expect(codeOf(() => sealInSession(under, binding, pattern(SEAL_WHOLE_MAX + 1)))).toBe("GODWIT_BUG");
  });

  test("random bytes behind any head", () => {
    const head = fc.constantFrom(
      "041fbaa880a74982c000",
      "061fbaa880a74982c000",
      `0301020304${"07".repeat(32)}00`,
      "03",
      "05",
      "",
    );
    fc.assert(
      fc.property(head, fc.uint8Array({ maxLength: 200 }), (hex, tail) => {
        const sealed = new Uint8Array(Buffer.concat([Buffer.from(hex, "hex"), tail]));
        expect(codeOf(() => open(sealed))).toMatch(/^GODWIT_(SEAL_FORGED|DECODE)$/);
      }),
      { numRuns: 200 },
    );
  });

  test("what is handed in is only borrowed, what comes out belongs to the caller", () => {
    for (const length of [40, 70_000]) {
      const sealed = seal(sealAt(1, true), pattern(length));
      const before = sealed.slice();
      const opened = open(sealed);
      expect(Buffer.compare(sealed, before)).toBe(0);
      sealed.fill(0);
      expect(Buffer.compare(opened, pattern(length))).toBe(0);
    }
  });
});

describe("one counter, two plaintexts: two lives of a snapshot, or an older disk", () => {
  const one = pattern(200);
  const two = Uint8Array.from(one, (byte, at) => (at === 150 ? byte ^ 1 : byte));
  const both = [one, two].map((plaintext) => seal(sealAt(40, false), plaintext)) as [Uint8Array, Uint8Array];

  test("both open, in either order", () => {
    const keys = new ReceivingKeys(root);
    for (const [at, plaintext] of [...[one, two].entries(), ...[one, two].entries()])
      expect(open(both[at]!, binding, keys)).toEqual(plaintext);
  });

  test("what they have in common is not to be seen: not even where they are the same", () => {
    const [a, b] = both.map((sealed) => sealed.subarray(26)) as [Uint8Array, Uint8Array];
    const difference = a.map((byte, at) => byte ^ b[at]!);
    const plain = one.map((byte, at) => byte ^ two[at]!);
    expect(difference).not.toEqual(plain);
    expect(sameBytes(a, b)).toBeLessThan(0.05);
    // The same text in another header gives nothing away either.
    const moved = seal(sealAt(40, false), one, { ...binding, associated: Uint8Array.of(9) });
    expect(sameBytes(moved.subarray(26), a)).toBeLessThan(0.05);
    expect(Buffer.compare(seal(sealAt(40, false), one), both[0])).toBe(0);
  });

  test("neither tag opens the other's ciphertext", () => {
    const mixed = new Uint8Array(Buffer.concat([both[0].subarray(0, 26), both[1].subarray(26)]));
    expect(codeOf(() => open(mixed))).toBe("GODWIT_SEAL_FORGED");
  });

  test("long ones have no key of segments in common, and none with a counter's own", () => {
    const long = [pattern(70_000), pattern(70_000).fill(1, 69_999)];
    const keys = long.map((plaintext) => {
      const sealed = seal(sealAt(40, false), plaintext);
      const { bytes } = decodeSessionHead(sealed);
      return formatHex(
        openSegmentsInSession(referenceKey(root, 40), binding, sealed, bytes, sealed.length).key,
      );
    });
    expect(new Set([...keys, formatHex(new Uint8Array(referenceKey(root, 40)))]).size).toBe(3);
  });
});

describe("the name of a session by what is kept of it", () => {
  const context: MailContext = {
    ...{ mailEpoch: new Uint8Array(8).fill(0xe0), counter: 301, createdAtS: 1_767_225_000, to: "LON-B" },
  };
  const byReference = (key: Uint8Array, { mailEpoch, counter, createdAtS, to }: MailContext) =>
    new Uint8Array(referenceContextId(key, mailEpoch, counter, createdAtS, to));

  test("golden, in the protocol page", async () => {
    const page = await Bun.file(join(import.meta.dir, "../../docs/protocol/sealing.md")).text();
    const hex = formatHex(contextIdOf(referenceKey(root, 0), context));
    expect(hex).toBe("e0b5f863d168f3e2");
    expect(page).toContain(`\ncontext  ${hex}\n`);
  });

  test("is HMAC under the key of that message and no other, of all that is kept", () => {
    fc.assert(
      fc.property(
        ...([counters, fc.nat(), fc.nat({ max: 0xffff_fffe }), fc.string({ maxLength: 16 })] as const),
        (at, counter, createdAtS, to) => {
          const key = new Uint8Array(referenceKey(root, at));
          const kept = { ...context, counter, createdAtS, to };
          const name = contextIdOf(key, kept);
          expect(name).toEqual(byReference(key, kept));
          for (const other of [
            contextIdOf(new Uint8Array(referenceKey(root, at ^ 1)), kept),
            contextIdOf(key, { ...kept, mailEpoch: new Uint8Array(8) }),
            contextIdOf(key, { ...kept, counter: counter + 1 }),
            contextIdOf(key, { ...kept, createdAtS: createdAtS + 1 }),
            contextIdOf(key, { ...kept, to: `${to}x` }),
          ])
            expect(other).not.toEqual(name);
        },
      ),
      { numRuns: 30 },
    );
  });
});

describe("the code of a receipt", () => {
  test("is HMAC under the key of that message and no other, of all that is said", () => {
    fc.assert(
      fc.property(counters, fc.uint8Array({ maxLength: 100 }), (counter, said) => {
        const key = referenceKey(root, counter);
        const code = receiptCode(key, said);
        expect(code).toEqual(new Uint8Array(referenceHash(key, 7, said).subarray(0, 8)));
        expect(receiptCode(referenceKey(root, counter ^ 1), said)).not.toEqual(code);
        expect(receiptCode(key, Uint8Array.of(...said, 0))).not.toEqual(code);
      }),
      { numRuns: 30 },
    );
  });
});
