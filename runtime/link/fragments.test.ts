import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ManualClock } from "../kernel/clock.ts";
import { seededRandom } from "../kernel/random.ts";
import { FRAGMENT_FLAG, LAST_FLAG } from "./constants.ts";
import { bytesOf, openLink, type LinkTestOptions, type OpenLink } from "./fixture.ts";
import { CollectedFragments, cutRecord, decodeFragment, SentFragments } from "./fragments.ts";

const MTU = 200;
/** Of a record in pieces: 3 of its header and one for its index, and 8 of its tag. */
const PIECE = MTU - 4;
const packetsFor = (frameBytes: number) => Math.ceil((frameBytes + 8) / PIECE);

function frameOf(length: number, seed: number): Uint8Array {
  const frame = seededRandom(seed).bytes(length);
  return frame;
}

const isPiece = (bytes: Uint8Array) => (bytes[0]! & 0x80) !== 0 && (bytes[0]! & FRAGMENT_FLAG) !== 0;

type IsLost = (n: number, bytes: Uint8Array) => boolean;

const twice = (isLost: () => boolean) => [isLost, isLost] as const;

interface Slow extends OpenLink {
  /** Datagrams from a that are lost, by their number since `arm`; and those from b. */
  arm(isLost: IsLost, isAnswerLost?: () => boolean): void;
}

/** A budgeted radio of 1,074 bit/s. */
const RADIO = { answerMs: 400, airtimeMs: (bytes: number) => 300 + (bytes * 8_000) / 1_074 };

async function slowLink(options: LinkTestOptions = {}): Promise<Slow> {
  let isLost: IsLost | undefined;
  let isAnswerLost: (() => boolean) | undefined;
  let n = 0;
  const link = await openLink({
    kind: "datagram",
    linkClass: "slow",
    ...options,
    wire: {
      mtu: MTU,
      isRecording: true,
      rateBitsPerSecond: 1_074,
      tamper: (bytes, from) =>
        (from === "a" ? isLost?.(n++, bytes) : isAnswerLost?.()) === true ? undefined : bytes,
      ...options.wire,
    },
  });
  return {
    ...link,
    arm(next, answers) {
      isLost = next;
      isAnswerLost = answers;
      n = 0;
    },
  };
}

describe("a frame larger than a datagram of its slow link", () => {
  test("comes whole in as many packets as it needs, and nothing is said back", async () => {
    const link = await slowLink();
    for (const length of [MTU - 11, MTU - 10, 500, 3_072, 5_632]) {
      const [sent, back] = [link.wire.a.writes, link.wire.b.writes];
      const frame = frameOf(length, length);
      link.left.session.send(frame);
      await link.clock.advance(60_000);
      expect(link.right.frames.at(-1)).toEqual(frame);
      expect(link.wire.a.writes - sent).toBe(length <= MTU - 11 ? 1 : packetsFor(length));
      expect(link.wire.b.writes).toBe(back);
    }
    expect(() => link.left.session.send(bytesOf(5_633, 1))).toThrow();
    expect(link.guardB.counters.recordsUnfinished).toBe(0);
  });

  test("of 3 KB with any one piece lost arrives with one packet more, and one small one back", async () => {
    for (const pace of [undefined, RADIO]) {
      for (let lost = 0; lost < packetsFor(3_072); lost++) {
        const link = await slowLink({
          seed: lost + 1,
          wire: pace === undefined ? {} : { pace },
          openMs: 30_000,
        });
        const frame = frameOf(3_072, lost);
        const before = [link.wire.a.writes, link.wire.b.writes, link.wire.b.sentBytes];
        link.arm((n) => n === lost);
        link.left.session.send(frame);
        // The far end says what lacks as soon as the last piece is there.
        await link.clock.advance(pace === undefined ? 100 : 40_000);
        if (lost < packetsFor(3_072) - 1) expect([lost, link.right.frames.length]).toEqual([lost, 1]);
        await link.clock.advance(10 * 60_000);
        expect([lost, link.right.frames.length]).toEqual([lost, 1]);
        expect(link.right.frames[0]).toEqual(frame);
        expect([lost, link.wire.a.writes - before[0]!]).toEqual([lost, packetsFor(3_072) + 1]);
        expect([lost, link.wire.b.writes - before[1]!]).toEqual([lost, 1]);
        expect(link.wire.b.sentBytes - before[2]!).toBeLessThanOrEqual(11 + 3 + 3 + 2);
      }
    }
  });

  test("with several pieces lost, the same ones again, and the question too: still whole, each piece at most four times", async () => {
    for (let seed = 1; seed <= 20; seed++) {
      const link = await slowLink({ seed });
      const random = seededRandom(seed);
      link.arm(...twice(() => random.float() < 0.3));
      const frame = frameOf(3_072, seed);
      link.left.session.send(frame);
      await link.clock.advance(20 * 60_000);
      for (const arrived of link.right.frames) expect(arrived).toEqual(frame);
      const times = new Map<string, number>();
      for (const bytes of link.wire.a.sent.filter(isPiece)) {
        const piece = `${bytes[1]}/${bytes[2]}/${bytes[3]}`;
        times.set(piece, (times.get(piece) ?? 0) + 1);
      }
      expect(Math.max(...times.values())).toBeLessThanOrEqual(4);
    }
  });

  test("nine times of ten arrives where every seventh datagram is lost", async () => {
    let arrived = 0;
    for (let seed = 1; seed <= 40; seed++) {
      const link = await slowLink({ seed });
      const random = seededRandom(seed);
      link.arm(...twice(() => random.float() < 1 / 7));
      link.left.session.send(frameOf(3_072, seed));
      await link.clock.advance(20 * 60_000);
      arrived += link.right.frames.length;
    }
    expect(arrived).toBeGreaterThanOrEqual(36);
  });

  test("of which everything was lost is lost as ever, and the next one comes", async () => {
    const link = await slowLink();
    link.arm(() => true);
    link.left.session.send(frameOf(3_072, 1));
    await link.clock.advance(60 * 60_000);
    link.arm(() => false);
    link.left.session.send(frameOf(1_000, 2));
    await link.clock.advance(60_000);
    expect(link.right.frames).toEqual([frameOf(1_000, 2)]);
  });

  test("whose last piece is lost is asked for as soon as something else comes", async () => {
    const link = await slowLink();
    link.arm((n) => n === packetsFor(1_000) - 1);
    link.left.session.send(frameOf(1_000, 1));
    await link.clock.advance(100);
    link.left.session.send(bytesOf(20, 2));
    await link.clock.advance(100);
    expect(link.right.frames.map(({ length }) => length)).toEqual([20, 1_000]);
  });

  test("goes to a far end of version 1 not at all, and over fast links as ever", async () => {
    for (const options of [
      { linkClass: "slow", b: { versions: { min: 1, max: 1 } } },
      { linkClass: "fast" },
    ] as const) {
      const link = await slowLink(options);
      expect(link.left.session.frameBytesMax).toBe(MTU - (options.linkClass === "slow" ? 11 : 21));
      expect(() => link.left.session.send(bytesOf(MTU, 1))).toThrow();
    }
  });

  test("that are sent over a pipe with a budget wait in it, and none is asked for before it has left", async () => {
    const pace = { ...RADIO, share: 0.01 };
    const link = await slowLink({ wire: { pace }, openMs: 600_000 });
    const back = link.wire.b.writes;
    link.left.session.send(frameOf(1_500, 1));
    await link.clock.advance(4 * 3_600_000);
    expect(link.right.frames).toEqual([frameOf(1_500, 1)]);
    expect(link.wire.a.sent.filter(isPiece).length).toBe(packetsFor(1_500));
    // Of a far end whose pace nobody knows it is asked once.
    expect(link.wire.b.writes - back).toBeLessThanOrEqual(1);
  });
});

test("golden: the pieces of a record, and what the far end says that it has of it", () => {
  const record = Uint8Array.of(0xc2, 0x01, 0x2c, ...Array.from({ length: 21 }, (_, at) => at));
  expect(cutRecord(record, 2, 12).map((piece) => Buffer.from(piece).toString("hex"))).toEqual([
    "e2012c000001020304050607",
    "e2012c0108090a0b0c0d0e0f",
    "f2012c021011121314",
  ]);
  const said: string[] = [];
  const clock = new ManualClock();
  const collected = new CollectedFragments({
    ...{ clock, counterBytes: 2, silenceMs: () => 1_000 },
    counters: { recordsReplayed: 0, fragmentsCollected: 0, recordsUnfinished: 0 },
    ask: (came) => void said.push(Buffer.from(came).toString("hex")),
  });
  const [first, , last] = cutRecord(record, 2, 12);
  collected.take(decodeFragment(first!, 2)!);
  collected.take(decodeFragment(last!, 2)!);
  expect(said).toEqual(["c2012ca0"]);
});

describe("hostile pieces", () => {
  test("repeated, in any order, and of records that came: nothing twice", async () => {
    const link = await slowLink({ wire: { duplication: 0.5, jitterMs: 2_000 } });
    for (let i = 0; i < 10; i++) {
      link.left.session.send(frameOf(2_000, i));
      await link.clock.advance(5_000);
    }
    await link.clock.advance(60_000);
    expect(link.right.frames.length).toBe(10);
    const sent = link.wire.a.sent.filter(isPiece);
    const { fragmentsCollected } = link.guardB.counters;
    for (const piece of sent) link.wire.a.inject(piece);
    expect(link.guardB.counters.fragmentsCollected).toBe(fragmentsCollected);
    await link.clock.advance(60_000);
    expect(link.right.frames.length).toBe(10);
    expect(new Set(link.right.frames.map((frame) => Buffer.from(frame).toString("hex"))).size).toBe(10);
  });

  test("one that is forged costs its record and no other", async () => {
    const link = await slowLink();
    let count = 0;
    link.arm((n, bytes) => {
      if (!isPiece(bytes) || n !== 3) return false;
      const forged = new Uint8Array(bytes).fill(7, 4);
      link.wire.a.inject(forged);
      count++;
      return false;
    });
    link.left.session.send(frameOf(2_000, 1));
    await link.clock.advance(60_000);
    expect([count, link.right.frames.length, link.guardB.counters.recordsForged]).toEqual([1, 0, 1]);
    link.left.session.send(frameOf(2_000, 2));
    await link.clock.advance(60_000);
    expect(link.right.frames).toEqual([frameOf(2_000, 2)]);
    expect(link.right.closed).toBeUndefined();
  });

  test("beginnings of 10,000 records take the room of eight and a few answers, and the others' mail goes on", async () => {
    const link = await slowLink();
    const back = link.wire.b.writes;
    const random = seededRandom(7);
    for (let i = 0; i < 10_000; i++) {
      const forged = new Uint8Array(MTU);
      forged[0] = 0x80 | FRAGMENT_FLAG | (i % 3 === 0 ? LAST_FLAG : 0) | (i % 2 === 0 ? 0x40 : 0);
      forged[1] = 1 + random.below(255);
      forged[2] = random.below(256);
      forged[3] = random.below(64);
      link.wire.a.inject(forged);
    }
    await link.clock.advance(60_000);
    // Eight at once and one a minute; forgeries cost whoever forges more airtime than that.
    expect(link.wire.b.writes - back).toBeLessThanOrEqual(10);
    const { fragmentsCollected, recordsUnfinished } = link.guardB.counters;
    expect(fragmentsCollected - recordsUnfinished).toBeLessThanOrEqual(8 * 64);
    link.left.session.send(frameOf(3_072, 1));
    await link.clock.advance(60_000);
    expect(link.right.frames).toEqual([frameOf(3_072, 1)]);
    await link.clock.advance(2 * 3_600_000);
    expect(link.wire.b.writes - back).toBeLessThanOrEqual(60);
  });

  test("no record holds more than a frame and its tag, however large its pieces are", () => {
    const counters = { recordsReplayed: 0, fragmentsCollected: 0, recordsUnfinished: 0 };
    const clock = new ManualClock();
    const collected = new CollectedFragments({
      clock,
      counterBytes: 2,
      counters,
      silenceMs: () => 1,
      ask() {},
    });
    for (let index = 0; index < 64; index++) {
      const forged = new Uint8Array(1_400);
      forged.set([0x80 | FRAGMENT_FLAG | (index === 63 ? LAST_FLAG : 0), 0, 1, index]);
      expect(collected.take(decodeFragment(forged, 2)!)).toBeUndefined();
    }
    expect(counters.fragmentsCollected).toBe(4);
    collected.clear();
  });

  test("that say two ends of a record are taken as the first one says", () => {
    const counters = { recordsReplayed: 0, fragmentsCollected: 0, recordsUnfinished: 0 };
    const clock = new ManualClock();
    const collected = new CollectedFragments({
      clock,
      counterBytes: 2,
      counters,
      silenceMs: () => 1,
      ask() {},
    });
    const take = (index: number, isLast = false) =>
      collected.take({ flags: 0x80, counter: 1, index, isLast, piece: Uint8Array.of(index) });
    for (const [index, isLast] of [
      [2, true],
      [5, false],
      [0, true],
      [0, false],
    ] as const)
      expect(take(index, isLast)).toBeUndefined();
    expect(take(1)?.record).toEqual(Uint8Array.of(0x80, 0, 1, 0, 1, 2));
    expect(counters).toEqual({ recordsReplayed: 2, fragmentsCollected: 3, recordsUnfinished: 0 });
  });

  test("that begin many records leave those that have more of theirs", () => {
    const counters = { recordsReplayed: 0, fragmentsCollected: 0, recordsUnfinished: 0 };
    const clock = new ManualClock();
    const collected = new CollectedFragments({
      clock,
      counterBytes: 2,
      counters,
      silenceMs: () => 1,
      ask() {},
    });
    const take = (counter: number, index: number, isLast = false) =>
      collected.take({ flags: 0x80, counter, index, isLast, piece: Uint8Array.of(index) });
    for (const index of [0, 1]) take(1, index);
    for (let counter = 2; counter < 1_000; counter++) take(counter, 0);
    expect(collected.count).toBe(8);
    expect(take(1, 2, true)?.record).toEqual(Uint8Array.of(0x80, 0, 1, 0, 1, 2));
    collected.clear();
    expect(clock.nextAtMs()).toBeUndefined();
  });

  test("questions of the far end for what was never sent, or again and again, cost nothing or little", async () => {
    const clock = new ManualClock();
    const sent = new SentFragments(clock, 2);
    const record = new Uint8Array(600).fill(9);
    record.set([0x80, 0, 5]);
    const pieces = cutRecord(record, 2, MTU);
    const departures = sent.keep(pieces);
    const nothing = Uint8Array.of(0x80, 0, 5);
    expect(sent.missing(nothing)).toEqual([]); // they wait here
    for (const departure of departures) departure.leftAtMs = clock.monotonicMs();
    for (const strange of [[], [0x80], [0x80, 0], [0x80, 0, 6], [0xc0, 0, 5], [0x81, 0, 5]])
      expect(sent.missing(Uint8Array.from(strange))).toEqual([]);
    expect(sent.missing(Uint8Array.of(0x80, 0, 5, 0xff))).toEqual([]);
    let again = 0;
    for (let i = 0; i < 100; i++)
      for (const { departure } of sent.missing(nothing)) {
        departure.leftAtMs = clock.monotonicMs();
        again++;
      }
    expect(again).toBe(3 * pieces.length);
  });

  test("whatever the bytes: no throw, no more than eight records, and what is whole has the bytes that were cut", () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 200 }),
        fc.uint8Array({ minLength: 12, maxLength: 5_600 }),
        fc.integer({ min: 128, max: 250 }),
        fc.integer(),
        (rubbish, body, mtu, seed) => {
          const clock = new ManualClock();
          const counters = { recordsReplayed: 0, fragmentsCollected: 0, recordsUnfinished: 0 };
          const collected = new CollectedFragments({
            clock,
            counterBytes: 2,
            counters,
            silenceMs: () => 1_000,
            ask: (came) => expect(came.length).toBeLessThanOrEqual(3 + 8),
          });
          for (const bytes of rubbish) {
            const datagram = new Uint8Array(bytes);
            if (datagram.length > 0) datagram[0] = 0xa0 | (datagram[0]! & 0x53);
            const fragment = decodeFragment(datagram, 2);
            if (fragment !== undefined) collected.take(fragment);
            expect(collected.count).toBeLessThanOrEqual(8);
          }
          collected.clear();
          const record = new Uint8Array(3 + body.length);
          record.set([0x81, 1, 2]);
          record.set(body, 3);
          const random = seededRandom(seed);
          const pieces = cutRecord(record, 2, mtu);
          for (const piece of pieces) expect(piece.length).toBeLessThanOrEqual(mtu);
          const order = pieces.toSorted(() => random.float() - 0.5);
          const whole = order.map((piece) => collected.take(decodeFragment(piece, 2)!));
          expect(whole.filter((one) => one !== undefined).map((one) => one.record)).toEqual([record]);
          expect(collected.count).toBe(0);
        },
      ),
      { numRuns: 200 },
    );
  });
});
