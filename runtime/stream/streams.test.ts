import { describe, expect, test } from "bun:test";
import { generateIdentity } from "../identity/keys.ts";
import { nodeIdBytes } from "../kernel/ids.ts";
import { seededRandom } from "../kernel/random.ts";
import { decodePacketHeader, encodePacket, PACKET_HEADER_BYTES, PacketKind } from "../wire/packet.ts";
import { HALF_OPEN_MAX, HALF_OPEN_PER_SOURCE_MAX, StreamMessage, WINDOW_FIRST_BYTES } from "./constants.ts";
import { Initiation } from "./establish.ts";
import { Collector, pair, StreamNet } from "./testing.ts";

const typeOf = (frame: Uint8Array): number => frame[PACKET_HEADER_BYTES]!;
const noise = (seed: number, bytes: number): Uint8Array => seededRandom(seed).bytes(bytes);

/** Writes all of it as the stream takes it, then ends. */
function feed(end: Collector, bytes: Uint8Array, pieceBytes: number): void {
  let at = 0;
  const more = () => {
    while (at < bytes.length) {
      const piece = bytes.subarray(at, (at += pieceBytes));
      if (!end.stream.write(piece)) {
        const drains = end.drains;
        const wait = () => (end.drains > drains ? more() : end.stream.isClosed ? undefined : queue(wait));
        return queue(wait);
      }
    }
    end.stream.end();
  };
  const queue = (fn: () => void) => void setImmediate(fn);
  more();
}

describe("bytes arrive exactly once and in order", () => {
  const weathers = [
    { name: "a calm path", weather: {}, bytes: 3_000_000 },
    { name: "loss", weather: { loss: 0.05, delayMs: 5 }, bytes: 2_000_000 },
    { name: "reordering", weather: { jitterMs: 20, delayMs: 5 }, bytes: 2_000_000 },
    { name: "repetition", weather: { duplicate: 0.5, jitterMs: 5 }, bytes: 2_000_000 },
    {
      name: "everything at once",
      weather: { loss: 0.1, duplicate: 0.2, jitterMs: 30, delayMs: 10 },
      bytes: 1_000_000,
    },
    {
      name: "a small path with loss",
      weather: { loss: 0.03, frameBytes: 1_400, jitterMs: 5 },
      bytes: 500_000,
    },
    { name: "a third lost", weather: { loss: 0.33, delayMs: 5 }, bytes: 200_000 },
  ];
  for (const { name, weather, bytes } of weathers)
    for (const seed of [1, 2, 3])
      test(`over ${name}, seed ${seed}`, async () => {
        const net = new StreamNet(seed, weather);
        const { near, far } = await pair(net);
        const [there, back] = [noise(seed, bytes), noise(seed + 100, bytes >> 2)];
        feed(near, there, 50_000);
        feed(far, back, 777);
        await net.until(() => near.error !== null && far.error !== null, 600_000);
        expect([near.error, far.error]).toEqual([undefined, undefined]);
        expect(Bun.hash(far.all)).toBe(Bun.hash(there));
        expect(Bun.hash(near.all)).toBe(Bun.hash(back));
        expect(net.a.streams.streamCount + net.b.streams.streamCount).toBe(0);
      });
});

test("half-close: one end finishes, the other goes on", async () => {
  const net = new StreamNet(4);
  const { near, far } = await pair(net);
  near.stream.write(Buffer.from("question"));
  near.stream.end();
  await net.until(() => far.isEnded, 1_000);
  expect(far.all.toString()).toBe("question");
  far.stream.write(Buffer.from("answer"));
  await net.until(() => near.bytes === 6, 1_000);
  expect(near.error).toBeNull();
  far.stream.end();
  await net.until(() => near.error === undefined && far.error === undefined, 1_000);
});

test("a reader that does not read bounds memory at both ends", async () => {
  const net = new StreamNet(5);
  const { near, far } = await pair(net);
  far.stream.pause(true);
  let written = 0;
  const piece = noise(1, 60_000);
  while (near.stream.write(piece)) written += piece.length;
  await net.clock.advance(5_000);
  expect(far.bytes).toBe(0);
  expect(far.stream.heldBytes).toBeLessThanOrEqual(WINDOW_FIRST_BYTES);
  expect(near.stream.heldBytes).toBeLessThan(1_000_000);
  far.stream.pause(false);
  near.stream.end();
  await net.until(() => far.isEnded, 5_000);
  expect(far.bytes).toBe(written + piece.length);
});

test("the path narrows while bytes are under way", async () => {
  const net = new StreamNet(6);
  const { near, far } = await pair(net);
  const bytes = noise(9, 2_000_000);
  feed(near, bytes, 100_000);
  await net.until(() => far.bytes > 300_000, 5_000);
  net.weather.frameBytes = 1_400;
  await net.until(() => far.isEnded, 120_000);
  expect(Bun.hash(far.all)).toBe(Bun.hash(bytes));
});

test("an outage is survived, and a far end that stays silent is an error", async () => {
  const net = new StreamNet(7);
  const { near, far } = await pair(net);
  net.weather.loss = 1;
  near.stream.write(Buffer.from("into the dark"));
  await net.clock.advance(15_000);
  expect(near.error).toBeNull();
  net.weather.loss = 0;
  await net.until(() => far.bytes === 13, 5_000);
  net.weather.loss = 1;
  near.stream.write(Buffer.from("more"));
  await net.until(() => near.error !== null, 40_000);
  expect(near.error).toMatchObject({ code: "GODWIT_STREAM_UNREACHABLE" });
  expect(net.a.streams.sessionCount).toBe(0);
});

describe("opening", () => {
  const code = async (net: StreamNet, service = "test") =>
    await net.settle(
      net.a.streams.open(net.b.id, service).then(
        () => "open",
        (error: { code: string }) => error.code,
      ),
    );

  test("what is refused says why", async () => {
    const net = new StreamNet(8);
    expect(await code(net)).toBe("GODWIT_STREAM_REFUSED");
    net.weather.path = { kind: "slow" };
    expect(await code(net)).toBe("GODWIT_STREAM_SLOW_PATH");
    net.weather.path = { kind: "none" };
    expect(await code(net)).toBe("GODWIT_NO_ROUTE");
    delete net.weather.path;
    net.a.blocked.add(net.b.id);
    expect(await code(net)).toBe("GODWIT_PEER_BLOCKED");
  });

  test("a node that is blocked there, or deaf, gets no session", async () => {
    const net = new StreamNet(9);
    net.b.streams.handle("test", (stream) => stream.accept());
    net.b.blocked.add(net.a.id);
    expect(await code(net)).toBe("GODWIT_STREAM_UNREACHABLE");
    expect(net.b.streams.sessionCount).toBe(0);
  });

  test("many streams share one session", async () => {
    const net = new StreamNet(10, { loss: 0.02 });
    net.b.streams.handle("test", (stream) => {
      stream.accept();
      const end = new Collector(stream);
      void end;
      stream.end();
    });
    const all = await net.settle(
      Promise.all(Array.from({ length: 200 }, () => net.a.streams.open(net.b.id, "test"))),
    );
    const ends = all.map((stream) => new Collector(stream));
    for (const { stream } of ends) stream.end();
    await net.until(() => ends.every(({ error }) => error === undefined), 20_000);
    expect(net.a.streams.sessionCount).toBe(1);
    await net.until(() => net.a.streams.sessionCount + net.b.streams.sessionCount === 0, 200_000);
  });

  test("a restart of the far end is noticed at once", async () => {
    const identity = generateIdentity(seededRandom(77));
    const net = new StreamNet(11);
    net.ends.pop();
    net.add(identity);
    const { near } = await pair(net);
    net.add(identity);
    near.stream.write(Buffer.from("still there?"));
    await net.until(() => near.error !== null, 1_000);
    expect(near.error).toMatchObject({ code: "GODWIT_STREAM_RESET" });
  });
});

describe("hostile packets", () => {
  test("a handshake made for another node's name, with a key of one's own, opens nothing", () => {
    const net = new StreamNet(16);
    const own = generateIdentity(net.random);
    const liar = { self: net.a.id, network: "test", dh: own.dh, goneKey: noise(1, 32), random: net.random };
    const { message } = new Initiation(liar, net.b.id, 7);
    const header = { priority: 2, plane: "bulk", hopsLeft: 8, kind: PacketKind.stream } as const;
    const packet = encodePacket({ ...header, destination: net.b.id, source: net.a.id }, message);
    net.deliver(packet);
    expect(net.b.streams.halfOpenCount).toBe(0);
  });

  test("every packet replayed changes nothing", async () => {
    const net = new StreamNet(12);
    const seen: Uint8Array[] = [];
    net.onPacket = (_from, frame) => (seen.push(frame.slice()), frame);
    const { near, far } = await pair(net);
    near.stream.write(noise(1, 30_000));
    await net.until(() => far.bytes === 30_000, 1_000);
    const sent = seen.length;
    for (const frame of seen.slice(0, sent)) if (typeOf(frame) === StreamMessage.record) net.deliver(frame);
    await net.clock.advance(50);
    expect(far.bytes).toBe(30_000);
    expect(await net.b.metrics.render()).toMatch(/godwit_stream_dropped_total\{reason="replayed"\} [1-9]/);
  });

  test("more openings than there are places, of nodes that never finish one, keep nobody out", async () => {
    const net = new StreamNet(21);
    const crowd = Array.from({ length: HALF_OPEN_MAX + 6 }, () => net.add());
    // What is answered to the crowd is lost.
    net.onPacket = (from, frame) =>
      from === net.b.id && decodePacketHeader(frame).destination !== net.a.id ? undefined : frame;
    const opening = crowd.map(({ streams }) => streams.open(net.b.id, "test").catch(() => undefined));
    await net.until(() => net.b.streams.halfOpenCount === HALF_OPEN_MAX, 5_000);
    const startedMs = net.clock.monotonicMs();
    await pair(net);
    expect(net.clock.monotonicMs() - startedMs).toBeLessThan(1_000);
    for (const { streams } of crowd) streams.stop();
    await Promise.all(opening);
  });

  test("message 1 replayed costs bounded memory and delivers nothing", async () => {
    const net = new StreamNet(13);
    const opens: Uint8Array[] = [];
    net.onPacket = (_from, frame) => {
      if (typeOf(frame) === StreamMessage.open) opens.push(frame.slice());
      return frame;
    };
    let handled = 0;
    net.b.streams.handle("other", () => void handled++);
    await pair(net);
    net.weather.loss = 1;
    for (let i = 0; i < 1_000; i++) {
      const forged = opens[0]!.slice();
      // Another index of the initiator makes it look new.
      forged[PACKET_HEADER_BYTES + 5] = i & 255;
      net.deliver(forged);
    }
    expect(net.b.streams.halfOpenCount).toBe(HALF_OPEN_PER_SOURCE_MAX);
    expect(HALF_OPEN_PER_SOURCE_MAX).toBeLessThan(HALF_OPEN_MAX);
    expect([net.b.streams.sessionCount, handled]).toEqual([1, 0]);
    await net.clock.advance(11_000);
    expect(net.b.streams.halfOpenCount).toBe(0);
  });

  test("a changed bit anywhere in a record loses that record and no more", async () => {
    const net = new StreamNet(14, { loss: 0 });
    const { near, far } = await pair(net);
    let flipped = 0;
    net.onPacket = (_from, frame) => {
      if (net.random.below(4) === 0) {
        frame[PACKET_HEADER_BYTES + 6 + net.random.below(frame.length - PACKET_HEADER_BYTES - 6)]! ^= 1;
        flipped++;
      }
      return frame;
    };
    const bytes = noise(3, 1_000_000);
    feed(near, bytes, 30_000);
    await net.until(() => far.isEnded, 60_000);
    expect(Bun.hash(far.all)).toBe(Bun.hash(bytes));
    expect(flipped).toBeGreaterThan(3);
  });

  test("another node's packets under this one's name open nothing", async () => {
    const net = new StreamNet(15);
    const third = net.add();
    net.onPacket = (from, frame) => {
      if (from === third.id) frame.set(nodeIdBytes(net.a.id), 36);
      return frame;
    };
    net.b.streams.handle("test", (stream) => stream.accept());
    const outcome = await net.settle(
      third.streams.open(net.b.id, "test").catch((error: { code: string }) => error.code),
    );
    expect(outcome).toBe("GODWIT_STREAM_UNREACHABLE");
    expect(net.b.streams.halfOpenCount + net.b.streams.sessionCount).toBe(0);
  });
});

test("blocking a node leaves no session that it has not proven yet", async () => {
  const net = new StreamNet(90);
  net.onPacket = (_from, frame) => (typeOf(frame) === StreamMessage.record ? undefined : frame);
  void net.a.streams.open(net.b.id, "test").catch(() => {});
  await net.until(() => net.b.streams.halfOpenCount === 1, 1_000);
  net.b.streams.block(net.a.id);
  expect(net.b.streams.halfOpenCount).toBe(0);
});
