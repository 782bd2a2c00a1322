import { describe, expect, test } from "bun:test";
import { generateIdentity, type Identity } from "../identity/keys.ts";
import { encodeRecord, encodeRevocation } from "../identity/record.ts";
import { SELF_REVOCATIONS_MAX } from "./records.ts";
import { DIGEST_EVERY_MS, PUSHES_MAX, RevocationSpread } from "./revocations.ts";
import { Metrics } from "../kernel/metrics.ts";
import {
  encodeRevocationDigest,
  encodeRevocationFrame,
  encodeRevocationList,
  REVOCATION_NAME_BYTES,
} from "../wire/revocation-messages.ts";
import { FrameType } from "../wire/constants.ts";
import { random, authority, clock, type TestNode, Pair, idOf, revocationOf } from "./testing-revocations.ts";

describe("revocations", () => {
  test("that a neighbour had no room for go to it once it takes frames again", async () => {
    const pair = await Pair.of([authority.id, authority.id]);
    const [a, b] = pair.nodes as [TestNode, TestNode];
    pair.connect();
    pair.run();
    pair.hasRoom = false;
    a.records.offer(revocationOf(1));
    pair.run();
    pair.hasRoom = true;
    expect(pair.counts).toEqual([1, 0]);
    a.spread.onWritable(b.id);
    pair.run();
    expect(pair.counts).toEqual([1, 1]);
    pair.sent = 0;
    a.spread.onWritable(b.id);
    expect(pair.sent).toBe(0);
  });

  test("go to a neighbour at once, and what each lacks goes over when a link comes up", async () => {
    const pair = await Pair.of([authority.id, authority.id]);
    const [a, b] = pair.nodes as [TestNode, TestNode];
    a.records.offer(revocationOf(1));
    b.records.offer(revocationOf(2));
    pair.connect();
    pair.run();
    expect(pair.counts).toEqual([2, 2]);
    a.records.offer(revocationOf(3));
    pair.run();
    expect(pair.counts).toEqual([3, 3]);
    // Nothing is new: two digests and no more.
    pair.sent = 0;
    pair.connect();
    pair.run();
    expect(pair.sent).toBe(2);
  });

  test("more than fit one answer or one frame all arrive", async () => {
    const pair = await Pair.of([authority.id, authority.id], () => true);
    const [a, b] = pair.nodes as [TestNode, TestNode];
    const count = 2 * PUSHES_MAX + 10;
    for (let n = 0; n < count; n++) (n % 3 === 0 ? b : a).records.offer(revocationOf(n));
    pair.bytesMax = 240;
    pair.connect();
    pair.run();
    expect(pair.counts).toEqual([count, count]);
  });

  test("one list is answered with so many at once and the digest, by which the other asks for more", async () => {
    const { nodes } = await Pair.of([authority.id], () => true);
    const [a] = nodes as [TestNode];
    for (let n = 0; n < 2 * PUSHES_MAX; n++) a.records.offer(revocationOf(n));
    const pair = await Pair.of([authority.id]);
    const sent: number[] = [];
    const spread = new RevocationSpread({
      clock,
      metrics: new Metrics(),
      records: a.records,
      shareOf: (by) => ({ by, isKnown: false }),
      send: (_to, frame) => sent.push(frame[0]!) > 0,
      frameBytesMax: () => pair.bytesMax,
    });
    spread.onNeighbourUp(idOf(1));
    sent.length = 0;
    const empty = encodeRevocationList({
      first: "00".repeat(REVOCATION_NAME_BYTES),
      last: "ff".repeat(REVOCATION_NAME_BYTES),
      names: [],
    });
    spread.onFrame(idOf(1), FrameType.revocationList, empty);
    const pushes = Array.from({ length: PUSHES_MAX }, () => FrameType.revocation);
    expect(sent).toEqual([...pushes, FrameType.revocationDigest]);
    // A digest that differs, again and again: all names once a second.
    sent.length = 0;
    const other = encodeRevocationDigest({ digest: new Uint8Array(8), count: 1 });
    for (let n = 0; n < 1_000; n++) spread.onFrame(idOf(1), FrameType.revocationDigest, other);
    expect(sent).toEqual([FrameType.revocationList]);
    await clock.advance(1_000);
    spread.onFrame(idOf(1), FrameType.revocationDigest, other);
    expect(sent).toHaveLength(2);
  });

  test("a mesh where nobody is revoked says nothing", async () => {
    const pair = await Pair.of([authority.id, authority.id]);
    pair.connect();
    await clock.advance(2 * DIGEST_EVERY_MS);
    expect(pair.sent).toBe(0);
  });

  test("two that cannot agree stop talking; what was lost heals within the hour", async () => {
    const pair = await Pair.of([authority.id, undefined]);
    const [a, b] = pair.nodes as [TestNode, TestNode];
    pair.connect();
    a.records.offer(revocationOf(1));
    pair.run();
    expect(pair.counts).toEqual([1, 0]);
    const own = generateIdentity(random);
    pair.loses = true;
    a.records.offer(encodeRevocation(own, own.id, "net"));
    pair.loses = false;
    expect(b.records.revocations.size).toBe(0);
    await clock.advance(DIGEST_EVERY_MS + 1);
    pair.run();
    expect([...b.records.revocations.keys()]).toEqual([own.id]);
    pair.sent = 0;
    await clock.advance(2_000);
    expect(pair.sent).toBe(0);
  });

  test("forged ones are refused and close no link; malformed lists do", async () => {
    const pair = await Pair.of([authority.id, authority.id]);
    const [a, b] = pair.nodes as [TestNode, TestNode];
    pair.connect();
    const forger = generateIdentity(random);
    for (const bad of [
      encodeRevocation(forger, idOf(1), "net"),
      encodeRevocation(authority, idOf(1), "other"),
      new Uint8Array(40),
    ])
      b.spread.onFrame(a.id, FrameType.revocation, encodeRevocationFrame(bad));
    expect(b.changes).toEqual([]);
    expect(() => b.spread.onFrame(a.id, FrameType.revocationList, Uint8Array.of(0x51, 1))).toThrow();
  });
});

describe("the record book", () => {
  test("a revoked node stays revoked, whatever record or restart comes; without the authority its word is nothing", async () => {
    const own: Identity = generateIdentity(random);
    const pair = await Pair.of([authority.id, undefined]);
    const [a, b] = pair.nodes as [TestNode, TestNode];
    const revocation = encodeRevocation(authority, own.id, "net", "stolen");
    a.records.offer(encodeRecord(own, { sequence: 5 }, "net"));
    expect(a.records.isRevoked(own.id)).toBe(false);
    expect(a.records.offer(revocation)).toBe("new");
    expect(a.records.offer(encodeRecord(own, { sequence: 2 ** 48 - 1 }, "net"))).toBe("known");
    expect(a.records.offer(encodeRecord(own, { sequence: 2 ** 47 }, "net"))).toBe("older");
    expect(a.records.isRevoked(own.id)).toBe(true);
    expect(b.records.offer(revocation)).toBe("invalid");
  });

  test("nodes that revoke themselves and were never met have a bound, the authority's have their own", async () => {
    const pair = await Pair.of([authority.id], () => true);
    const { records } = pair.nodes[0]!;
    const self = (n: number) =>
      encodeRevocation({ id: idOf(n), sign: () => new Uint8Array(64) }, idOf(n), "net");
    for (let n = 0; n < SELF_REVOCATIONS_MAX; n++) expect(records.offer(self(n))).toBe("new");
    expect(records.offer(self(SELF_REVOCATIONS_MAX))).toBe("full");
    expect(records.offer(revocationOf(SELF_REVOCATIONS_MAX))).toBe("new");
    // One that is known here needs no room.
    const known = generateIdentity(random);
    records.offer(encodeRecord(known, { sequence: 1 }, "net"));
    expect(records.offer(encodeRevocation(known, known.id, "net"))).toBe("new");
  });
});
