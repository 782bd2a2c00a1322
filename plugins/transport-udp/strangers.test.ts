/** What those who have proven nothing, and those who forge another's address, may do with a UDP socket: pipes and sockets as they are, over loopback or in the test's hands. */
import { afterEach, describe, expect, test } from "bun:test";
import { ManualClock, seededRandom } from "@godwit/sdk/testkit";
import { type Address, UdpPipe } from "./pipe.ts";
import { type SocketEvents, UdpSocket } from "./socket.ts";
import { decodeUdp, encodeData, encodeUdp, UdpKind } from "./wire.ts";

const AT: Address = { host: "192.0.2.1", port: 1 };
const ELSEWHERE: Address = { host: "198.51.100.7", port: 2 };
const ID = new Uint8Array(8).fill(3);
const RECORD = Uint8Array.of(0x80, 1, 2);
const HANDSHAKE = Uint8Array.of(0x01, 1, 2);

/** A proven pipe to `AT`; `sent` is what it says, and to whom. */
function piped(isOpen = true) {
  const clock = new ManualClock();
  const sent: { kind: number; body: Uint8Array; to: Address }[] = [];
  const seen = { data: [] as number[], closed: [] as unknown[], moves: 0 };
  const world = { isWritable: true };
  const say = (bytes: Uint8Array, to: Address) => {
    const { kind, body } = decodeUdp(bytes)!;
    sent.push({ kind, body: body.slice(), to });
  };
  const pipe = new UdpPipe(
    {
      ...{ local: "udp://192.0.2.9:9", mtuMax: 1_452, clock, random: seededRandom(1) },
      get isWritable() {
        return world.isWritable;
      },
      send: say,
      sendWhole: (bytes, to) => (say(bytes, to), true),
      proven() {},
      closed() {},
      moved: () => void seen.moves++,
      sized() {},
    },
    "inbound",
    ID,
    [AT],
  );
  const handlers = {
    // The record proves that its sender holds the keys, wherever it is.
    data(bytes: Uint8Array) {
      seen.data.push(bytes.length);
      if ((bytes[0]! & 0x80) !== 0) pipe.proven();
    },
    drain() {},
    closed: (error?: Error) => void seen.closed.push(error ?? "politely"),
  };
  if (isOpen) pipe.open(handlers);
  const hear = (bytes: Uint8Array, from: Address) => pipe.receive(decodeUdp(bytes)!, from);
  const challenges = () => sent.filter(({ kind }) => kind === UdpKind.challenge);
  const answer = (nonce: Uint8Array, from: Address) =>
    hear(
      encodeUdp(UdpKind.response, true, ID, 8, (body) => body.set(nonce)),
      from,
    );
  return { clock, pipe, sent, seen, world, hear, challenges, answer, handlers };
}

describe("a pipe", () => {
  test("moves only to the address that was challenged, and only for the challenge's nonce", () => {
    const { pipe, hear, challenges, answer, seen } = piped();
    hear(encodeData(true, ID, 1, RECORD), AT);
    hear(encodeData(true, ID, 2, RECORD), ELSEWHERE);
    const [challenge] = challenges();
    expect(challenge!.to).toEqual(ELSEWHERE);
    const nonce = challenge!.body.slice(0, 8);
    const wrong = nonce.slice();
    wrong[7]! ^= 1;
    answer(wrong, ELSEWHERE);
    answer(nonce, { host: "203.0.113.5", port: 2 });
    answer(nonce, { ...ELSEWHERE, port: 3 });
    expect([pipe.remote, seen.moves]).toEqual(["udp://192.0.2.1:1", 0]);
    answer(nonce, ELSEWHERE);
    expect([pipe.remote, seen.moves]).toEqual(["udp://198.51.100.7:2", 1]);
    // It counts once.
    answer(nonce, ELSEWHERE);
    expect(seen.moves).toBe(1);
  });

  test("makes five challenges a second at most, whatever comes from elsewhere", async () => {
    const { hear, challenges, clock } = piped();
    hear(encodeData(true, ID, 1, RECORD), AT);
    for (let n = 0; n < 1_000; n++) {
      hear(encodeData(true, ID, 2 + n, RECORD), { ...ELSEWHERE, port: 2 + n });
      await clock.advance(1);
    }
    expect(challenges().length).toBeLessThanOrEqual(6);
    expect(challenges().length).toBeGreaterThanOrEqual(4);
  });

  test("is ended and slowed by nobody elsewhere", async () => {
    const { pipe, hear, sent, seen } = piped();
    hear(encodeData(true, ID, 1, RECORD), AT);
    const before = sent.length;
    hear(encodeUdp(UdpKind.reset, true, ID, 0), ELSEWHERE);
    hear(encodeUdp(UdpKind.probe, true, ID, 64), ELSEWHERE);
    hear(encodeUdp(UdpKind.challenge, true, ID, 8), ELSEWHERE);
    hear(encodeUdp(UdpKind.feedback, true, ID, 8), ELSEWHERE);
    expect([pipe.isClosed, sent.length]).toEqual([false, before]);
    hear(encodeUdp(UdpKind.probe, true, ID, 64), AT);
    expect(sent.length).toBe(before + 1);
    hear(encodeUdp(UdpKind.reset, true, ID, 0), AT);
    await Promise.resolve();
    expect([pipe.isClosed, seen.closed.length]).toEqual([true, 1]);
  });

  test("hands on no message of a handshake from elsewhere: it is somebody else's", () => {
    const { hear, seen, challenges } = piped();
    hear(encodeData(true, ID, 1, HANDSHAKE), AT);
    hear(encodeData(true, ID, 2, HANDSHAKE), ELSEWHERE);
    expect([seen.data.length, challenges().length]).toEqual([1, 0]);
  });

  test("keeps sixteen datagrams while nobody has opened it", async () => {
    const { pipe, hear, seen, handlers } = piped(false);
    for (let n = 0; n < 1_000; n++) hear(encodeData(true, ID, n, HANDSHAKE), AT);
    pipe.open(handlers);
    await Promise.resolve();
    expect(seen.data.length).toBe(16);
  });

  test("holds half a megabyte that waits, whatever its writer heeds; the rest is lost", () => {
    const { pipe, world } = piped();
    world.isWritable = false;
    const bytes = new Uint8Array(500);
    for (let n = 0; n < 5_000; n++) pipe.write(bytes);
    expect(pipe.bufferedBytes).toBeLessThanOrEqual(2 * 256 * 1_024);
    expect(pipe.bufferedBytes).toBeGreaterThan(256 * 1_024);
    expect(pipe.write(bytes)).toBe(false);
  });
});

describe("a socket", () => {
  const open: UdpSocket[] = [];
  afterEach(() => {
    for (const socket of open.splice(0)) socket.close();
  });

  async function listening(verdict: () => "open" | Uint8Array | undefined = () => "open") {
    const clock = new ManualClock();
    const seen = { pipes: [] as UdpPipe[], dropped: [] as string[] };
    const events: SocketEvents = {
      screen: verdict,
      accept: (pipe) => void seen.pipes.push(pipe),
      dropped: (why) => void seen.dropped.push(why),
      moved() {},
      sized() {},
    };
    const socket = await UdpSocket.open({
      ...{ host: "127.0.0.1", port: 0, mtuMax: 1_452, clock, random: seededRandom(1), events },
    });
    open.push(socket);
    return { clock, socket, seen };
  }
  /** A real far end, which counts what comes. */
  async function farEnd() {
    const got: Uint8Array[] = [];
    const socket = await Bun.udpSocket({
      hostname: "127.0.0.1",
      port: 0,
      socket: { data: (_socket, bytes) => void got.push(new Uint8Array(bytes)) },
    });
    return { got, at: { host: "127.0.0.1", port: socket.port }, close: () => socket.close() };
  }
  const idOf = (n: number): Uint8Array => {
    const id = new Uint8Array(8);
    new DataView(id.buffer).setUint32(0, n + 1);
    return id;
  };
  const settle = async () => {
    for (let i = 0; i < 20; i++) await new Promise<void>((resolve) => setTimeout(resolve, 1));
  };

  test("says to strangers at a bounded rate that it does not know their connection, each time in fewer bytes", async () => {
    const { socket, clock } = await listening();
    const far = await farEnd();
    try {
      for (let n = 0; n < 2_000; n++) socket.receive(encodeData(true, idOf(n), 1, RECORD), far.at);
      await settle();
      const burst = far.got.length;
      expect(burst).toBeGreaterThan(0);
      expect(burst).toBeLessThanOrEqual(200);
      expect(Math.max(...far.got.map(({ length }) => length))).toBeLessThan(13 + RECORD.length);
      await clock.advance(1_000);
      for (let n = 0; n < 2_000; n++) socket.receive(encodeData(true, idOf(n), 1, RECORD), far.at);
      await settle();
      expect(far.got.length).toBeLessThanOrEqual(2 * burst);
      expect(far.got.length).toBeGreaterThan(burst);
    } finally {
      far.close();
    }
  });

  test("has a bounded number of pipes of strangers of one source: the oldest gives way, another source gets in", async () => {
    const { socket, seen } = await listening();
    for (let n = 0; n < 3_000; n++)
      socket.receive(encodeData(true, idOf(n), 1, HANDSHAKE), { host: "198.51.100.7", port: 1 + n });
    expect(socket.pipes).toBeLessThanOrEqual(256);
    const crowd = socket.pipes;
    expect(seen.dropped.filter((why) => why === "stranger").length).toBe(3_000 - crowd);
    socket.receive(encodeData(true, idOf(9_999), 1, HANDSHAKE), { host: "203.0.113.5", port: 1 });
    expect(seen.pipes.at(-1)!.remote).toBe("udp://203.0.113.5:1");
    // Who has proven itself makes room for nobody.
    const last = seen.pipes.at(-1)!;
    last.proven();
    for (let n = 0; n < 3_000; n++)
      socket.receive(encodeData(true, idOf(20_000 + n), 1, HANDSHAKE), { host: "203.0.113.5", port: 2 + n });
    expect(last.isClosed).toBe(false);
  });

  test("has no pipe for who was asked for a proof of its address and has not given it", async () => {
    const { socket, seen } = await listening(() => Uint8Array.of(0x05, 1));
    const far = await farEnd();
    try {
      socket.receive(encodeData(true, idOf(1), 1, HANDSHAKE), far.at);
      await settle();
      expect([socket.pipes, seen.pipes.length, far.got.length]).toEqual([0, 0, 1]);
    } finally {
      far.close();
    }
  });
});
