/**
 * What a neighbour on a slow link can say, made of whole frames in any order and number rather than of mutated bytes: compact frames and their bitmaps,
 * pieces of records and theirs, questions and answers for paths, beacons. Byte by byte they are in decoders.ts and machines.ts. A failure
 * names its seed and path, which fast-check repeats.
 */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { Earshot, HEARD_MAX } from "../../runtime/channel/earshot.ts";
import { ManualClock } from "../../runtime/kernel/clock.ts";
import { formatBundleId, formatNodeId, type NodeId } from "../../runtime/kernel/ids.ts";
import { Metrics } from "../../runtime/kernel/metrics.ts";
import {
  CollectedFragments,
  cutRecord,
  decodeFragment,
  SentFragments,
} from "../../runtime/link/fragments.ts";
import { compacted } from "../../runtime/peer/compact-session.ts";
import { FakeSession } from "../../runtime/peer/testing.ts";
import { A, B, C, D, Rig } from "../../runtime/route/testing-router.ts";
import {
  BundleKind,
  decodeBundleFrame,
  decodeCustodyAck,
  decodeCustodyRefuse,
  encodeBundleFrame,
  encodeCustodyAck,
  makeBundle,
} from "../../runtime/wire/bundle.ts";
import { decodeChannelBeacon, encodeChannelBeacon } from "../../runtime/wire/channel-beacon.ts";
import * as compact from "../../runtime/wire/compact.ts";
import { FrameType } from "../../runtime/wire/constants.ts";
import * as lookup from "../../runtime/wire/lookup-messages.ts";
import * as path from "../../runtime/wire/path-messages.ts";
import { encodeBeacon, MTU_MAX } from "../../runtime/wire/route-messages.ts";

const idOf = (fill: number): NodeId => formatNodeId(new Uint8Array(32).fill(fill));
const [self, near] = [idOf(1), idOf(2)];
/** Few, so that they meet. */
const node = fc.integer({ min: 1, max: 6 }).map(idOf);
const index = fc.oneof(fc.nat(4), fc.nat(255));
const u8 = fc.nat(255);
const u16 = fc.nat(0xffff);
const u48 = fc.oneof(
  fc.nat(200),
  fc.maxSafeNat().map((n) => n % 2 ** 48),
);
const bytes = (minLength: number, maxLength = minLength) => fc.uint8Array({ minLength, maxLength });
const maybe = <T>(of: fc.Arbitrary<T>) => fc.option(of, { nil: undefined });

const place: fc.Arbitrary<compact.Reference<NodeId> | undefined> = fc.oneof(
  fc.constant(undefined),
  fc.record({ index }),
  fc.record({ index, is: node }),
  fc.record({ index, isReceivers: fc.constant(true as const) }),
);
const body = bytes(1, 30);
const bundle = fc
  .record({
    kind: fc.constantFrom(BundleKind.message, BundleKind.receipt, 9),
    priority: fc.constantFrom(0, 1, 2, 3),
    sequence: u8,
    source: place,
    destination: place,
    lifetimeMs: fc.constantFrom(60_000, 3_600_000, 61_234),
    remainingMs: fc.nat(60_000),
    hops: u8,
    rest: body,
    session: fc.oneof(fc.record({ index }), fc.record({ index, is: bytes(8).map((id) => id.toHex()) })),
    sort: fc.constantFrom("asIs", "first", "later"),
    /** Whose id its check is of, as its sender would have it. */
    means: fc.record({ source: node, destination: node }),
    id: bytes(16),
    isForged: fc.boolean(),
  })
  .map(({ session, sort, means, id, isForged, ...fields }) => {
    const isReceipt = fields.kind === BundleKind.receipt;
    const seal: compact.CompactSeal =
      isReceipt || sort === "asIs"
        ? { kind: "asIs" }
        : sort === "later"
          ? { kind: "later", session }
          : { kind: "first" };
    const short = { ...fields, seal };
    const header = {
      kind: fields.kind,
      priority: short.priority,
      source: fields.source === undefined ? near : (fields.source.is ?? means.source),
      destination: fields.destination === undefined ? self : (fields.destination.is ?? means.destination),
      lifetimeMs: fields.lifetimeMs,
    };
    const sessionId = seal.kind === "later" ? (seal.session.is ?? "00".repeat(8)) : undefined;
    const whole = makeBundle(header, compact.restoreSealed(short, sessionId));
    return compact.encodeCompactBundle(short, isForged ? formatBundleId(id) : whole.id);
  });
const sequences = fc
  .record({ first: u8, others: fc.uniqueArray(fc.integer({ min: 1, max: 127 }), { maxLength: 12 }) })
  .map(({ first, others }) => [first, ...others.toSorted((a, b) => a - b).map((at) => (first + at) % 256)]);
/** `[frame]`, or the sequences of an answer with the check that fits what they stand for, as far as that was sent. */
const said = fc.oneof(
  bundle.map((frame) => ({ frame })),
  fc.record({ sequences, check: bytes(2) }).map((ack) => ({ frame: compact.encodeCompactAck(ack) })),
  sequences.map((fits) => ({ fits })),
  fc
    .record({ sequence: u8, check: bytes(2), reason: u8, retryAfterMs: fc.nat(1e7) })
    .map((refuse) => ({ frame: compact.encodeCompactRefuse(refuse) })),
  u8.map((sequence) => ({ frame: compact.encodeUnreadable(sequence) })),
  fc.constant({ frame: compact.encodeHelloWanted() }),
  fc.record({ send: fc.record({ source: node, destination: node, body }) }),
);

test("compact frames in any order: what comes up fits its id, and nothing is acknowledged that was not sent", () => {
  fc.assert(
    fc.property(fc.array(said, { minLength: 60, maxLength: 200 }), (script) => {
      const clock = new ManualClock();
      const raw = new FakeSession(clock, near, "outbound", { local: "lora://x", remote: "lora://y" });
      Object.assign(raw, { linkClass: "slow", isReliable: false, isCarrying: false });
      // A malformed frame ends a session; here the next ones come all the same.
      let take: (frame: Uint8Array) => void = () => {};
      raw.open = ({ frame }) => void (take = frame);
      const session = compacted(raw, { self, clock, metrics: new Metrics(), recordOf: () => undefined });
      const sent: string[] = [];
      const up: Uint8Array[] = [];
      session.open({ frame: (frame) => void up.push(frame.slice()), drain() {}, closed() {} });
      for (const step of script) {
        clock.jumpTo(clock.monotonicMs() + 100);
        const before = raw.sent.length;
        if ("send" in step) {
          const { source, destination } = step.send;
          const own = makeBundle(
            { kind: BundleKind.message, priority: 2, source, destination, lifetimeMs: 60_000 },
            step.send.body,
          );
          session.send(encodeBundleFrame(own, { remainingMs: 60_000, hops: 1, trace: [] }));
          sent.push(own.id);
          expect(raw.sent.length).toBe(before + 1);
          continue;
        }
        const held = "fits" in step ? step.fits.map((at) => sent[at]) : [];
        const frame =
          "fits" in step
            ? compact.encodeCompactAck({
                sequences: step.fits,
                check: compact.ackCheck(held.flatMap((id) => (id === undefined ? [] : [id as never]))),
              })
            : step.frame;
        const known = up.length;
        try {
          take(frame);
        } catch (error) {
          expect(error).toMatchObject({ kind: "protocol" });
        }
        // One frame makes one answer, or one bundle said again.
        expect(raw.sent.length).toBeLessThanOrEqual(before + 1);
        for (const told of up.slice(known)) {
          if (told[0] === FrameType.custodyAck)
            for (const id of decodeCustodyAck(told)) expect(sent).toContain(id);
          else if (told[0] === FrameType.custodyRefuse) expect(sent).toContain(decodeCustodyRefuse(told).id);
          else {
            const { check } = compact.decodeCompactBundle(frame);
            expect(decodeBundleFrame(told).bundle.id.startsWith(check.toHex())).toBe(true);
          }
        }
      }
      // Answers to what came go out as they are or by sequence, and never as something else.
      session.send(encodeCustodyAck([formatBundleId(new Uint8Array(16).fill(7))]));
      expect(raw.sent.at(-1)![0]).toBe(FrameType.custodyAck);
    }),
    { numRuns: 60 },
  );
});

const MTU = 40;
/** Header, counter and index. */
const HEAD = 4;

test("pieces of records in any order and number: what is whole has the genuine bytes first, room and questions are bounded", () => {
  const record = fc.record({
    counter: fc.nat(12),
    length: fc.integer({ min: 1, max: 600 }),
    flags: fc.constantFrom(0x80, 0x81, 0xc0),
  });
  // Now and then for long, so that questions are due.
  const wait = fc.oneof({ weight: 20, arbitrary: fc.nat(200) }, { weight: 1, arbitrary: fc.nat(60_000) });
  const piece = fc.record({ of: fc.nat(11), at: fc.nat(20), waitMs: wait });
  const forged = fc.record({
    counter: fc.nat(200),
    index: fc.nat(70),
    isLast: fc.boolean(),
    bytes: bytes(1, 36),
    waitMs: wait,
  });
  fc.assert(
    fc.property(
      fc.array(record, { minLength: 12, maxLength: 12 }),
      fc.array(fc.oneof({ weight: 1, arbitrary: piece }, { weight: 1, arbitrary: forged }), {
        minLength: 150,
        maxLength: 300,
      }),
      (records, script) => {
        const clock = new ManualClock();
        let asked = 0;
        const counters = { recordsReplayed: 0, fragmentsCollected: 0, recordsUnfinished: 0 };
        const collected = new CollectedFragments({
          clock,
          counterBytes: 2,
          counters,
          silenceMs: () => 8_000,
          ask: (came, departure) => {
            asked++;
            departure.leftAtMs = clock.monotonicMs();
            expect(came.length).toBeLessThanOrEqual(3 + 8);
          },
        });
        const wholes = records.map(({ counter, length, flags }) => {
          const whole = new Uint8Array(3 + length).map((_, at) => (counter + at) & 255);
          whole.set([flags, 0, counter]);
          return whole;
        });
        const startMs = clock.monotonicMs();
        for (const step of script) {
          const untilMs = clock.monotonicMs() + step.waitMs;
          while (clock.runNext(untilMs));
          clock.jumpTo(untilMs);
          let datagram: Uint8Array;
          if ("of" in step) {
            const cut = cutRecord(wholes[step.of]!, 2, MTU);
            datagram = cut[step.at % cut.length]!;
          } else {
            datagram = new Uint8Array(HEAD + step.bytes.length);
            datagram.set([0xa0 | (step.isLast ? 0x10 : 0), 0, step.counter, step.index]);
            datagram.set(step.bytes, HEAD);
          }
          const fragment = decodeFragment(datagram, 2);
          const whole = fragment && collected.take(fragment);
          if (whole !== undefined && "of" in step) {
            // Its flags and counter are those of the piece, and it is no longer than any record.
            expect([...whole.record.subarray(0, 3)]).toEqual([...wholes[step.of]!.subarray(0, 3)]);
            expect(whole.record.length).toBeLessThanOrEqual(3 + 5_648);
          }
          expect(collected.count).toBeLessThanOrEqual(8);
        }
        // Nothing that was asked for is forgiven here: eight at once and one a minute.
        expect(asked).toBeLessThanOrEqual(9 + (clock.monotonicMs() - startMs) / 60_000);
      },
    ),
    { numRuns: 60 },
  );
});

test("whatever bitmaps say, only what was sent goes again, each piece three times at most", () => {
  const bitmap = fc.record({
    flags: fc.oneof({ weight: 6, arbitrary: fc.constant(0x80) }, u8),
    counter: fc.oneof({ weight: 3, arbitrary: fc.nat(3) }, fc.nat(14)),
    bits: bytes(0, 12),
    waitMs: fc.nat(5_000),
  });
  fc.assert(
    fc.property(fc.array(bitmap, { minLength: 50, maxLength: 200 }), fc.nat(4_000), (script, answerMs) => {
      const clock = new ManualClock();
      const sent = new SentFragments(clock, 2);
      const times = new Map<Uint8Array, number>();
      for (let counter = 0; counter < 12; counter++) {
        const whole = new Uint8Array(3 + 50 * (counter + 1));
        whole.set([0x80, 0, counter]);
        const cut = cutRecord(whole, 2, MTU);
        for (const departure of sent.keep(cut)) departure.leftAtMs = clock.monotonicMs();
        for (const datagram of cut) times.set(datagram, 0);
      }
      for (const { flags, counter, bits, waitMs } of script) {
        clock.jumpTo(clock.monotonicMs() + waitMs);
        const came = new Uint8Array(3 + bits.length);
        came.set([flags, 0, counter]);
        came.set(bits, 3);
        for (const { datagram, departure } of sent.missing(came, answerMs)) {
          departure.leftAtMs = clock.monotonicMs();
          expect(times.has(datagram)).toBe(true);
          times.set(datagram, times.get(datagram)! + 1);
        }
      }
      expect(Math.max(...times.values())).toBeLessThanOrEqual(3);
    }),
    { numRuns: 60 },
  );
});

const question = fc.record({
  number: u16,
  hopsLeft: u8,
  destination: node,
  needsSeqno: maybe(u48),
  holdsSeqno: maybe(u48),
});
const answer = fc.record({
  /** Such as were asked among them. */
  number: fc.oneof(fc.nat(20), u16),
  lifeMs: u8.map((units) => units * path.PATH_LIFE_UNIT_MS),
  destination: node,
  route: fc.record({
    seqno: u48,
    metric: fc.nat(100_000),
    mtu: fc.nat(MTU_MAX),
    bottleneck: fc.constantFrom(0, 1, 2),
  }),
  proof: maybe(fc.record({ seqno: u48, recordHash: bytes(8), signature: bytes(64) })),
});

test("path frames mean the same when they are read and written again", () => {
  fc.assert(
    fc.property(question, answer, node, (asks, answers, gone) => {
      expect(path.decodePathQuestion(path.encodePathQuestion(asks))).toEqual(asks);
      expect(path.decodePathAnswer(path.encodePathAnswer(answers as path.PathAnswer))).toEqual(
        answers as never,
      );
      expect(path.decodePathGone(path.encodePathGone(gone))).toBe(gone);
    }),
  );
});

test("cut or changed path frames, lookups and replies are refused as malformed or read, and nothing else", () => {
  const frames = fc.oneof(
    question.map(path.encodePathQuestion),
    answer.map((one) => path.encodePathAnswer(one as path.PathAnswer)),
    node.map(path.encodePathGone),
    fc
      .record({
        name: fc.constantFrom("LON-B", "PAR", "A-1"),
        wantsProof: fc.boolean(),
        newerThan: maybe(u48),
      })
      .map(({ name, ...more }) => lookup.encodeLookup({ subject: { kind: "name", name }, ...more })),
    node.map((id) => lookup.encodeLookupReply({ kind: "none", subject: { kind: "node", id } })),
    fc
      .record({ id: node, serial: fc.nat(2 ** 31 - 1), signature: bytes(64) })
      .map((proof) => lookup.encodeLookupReply({ kind: "nameProof", callsign: "LON-B", ...proof })),
    bytes(1, 200).map((record) => lookup.encodeLookupReply({ kind: "record", record })),
  );
  const decoders: readonly ((frame: Uint8Array) => unknown)[] = [
    path.decodePathQuestion,
    path.decodePathAnswer,
    path.decodePathGone,
    lookup.decodeLookup,
    lookup.decodeLookupReply,
  ];
  fc.assert(
    fc.property(frames, u8, fc.array(fc.tuple(fc.nat(250), u8), { maxLength: 4 }), (frame, cut, edits) => {
      const changed = frame.slice(0, frame.length - (cut % (frame.length + 1)));
      for (const [at, value] of edits) if (at < changed.length) changed[at] = value;
      for (const decode of decoders)
        try {
          decode(changed);
        } catch (error) {
          expect(error).toMatchObject({ kind: "protocol" });
        }
    }),
    { numRuns: 2_000 },
  );
});

test("path frames in any order make no route that nobody proved, and no more frames than their pace", () => {
  const step = fc.record({
    from: fc.constantFrom(A, B, C),
    frame: fc.oneof(
      question.map(path.encodePathQuestion),
      answer.map((one) => path.encodePathAnswer(one as path.PathAnswer)),
      node.map(path.encodePathGone),
    ),
    waitMs: fc.nat(3_000),
    wants: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { minLength: 100, maxLength: 150 }), (script) => {
      const rig = new Rig(idOf(9));
      rig.isWaiting = () => true;
      const link = {
        cost: 20_000,
        mtu: 200,
        bottleneck: 2,
        profile: "slow",
        takeAirtime: () => true,
        knowsPaths: true,
      } as const;
      for (const id of [A, B, C]) {
        rig.meet(id, link);
        rig.router.handleFrame(id, encodeBeacon({ seqno: 5, hasProof: true, gatewayMetric: undefined }));
      }
      rig.run(10_000);
      const fromMs = rig.clock.monotonicMs();
      const before = rig.sent.length;
      for (const { from, frame, waitMs, wants } of script) {
        if (wants) rig.router.wantPath(D, false);
        rig.router.handleFrame(from, frame);
        rig.run(waitMs);
      }
      const reachable = rig.router.routes().map(({ destination }) => destination);
      expect(reachable.filter((id) => ![A, B, C].includes(id))).toEqual([]);
      const seconds = (rig.clock.monotonicMs() - fromMs) / 1_000;
      const kinds = new Set<number>([3, 4, 5]);
      const frames = rig.sent.slice(before).filter(({ frame }) => frame[0] === 0x10 && kinds.has(frame[1]!));
      // Of three neighbours what they may have looked at, each to three; own questions to four, at their pace.
      expect(frames.length).toBeLessThanOrEqual(
        3 * (8 + seconds / 30) + 3 * (4 + seconds / 30) + 4 * (8 + seconds / 60),
      );
    }),
    { numRuns: 25 },
  );
});

test("beacons of any names and numbers: none is read that was changed, the table is bounded, and who is needed is there", () => {
  const key = new Uint8Array(32).fill(5);
  const name = fc
    .oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(100_000) })
    .map((at) => at.toString(16).padStart(12, "0"));
  const beacon = fc.record({
    who: name,
    number: u48,
    gateway: maybe(fc.nat(31)),
    earshot: u16,
    asks: maybe(name),
  });
  const step = fc.record({
    beacon,
    from: fc.nat(40),
    flip: maybe(fc.nat(28 * 8 - 1)),
    waitMs: fc.nat(600_000),
  });
  fc.assert(
    fc.property(fc.array(step, { minLength: 200, maxLength: 400 }), (script) => {
      const clock = new ManualClock();
      const needed = "0".repeat(12);
      const earshot = new Earshot({
        clock,
        channel: "radio",
        quietMs: () => clock.monotonicMs(),
        isNeeded: (who) => who === needed,
      });
      earshot.hear(
        { who: needed, number: 2 ** 47, gateway: undefined, earshot: 0, asks: undefined },
        "radio://own",
      );
      let number = 2 ** 47;
      for (const { beacon: one, from, flip, waitMs } of script) {
        clock.jumpTo(clock.monotonicMs() + waitMs);
        const encoded = encodeChannelBeacon(key, one);
        expect(decodeChannelBeacon([key], encoded)).toEqual(one);
        if (flip !== undefined && flip >> 3 < encoded.length) {
          encoded[flip >> 3]! ^= 1 << (flip & 7);
          expect(decodeChannelBeacon([key], encoded)).toBeUndefined();
        }
        earshot.hear(one, `radio://${from}`);
        // Its owner says the next one, which nobody has said before.
        if (one.who === needed && one.number > number) continue;
        earshot.hear(
          { who: needed, number: ++number, gateway: undefined, earshot: 0, asks: undefined },
          "radio://own",
        );
        expect(earshot.get(needed)?.places.has("radio://own")).toBe(true);
        expect(earshot.all.length).toBeLessThanOrEqual(HEARD_MAX);
        for (const { places } of earshot.all) expect(places.size).toBeLessThanOrEqual(4);
      }
    }),
    { numRuns: 40 },
  );
});
