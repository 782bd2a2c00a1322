/** The Sealer with sessions at both ends: what store-and-forward asks of it. */
import { describe, expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { formatHex } from "../kernel/ids.ts";
import { seededRandom } from "../kernel/random.ts";
import { decodeSessionHead, SealForm } from "../wire/sealed.ts";
import type { Identity } from "./keys.ts";
import { MAIL_SESSIONS, type NodeRecord } from "./record.ts";
import { createSealer, type Roots } from "./sealer.ts";
import { codeOf, createPair } from "./testing-sessions.ts";

const { ann, bea, prekey } = createPair(21);
const unique = new Uint8Array(16);
const associated = Uint8Array.of(1, 2, 3);
const pattern = (length: number): Uint8Array => Uint8Array.from({ length }, (_, at) => (at * 7) & 255);
const none: Roots = { find: () => undefined, since: () => undefined };

function open(
  identity: Identity,
  record: Pick<NodeRecord, "sequence" | "prekey" | "capabilities"> | undefined,
  network = "telex",
) {
  return createSealer({
    identity,
    prekeys: {
      find: (keyId) => (keyId === prekey.keyId ? prekey.key : undefined),
      callsignOf: (keyId) => (keyId === prekey.keyId ? "LON-B" : undefined),
      onGone() {},
    },
    recordOf: () => record,
    sessions: { network, clock: new ManualClock(), random: seededRandom(22) },
  });
}

const published = { keyId: prekey.keyId, publicKey: prekey.publicKey };
const withSessions = { sequence: 1, prekey: published, capabilities: [MAIL_SESSIONS] };
const sender = open(ann, withSessions);
const recipient = open(bea, withSessions);
const sealed = (length: number): Uint8Array =>
  sender.seal(bea.id, sender.sessions!.take(bea.id), pattern(length), associated, unique);

describe("the sealer, in sessions", () => {
  test("seals again what it sealed, whole, at once in segments, and piece by piece", () => {
    for (const length of [600, 70_000, 200_000]) {
      const under = sender.sessions!.take(bea.id)!;
      const bytes = sender.seal(bea.id, under, pattern(length), associated, unique);
      expect(Buffer.compare(sender.seal(bea.id, under, pattern(length), associated, unique), bytes)).toBe(0);
      // After a restart, by another sealer that took no place.
      expect(
        Buffer.compare(open(ann, undefined).seal(bea.id, under, pattern(length), associated, unique), bytes),
      ).toBe(0);
      const start = sender.inSegments(bea.id, under, length, associated, unique);
      expect(start === undefined).toBe(length === 600);
      if (start === undefined) continue;
      for (let at = 0; at < length; at += 9_999) start.tell(pattern(length).subarray(at, at + 9_999));
      const { opening, segmentBytes, segment } = start.sealing();
      expect(Buffer.compare(opening, bytes.subarray(0, opening.length))).toBe(0);
      const last = Math.floor((length - 1) / segmentBytes);
      const piece = segment(last, pattern(length).subarray(last * segmentBytes));
      expect(Buffer.compare(piece, bytes.subarray(bytes.length - piece.length))).toBe(0);
    }
  });

  test("opens at once and piece by piece, and tells what the session is", () => {
    for (const length of [600, 70_000]) {
      const bytes = sealed(length);
      const { plaintext, forwardSecret, session } = recipient.open(ann.id, bytes, associated, none);
      expect([Buffer.compare(plaintext, pattern(length)), forwardSecret]).toEqual([0, true]);
      expect(session!.keyId).toBe(prekey.keyId);
      expect(formatHex(session!.keys.root).length).toBe(64);
      const opening = recipient.openInSegments(
        ann.id,
        bytes.subarray(0, 200),
        bytes.length,
        associated,
        none,
      );
      expect(opening === undefined).toBe(length === 600);
      if (opening === undefined) continue;
      const size = opening.segmentBytes + opening.tagBytes;
      const first = bytes.subarray(opening.openingBytes, opening.openingBytes + size);
      expect(
        Buffer.compare(opening.segment(0, first), pattern(length).subarray(0, opening.segmentBytes)),
      ).toBe(0);
      expect(opening.session!.id).toEqual(session!.id);
    }
  });

  test("a later one needs its session, whoever names it", () => {
    const under = sender.sessions!.take(bea.id)!;
    const first = sender.seal(bea.id, under, pattern(9), associated, unique);
    const { session } = recipient.open(ann.id, first, associated, none);
    for (const length of [9, 70_000]) {
      const later = { ...sender.sessions!.take(bea.id)!, agreed: undefined };
      const bytes = sender.seal(bea.id, later, pattern(length), associated, unique);
      expect(codeOf(() => recipient.open(ann.id, bytes, associated, none))).toBe("GODWIT_SEAL_SESSION");
      const known: Roots = {
        find: (from) => (from === ann.id ? { keys: session!.keys, keyId: prekey.keyId } : undefined),
        since: () => undefined,
      };
      expect(codeOf(() => recipient.open(bea.id, bytes, associated, known))).toBe("GODWIT_SEAL_SESSION");
      const opened = recipient.open(ann.id, bytes, associated, known);
      expect(Buffer.compare(opened.plaintext, pattern(length))).toBe(0);
      // The prekey that it was agreed to stands in its row.
      expect(opened.session!.keyId).toBeUndefined();
    }
  });

  test("any other bit of a first, that of its ephemeral key which does not count in the agreement too, opens nothing", () => {
    const bytes = sealed(12);
    expect(codeOf(() => recipient.open(ann.id, bytes, associated, none))).toBe("nothing thrown");
    for (let bit = 0; bit < 8 * bytes.length; bit++) {
      const changed = bytes.slice();
      changed[bit >> 3]! ^= 1 << (bit & 7);
      expect(codeOf(() => recipient.open(ann.id, changed, associated, none))).toMatch(
        /^GODWIT_(SEAL_FORGED|SEAL_SESSION|SEAL_OUTDATED|DECODE)$/,
      );
    }
    for (let length = 0; length < bytes.length; length++)
      expect(codeOf(() => recipient.open(ann.id, bytes.subarray(0, length), associated, none))).toMatch(
        /^GODWIT_(SEAL_FORGED|DECODE)$/,
      );
  });

  test("another network, sender or recipient opens nothing; nor does an ephemeral key of small order", () => {
    const bytes = sealed(12);
    const codes = [
      codeOf(() => open(bea, withSessions, "other").open(ann.id, bytes, associated, none)),
      codeOf(() => recipient.open(bea.id, bytes, associated, none)),
      codeOf(() => open(ann, withSessions).open(ann.id, bytes, associated, none)),
    ];
    expect(codes).toEqual(["GODWIT_SEAL_FORGED", "GODWIT_SEAL_FORGED", "GODWIT_SEAL_FORGED"]);
    const weak = bytes.slice().fill(0, 5, 37);
    expect(codeOf(() => recipient.open(ann.id, weak, associated, none))).toBe("GODWIT_DECODE");
    const nobody = "a".repeat(52) as typeof ann.id;
    expect(codeOf(() => recipient.open(nobody, bytes, associated, none))).toMatch(
      /^GODWIT_(ID_INVALID|DECODE)$/,
    );
  });

  test("no place in a session is to be had without a prekey, or of a node without sessions", () => {
    expect(open(ann, undefined).sessions!.take(bea.id)).toBeUndefined();
    expect(open(ann, { ...withSessions, prekey: undefined }).sessions!.take(bea.id)).toBeUndefined();
    expect(open(ann, { ...withSessions, capabilities: ["relay"] }).sessions!.take(bea.id)).toBeUndefined();
    const once = (record: typeof withSessions | undefined) =>
      open(ann, record).sealOnce(bea.id, pattern(5), associated, unique)[0];
    expect(once(withSessions)).toBe(SealForm.first);
    expect(once({ ...withSessions, capabilities: [] })).toBe(SealForm.whole);
    expect(once(undefined)).toBe(SealForm.whole);
  });

  test("what is sealed once takes no place of the mail's session, and shares none", () => {
    const before = sender.sessions!.take(bea.id)!;
    const heads = [1, 2, 3].map(() => {
      const bytes = sender.sealOnce(bea.id, pattern(5), associated, unique);
      expect(recipient.open(ann.id, bytes, associated, none).plaintext).toEqual(pattern(5));
      return decodeSessionHead(bytes);
    });
    expect(heads.map(({ counter }) => counter)).toEqual([0, 0, 0]);
    const ephemerals = [before.agreed!, ...heads.map(({ agreed }) => agreed!)].map(({ ephemeral }) =>
      formatHex(ephemeral),
    );
    expect(new Set(ephemerals).size).toBe(4);
    expect(sender.sessions!.take(bea.id)).toMatchObject({ id: before.id, counter: before.counter + 1 });
  });

  test("the code of a receipt is the same at both ends, and that of no other message", () => {
    const under = sender.sessions!.take(bea.id)!;
    const bytes = sender.seal(bea.id, under, pattern(5), associated, unique);
    const { session } = recipient.open(ann.id, bytes, associated, none);
    const code = session!.receiptCode(unique);
    expect(sender.sessions!.receiptCode(under.key, unique)).toEqual(code);
    const other = sender.sessions!.take(bea.id)!;
    expect(sender.sessions!.receiptCode(other.key, unique)).not.toEqual(code);
    expect(code.length).toBe(8);
  });
});
