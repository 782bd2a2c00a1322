import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { formatHex, formatNodeId, type BundleId, type MessageId } from "../../kernel/ids.ts";
import { encodeReceipt, receiptHash, ReceiptStatus } from "../../wire/message.ts";
import { namedRow, testId } from "../testing.ts";
import { decodeEntry, earlierRow, encodeEntry } from "./entry-row.ts";
import { finalStates, type OutboxEntry, outboxStates, type StoredReceipt } from "./entry.ts";
import { parseProof, proofOf, type ReceiptProof, writtenProof } from "./proofs.ts";

const hex = (bytes: number) => fc.uint8Array({ minLength: bytes, maxLength: bytes }).map(formatHex);
const node = fc.uint8Array({ minLength: 32, maxLength: 32 }).map(formatNodeId);
const time = fc.integer({ min: 0, max: 2 ** 47 });

const target = fc.record({
  node,
  bundle: hex(16) as fc.Arbitrary<BundleId>,
  sealedBytes: fc.nat(),
  key: fc.option(fc.record({ id: fc.nat(), publicHex: hex(32) })),
});

/** Signed by the first target, or by somebody else; for this message and bundle, or for another. */
const receiptOf = (entry: OutboxEntry): fc.Arbitrary<StoredReceipt> =>
  fc
    .record({
      by: entry.targets.length === 0 ? node : fc.oneof(fc.constant(entry.targets[0]!.node), node),
      messageId: fc.oneof(fc.constant(entry.id), hex(16) as fc.Arbitrary<MessageId>),
      bundleId:
        entry.targets.length === 0 ? hex(16) : fc.oneof(fc.constant(entry.targets[0]!.bundle), hex(16)),
      atMs: time,
      isUnconfirmed: fc.boolean(),
      trace: fc.array(fc.record({ node, atMs: time }), { maxLength: 6 }),
      endsWithSigner: fc.boolean(),
      others: fc.array(fc.uint8Array({ minLength: 16, maxLength: 16 }), { maxLength: 15 }),
      signature: fc.uint8Array({ minLength: 64, maxLength: 64 }),
      isSession: fc.boolean(),
    })
    .map(({ by, others, signature, isSession, bundleId, endsWithSigner, ...drawn }) => {
      const end = endsWithSigner ? [{ node: by, atMs: drawn.atMs }] : [];
      const rest = { ...drawn, trace: [...drawn.trace, ...end] };
      const encoded = encodeReceipt({
        ...rest,
        bundleId: bundleId as BundleId,
        status: ReceiptStatus.delivered,
      });
      const { atMs, isUnconfirmed, trace } = rest;
      const proof = isSession ? undefined : proofOf(signature, [receiptHash(encoded), ...others]);
      return { by, atMs, isUnconfirmed, trace, encoded, isSession, proof };
    });

const entries: fc.Arbitrary<OutboxEntry> = fc
  .record(
    {
      id: hex(16) as fc.Arbitrary<MessageId>,
      to: fc.oneof(fc.constant("NYC-C"), node),
      epoch: hex(8),
      counter: fc.nat(),
      subject: fc.string({ maxLength: 20 }),
      contentType: fc.constantFrom("text/plain", "application/octet-stream", "application/json", "a/b"),
      priority: fc.constantFrom(0, 1, 2, 3),
      size: fc.nat(),
      createdAtMs: time,
      lifetimeMs: fc.oneof(fc.constant(259_200_000), time),
      failover: fc.boolean(),
      failoverDelayMs: fc.oneof(fc.constant(60_000), time),
      idempotencyKey: fc.string({ maxLength: 20 }),
      state: fc.constantFrom(...outboxStates),
      reason: fc.option(fc.string({ maxLength: 40 })),
      deliveredAtMs: fc.option(time),
      receipt: fc.constant(null),
      targets: fc.array(target, { maxLength: 4 }),
      isRenamed: fc.constant(true),
      formerBundles: fc.array(hex(16) as fc.Arbitrary<BundleId>, { maxLength: 3 }),
      lostKeys: fc.array(hex(32), { maxLength: 3 }),
      remainingMs: time,
      atRunMs: fc.integer({ min: 0, max: 2 ** 40 }).map((us) => us / 1_000),
      atWallMs: time,
    },
    {
      requiredKeys: [
        "id",
        "to",
        "epoch",
        "counter",
        "subject",
        "contentType",
        "priority",
        "size",
        "createdAtMs",
        "lifetimeMs",
        "failover",
        "failoverDelayMs",
        "state",
        "reason",
        "deliveredAtMs",
        "receipt",
        "targets",
        "remainingMs",
        "atWallMs",
      ],
    },
  )
  .chain((entry) =>
    fc.option(receiptOf(entry)).map((receipt) => ({
      ...entry,
      receipt,
      // A delivery is dated by its receipt.
      deliveredAtMs: receipt?.atMs ?? entry.deliveredAtMs,
    })),
  );

/** Releases before 0.3 know no sessions. */
const named = entries.filter(({ receipt }) => receipt?.isSession !== true);

/** Keys of what has ended are not kept. */
const asRead = (entry: OutboxEntry): OutboxEntry =>
  finalStates.includes(entry.state)
    ? {
        ...entry,
        targets: entry.targets.map(({ key, ...rest }) => ({
          ...rest,
          key: key === null ? null : { id: key.id, publicHex: "" },
        })),
      }
    : entry;
const sharing = (entry: OutboxEntry) => (name: string) =>
  entry.receipt?.proof?.name === name ? entry.receipt.proof : undefined;

describe("the row of an outbox message", () => {
  test("says what the message is", () => {
    fc.assert(
      fc.property(entries, (entry) => {
        expect(decodeEntry(entry.id, encodeEntry(entry), sharing(entry))).toEqual(asRead(entry));
      }),
    );
  });

  test("says how each copy is sealed in a session, and how its header begins, until the message has ended", () => {
    const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
    const inSession = fc.record(
      {
        ...{ node, bundle: hex(16) as fc.Arbitrary<BundleId>, sealedBytes: fc.nat() },
        key: fc.record({ id: fc.nat(), publicHex: hex(32) }),
        session: fc.record({
          ...{ id: bytes(8), counter: fc.nat({ max: 65_535 }), key: bytes(32) },
          ephemeral: fc.option(bytes(32)),
        }),
        start: fc.uint8Array({ minLength: 4, maxLength: 90 }),
      },
      { requiredKeys: ["node", "bundle", "sealedBytes", "key", "session"] },
    );
    fc.assert(
      fc.property(entries, fc.array(inSession, { maxLength: 4 }), (drawn, copies) => {
        const targets = copies.map(({ session: { ephemeral, ...session }, ...rest }) => ({
          ...rest,
          session: {
            ...session,
            agreed: ephemeral === null ? undefined : { keyId: rest.key.id, ephemeral },
          },
        }));
        const entry = { ...drawn, receipt: null, targets };
        const read = decodeEntry(entry.id, encodeEntry(entry), () => undefined)!;
        const ended = targets.map(({ node: of, bundle, sealedBytes, key: { id } }) => ({
          ...{ node: of, bundle, sealedBytes, key: { id, publicHex: "" } },
        }));
        expect(read.targets).toEqual(finalStates.includes(entry.state) ? ended : targets);
      }),
    );
  });

  test("of a release before 0.3 says the same", () => {
    fc.assert(
      fc.property(named, (entry) => {
        expect(decodeEntry(entry.id, JSON.stringify(namedRow(entry)), () => undefined)).toEqual(entry);
      }),
    );
  });

  test("is nobody else's, and a damaged one is none", () => {
    fc.assert(
      fc.property(named, fc.nat(), fc.constantFrom("", "x", "7", "null", "[", '"'), (entry, at, piece) => {
        for (const meta of [encodeEntry(entry), JSON.stringify(namedRow(entry))]) {
          const cut = meta.slice(0, at % meta.length) + piece;
          expect(decodeEntry(entry.id, cut, sharing(entry))).toBeUndefined();
        }
        expect(decodeEntry("0".repeat(32), JSON.stringify(namedRow(entry)), sharing(entry))).toBeUndefined();
      }),
    );
    const [entry] = fc.sample(
      entries.filter(({ receipt, targets }) => receipt !== null && targets.length > 0),
    );
    for (const [name, value] of Object.entries({
      t: 7,
      c: -1,
      z: "1",
      s: 99,
      g: [null],
      q: [9, "AA"],
      r: "soon",
    })) {
      const row = { ...(JSON.parse(encodeEntry(entry!)) as object), [name]: value };
      expect([name, decodeEntry(entry!.id, JSON.stringify(row), sharing(entry!))]).toEqual([name, undefined]);
    }
  });

  test("of a receipt that a session proves has no proof for a release that does not know those", () => {
    const inSession = entries.filter(({ receipt }) => receipt?.isSession === true);
    fc.assert(
      fc.property(inSession, (entry) => {
        const { h } = JSON.parse(encodeEntry(entry)) as { h: string };
        expect([h, parseProof(h)]).toEqual(["session", undefined]);
        const back = decodeEntry(entry.id, JSON.stringify(earlierRow(entry)), () => undefined)!;
        expect(back.receipt).toEqual({ ...entry.receipt!, isSession: false, proof: undefined });
      }),
    );
  });

  test("keeps what a later release wrote in it", () => {
    const [entry] = fc.sample(entries);
    const row = { ...(JSON.parse(encodeEntry(entry!)) as object), bounty: { of: [1, 2] }, j: "later" };
    const read = decodeEntry(entry!.id, JSON.stringify(row), sharing(entry!))!;
    expect(read.later).toEqual({ bounty: { of: [1, 2] }, j: "later" });
    expect(JSON.parse(encodeEntry({ ...read, subject: "another" }))).toMatchObject({
      bounty: { of: [1, 2] },
      j: "later",
      u: "another",
    });
  });

  test("is short enough that four of them fit a page with 512 bytes each", () => {
    const [a, b] = [testId("a"), testId("b")];
    const id = "0123456789abcdef0123456789abcdef" as MessageId;
    const bundle = "fedcba9876543210fedcba9876543210" as BundleId;
    const atMs = 1_795_973_285_135;
    const trace = [a, testId("relay"), b].map((one) => ({ node: one, atMs }));
    const encoded = encodeReceipt({
      status: ReceiptStatus.delivered,
      messageId: id,
      bundleId: bundle,
      atMs,
      isUnconfirmed: false,
      trace,
    });
    const proof = proofOf(
      new Uint8Array(64),
      Array.from({ length: 16 }, () => receiptHash(encoded)),
    );
    const row = encodeEntry({
      id,
      to: "NYC-C",
      epoch: "0123456789abcdef",
      counter: 12_345,
      subject: "",
      contentType: "text/plain",
      priority: 2,
      size: 512,
      createdAtMs: atMs - 123,
      lifetimeMs: 259_200_000,
      failover: false,
      failoverDelayMs: 60_000,
      state: "delivered",
      reason: null,
      deliveredAtMs: atMs,
      receipt: { by: b, atMs, isUnconfirmed: false, trace, encoded, isSession: false, proof },
      targets: [
        { node: b, bundle, sealedBytes: 617, key: { id: 1_994_037_111, publicHex: "ab".repeat(32) } },
      ],
      remainingMs: 259_200_000,
      atRunMs: 123_456_789.123,
      atWallMs: atMs - 123,
    });
    expect(row.length).toBeLessThanOrEqual(420);
  });
});

test("a proof says its name, and is read as it was written", () => {
  const proofs: fc.Arbitrary<ReceiptProof> = fc
    .tuple(
      fc.uint8Array({ minLength: 64, maxLength: 64 }),
      fc.array(fc.uint8Array({ minLength: 16, maxLength: 16 }), { minLength: 1, maxLength: 16 }),
    )
    .map(([signature, hashes]) => proofOf(signature, hashes));
  fc.assert(
    fc.property(proofs, (proof) => {
      expect(parseProof(writtenProof(proof))).toEqual(proof);
      expect(proof.name === undefined).toBe(proof.hashes.length < 3);
    }),
  );
  for (const text of ["", "AAAA", "x".repeat(2_000)]) expect(parseProof(text)).toBeUndefined();
});
