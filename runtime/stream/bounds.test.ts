/** What the far end of a session may not make this one hold, send or believe. */
import { describe, expect, test } from "bun:test";
import { generateIdentity } from "../identity/keys.ts";
import { ManualClock } from "../kernel/clock.ts";
import { seededRandom } from "../kernel/random.ts";
import { PacketKind } from "../wire/packet.ts";
import * as bound from "./constants.ts";
import { Initiation } from "./establish.ts";
import { SendKeys } from "./keys.ts";
import { ReceiveHalf } from "./receive-half.ts";
import { StreamSession } from "./session.ts";
import { pair, StreamNet } from "./testing.ts";
import { decodeFrames, type FrameSink } from "./wire.ts";

const random = seededRandom(5);
const counters = {
  recordsSent: 0,
  recordsReceived: 0,
  retransmittedBytes: 0,
  bytesSent: 0,
  bytesReceived: 0,
  timeouts: 0,
  rekeys: 0,
  dropped() {},
};

/** A session by itself; its frames of the far end are called as the decoder would. */
function session(path: "ready" | "none" = "ready") {
  let isOver = false;
  const one = new StreamSession(
    {
      remote: generateIdentity(random).id,
      isInitiator: true,
      localIndex: 1,
      remoteIndex: 2,
      sendKey: random.bytes(32),
      receiveKey: random.bytes(32),
      goneToken: new Uint8Array(bound.TOKEN_BYTES),
      header: new Uint8Array(70),
    },
    {
      clock: new ManualClock(),
      counters,
      path: () => (path === "ready" ? { kind: "ready", frameBytes: 1_400 } : { kind: "none" }),
      sendPacket: () => true,
      grow: () => true,
      incoming() {},
      proven() {},
      over: () => void (isOver = true),
    },
  );
  return { one, isOver: () => isOver };
}

describe("credit", () => {
  test("who sends one byte beyond the credit of a stream breaks the protocol; up to it, nothing is wrong", () => {
    const half = new ReceiveHalf();
    const take = (offset: number, bytes: number) => half.take(offset, new Uint8Array(bytes), false, () => {});
    expect(take(0, bound.WINDOW_FIRST_BYTES)).toBe(true);
    expect(() => take(bound.WINDOW_FIRST_BYTES, 1)).toThrow("beyond its credit");
    half.grant(bound.WINDOW_FIRST_BYTES + 10);
    expect(take(bound.WINDOW_FIRST_BYTES, 10)).toBe(true);
    expect(() => take(bound.WINDOW_FIRST_BYTES + 100, 1)).toThrow("beyond its credit");
  });

  test("windows of one session grow only so far together", () => {
    const { one } = session();
    let grown = 0;
    for (let n = 0; n < 100; n++) if (one.grow(1024 * 1024)) grown++;
    expect(grown).toBe(bound.SESSION_GROWTH_BYTES_MAX / (1024 * 1024));
  });
});

describe("what the far end says", () => {
  test("an acknowledgement of what was never sent ends the session, the very next number too", () => {
    const { one, isOver } = session();
    one.onAck([0, 0], 0);
    expect(isOver()).toBe(true);
  });

  test("what it makes this node answer waits only up to a bound: then the session ends", async () => {
    const { one, isOver } = session("none");
    // Beyond the streams that a session has, each opening is answered with a reset.
    const openings = bound.CONTROL_FRAMES_MAX + bound.STREAMS_PER_SESSION_MAX;
    for (let n = 0; n < openings; n++) one.onOpen(2 * n + 1, "test", new Uint8Array());
    expect(one.streams.size).toBe(bound.STREAMS_PER_SESSION_MAX);
    await Promise.resolve();
    expect(isOver()).toBe(false);
    one.onOpen(2 * openings + 1, "test", new Uint8Array());
    await Promise.resolve();
    expect(isOver()).toBe(true);
  });

  test("an acknowledgement has 1 to 32 ranges", () => {
    let acked = 0;
    const sink = { onAck: () => void acked++ } as unknown as FrameSink;
    const ack = (count: number) =>
      decodeFrames(
        Uint8Array.of(
          bound.StreamFrame.ack,
          ...[0xff, 0x7f, 0, count],
          ...Array.from({ length: 2 * count }, () => 0),
        ).subarray(
          0,
          // The first range has no gap before it.
          5 + Math.max(2 * count - 1, 0),
        ),
        sink,
      );
    ack(1);
    ack(bound.ACK_RANGES_MAX);
    expect(acked).toBe(2);
    for (const count of [0, bound.ACK_RANGES_MAX + 1]) expect(() => ack(count)).toThrow("ranges");
    expect(acked).toBe(2);
  });
});

describe("what one node may ask of another", () => {
  test("metadata of a stream has at most 512 bytes", async () => {
    const net = new StreamNet(3);
    net.b.streams.handle("test", (stream) => stream.accept());
    const open = (bytes: number) =>
      net.settle(net.a.streams.open(net.b.id, "test", { metadata: new Uint8Array(bytes) }));
    await open(bound.METADATA_BYTES_MAX);
    const refused = await open(bound.METADATA_BYTES_MAX + 1).catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: "GODWIT_TOO_BIG" });
  });

  test("a node answers only so many handshakes a second, of however many others", async () => {
    const net = new StreamNet(4);
    let answers = 0;
    net.onPacket = (from) => {
      if (from === net.b.id) answers++;
      return undefined;
    };
    const crowd = Array.from({ length: bound.HANDSHAKES_PER_SECOND + 20 }, () => generateIdentity(random));
    const to = {
      priority: 2,
      plane: "any",
      hopsLeft: 8,
      kind: PacketKind.stream,
      destination: net.b.id,
    } as const;
    const knock = () => {
      for (const { id, dh } of crowd) {
        const deps = { self: id, network: "test", dh, goneKey: new Uint8Array(32), random };
        const { message } = new Initiation(deps, net.b.id, random.below(2 ** 32));
        net.b.streams.onPacket({ ...to, source: id }, message);
      }
    };
    knock();
    expect(answers).toBe(bound.HANDSHAKES_PER_SECOND);
    await net.clock.advance(500);
    knock();
    expect(answers).toBe(1.5 * bound.HANDSHAKES_PER_SECOND);
  });

  test("a stream that hears nothing sends again at growing intervals", async () => {
    const net = new StreamNet(8);
    const { near } = await pair(net);
    await net.clock.advance(1_000);
    net.weather.loss = 1;
    const before = net.packets;
    near.stream.write(Buffer.from("into the dark"));
    await net.clock.advance(20_000);
    expect(net.packets - before).toBeGreaterThan(3);
    expect(net.packets - before).toBeLessThan(40);
  });
});

describe("keys of a session", () => {
  test("the next one comes when this has served its time and the far end followed to it, not before", () => {
    const keys = new SendKeys(random.bytes(32), 0);
    const seal = () => keys.seal(new Uint8Array(10), new Uint8Array(64), 0);
    expect(keys.advanceIfDue(bound.REKEY_MS)).toBe(false);
    seal();
    expect(keys.advanceIfDue(bound.REKEY_MS - 1)).toBe(false);
    expect(keys.advanceIfDue(bound.REKEY_MS)).toBe(true);
    expect(keys.epoch).toBe(1);
    const first = keys.counter;
    seal();
    expect(keys.advanceIfDue(3 * bound.REKEY_MS)).toBe(false);
    // A record of the key before shows nothing.
    keys.onAcked(first - 1);
    expect(keys.advanceIfDue(3 * bound.REKEY_MS)).toBe(false);
    keys.onAcked(first);
    expect(keys.advanceIfDue(3 * bound.REKEY_MS)).toBe(true);
  });
});
