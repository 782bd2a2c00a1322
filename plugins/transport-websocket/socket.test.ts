import { expect, test } from "bun:test";
import { ManualClock } from "@godwit/sdk/testkit";
import { encodeFrame, Opcode } from "./frames.ts";
import { type ByteSocket, OpenWebSocket } from "./socket.ts";

/** Takes what it is told to take, and notes what was done to it. */
class FakeSocket implements ByteSocket {
  room = Number.POSITIVE_INFINITY;
  readonly written: number[] = [];
  readonly calls: string[] = [];
  write(bytes: Uint8Array): number {
    const taken = Math.min(bytes.length, this.room);
    this.room -= taken;
    this.written.push(...bytes.subarray(0, taken));
    return taken;
  }
  pause = () => void this.calls.push("pause");
  resume = () => void this.calls.push("resume");
  end = () => void this.calls.push("end");
  terminate = () => void this.calls.push("terminate");
}

function open(socket: FakeSocket) {
  const web = new OpenWebSocket(socket, { nextMask: undefined });
  const seen = { drains: 0, data: 0, closed: Promise.withResolvers<Error | undefined>() };
  const pipe = web.open({ direction: "inbound", local: "ws://a:1", remote: "ws://b:1" }, new ManualClock());
  pipe.open({
    data: (bytes) => (seen.data += bytes.length),
    drain: () => seen.drains++,
    closed: seen.closed.resolve,
  });
  return { web, pipe, seen };
}
/** As a client sends it. */
const masked = (opcode: number, payload: Uint8Array) =>
  encodeFrame(opcode, payload, Uint8Array.of(1, 2, 3, 4));

test("what the kernel does not take waits in order, and one drain follows when all has gone", () => {
  const socket = new FakeSocket();
  const { pipe, seen, web } = open(socket);
  const sent = Uint8Array.from({ length: 900_000 }, (_, i) => (i * 31) & 255);
  socket.room = 1_000;
  expect(pipe.write(sent)).toBe(false);
  while (pipe.bufferedBytes > 0) {
    socket.room = 70_001;
    web.onDrain();
  }
  expect(seen.drains).toBe(1);
  // Heads of 4 or 10 bytes stand between the pieces.
  const got: number[] = [];
  for (let at = 0; at < socket.written.length;) {
    const short = socket.written[at + 1]!;
    const head = short === 127 ? 10 : short === 126 ? 4 : 2;
    let length = head === 2 ? short : 0;
    if (head > 2) for (const byte of socket.written.slice(at + 2, at + head)) length = length * 256 + byte;
    got.push(...socket.written.slice(at + head, at + head + length));
    at += head + length;
  }
  expect(Bun.hash(Uint8Array.from(got))).toBe(Bun.hash(sent));
});

test("of pings that come together, or while answers wait, the last is answered", () => {
  const socket = new FakeSocket();
  const { web } = open(socket);
  web.onData(Buffer.concat([7, 8, 9].map((byte) => masked(Opcode.ping, Uint8Array.of(byte)))));
  expect(socket.written).toEqual([0x8a, 1, 9]);
  socket.room = 0;
  for (let i = 0; i < 50_000; i++) web.onData(masked(Opcode.ping, new Uint8Array(125).fill(i)));
  expect(web.bufferedBytes).toBe(127);
  socket.room = Number.POSITIVE_INFINITY;
  web.onDrain();
  expect(web.bufferedBytes).toBe(0);
  expect(socket.written.slice(3).filter((byte) => byte === 0x8a)).toHaveLength(2);
  expect(socket.written.at(-1)).toBe(49_999 & 255);
});

test("a goodbye is answered once with its code, and what comes after it is nobody's", async () => {
  const socket = new FakeSocket();
  const { web, seen } = open(socket);
  web.onData(masked(Opcode.close, Uint8Array.of(3, 0xe9, 1, 2)));
  web.onData(masked(Opcode.binary, Uint8Array.of(1)));
  web.onData(masked(Opcode.close, Uint8Array.of(3, 0xe9)));
  expect(socket.written).toEqual([0x88, 2, 3, 0xe9]);
  expect(socket.calls).toContain("end");
  expect(await seen.closed.promise).toBeUndefined();
  expect(seen.data).toBe(0);
});
