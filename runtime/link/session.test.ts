import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { seededRandom } from "../kernel/random.ts";
import { FRAME_BYTES_MAX } from "../wire/constants.ts";
import { HIGH_WATER_BYTES, sessionLimits } from "./constants.ts";
import { bytesOf, Collector, openLink, startLink, type OpenLink } from "./fixture.ts";
import { decodeItems } from "./items.ts";

/** A frame whose content tells its number. */
function numbered(n: number, length: number): Uint8Array {
  const frame = bytesOf(Math.max(4, length), n & 255);
  new DataView(frame.buffer).setUint32(0, n);
  return frame;
}
const numberOf = (frame: Uint8Array) => new DataView(frame.buffer, frame.byteOffset).getUint32(0);
const numbers = (count: number) => Array.from({ length: count }, (_, i) => i);

describe("a stream session", () => {
  test("random sizes, random cuts of the stream, both ways: every frame once, whole and in order", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 70_000 }),
        fc.integer(),
        fc.array(fc.oneof(fc.integer({ min: 4, max: 300 }), fc.integer({ min: 4, max: FRAME_BYTES_MAX })), {
          minLength: 1,
          maxLength: 30,
        }),
        async (pieceBytesMax, seed, sizes) => {
          const link = await openLink({ seed, wire: { pieceBytesMax } });
          for (const [i, size] of sizes.entries()) {
            link.left.session.send(numbered(i, size));
            link.right.session.send(numbered(i + 1_000, size));
            if (i % 3 === 0) await link.clock.advance(0.3);
          }
          await link.clock.advance(50);
          expect(link.right.frames).toEqual(sizes.map((size, i) => numbered(i, size)));
          expect(link.left.frames).toEqual(sizes.map((size, i) => numbered(i + 1_000, size)));
        },
      ),
      { numRuns: 25 },
    );
  });

  test("frames of one turn share a record; flush and a full batch do not wait", async () => {
    const link = await openLink();
    const writes = link.wire.a.writes;
    for (let i = 0; i < 100; i++) link.left.session.send(bytesOf(200, i));
    expect(link.wire.a.writes).toBe(writes);
    await Promise.resolve();
    expect(link.wire.a.writes).toBe(writes + 1);
    link.left.session.send(bytesOf(10, 1));
    link.left.session.flush();
    expect(link.wire.a.writes).toBe(writes + 2);
    for (let i = 0; i < 4; i++) link.left.session.send(bytesOf(40_000, i));
    expect(link.wire.a.writes).toBeGreaterThan(writes + 3);
    await link.clock.advance(5);
    expect(link.right.frames.length).toBe(105);
  });

  test("frames of 1 byte and of the largest size pass; none and larger ones are refused", async () => {
    const link = await openLink();
    const { session } = link.left;
    expect(session.frameBytesMax).toBe(FRAME_BYTES_MAX);
    for (const length of [1, 127, 128, 16_383, 16_384, FRAME_BYTES_MAX - 1, FRAME_BYTES_MAX])
      session.send(bytesOf(length, 3));
    for (const length of [0, FRAME_BYTES_MAX + 1]) expect(() => session.send(bytesOf(length, 3))).toThrow();
    await link.clock.advance(5);
    expect(link.right.frames.map((frame) => frame.length)).toEqual([
      1,
      127,
      128,
      16_383,
      16_384,
      FRAME_BYTES_MAX - 1,
      FRAME_BYTES_MAX,
    ]);
  });

  test("any flipped bit ends the session with a protocol error and delivers nothing false", async () => {
    const random = seededRandom(20);
    for (let run = 0; run < 60; run++) {
      let isArmed = false;
      const link = await openLink({
        seed: run,
        wire: {
          pieceBytesMax: 1 + random.below(400),
          tamper(bytes) {
            if (!isArmed) return bytes;
            isArmed = false;
            const bit = random.below(bytes.length * 8);
            bytes[bit >> 3]! ^= 1 << (bit & 7);
            return bytes;
          },
        },
      });
      isArmed = true;
      const frame = bytesOf(1 + random.below(500), run);
      link.left.session.send(frame);
      await link.clock.advance(5);
      // A length made larger waits for more, which then does not verify.
      for (let i = 0; i < 3 && link.right.closed === undefined; i++) {
        link.left.session.send(bytesOf(40_000, i));
        await link.clock.advance(5);
      }
      expect(link.right.frames).toEqual([]);
      expect(link.right.closed?.error?.code).toBe("GODWIT_DECODE");
      expect(link.guardB.counters.recordsCorrupt).toBe(1);
      await link.clock.advance(5);
      expect(link.left.closed?.error?.code).toBe("GODWIT_LINK_CLOSED");
    }
  });

  test("dropped, repeated and swapped records end it", async () => {
    for (const meddle of [
      (records: Uint8Array[]) => records.slice(1),
      (records: Uint8Array[]) => [records[0]!, ...records],
      (records: Uint8Array[]) => records.toReversed(),
    ]) {
      const held: Uint8Array[] = [];
      let isHolding = false;
      const link = await openLink({
        wire: { tamper: (bytes) => (isHolding ? void held.push(bytes) : bytes) },
      });
      isHolding = true;
      for (let i = 0; i < 2; i++) {
        link.left.session.send(bytesOf(50, i));
        link.left.session.flush();
      }
      for (const record of meddle(held)) link.wire.a.inject(record);
      await link.clock.advance(5);
      expect(link.right.closed?.error?.code).toBe("GODWIT_DECODE");
      expect(link.right.frames.length).toBeLessThan(2);
    }
  });

  test("a polite close reaches the far end behind the last frames; a truncation shows as an error", async () => {
    const polite = await openLink();
    polite.left.session.send(bytesOf(30_000, 1));
    polite.left.session.close();
    polite.left.session.close();
    expect(polite.left.session.send(bytesOf(5, 1))).toBe(true);
    await polite.clock.advance(20);
    expect(polite.right.frames.length).toBe(1);
    expect(polite.left.closed).toEqual({ error: undefined });
    expect(polite.right.closed).toEqual({ error: undefined });
    expect(polite.guardB.counters.sessionsTruncated).toBe(0);

    const cut = await openLink();
    cut.left.session.send(bytesOf(30_000, 1));
    cut.left.session.flush();
    cut.wire.a.close();
    await cut.clock.advance(20);
    expect(cut.right.frames.length).toBe(1);
    expect(cut.right.closed?.error?.code).toBe("GODWIT_LINK_CLOSED");
    expect(cut.guardB.counters.sessionsTruncated).toBe(1);

    const broken = await openLink();
    broken.wire.cut(new Error("reset by peer"));
    await broken.clock.advance(20);
    expect(broken.left.closed?.error?.message).toContain("reset by peer");
    expect(broken.right.closed?.error?.code).toBe("GODWIT_LINK_CLOSED");
    for (const link of [polite, cut, broken]) expect(link.clock.nextAtMs()).toBeUndefined();
  });

  test("both ends closing at once is polite for both", async () => {
    const link = await openLink();
    link.left.session.close();
    link.right.session.close();
    await link.clock.advance(20);
    expect([link.left.closed, link.right.closed]).toEqual([{ error: undefined }, { error: undefined }]);
  });

  test("send answers false when the pipe is full and drain follows; a slow reader bounds memory", async () => {
    const link = await openLink({ wire: { highWaterBytes: 200_000 } });
    const { session } = link.left;
    link.right.session.pause(true);
    let sent = 0;
    while (session.send(numbered(sent++, 10_000)) && sent < 1_000);
    expect(sent).toBeLessThan(40);
    await link.clock.advance(1_000);
    expect(link.left.drains).toBe(0);
    expect(link.right.frames.length).toBe(0);
    expect(session.bufferedBytes).toBeGreaterThan(100_000);
    link.right.session.pause(false);
    await link.clock.advance(100);
    expect(link.left.drains).toBe(1);
    expect(link.right.frames.map(numberOf)).toEqual(numbers(sent));
    expect(session.send(bytesOf(10, 1))).toBe(true);
  });

  test("a pipe that takes everything is still held at the high-water mark", async () => {
    const link = await openLink({ wire: { highWaterBytes: 1e9 } });
    link.right.session.pause(true);
    let sent = 0;
    while (link.left.session.send(bytesOf(60_000, 1)) && sent < 100) sent++;
    expect(sent * 60_000).toBeGreaterThan(HIGH_WATER_BYTES * 0.9);
    expect(sent * 60_000).toBeLessThan(HIGH_WATER_BYTES * 1.2);
    await link.clock.advance(200);
    expect(link.left.drains).toBe(0);
    link.right.session.pause(false);
    await link.clock.advance(200);
    expect(link.left.drains).toBe(1);
    expect(link.clock.nextAtMs()).toBeUndefined();
  });

  test("pausing in the middle of a chunk keeps the rest, in order, for later", async () => {
    const link = await openLink({ wire: { pieceBytesMax: 1_000_000 } });
    link.right.onFrame = () => link.right.session.pause(true);
    for (let i = 0; i < 10; i++) {
      link.left.session.send(numbered(i, 100));
      link.left.session.flush();
    }
    for (let seen = 1; seen <= 10; seen++) {
      await link.clock.advance(10);
      expect(link.right.frames.map(numberOf)).toEqual(numbers(seen));
      link.right.session.pause(false);
    }
    await link.clock.advance(10);
    expect(link.right.closed).toBeUndefined();
  });

  test("what a pipe still delivers after pause stays in order behind the rest of its chunk", async () => {
    const held: Uint8Array[] = [];
    let isHolding = false;
    const link = await openLink({
      wire: { tamper: (bytes) => (isHolding ? void held.push(bytes) : bytes) },
    });
    isHolding = true;
    for (let i = 0; i < 6; i++) {
      link.left.session.send(numbered(i, 50));
      link.left.session.flush();
    }
    link.right.onFrame = () => link.right.session.pause(true);
    const { receive } = link.right.session as unknown as { receive(bytes: Uint8Array): void };
    for (const pair of [0, 2, 4]) receive.call(link.right.session, Buffer.concat(held.slice(pair, pair + 2)));
    for (let seen = 1; seen <= 6; seen++) {
      expect(link.right.frames.map(numberOf)).toEqual(numbers(seen));
      link.right.session.pause(false);
      await link.clock.advance(1);
    }
  });

  test("a pipe that never stops after pause is ended, not buffered without bound", async () => {
    const link = await openLink();
    link.right.session.pause(true);
    const { receive } = link.right.session as unknown as { receive(bytes: Uint8Array): void };
    for (let i = 0; i < 100; i++) receive.call(link.right.session, bytesOf(60_000, 1));
    await link.clock.advance(10);
    expect(link.right.closed?.error?.code).toBe("GODWIT_QUEUE_FULL");
  });

  test("a member that repeats a rekey request cannot make a nonce repeat", async () => {
    const link = await openLink();
    const hostile = link.left.session as unknown as {
      rekeying: { request(): Uint8Array };
      sendControl(kind: number, body: Uint8Array): void;
    };
    const request = hostile.rekeying.request();
    hostile.sendControl(2, request);
    hostile.sendControl(2, request);
    await link.clock.advance(10);
    expect(link.guardB.counters.rekeys).toBe(1);
    expect(link.right.closed?.error?.code).toBe("GODWIT_DECODE");
  });

  test("a member that sends a damaged rekey or an unasked reply loses the session, nothing else", async () => {
    for (const [kind, length] of [
      [2, 100],
      [2, 3],
      [3, 52],
      [4, 4],
    ] as const) {
      const link = await openLink();
      const hostile = link.left.session as unknown as { sendControl(kind: number, body: Uint8Array): void };
      const body = bytesOf(length, 0);
      body[3] = 1;
      hostile.sendControl(kind, body);
      await link.clock.advance(10);
      expect(link.right.closed?.error?.kind).toBe("protocol");
      expect(link.guardB.counters.recordsCorrupt).toBe(1);
    }
    const link = await openLink();
    (link.left.session as unknown as { sendControl(kind: number, body: Uint8Array): void }).sendControl(
      99,
      bytesOf(9, 9),
    );
    link.left.session.send(bytesOf(5, 5));
    await link.clock.advance(10);
    expect(link.right.frames).toEqual([bytesOf(5, 5)]);
  });

  test("frames sent before the far end opened are kept, and the pipe is paused meanwhile", async () => {
    const link = startLink({ wire: { highWaterBytes: 100_000 } });
    await link.clock.advance(50);
    const a = (await link.a).session!;
    const b = (await link.b).session!;
    const left = new Collector(a);
    let sent = 0;
    while (a.send(numbered(sent++, 5_000)) && sent < 1_000);
    await link.clock.advance(500);
    expect(link.wire.b.isPaused).toBe(true);
    const right = new Collector(b);
    await link.clock.advance(100);
    expect(right.frames.map(numberOf)).toEqual(numbers(sent));
    expect(left.drains).toBe(1);
  });

  test("a session that ended before it was opened still says so, after what had arrived", async () => {
    const link = startLink();
    await link.clock.advance(50);
    const a = (await link.a).session!;
    new Collector(a);
    a.send(bytesOf(9, 9));
    a.close();
    await link.clock.advance(50);
    const right = new Collector((await link.b).session!);
    await link.clock.advance(50);
    expect(right.frames).toEqual([bytesOf(9, 9)]);
    expect(right.closed).toEqual({ error: undefined });
  });

  test("a handler that throws ends the session as a protocol error on this side", async () => {
    const link = await openLink();
    link.right.onFrame = () => {
      throw new TypeError("what is this");
    };
    link.left.session.send(bytesOf(5, 1));
    link.left.session.send(bytesOf(5, 2));
    await link.clock.advance(10);
    expect(link.right.frames.length).toBe(1);
    expect(link.right.closed?.error?.code).toBe("GODWIT_DECODE");
    expect(link.left.closed?.error?.code).toBe("GODWIT_LINK_CLOSED");
  });

  test("bytes are counted on both ends alike, handshake included", async () => {
    const link = await openLink();
    link.left.session.send(bytesOf(1_000, 1));
    link.right.session.send(bytesOf(10, 1));
    await link.clock.advance(10);
    expect(link.left.session.bytesSent).toBe(link.wire.a.sentBytes);
    expect(link.right.session.bytesReceived).toBe(link.wire.a.sentBytes);
    expect(link.right.session.bytesSent).toBe(link.wire.b.sentBytes);
    expect(link.left.session.bytesReceived).toBe(link.wire.b.sentBytes);
  });
});

describe("items of a record", () => {
  test("random plaintexts decode or throw GODWIT_DECODE, within their bounds", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        let taken = 0;
        const sink = {
          onFrame: (frame: Uint8Array) => (taken += frame.length) >= 0,
          onControl: (_: number, body: Uint8Array) => (taken += body.length) >= 0,
        };
        try {
          decodeItems(bytes, 200, sink);
        } catch (error) {
          expect((error as { code: string }).code).toBe("GODWIT_DECODE");
        }
        expect(taken).toBeLessThanOrEqual(bytes.length);
      }),
      { numRuns: 2_000 },
    );
  });

  test.each([
    ["a length in a longer form", [0x80, 0x00]],
    ["a length in three bytes for two", [0xff, 0xff, 0x00]],
    ["a frame longer than its record", [5, 1, 2]],
    ["a control item cut short", [0, 1]],
    ["a control body longer than its record", [0, 1, 9, 1]],
    ["a length without an end", [0xff, 0xff, 0xff, 0xff]],
  ])("%s is refused", (_, bytes) => {
    const sink = { onFrame: () => true, onControl: () => true };
    expect(() => decodeItems(Uint8Array.from(bytes), 200, sink)).toThrow();
  });
});

describe.each(["stream", "datagram"] as const)("rekey over a %s", (kind) => {
  const tiny = { rekeyAfterRecords: 10, rekeyGraceMs: 1_000_000 };

  const chat = async (link: OpenLink, turns: number) => {
    for (let i = 0; i < turns; i++) {
      link.left.session.send(numbered(i, 60));
      link.right.session.send(numbered(i, 60));
      link.left.session.flush();
      link.right.session.flush();
      await link.clock.advance(0.7);
    }
    await link.clock.advance(1_000);
  };

  test("under traffic from both ends with tiny limits: many epochs, not a frame lost", async () => {
    for (let seed = 0; seed < 6; seed++) {
      const link = await openLink({
        kind,
        seed,
        a: { limits: tiny },
        b: { limits: tiny },
        wire: { ...(kind === "stream" ? { pieceBytesMax: 90 } : { mtu: 300, jitterMs: 3 }) },
      });
      await chat(link, 300);
      expect(link.right.frames.map(numberOf).sort((x, y) => x - y)).toEqual(numbers(300));
      expect(link.left.frames.map(numberOf).sort((x, y) => x - y)).toEqual(numbers(300));
      expect(link.guardA.counters.rekeys).toBeGreaterThan(10);
      expect(Math.abs(link.guardA.counters.rekeys - link.guardB.counters.rekeys)).toBeLessThanOrEqual(1);
      expect([link.left.closed, link.right.closed]).toEqual([undefined, undefined]);
    }
  });

  test("requests that cross at the same instant resolve to one epoch", async () => {
    const link = await openLink({
      kind,
      a: { limits: { rekeyAfterRecords: 12 } },
      b: { limits: { rekeyAfterRecords: 12 / 1.1 } },
    });
    for (let i = 0; i < 20; i++) {
      // Both cross their limit before either hears of the other's request.
      link.left.session.send(numbered(i, 10));
      link.left.session.flush();
      link.right.session.send(numbered(i, 10));
      link.right.session.flush();
    }
    await link.clock.advance(3_000);
    expect([link.guardA.counters.rekeys, link.guardB.counters.rekeys]).toEqual([1, 1]);
    await chat(link, 4);
    expect(link.right.frames.length).toBe(24);
    expect(link.left.frames.length).toBe(24);
  });

  test("by time only when used: an idle session sends nothing, the next use rekeys", async () => {
    const link = await openLink({ kind });
    const before = link.wire.a.sentBytes;
    await link.clock.advance(3_600_000);
    expect(link.wire.a.sentBytes).toBe(before);
    expect(link.guardA.counters.rekeys).toBe(0);
    link.left.session.send(bytesOf(10, 1));
    await link.clock.advance(100);
    expect(link.guardA.counters.rekeys).toBe(1);
    expect(link.guardB.counters.rekeys).toBe(1);
    link.right.session.send(bytesOf(10, 1));
    await link.clock.advance(100);
    expect([link.left.frames.length, link.right.frames.length]).toEqual([1, 1]);
    expect([link.left.closed, link.right.closed]).toEqual([undefined, undefined]);
  });

  test("by bytes", async () => {
    const link = await openLink({ kind, a: { limits: { rekeyAfterBytes: 5_000 } } });
    for (let i = 0; i < 20; i++) {
      link.left.session.send(bytesOf(1_000, i));
      await link.clock.advance(5);
    }
    await link.clock.advance(1_000);
    expect(link.guardA.counters.rekeys).toBeGreaterThan(1);
    expect(link.right.frames.length).toBe(20);
  });

  test("no key opens more records than one may, whatever the far end thinks of it", async () => {
    const link = await openLink({ kind, b: { limits: { rekeyAfterRecords: 1_000, expireRecords: 30 } } });
    for (let i = 0; i < 40; i++) {
      link.left.session.send(bytesOf(10, i));
      await link.clock.advance(10);
    }
    expect(link.right.closed?.error?.code).toBe("GODWIT_SESSION_EXPIRED");
    // The one beyond it is what ends the link.
    expect(link.right.frames.length).toBeLessThanOrEqual(31);
  });

  test("no rekey in time, or records at the hard limit: the session refuses to go on", async () => {
    for (const limits of [
      { rekeyAfterRecords: 5, rekeyGraceMs: 60_000 },
      { rekeyAfterRecords: 1_000, expireRecords: 30 },
      { rekeyAfterBytes: 1_000_000, expireBytes: 400 },
    ]) {
      let isDeaf = false;
      const link = await openLink({
        kind,
        a: { limits },
        // The far end's answers are lost, so that a rekey never ends.
        wire: { tamper: (bytes, from) => (isDeaf && from === "b" ? undefined : bytes) },
      });
      isDeaf = true;
      for (let i = 0; i < 100 && link.left.closed === undefined; i++) {
        link.left.session.send(bytesOf(10, i));
        await link.clock.advance(1_000);
      }
      expect(link.left.closed?.error?.code).toBe("GODWIT_SESSION_EXPIRED");
      expect(link.guardA.counters.sessionsExpired).toBe(1);
      expect(link.right.frames.length).toBeLessThan(70);
    }
  });
});

describe("rekey on a lossy medium", () => {
  test("lost requests, replies and confirms are sent again", async () => {
    for (let seed = 0; seed < 10; seed++) {
      let isLossy = false;
      const random = seededRandom(seed + 500);
      const link = await openLink({
        kind: "datagram",
        seed,
        a: { limits: { rekeyAfterRecords: 20, rekeyGraceMs: 1e6 } },
        b: { limits: { rekeyAfterRecords: 25, rekeyGraceMs: 1e6 } },
        wire: {
          tamper: (bytes) => (isLossy && random.float() < 0.4 ? undefined : bytes),
          duplication: 0.2,
          jitterMs: 900,
        },
      });
      isLossy = true;
      for (let i = 0; i < 600; i++) {
        link.left.session.send(numbered(i, 20));
        link.right.session.send(numbered(i, 20));
        await link.clock.advance(100);
      }
      isLossy = false;
      await link.clock.advance(60_000);
      expect(link.guardA.counters.rekeys).toBeGreaterThan(1);
      // A late request or reply is recognised as such, not taken for a forgery.
      expect([link.guardA.counters.recordsForged, link.guardB.counters.recordsForged]).toEqual([0, 0]);
      for (const side of [link.left, link.right]) {
        const seen = side.frames.map(numberOf);
        expect(new Set(seen).size).toBe(seen.length);
        expect(side.closed).toBeUndefined();
      }
      const before = [link.left.frames.length, link.right.frames.length];
      link.left.session.send(numbered(1_000, 20));
      link.right.session.send(numbered(1_000, 20));
      await link.clock.advance(5_000);
      expect([link.left.frames.length, link.right.frames.length]).toEqual([before[0]! + 1, before[1]! + 1]);
    }
  });
});

describe("a datagram session", () => {
  test.each([
    ["fast", 21, 1_400],
    ["slow", 11, 237],
  ] as const)(
    "%s, of version 1: overhead of %d bytes, frames up to what the medium holds",
    async (linkClass, overhead, mtu) => {
      const b = { versions: { min: 1, max: 1 } };
      const link = await openLink({ kind: "datagram", linkClass, wire: { mtu }, b });
      const { session } = link.left;
      expect([session.isReliable, session.frameBytesMax]).toEqual([false, mtu - overhead]);
      const before = link.wire.a.sentBytes;
      session.send(bytesOf(100, 1));
      await link.clock.advance(5);
      expect(link.wire.a.sentBytes - before).toBe(100 + overhead);
      for (const length of [1, mtu - overhead - 2, mtu - overhead - 1, mtu - overhead]) {
        session.send(bytesOf(length, 2));
        await link.clock.advance(5);
      }
      expect(() => session.send(bytesOf(mtu - overhead + 1, 2))).toThrow();
      expect(link.right.frames.map((frame) => frame.length)).toEqual([
        100,
        1,
        mtu - overhead - 2,
        mtu - overhead - 1,
        mtu - overhead,
      ]);
    },
  );

  test("several frames share a datagram, and none exceeds the medium", async () => {
    const link = await openLink({ kind: "datagram", wire: { mtu: 300 } });
    const before = link.wire.a.writes;
    for (let i = 0; i < 40; i++) link.left.session.send(numbered(i, 30));
    await link.clock.advance(5);
    expect(link.right.frames.map(numberOf)).toEqual(numbers(40));
    expect(link.wire.a.writes - before).toBe(5);
  });

  test("loss, doubling and reordering: never a frame twice, never a wrong one", async () => {
    for (const linkClass of ["fast", "slow"] as const) {
      const link = await openLink({
        kind: "datagram",
        linkClass,
        seed: 4,
        wire: { mtu: 200, duplication: 0.5, jitterMs: 30 },
      });
      for (let i = 0; i < 400; i++) {
        link.left.session.send(numbered(i, 20 + (i % 100)));
        await link.clock.advance(1);
      }
      await link.clock.advance(1_000);
      const seen = link.right.frames.map(numberOf).sort((x, y) => x - y);
      expect(seen).toEqual(numbers(400));
      expect(link.guardB.counters.recordsReplayed).toBeGreaterThan(100);
    }
  });

  test("replayed and forged datagrams change nothing, start no rekey and are counted", async () => {
    const link = await openLink({ kind: "datagram", linkClass: "slow", wire: { isRecording: true } });
    for (let i = 0; i < 100; i++) {
      link.left.session.send(numbered(i, 20));
      await link.clock.advance(1);
    }
    await link.clock.advance(10);
    const sentBack = link.wire.b.writes;
    const records = link.wire.a.sent.filter((bytes) => bytes[0]! >= 0x80);
    for (const record of records) link.wire.a.inject(record);
    expect(link.guardB.counters.recordsReplayed).toBe(records.length);
    const random = seededRandom(30);
    let forged = 0;
    for (const record of records)
      for (const at of [0, 1, 2, 3, record.length - 1]) {
        const bent = record.slice();
        bent[at]! ^= 1 << random.below(at === 0 ? 7 : 8);
        link.wire.a.inject(bent);
        forged++;
      }
    // One that becomes a piece of a record that came is a replay.
    const { recordsForged, recordsReplayed } = link.guardB.counters;
    expect(recordsForged + recordsReplayed - records.length).toBe(forged);
    await link.clock.advance(100_000);
    expect(link.right.frames.length).toBe(100);
    expect(link.wire.b.writes).toBe(sentBack);
    expect(link.guardB.counters.rekeys).toBe(0);
    // The window has not moved: what comes next is taken.
    link.left.session.send(numbered(100, 20));
    await link.clock.advance(10);
    expect(link.right.frames.length).toBe(101);
  });

  test("what arrives before open is kept within its bound, the rest dropped and counted", async () => {
    const link = startLink({ kind: "datagram" });
    await link.clock.advance(50);
    const a = (await link.a).session!;
    new Collector(a);
    for (let i = 0; i < 300; i++) {
      a.send(numbered(i, 20));
      a.flush();
    }
    await link.clock.advance(50);
    const right = new Collector((await link.b).session!);
    await link.clock.advance(50);
    expect(right.frames.length).toBeGreaterThan(100);
    expect(right.frames.length + link.guardB.counters.recordsUnread).toBeGreaterThanOrEqual(300);
    expect(right.frames.length).toBeLessThanOrEqual(128);
  });

  test("a polite close is heard, a dead pipe is an error, no timer stays", async () => {
    const polite = await openLink({ kind: "datagram" });
    polite.left.session.close();
    await polite.clock.advance(20);
    expect([polite.left.closed, polite.right.closed]).toEqual([{ error: undefined }, { error: undefined }]);
    const cut = await openLink({ kind: "datagram" });
    cut.wire.cut(new Error("radio unplugged"));
    await cut.clock.advance(20);
    expect(cut.left.closed?.error?.code).toBe("GODWIT_LINK_CLOSED");
    for (const link of [polite, cut]) {
      await link.clock.advance(60_000);
      expect(link.clock.nextAtMs()).toBeUndefined();
    }
  });
});

test("rekeys on LoRa are priced by airtime: at most 0.1 % of it, never within an hour", () => {
  expect(sessionLimits("slow", 5_469).rekeyAfterMs).toBe(3_600_000);
  const crawling = sessionLimits("slow", 100);
  expect((200 * 8_000) / 100 / crawling.rekeyAfterMs).toBeLessThanOrEqual(0.001);
  expect(crawling.expireRecords).toBeLessThan(2 ** 16);
  expect(sessionLimits("fast", 1e9).rekeyAfterMs).toBe(120_000);
});
