import { describe, expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { formatNodeId, type BundleId, type NodeId } from "../kernel/ids.ts";
import { Metrics } from "../kernel/metrics.ts";
import { type Random, seededRandom } from "../kernel/random.ts";
import { openLink } from "../link/fixture.ts";
import type { Session } from "../link/types.ts";
import {
  type Bundle,
  type BundleHeader,
  BundleKind,
  decodeBundleFrame,
  decodeCustodyAck,
  decodeCustodyRefuse,
  encodeBundleFrame,
  encodeCustodyAck,
  encodeCustodyRefuse,
  encodeWant,
  makeBundle,
  RefuseReason,
} from "../wire/bundle.ts";
import * as compact from "../wire/compact.ts";
import { FrameType, LIFETIME_DEFAULT_MS, LIFETIME_MAX_MS, type Priority } from "../wire/constants.ts";
import { encodeSessionReceipts } from "../wire/message.ts";
import { newDeparture } from "../kernel/departure.ts";
import { encodeHello, encodeProbe } from "../wire/peer-messages.ts";
import { encodePacket } from "../wire/packet.ts";
import { encodeSessionHead } from "../wire/sealed.ts";
import { compacted } from "./compact-session.ts";
import { FakeSession } from "./testing.ts";
import { identityOf, openCompactPair } from "./testing-compact.ts";

const [a, b] = [1, 2].map((fill) => formatNodeId(new Uint8Array(32).fill(fill))) as [NodeId, NodeId];

interface End {
  readonly raw: FakeSession;
  readonly session: Session;
  readonly metrics: Metrics;
  readonly arrived: Uint8Array[];
  onFrame: (frame: Uint8Array) => void;
}

interface Options {
  readonly isReliable?: boolean;
  readonly linkClass?: "fast" | "medium" | "slow";
  readonly version?: number;
  readonly recordOf?: (id: NodeId) => Uint8Array | undefined;
}

/** Two ends over a wire of datagrams, each with the compact form over it. */
function pair(clock: ManualClock, options: Options = {}): [End, End] {
  const endpoints = { local: "lora://x", remote: "lora://y" };
  const raws = [b, a].map((remote) => new FakeSession(clock, remote, "outbound", endpoints));
  const ends = raws.map((raw, i): End => {
    raw.far = raws[1 - i]!;
    raw.isReliable = options.isReliable ?? false;
    raw.linkClass = options.linkClass ?? "slow";
    raw.version = options.version ?? 2;
    const metrics = new Metrics();
    const recordOf = options.recordOf ?? (() => undefined);
    const session = compacted(raw, { self: i === 0 ? a : b, clock, metrics, recordOf });
    const end: End = { raw, session, metrics, arrived: [], onFrame: () => {} };
    session.open({
      frame: (bytes) => {
        end.arrived.push(bytes.slice());
        end.onFrame(bytes);
      },
      drain() {},
      closed() {},
    });
    return end;
  });
  return ends as [End, End];
}

const bundleOf = (
  more: Partial<BundleHeader> = {},
  sealed: Uint8Array = new Uint8Array(40).fill(7),
): Bundle =>
  makeBundle(
    {
      ...{ kind: 0, priority: 2 as const, source: a, destination: b, lifetimeMs: LIFETIME_DEFAULT_MS },
      ...more,
    },
    sealed,
  );
const node = (n: number): NodeId => formatNodeId(seededRandom(n).bytes(32));
const frameOf = (bundle: Bundle, remainingMs = bundle.header.lifetimeMs, hops = 1): Uint8Array =>
  encodeBundleFrame(bundle, { remainingMs, hops, trace: [] });
const laterOf = (session: number, counter = 1): Uint8Array => {
  const id = seededRandom(session).bytes(8);
  const head = encodeSessionHead({ isSegmented: false, counter, id });
  return new Uint8Array([...head, ...seededRandom(counter).bytes(30)]);
};
const typesOf = ({ raw }: End): number[] => raw.sent.map((frame) => frame[0]!);
const readSum = async ({ metrics }: End, name: string): Promise<number> =>
  (await metrics.render())
    .split("\n")
    .filter((line) => line.startsWith(name))
    .reduce((total, line) => total + Number(line.split(" ").at(-1)), 0);

/** Sends it, and has it acknowledged. */
async function exchange(clock: ManualClock, from: End, to: End, bundle: Bundle): Promise<void> {
  from.session.send(frameOf(bundle));
  await clock.advance(10);
  to.session.send(encodeCustodyAck([bundle.id]));
  await clock.advance(10);
}

describe("who speaks compactly", () => {
  test("class slow and version 2 alone: all others get every byte as before", async () => {
    const clock = new ManualClock();
    const frames = [
      frameOf(bundleOf()),
      encodeCustodyAck([bundleOf().id]),
      encodeCustodyRefuse(bundleOf().id, 1, 1_500),
      encodeProbe(1),
    ];
    for (const options of [
      { linkClass: "fast", version: 2 },
      { linkClass: "medium", version: 2 },
      { linkClass: "slow", version: 1 },
    ] as const) {
      const [near, far] = pair(clock, options);
      expect(near.session).toBe(near.raw);
      for (const frame of frames) near.session.send(frame);
      await clock.advance(10);
      expect(near.raw.sent).toEqual(frames);
      expect(far.arrived).toEqual(frames);
    }
  });

  test("over real sessions of version 1, whichever end is the older", async () => {
    const ends = [identityOf(1), identityOf(2)] as const;
    const { near, far, advance } = await openCompactPair(ends, { version: 1 });
    expect([near.collector.session.version, far.collector.session.version]).toEqual([1, 1]);
    const bundle = bundleOf({ source: ends[0].id, destination: ends[1].id });
    near.collector.session.send(frameOf(bundle));
    await advance(1_000);
    expect(far.collector.frames.at(-1)).toEqual(frameOf(bundle));
    const later = await openLink({ kind: "datagram", linkClass: "slow" });
    expect([later.left.session.version, later.right.session.version]).toEqual([2, 2]);
  });
});

describe("bundles", () => {
  const lifetimes = [
    0,
    1,
    1_000,
    60_000,
    61_000,
    3_600_000,
    30 * 3_600_000,
    LIFETIME_DEFAULT_MS,
    LIFETIME_MAX_MS,
  ];
  const sealedOnes: Record<string, Uint8Array> = {
    none: new Uint8Array(0),
    whole: new Uint8Array(60).fill(1),
    first: new Uint8Array([3, ...new Uint8Array(60)]),
    later: laterOf(1),
    "a later cut short": laterOf(1).subarray(0, 9),
    "a later too short for an id": new Uint8Array([4, 1, 2]),
    segmented: new Uint8Array([6, ...new Uint8Array(60)]),
    "receipts of a session": encodeSessionReceipts([
      { reference: "b1b2b3b4", status: 1, flags: 0, atS: 1, code: new Uint8Array(8) },
      { reference: "b1b2b3b5", status: 1, flags: 2, atS: 2, code: new Uint8Array(8) },
    ]),
    "receipts that are none": new Uint8Array([0, 2, ...new Uint8Array(33)]),
    "no receipts": new Uint8Array([0, 0]),
    "signed receipts": new Uint8Array([1, 0, ...new Uint8Array(80)]),
  };

  test.each(Object.keys(sealedOnes))("come out as they went in: %s", async (name) => {
    const clock = new ManualClock();
    const [near, far] = pair(clock);
    const places = [a, b, node(3), node(4)];
    let count = 0;
    for (const kind of [0, 1, 2, 3, 4, 200])
      for (const lifetimeMs of lifetimes) {
        const priority = (count % 4) as Priority;
        const [source, destination] = [places[count % 4]!, places[(count >> 1) % 4]!];
        const bundle = bundleOf({ kind, priority, source, destination, lifetimeMs }, sealedOnes[name]);
        await exchange(clock, near, far, bundle);
        const read = decodeBundleFrame(far.arrived.at(-1)!);
        expect(read.bundle).toEqual(bundle);
        expect(near.arrived.at(-1)).toEqual(encodeCustodyAck([bundle.id]));
        count++;
      }
    expect(typesOf(near).every((type) => compact.isCompactBundle(type))).toBe(true);
    expect(typesOf(far).every((type) => type === FrameType.compactAck)).toBe(true);
    expect(await readSum(near, "godwit_compact")).toBe(0);
  });

  test("what is left of the lifetime is never less, and at most a 255th more", async () => {
    const clock = new ManualClock();
    const [near, far] = pair(clock);
    const random = seededRandom(5);
    for (const lifetimeMs of lifetimes)
      for (const share of [0, 1e-9, 0.1, 0.5, 0.999, 1, random.float()]) {
        const remainingMs = Math.floor(lifetimeMs * share);
        near.session.send(frameOf(bundleOf({ lifetimeMs }), remainingMs, 64));
        await clock.advance(10);
        const { journey } = decodeBundleFrame(far.arrived.at(-1)!);
        expect(journey.remainingMs).toBeGreaterThanOrEqual(remainingMs);
        expect(journey.remainingMs).toBeLessThanOrEqual(remainingMs + Math.ceil(lifetimeMs / 255));
        expect(journey.remainingMs).toBeLessThanOrEqual(lifetimeMs);
        expect(journey.hops).toBe(64);
        // Another hop that took no time adds nothing.
        near.session.send(frameOf(bundleOf({ lifetimeMs }), journey.remainingMs));
        await clock.advance(10);
        expect(decodeBundleFrame(far.arrived.at(-1)!).journey.remainingMs).toBe(journey.remainingMs);
      }
  });

  test("the trace stays behind, hops go on", async () => {
    const clock = new ManualClock();
    const [near, far] = pair(clock);
    const trace = [{ node: node(3), atMs: 1 }];
    near.session.send(encodeBundleFrame(bundleOf(), { remainingMs: 5_000, hops: 7, trace }));
    await clock.advance(10);
    expect(decodeBundleFrame(far.arrived[0]!).journey).toMatchObject({ hops: 7, trace: [] });
  });

  test("packets of the ends go without them", async () => {
    const clock = new ManualClock();
    const [near, far] = pair(clock);
    const packet = { priority: 2, plane: "any", hopsLeft: 9, kind: 1 } as const;
    const frames = [
      encodePacket({ ...packet, source: a, destination: b }, new Uint8Array(9)),
      encodePacket({ ...packet, source: node(3), destination: node(4) }, new Uint8Array(9)),
    ];
    for (const [at, frame] of frames.entries()) {
      near.session.send(frame);
      far.session.send(frame);
      await clock.advance(10);
      expect([far.arrived[at], near.arrived[at]]).toEqual([frame, frame]);
    }
    expect([near, far].map(({ raw }) => raw.sent.map(({ length }) => length))).toEqual([
      [13, 77],
      [77, 77],
    ]);
  });

  test("what has no compact form goes as it is, and so does what would be longer than the path carries", async () => {
    const clock = new ManualClock();
    const [near, far] = pair(clock);
    const claim = bundleOf({ kind: 2, source: node(3), destination: node(4), lifetimeMs: 61_001 });
    const frames = [encodeWant(claim.id, 0, 1), encodeProbe(7), frameOf(claim)];
    near.raw.frameBytesMax = frameOf(claim).length;
    for (const frame of frames) near.session.send(frame);
    await clock.advance(10);
    expect(far.arrived).toEqual(frames);
    expect(near.raw.sent).toEqual(frames);
    near.raw.frameBytesMax++;
    near.session.send(frameOf(claim));
    expect(near.raw.sent.at(-1)!.length).toBe(frameOf(claim).length + 1);
  });
});

describe("references", () => {
  const through = () => bundleOf({ source: node(3), destination: node(4) }, laterOf(1));

  test("carry the whole until an acknowledgement shows that it came, then a byte each", async () => {
    const clock = new ManualClock();
    const [near, far] = pair(clock);
    near.raw.isCarrying = false;
    near.session.send(frameOf(through()));
    near.raw.isCarrying = true;
    await exchange(clock, near, far, through());
    await exchange(clock, near, far, through());
    const [lost, defined, referred] = near.raw.sent.map(({ length }) => length) as [number, number, number];
    expect(defined).toBe(lost);
    // Two ids of 32 bytes, one of 8; one byte more of the check.
    expect(defined - referred).toBe(2 * 32 + 8 - 1);
    expect(far.arrived.map((frame) => decodeBundleFrame(frame).bundle.id)).toEqual([
      through().id,
      through().id,
    ]);
  });

  test("in order, what was sent once is known", async () => {
    const clock = new ManualClock();
    const [near, far] = pair(clock, { isReliable: true });
    for (let i = 0; i < 2; i++) near.session.send(frameOf(through()));
    await clock.advance(10);
    expect(near.raw.sent[1]!.length).toBeLessThan(near.raw.sent[0]!.length - 64);
    expect(far.arrived.length).toBe(2);
  });

  test("a receipt names the nodes of its message as that did, until the far end knows its own names for them", async () => {
    const clock = new ManualClock();
    const [near, far] = pair(clock);
    near.session.send(frameOf(through()));
    await clock.advance(10);
    const receipt = bundleOf({ kind: 1, source: node(4), destination: node(3) }, new Uint8Array(30).fill(1));
    await exchange(clock, far, near, receipt);
    expect(far.raw.sent[0]!.length).toBe(9 + 2 + 30);
    expect(far.raw.sent[0]![1]! >> 2).toBe(0b1111);
    expect(decodeBundleFrame(near.arrived[0]!).bundle).toEqual(receipt);
    // Long after that it tells of them itself.
    for (let i = 0; i < 17; i++) near.session.send(frameOf(bundleOf()));
    await clock.advance(10);
    await exchange(clock, far, near, receipt);
    near.session.send(frameOf(through()));
    await clock.advance(10);
    await exchange(clock, far, near, receipt);
    const [, told, own] = far.raw.sent.filter(([type]) => type === FrameType.compactReceipts);
    expect([told!.length, own!.length]).toEqual([8 + 2 + 64 + 30, 9 + 2 + 30]);
    expect(own![1]! >> 2).toBe(0b0101);
  });

  test("the far end's name of a node is not used long after it was, and a wrong one costs a question", async () => {
    const clock = new ManualClock();
    const [near, far] = pair(clock);
    near.session.send(frameOf(through()));
    for (let i = 0; i < 16; i++) near.session.send(frameOf(bundleOf()));
    await clock.advance(10);
    const back = bundleOf({ source: node(4), destination: node(3) }, new Uint8Array(30).fill(1));
    far.session.send(frameOf(back));
    expect(far.raw.sent.at(-1)!.length).toBe(9 + 2 + 30);
    near.session.send(frameOf(bundleOf()));
    await clock.advance(10);
    far.session.send(frameOf(back));
    expect(far.raw.sent.at(-1)!.length).toBe(8 + 2 + 64 + 30);
    // Lost, and given away since.
    const [other, asked] = pair(clock);
    other.session.send(frameOf(through()));
    await clock.advance(10);
    other.raw.isCarrying = false;
    for (let i = 0; i < 256; i++) other.session.send(frameOf(bundleOf({ source: node(1_000 + i) })));
    other.raw.isCarrying = true;
    asked.session.send(frameOf(back));
    await clock.advance(10);
    expect(typesOf(other).at(-1)).toBe(FrameType.compactUnreadable);
    expect(decodeBundleFrame(other.arrived.at(-1)!).bundle).toEqual(back);
    asked.session.send(frameOf(back));
    await clock.advance(10);
    expect(typesOf(other).filter((type) => type === FrameType.compactUnreadable).length).toBe(1);
  });

  test("a far end that has lost them asks once, and gets the bundle in full", async () => {
    const clock = new ManualClock();
    const [near, far] = pair(clock);
    await exchange(clock, near, far, through());
    // The same link, and an end that knows nothing.
    const [, fresh] = pair(clock);
    near.raw.far = fresh.raw;
    fresh.raw.far = near.raw;
    near.session.send(frameOf(through()));
    await clock.advance(10);
    expect(fresh.arrived.map((frame) => decodeBundleFrame(frame).bundle)).toEqual([through()]);
    expect(typesOf(fresh)).toEqual([FrameType.compactUnreadable]);
    expect([
      await readSum(fresh, "godwit_compact_repairs_total"),
      await readSum(near, "godwit_compact_repairs_total"),
    ]).toEqual([1, 1]);
    // Asked again for the same, it sends nothing.
    const sent = near.raw.sent.length;
    for (let sequence = 0; sequence < 256; sequence++) near.raw.receive(compact.encodeUnreadable(sequence));
    expect(near.raw.sent.length).toBe(sent);
  });

  test("whoever waits for an answer to what could not be read waits from when it leaves in full, and it leaves once", async () => {
    const clock = new ManualClock();
    const [near, far] = pair(clock);
    await exchange(clock, near, far, through());
    near.raw.isCarrying = false;
    const [first, second] = [newDeparture(), newDeparture()];
    const left = () => [first.leftAtMs, second.leftAtMs];
    const sent = near.raw.sent.length;
    near.session.send(frameOf(through()), first);
    near.session.send(frameOf(through()), second);
    first.leftAtMs = 5;
    second.leftAtMs = 6;
    // The later copy has an answer of its own.
    near.raw.receive(compact.encodeUnreadable(1));
    expect([near.raw.sent.length, ...left()]).toEqual([sent + 2, 5, 6]);
    near.raw.receive(compact.encodeUnreadable(2));
    expect([near.raw.sent.length, ...left()]).toEqual([sent + 3, 5, undefined]);
    near.raw.receive(compact.encodeUnreadable(2));
    expect(near.raw.sent.length).toBe(sent + 3);
  });

  test("of frames of more than 128 KiB the oldest are not kept, and go in full when they are offered again", async () => {
    const clock = new ManualClock();
    const [near, far] = pair(clock);
    await exchange(clock, near, far, through());
    const large = (n: number) =>
      bundleOf({ source: node(3), destination: node(4) }, seededRandom(n).bytes(40_000));
    near.raw.isCarrying = false;
    for (let n = 0; n < 4; n++) near.session.send(frameOf(large(n)));
    const sent = near.raw.sent.length;
    near.raw.receive(compact.encodeUnreadable(1));
    expect(near.raw.sent.length).toBe(sent);
    near.session.send(frameOf(large(0)));
    expect(near.raw.sent.at(-1)!.length - near.raw.sent.at(-2)!.length).toBe(2 * 32 - 1);
    near.raw.receive(compact.encodeUnreadable(4));
    expect(near.raw.sent.length).toBe(sent + 2);
  });

  test("one that stands for something else is noticed before the bundle is passed on", async () => {
    const clock = new ManualClock();
    const [near, far] = pair(clock);
    await exchange(clock, near, far, through());
    // The far end hears, late, of an index that has another meaning by now.
    const other = bundleOf({ source: node(8), destination: node(9) }, laterOf(2));
    const late: compact.CompactBundle = {
      ...{ kind: 0, priority: 2, sequence: 99, lifetimeMs: LIFETIME_DEFAULT_MS, remainingMs: 0, hops: 0 },
      ...compact.shortenSealed(0, other.sealed, (is) => ({ index: 0, is })),
      source: { index: 1, is: other.header.source },
      destination: { index: 2, is: other.header.destination },
    };
    far.raw.receive(compact.encodeCompactBundle(late, other.id));
    far.arrived.length = 0;
    near.session.send(frameOf(through()));
    await clock.advance(10);
    expect(far.arrived.map((frame) => decodeBundleFrame(frame).bundle)).toEqual([through()]);
    expect(await readSum(far, "godwit_compact_repairs_total")).toBe(1);
  });

  test("one byte wrong in an id that nothing refers to ends the link: that is no memory gone", () => {
    const [near, far] = pair(new ManualClock());
    near.session.send(frameOf(bundleOf()));
    const frame = near.raw.sent[0]!.slice();
    frame[frame.length - 41]! ^= 1;
    far.raw.receive(frame);
    expect(far.raw.closedWith?.code).toBe("GODWIT_DECODE");
    expect(far.arrived).toEqual([]);
  });

  test("of a node cannot stand where a session is meant, nor the other way", async () => {
    const clock = new ManualClock();
    const [near, far] = pair(clock);
    await exchange(clock, near, far, through());
    const before = far.arrived.length;
    const forged: compact.CompactBundle = {
      ...{ kind: 0, priority: 2, sequence: 9, lifetimeMs: 60_000, remainingMs: 0, hops: 0 },
      ...{ source: undefined, rest: new Uint8Array(30), destination: { index: 0 }, seal: { kind: "asIs" } },
    };
    far.raw.receive(compact.encodeCompactBundle(forged, through().id));
    const nodeAsSession = {
      ...forged,
      destination: undefined,
      seal: { kind: "later", session: { index: 1 } },
    } as const;
    far.raw.receive(compact.encodeCompactBundle(nodeAsSession, through().id));
    expect(far.arrived.length).toBe(before);
    expect(await readSum(far, "godwit_compact_repairs_total")).toBe(2);
  });

  test("questions are asked 16 at once and one a second, whatever comes", async () => {
    const clock = new ManualClock();
    const [, far] = pair(clock);
    const forged: compact.CompactBundle = {
      ...{ kind: 0, priority: 2, sequence: 9, lifetimeMs: 60_000, remainingMs: 0, hops: 0 },
      ...{ source: { index: 5 }, destination: undefined, seal: { kind: "asIs" }, rest: new Uint8Array(3) },
    };
    for (let i = 0; i < 1_000; i++) far.raw.receive(compact.encodeCompactBundle(forged, bundleOf().id));
    expect(far.raw.sent.length).toBe(16);
    await clock.advance(5_000);
    for (let i = 0; i < 1_000; i++) far.raw.receive(compact.encodeCompactBundle(forged, bundleOf().id));
    expect(far.raw.sent.length).toBe(21);
  });

  test("what is used keeps its name, however many others come and go", async () => {
    const clock = new ManualClock();
    const [near, far] = pair(clock);
    const often = bundleOf({ source: node(3) });
    await exchange(clock, near, far, often);
    for (let i = 0; i < 600; i++) {
      await exchange(clock, near, far, bundleOf({ source: node(1_000 + i) }));
      if (i % 100 > 0) continue;
      await exchange(clock, near, far, often);
      expect(near.raw.sent.at(-1)!.length).toBeLessThan(60);
    }
  });

  test("a thousand of them, of which 256 have names: each bundle arrives as it was sent", async () => {
    const clock = new ManualClock();
    const [near, far] = pair(clock);
    for (let i = 0; i < 2_000; i++) {
      const [source, destination] = [node(10 + (i % 7)), node(100 + ((i * 7) % 1_000))];
      const bundle = bundleOf({ source, destination }, laterOf(i % 300));
      await exchange(clock, near, far, bundle);
      expect(decodeBundleFrame(far.arrived.at(-1)!).bundle.id).toBe(bundle.id);
    }
    expect(await readSum(near, "godwit_compact")).toBe(0);
  });
});

describe("answers", () => {
  test("of what is older than 128 bundles here count for nothing; what was answered is sent no more", async () => {
    const clock = new ManualClock();
    const [near, far] = pair(clock);
    await exchange(clock, near, far, bundleOf({ source: node(3) }));
    await exchange(clock, near, far, bundleOf({ source: node(3) }, new Uint8Array(9)));
    const sent = near.raw.sent.length;
    near.raw.receive(compact.encodeUnreadable(1));
    expect(near.raw.sent.length).toBe(sent);
    near.arrived.length = 0;
    near.raw.isCarrying = false;
    for (let i = 0; i < 126; i++) near.session.send(frameOf(bundleOf({}, seededRandom(i).bytes(20))));
    const ack = compact.encodeCompactAck({
      ...{ sequences: [0], check: compact.ackCheck([bundleOf({ source: node(3) }).id]) },
    });
    near.raw.receive(ack);
    expect(near.arrived.length).toBe(1);
    near.session.send(frameOf(bundleOf()));
    near.raw.receive(ack);
    expect(near.arrived.length).toBe(1);
    expect(await readSum(near, "godwit_compact_answers_ignored_total")).toBe(2);
  });

  const many = (count: number): Bundle[] =>
    Array.from({ length: count }, (_, i) => bundleOf({}, seededRandom(i).bytes(20)));

  test("of many bundles share a bitmap; in whatever order they were acknowledged", async () => {
    const clock = new ManualClock();
    const [near, far] = pair(clock);
    const bundles = many(300);
    for (const bundle of bundles) near.session.send(frameOf(bundle));
    await clock.advance(10);
    const ids = bundles.slice(172).map(({ id }) => id);
    far.session.send(encodeCustodyAck(ids.toReversed()));
    await clock.advance(10);
    expect(far.raw.sent.map(({ length }) => length)).toEqual([4 + 16]);
    expect(decodeCustodyAck(near.arrived[0]!)).toEqual(ids);
  });

  test("of what is older than 128 bundles, or came another way, goes as it is", async () => {
    const clock = new ManualClock();
    const [near, far] = pair(clock);
    const bundles = many(129);
    for (const bundle of bundles) near.session.send(frameOf(bundle));
    await clock.advance(10);
    const elsewhere = bundleOf({}, new Uint8Array(3)).id;
    far.session.send(encodeCustodyAck([bundles[0]!.id, bundles[1]!.id, elsewhere]));
    far.session.send(encodeCustodyRefuse(elsewhere, 1, 1_500));
    await clock.advance(10);
    expect(near.arrived).toEqual([
      encodeCustodyAck([bundles[1]!.id]),
      encodeCustodyAck([bundles[0]!.id, elsewhere]),
      encodeCustodyRefuse(elsewhere, 1, 1_500),
    ]);
  });

  test("a refusal says its reason, and its pause in whole seconds", async () => {
    const clock = new ManualClock();
    const [near, far] = pair(clock);
    const bundle = bundleOf();
    near.session.send(frameOf(bundle));
    await clock.advance(10);
    far.session.send(encodeCustodyRefuse(bundle.id, RefuseReason.busy, 1_500));
    await clock.advance(10);
    expect(far.raw.sent[0]!.length).toBe(6);
    expect(decodeCustodyRefuse(near.arrived[0]!)).toEqual({
      ...{ id: bundle.id, reason: RefuseReason.busy, retryAfterMs: 2_000 },
    });
  });

  test("that name what was never sent count for nothing and are counted", async () => {
    const [near] = pair(new ManualClock());
    near.session.send(frameOf(bundleOf()));
    const check = compact.ackCheck([bundleOf().id]);
    const wrong = check.map((byte) => byte ^ 1);
    near.raw.receive(compact.encodeCompactAck({ sequences: [1], check }));
    near.raw.receive(compact.encodeCompactAck({ sequences: [0, 1], check }));
    near.raw.receive(compact.encodeCompactAck({ sequences: [0], check: wrong }));
    near.raw.receive(compact.encodeCompactRefuse({ sequence: 0, check: wrong, reason: 1, retryAfterMs: 0 }));
    near.raw.receive(compact.encodeCompactRefuse({ sequence: 3, check, reason: 1, retryAfterMs: 0 }));
    near.raw.receive(compact.encodeUnreadable(200));
    expect(near.arrived).toEqual([]);
    expect(near.raw.isClosed).toBe(false);
    expect(await readSum(near, "godwit_compact_answers_ignored_total")).toBe(6);
    near.raw.receive(compact.encodeCompactAck({ sequences: [0], check }));
    expect(near.arrived).toEqual([encodeCustodyAck([bundleOf().id])]);
  });

  test("an acknowledgement that was held back does not count for the bundle that has its sequence now", async () => {
    const clock = new ManualClock();
    const [near, far] = pair(clock);
    const bundles = many(257);
    near.session.send(frameOf(bundles[0]!));
    await clock.advance(10);
    far.raw.isCarrying = false;
    far.session.send(encodeCustodyAck([bundles[0]!.id]));
    const held = far.raw.sent.at(-1)!;
    for (const bundle of bundles.slice(1)) near.session.send(frameOf(bundle));
    near.raw.receive(held);
    expect(near.arrived).toEqual([]);
    expect(await readSum(near, "godwit_compact_answers_ignored_total")).toBe(1);
  });
});

describe("hello", () => {
  const record = new Uint8Array(300).fill(9);
  const helloOf = (wallMs?: number, of = record) =>
    encodeHello({
      ...{ versionMin: 1, versionMax: 2, bootId: new Uint8Array(8).fill(1), record: of, wallMs },
      storeEpoch: new Uint8Array(8).fill(2),
    });
  const expected = (wallMs?: number) =>
    encodeHello({
      ...{ versionMin: 2, versionMax: 2, bootId: new Uint8Array(8).fill(1), record, wallMs },
      storeEpoch: new Uint8Array(8).fill(2),
    });

  test("names a record that is known by its hash", async () => {
    const clock = new ManualClock();
    const [near, far] = pair(clock, { recordOf: (id) => (id === a ? record : undefined) });
    near.session.send(helloOf());
    near.session.send(helloOf(1_700_000_000_000));
    await clock.advance(10);
    expect(near.raw.sent.map(({ length }) => length)).toEqual([25, 31]);
    expect(far.arrived).toEqual([expected(), expected(1_700_000_000_000)]);
    expect(far.raw.sent).toEqual([]);
  });

  test("goes whole once it was asked for, and until another record is there", async () => {
    const clock = new ManualClock();
    const [near, far] = pair(clock);
    near.session.send(helloOf());
    await clock.advance(10);
    near.session.send(helloOf());
    near.session.send(helloOf(undefined, new Uint8Array(300).fill(8)));
    await clock.advance(10);
    const { hello, compactHello, helloWanted } = FrameType;
    expect(typesOf(near)).toEqual([compactHello, hello, hello, compactHello, hello]);
    expect(typesOf(far)).toEqual([helloWanted, helloWanted]);
    expect(far.arrived.length).toBe(3);
    const sent = near.raw.sent.length;
    for (let i = 0; i < 100; i++) near.raw.receive(compact.encodeHelloWanted());
    expect(near.raw.sent.length).toBe(sent);
  });

  test("that is asked for whole has left when that has, and with every other frame goes word of when it leaves", async () => {
    const [near] = pair(new ManualClock());
    const hello = newDeparture();
    near.session.send(helloOf(), hello);
    hello.leftAtMs = 5;
    near.raw.receive(compact.encodeHelloWanted());
    expect(near.raw.departures).toEqual([hello, hello]);
    expect(hello.leftAtMs).toBeUndefined();
    const others = [encodeProbe(1), encodeCustodyAck(["5c".repeat(16) as BundleId])].map((frame) => {
      const departure = newDeparture();
      near.session.send(frame, departure);
      return departure;
    });
    expect(near.raw.departures.slice(2)).toEqual(others);
    expect(near.raw.departures[3]).toBe(others[1]);
  });

  test("goes whole over what keeps order, where an answer may take a day", async () => {
    const clock = new ManualClock();
    const [near, far] = pair(clock, { isReliable: true });
    near.session.send(helloOf());
    await clock.advance(10);
    expect([near.raw.sent, far.arrived]).toEqual([[helloOf()], [helloOf()]]);
  });
});

/** Loses and reorders, over hundreds of frames, and never repeats. */
function shake(ends: readonly End[], random: Random, loss: number, spreadMs: number): void {
  for (const { raw } of ends) {
    const { send } = raw;
    raw.send = (frame: Uint8Array) => {
      raw.isCarrying = random.float() >= loss;
      raw.delayMs = 1 + random.below(spreadMs);
      return send.call(raw, frame);
    };
  }
}

const delivered = (frames: readonly Uint8Array[]): Bundle[] =>
  frames.filter(([type]) => type === FrameType.bundle).map((frame) => decodeBundleFrame(frame).bundle);

/** `acknowledged`: share of what was, of which the far end is told: behind hundreds of others an answer names what is no longer known. */
const wires = [
  { loss: 0, spreadMs: 2, acknowledged: 0.98 },
  { loss: 0.05, spreadMs: 40, acknowledged: 0.98 },
  { loss: 0.2, spreadMs: 400, acknowledged: 0.9 },
  { loss: 0.5, spreadMs: 1_000, acknowledged: 0.8 },
  { loss: 0.1, spreadMs: 8_000, acknowledged: 0 },
] as const;

test.each(wires)(
  "over a wire that loses $loss and reorders over $spreadMs ms nothing is passed on or acknowledged that was not sent or had",
  async ({ loss, spreadMs, acknowledged: share }) => {
    const clock = new ManualClock();
    const random = seededRandom(spreadMs);
    const ends = pair(clock);
    const [near, far] = ends;
    shake(ends, random, loss, spreadMs);
    const sent = [new Map<BundleId, Bundle>(), new Map<BundleId, Bundle>()] as const;
    const got = [new Set<BundleId>(), new Set<BundleId>()] as const;
    let acknowledged = 0;
    ends.forEach((end, i) => {
      end.onFrame = (frame) => {
        if (frame[0] === FrameType.custodyAck) {
          for (const id of decodeCustodyAck(frame)) expect(got[1 - i]!.has(id)).toBe(true);
          return void acknowledged++;
        }
        const { bundle, journey } = decodeBundleFrame(frame);
        expect(sent[1 - i]!.get(bundle.id)).toEqual(bundle);
        expect(journey.remainingMs).toBe(bundle.header.lifetimeMs);
        got[i]!.add(bundle.id);
        if (random.float() < 0.8) end.session.send(encodeCustodyAck([bundle.id]));
      };
    });
    for (let n = 0; n < 4_000; n++) {
      const from = random.below(2);
      const [source, destination] = [random.below(400), random.below(40)].map((i) =>
        i < 4 ? [a, b][i & 1]! : node(i),
      );
      const isReceipt = random.float() < 0.2;
      const kind = isReceipt ? BundleKind.receipt : BundleKind.message;
      const bundle = bundleOf(
        { kind, source: source!, destination: destination! },
        laterOf(random.below(300), n),
      );
      sent[from]!.set(bundle.id, bundle);
      ends[from]!.session.send(frameOf(bundle));
      await clock.advance(random.below(20));
    }
    await clock.advance(10_000);
    const all = sent[0].size + sent[1].size;
    expect(got[0].size + got[1].size).toBeGreaterThan(all * (1 - loss) * 0.9);
    expect(acknowledged).toBeGreaterThanOrEqual(all * (1 - loss) ** 2 * 0.8 * 0.9 * share);
    expect([near, far].every(({ raw }) => !raw.isClosed)).toBe(true);
    expect(delivered(far.arrived).length).toBeLessThanOrEqual(sent[0].size);
  },
);
