/** What waits in a pipe is not said again, and its answer has its time from when it left. docs/protocol/slow.md "Timers" */
import { describe, expect, test } from "bun:test";
import type { Medium } from "@godwit/sdk";
import { Backoff } from "../kernel/backoff.ts";
import { ManualClock } from "../kernel/clock.ts";
import { type Departure, newDeparture } from "../kernel/departure.ts";
import { seededRandom } from "../kernel/random.ts";
import { HandshakeType, RECORD_FLAG, sessionLimits } from "./constants.ts";
import { Departures } from "./departures.ts";
import { bytesOf, type LinkTestOptions, openLink, startLink } from "./fixture.ts";
import { Repeating } from "./repeating.ts";
import { memoryPipePair, type MemoryPace } from "./testing.ts";

const MINUTE_MS = 60_000;
const RADIO: MemoryPace = { answerMs: 400, airtimeMs: (bytes) => 300 + (bytes * 8_000) / 1_074 };
const slow = (pace: MemoryPace, wire: LinkTestOptions["wire"] = {}): LinkTestOptions => ({
  kind: "datagram",
  linkClass: "slow",
  wire: { mtu: 200, rateBitsPerSecond: 1_074, pace, isRecording: true, ...wire },
});
const typesOf = (sent: readonly Uint8Array[]) => sent.map((bytes) => bytes[0]! & ~3);

describe("a handshake over a pipe that queues for five minutes", () => {
  test.each([
    ["IK", false],
    ["XX", true],
  ])("%s: repeats nothing meanwhile, and is made", async (_, hideIdentity) => {
    const link = await openLink({
      ...slow({ ...RADIO, quietUntilMs: 5 * MINUTE_MS }),
      ...{ a: { hideIdentity }, openMs: 10 * MINUTE_MS },
    });
    expect(typesOf(link.wire.a.sent)).toEqual(
      hideIdentity
        ? [HandshakeType.xx1 & ~3, HandshakeType.xx3 & ~3, RECORD_FLAG]
        : [HandshakeType.ik1 & ~3, RECORD_FLAG],
    );
    expect(link.wire.b.writes).toBe(2);
    link.left.session.send(bytesOf(50, 1));
    await link.clock.advance(MINUTE_MS);
    expect(link.right.frames).toEqual([bytesOf(50, 1)]);
  });

  test("with every message of either end behind five minutes: no message twice", async () => {
    // The next one leaves five minutes after the last.
    const pace = { ...RADIO, airtimeMs: () => 1_000, share: 1 / 300 };
    const link = await openLink({ ...slow(pace), openMs: 40 * MINUTE_MS });
    expect(typesOf(link.wire.a.sent)).toEqual([HandshakeType.ik1 & ~3, RECORD_FLAG]);
    expect(link.left.closed).toBeUndefined();
    expect(link.right.closed).toBeUndefined();
  });

  test("of which the first copy is lost says it again, once its answer could have come", async () => {
    let n = 0;
    const tamper = (bytes: Uint8Array) => (n++ === 0 ? undefined : bytes);
    const link = await openLink({
      ...slow({ ...RADIO, quietUntilMs: 5 * MINUTE_MS }, { tamper }),
      openMs: 20 * MINUTE_MS,
    });
    expect(link.wire.a.sent.filter((bytes) => bytes[0] === HandshakeType.ik1)).toHaveLength(2);
  });

  test("that nobody answers ends, two minutes behind its first message at the earliest", async () => {
    const link = startLink(slow({ ...RADIO, quietUntilMs: 5 * MINUTE_MS }));
    link.wire.vanish();
    await link.clock.advance(6.9 * MINUTE_MS);
    expect(link.guardA.counters.handshakesTimedOut).toBe(0);
    await link.clock.advance(60 * MINUTE_MS);
    expect((await link.a).error?.code).toBe("GODWIT_HANDSHAKE_TIMEOUT");
    expect(link.guardA.counters.handshakesTimedOut).toBe(1);
    expect(link.clock.nextAtMs()).toBeUndefined();
  });
});

describe("a session over a pipe with a budget of airtime", () => {
  test("asks for a rekey once while that waits, and is not ended for want of an answer that could not come", async () => {
    const limits = { ...sessionLimits("slow", 1_074), rekeyAfterRecords: 3, rekeyGraceMs: 5 * MINUTE_MS };
    const pace = { ...RADIO, share: 0.01 };
    const link = await openLink({
      ...slow(pace),
      ...{ a: { limits }, b: { limits: { ...limits, rekeyAfterRecords: 1_000 } }, openMs: 20 * MINUTE_MS },
    });
    const before = link.wire.a.sent.length;
    for (let i = 0; i < 4; i++) {
      link.left.session.send(bytesOf(150, i));
      link.left.session.flush();
    }
    await link.clock.advance(9 * MINUTE_MS);
    // A record with a request of 100 bytes is 114 long.
    const requests = () => link.wire.a.sent.slice(before).filter((bytes) => bytes.length === 114);
    expect(requests()).toHaveLength(1);
    for (let i = 0; i < 20; i++) {
      await link.clock.advance(10 * MINUTE_MS);
      link.left.session.send(bytesOf(20, i));
    }
    expect([link.left.closed, link.right.closed]).toEqual([undefined, undefined]);
    expect(link.guardA.counters.rekeys).toBeGreaterThanOrEqual(1);
    expect(requests()).toHaveLength(link.guardA.counters.rekeys);
  });

  test("hands it four datagrams, takes what finds it full, and has room as those leave", async () => {
    const link = await openLink({ ...slow(RADIO), openMs: MINUTE_MS });
    const { session } = link.left;
    let sent = 0;
    while (sent < 100) {
      sent++;
      const hasRoom = session.send(bytesOf(150, sent));
      session.flush();
      if (!hasRoom) break;
    }
    expect([sent, link.left.drains]).toEqual([5, 0]);
    await link.clock.advance(4_000);
    expect(link.left.drains).toBe(1);
    await link.clock.advance(MINUTE_MS);
    expect(link.right.frames).toHaveLength(5);
  });

  test("waits for the pipe's own word where that said that it is full, whatever leaves", async () => {
    const link = await openLink({ ...slow(RADIO, { highWaterBytes: 400 }), openMs: MINUTE_MS });
    for (let i = 0; i < 5; i++) {
      link.left.session.send(bytesOf(180, i));
      link.left.session.flush();
    }
    let fullest = 0;
    link.left.onDrain = () => (fullest = Math.max(fullest, link.wire.a.bufferedBytes));
    await link.clock.advance(MINUTE_MS);
    expect([link.left.drains, fullest <= 400]).toEqual([1, true]);
  });

  test("tells of a frame when all of it has left, and of one that it drops that it did", async () => {
    const link = await openLink({ ...slow(RADIO), openMs: MINUTE_MS });
    const { session } = link.left;
    const [small, large, late] = [newDeparture(), newDeparture(), newDeparture()];
    const nowMs = link.clock.monotonicMs();
    session.send(bytesOf(20, 1), small);
    session.send(bytesOf(1_000, 2), large);
    await link.clock.advance(10);
    expect([small.leftAtMs, large.leftAtMs]).toEqual([undefined, undefined]);
    await link.clock.advance(MINUTE_MS);
    expect(small.leftAtMs! - nowMs).toBeCloseTo(RADIO.airtimeMs(20 + 11), 0);
    const pieces = 5 * RADIO.airtimeMs(200) + RADIO.airtimeMs(4 + 1_008 - 5 * 196);
    expect(large.leftAtMs! - small.leftAtMs!).toBeCloseTo(pieces, 0);
    session.close();
    session.send(bytesOf(20, 3), late);
    expect(late.leftAtMs).toBe(Number.NEGATIVE_INFINITY);
  });
});

describe("departures", () => {
  const pipeOf = (pace?: MemoryPace) => {
    const clock = new ManualClock();
    const random = seededRandom(1);
    const { a, b } = memoryPipePair({
      ...{ kind: "datagram", linkClass: "slow", rateBitsPerSecond: 1_000, mtu: 125, clock, random },
      ...(pace === undefined ? {} : { pace }),
    });
    const departures = new Departures(a, clock);
    a.open({ data() {}, drain() {}, left: () => departures.left(), closed() {} });
    b.open({ data() {}, drain() {}, closed() {} });
    return { clock, departures };
  };

  test("of a pipe that does not tell are at once, and its answers are due by its class alone", () => {
    const { clock, departures } = pipeOf();
    const departure = newDeparture();
    departures.write(bytesOf(10, 1), [departure]);
    expect(departure.leftAtMs).toBe(clock.monotonicMs());
    expect([departures.isTold, departures.isFull, departures.answerMs]).toEqual([false, false, 0]);
  });

  test("an answer takes what the pipe says, two airtimes, and as long as things waited here of late", async () => {
    const { clock, departures } = pipeOf({ answerMs: 500, airtimeMs: (bytes) => bytes * 8 });
    expect(departures.answerMs).toBe(500 + 2 * 1_000);
    for (let i = 0; i < 3; i++) departures.write(bytesOf(125, i));
    await clock.advance(10_000);
    expect(departures.answerMs).toBeCloseTo(500 + 2_000 + 3_000, 0);
    for (let i = 0; i < 30; i++) {
      departures.write(bytesOf(125, i));
      await clock.advance(2_000);
    }
    expect(departures.answerMs).toBeCloseTo(500 + 2_000 + 1_000, 0);
  });

  /** Datagrams of 125 bytes take a second of a channel of which the station has a hundredth. */
  const ofChannel = (ownShare: number | undefined, pace: MemoryPace) => {
    const clock = new ManualClock();
    const random = seededRandom(1);
    const { a, b } = memoryPipePair({
      ...{ kind: "datagram", linkClass: "slow", rateBitsPerSecond: 1_000, mtu: 125, clock, random, pace },
    });
    const medium: Medium = {
      ...{ name: "radio", rateBitsPerSecond: 1_000, utilisation: 0, broadcastBytesMax: 125 },
      ...{ airtimeMs: (bytes) => bytes * 8, broadcast: () => false, listen() {} },
      ...(ownShare === undefined ? {} : { ownShare }),
    };
    const departures = new Departures(Object.assign(a, { medium }), clock);
    a.open({ data() {}, drain() {}, left: () => departures.left(), closed() {} });
    b.open({ data() {}, drain() {}, closed() {} });
    return { clock, departures };
  };

  test("an answer has the time in which its station saves up for it, as long as none was seen to wait for longer", async () => {
    const pace = { answerMs: 500, airtimeMs: (bytes: number) => bytes * 8 };
    expect(ofChannel(undefined, pace).departures.answerMs).toBe(2_500);
    expect(ofChannel(1, pace).departures.answerMs).toBe(2_500);
    expect(ofChannel(0.01, pace).departures.answerMs).toBe(2_500 + 16 * 8 * 100);
    // A plugin says it.
    for (const share of [0, -1, Number.NaN, 5])
      expect(ofChannel(share, pace).departures.answerMs).toBe(2_500);
    expect(ofChannel(1e-9, pace).departures.answerMs).toBe(2_500 + 600_000);
    const { clock, departures } = ofChannel(0.01, { ...pace, share: 1 / 100 });
    for (let i = 0; i < 4; i++) departures.write(bytesOf(125, i));
    await clock.advance(1_000_000);
    expect(departures.answerMs).toBeGreaterThan(300_000);
  });

  test("where each waits for a budget one is in the pipe at a time, and four where they only wait for each other", async () => {
    const pace = { answerMs: 500, airtimeMs: (bytes: number) => bytes * 8 };
    for (const [share, most] of [
      [1, 4],
      [1 / 100, 1],
    ] as const) {
      const { clock, departures } = ofChannel(0.01, { ...pace, share });
      // What it takes is seen by what has left.
      for (let i = 0; i < 4; i++) departures.write(bytesOf(125, i));
      expect(departures.isFull).toBe(true);
      await clock.advance(1_000_000);
      let count = 0;
      for (; !departures.isFull; count++) departures.write(bytesOf(125, count));
      expect(count).toBe(most);
    }
  });

  test("a pipe that never tells holds nobody for longer than a day, and 4,096 datagrams", async () => {
    const { clock, departures } = pipeOf({ ...RADIO, quietUntilMs: Number.MAX_SAFE_INTEGER });
    const first = newDeparture();
    departures.write(bytesOf(10, 1), [first]);
    for (let i = 0; i < 4_096; i++) departures.write(bytesOf(10, 1));
    expect(first.leftAtMs).toBe(clock.monotonicMs());
    expect(departures.isFull).toBe(true);
    await clock.advance(24 * 60 * MINUTE_MS + 1);
    expect(departures.isFull).toBe(false);
  });
});

test("what is said again is said when its answer is due, by whatever is longer: the pause, or the answer", async () => {
  const clock = new ManualClock();
  const said: number[] = [];
  const departures: Departure[] = [];
  let answerMs = 10_000;
  const repeating = new Repeating({
    clock,
    backoff: new Backoff({ firstMs: 1_000, capMs: 1_000 }, { ...seededRandom(1), float: () => 0.5 }),
    answerMs: () => answerMs,
  });
  repeating.start((departure) => {
    said.push(clock.monotonicMs());
    departures.push(departure);
  });
  const start = said[0]!;
  await clock.advance(300_000);
  expect(said).toHaveLength(1);
  departures[0]!.leftAtMs = clock.monotonicMs();
  await clock.advance(9_000);
  expect(said).toHaveLength(1);
  await clock.advance(1_000);
  expect(said.map((atMs) => Math.round(atMs - start))).toEqual([0, 310_000]);
  answerMs = 0;
  await clock.advance(15_000);
  expect(said.length).toBeGreaterThan(5);
  repeating.stop();
  expect(clock.nextAtMs()).toBeUndefined();
});
