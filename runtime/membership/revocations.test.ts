import { describe, expect, test } from "bun:test";
import { generateIdentity, verifySignature, type Identity } from "../identity/keys.ts";
import { encodeRecord, encodeRevocation } from "../identity/record.ts";
import { ManualClock } from "../kernel/clock.ts";
import { formatNodeId, type NodeId } from "../kernel/ids.ts";
import { Metrics } from "../kernel/metrics.ts";
import { seededRandom } from "../kernel/random.ts";
import { RecordBook, SELF_REVOCATIONS_MAX } from "./records.ts";
import { DIGEST_EVERY_MS, PUSHES_MAX, revocationDigest, RevocationSpread } from "./revocations.ts";
import { openMemoryStore, SimDisk } from "../store/memory.ts";
import { encodeRevocationDigest, encodeRevocationFrame } from "../wire/revocation-messages.ts";
import { FrameType } from "../wire/constants.ts";
import { noRegard } from "../trust/testing.ts";

const random = seededRandom(11);
const authority = generateIdentity(random);
const clock = new ManualClock();

interface TestNode {
  readonly id: NodeId;
  readonly records: RecordBook;
  readonly spread: RevocationSpread;
  readonly changes: NodeId[];
}

/** Two nodes whose frames wait in one queue until `run`; counts what went. */
class Pair {
  frames: { to: number; bytes: Uint8Array }[] = [];
  sent = 0;
  bytesMax = 61_440;
  loses = false;
  hasRoom = true;
  readonly nodes: TestNode[] = [];

  static async of(authorities: readonly (NodeId | undefined)[], verify = verifySignature): Promise<Pair> {
    const pair = new Pair();
    for (const [index, by] of authorities.entries()) pair.nodes.push(await pair.#node(index, by, verify));
    return pair;
  }

  async #node(index: number, by: NodeId | undefined, verify: typeof verifySignature): Promise<TestNode> {
    const store = await openMemoryStore(new SimDisk(), { clock, random: seededRandom(2), commitDelayMs: 1 });
    const changes: NodeId[] = [];
    const records = new RecordBook({
      self: formatNodeId(new Uint8Array(32)),
      regard: noRegard,
      forgot() {},
      store,
      network: "net",
      authority: by,
      verify,
      changed: (id, record) => {
        changes.push(id);
        if (record.isRevoked) spread.onRevoked(records.get(id)!);
      },
    });
    const spread: RevocationSpread = new RevocationSpread({
      clock,
      metrics: new Metrics(),
      records,
      send: (_to, frame) => {
        if (!this.hasRoom) return false;
        this.sent++;
        if (!this.loses) this.frames.push({ to: 1 - index, bytes: frame.slice() });
        return true;
      },
      frameBytesMax: () => this.bytesMax,
    });
    return { id: formatNodeId(new Uint8Array(32).fill(index + 1)), records, spread, changes };
  }

  connect(): void {
    const [a, b] = this.nodes as [TestNode, TestNode];
    a.spread.onNeighbourUp(b.id);
    b.spread.onNeighbourUp(a.id);
  }

  run(): void {
    for (let turns = 0; this.frames.length > 0; turns++) {
      if (turns > 5_000) throw new Error("the two never stop talking");
      const { to, bytes } = this.frames.shift()!;
      this.nodes[to]!.spread.onFrame(this.nodes[1 - to]!.id, bytes[0]!, bytes);
    }
  }

  get counts(): number[] {
    return this.nodes.map(({ records }) => records.revocations.size);
  }
}

/** A revocation of a made-up node; its signature is the authority's. */
const idOf = (n: number): NodeId => {
  const bytes = new Uint8Array(32).fill(9);
  new DataView(bytes.buffer).setUint32(0, Math.imul(n + 1, 0x9e3779b1) >>> 0);
  return formatNodeId(bytes);
};
const revocationOf = (n: number): Uint8Array => encodeRevocation(authority, idOf(n), "net", "lost");

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

test("neighbours that come and go, ask for digests and send lists do not make a node go over all revocations each time", async () => {
  const pair = await Pair.of([authority.id, authority.id], () => true);
  const [a, b] = pair.nodes as [TestNode, TestNode];
  for (let n = 0; n < 300; n++) a.records.offer(revocationOf(n));
  const { revocations } = a.records;
  let walks = 0;
  const counting = {
    size: revocations.size,
    keys: () => (walks++, revocations.keys()),
    [Symbol.iterator]: () => (walks++, revocations[Symbol.iterator]()),
  };
  Object.defineProperty(a.records, "revocations", { get: () => counting });
  const nothing = encodeRevocationDigest(revocationDigest([]));
  for (let n = 0; n < 1_000; n++) {
    const stranger = n % 2 === 0 ? b.id : idOf(10_000 + n);
    a.spread.onNeighbourUp(stranger);
    a.spread.onFrame(stranger, FrameType.revocationDigest, nothing);
    a.spread.onNeighbourDown(stranger);
  }
  expect(walks).toBe(2);
  a.records.offer(revocationOf(300));
  a.spread.onNeighbourUp(b.id);
  expect(walks).toBe(4);
});
