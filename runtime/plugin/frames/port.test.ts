/** One end of a channel of frames over a real socket: who does not read is cut off, what waits is bounded, what comes is whole. */
import { afterEach, expect, test } from "bun:test";
import { closeSync } from "node:fs";
import { dlopen, ptr } from "bun:ffi";
import { systemClock } from "../../kernel/clock.ts";
import type { GodwitError } from "../../kernel/errors.ts";
import { encodeFrame, PluginFrame } from "./frames.ts";
import { type ChannelHandlers, type FrameChannel, FramePort, openSocketChannel } from "./port.ts";

const AF_UNIX = 1;
/** SOCK_STREAM, SOCK_CLOEXEC, SOCK_NONBLOCK. */
const SOCKET_TYPE = 1 | 0o2_000_000 | 0o4_000;
const libc = dlopen("libc.so.6", {
  socketpair: { args: ["i32", "i32", "i32", "ptr"], returns: "i32" },
} as const);

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
});

function socketPair(): readonly [number, number] {
  const pair = new Int32Array(2);
  expect(libc.symbols.socketpair(AF_UNIX, SOCKET_TYPE, 0, ptr(pair))).toBe(0);
  return [pair[0]!, pair[1]!];
}
async function openPort(channel: FrameChannel) {
  const seen = { frames: [] as string[], closed: [] as (GodwitError | undefined)[], bytes: 0 };
  const port = new FramePort(channel, {
    frame(type, id, body) {
      seen.frames.push(`${type} ${id}`);
      seen.bytes += body.length;
    },
    closed: (error) => void seen.closed.push(error),
  });
  cleanups.push(() => port.close());
  return { port, seen };
}
const until = async (isSo: () => boolean): Promise<void> => {
  while (!isSo()) await new Promise<void>((resolve) => setTimeout(resolve, 1));
};

test("who does not read what it is sent is not there any more, and nothing waits for it without bound", async () => {
  const [ours, theirs] = socketPair();
  cleanups.push(() => closeSync(theirs));
  const { port, seen } = await openPort(await openSocketChannel(ours));
  const body = new Uint8Array(2 ** 20);
  let sent = 0;
  for (; seen.closed.length === 0 && sent < 200; sent++) port.send(PluginFrame.data, 2, body);
  expect(seen.closed[0]).toMatchObject({
    code: "GODWIT_PLUGIN_FAILED",
    message: "it does not read what it is sent",
  });
  // 64 MiB, what the kernel took, and the one that was too much.
  expect(sent).toBeGreaterThan(63);
  expect(sent).toBeLessThan(70);
  port.send(PluginFrame.data, 2, body);
  expect([port.isClosed, seen.closed.length]).toEqual([true, 1]);
});

test("frames of any size arrive whole and in order, however they are cut on their way", async () => {
  const [ours, theirs] = socketPair();
  const near = await openPort(await openSocketChannel(ours));
  const far = await openPort(await openSocketChannel(theirs));
  const sizes = [0, 1, 131_072, 5, 131_063, 131_064, 2 ** 20, 0, 300_000];
  for (const [id, size] of sizes.entries()) near.port.send(PluginFrame.data, id, new Uint8Array(size));
  await until(() => far.seen.frames.length === sizes.length);
  expect(far.seen.frames).toEqual(sizes.map((_, id) => `${PluginFrame.data} ${id}`));
  expect(far.seen.bytes).toBe(sizes.reduce((sum, size) => sum + size, 0));
  expect(near.port.queuedBytes).toBe(0);
});

test("what came before anybody listened is not lost, and an end is told once", async () => {
  const [ours, theirs] = socketPair();
  const far = await openPort(await openSocketChannel(theirs));
  for (let id = 0; id < 3; id++) far.port.send(PluginFrame.pong, id);
  far.port.flush();
  const channel = await openSocketChannel(ours);
  await new Promise<void>((resolve) => setTimeout(resolve, 5));
  const { seen, port } = await openPort(channel);
  await until(() => seen.frames.length === 3);
  far.port.close();
  await until(() => seen.closed.length > 0);
  port.close();
  expect([seen.closed, port.isClosed]).toEqual([[undefined], true]);
});

test("a length that is none closes the channel with what broke it", async () => {
  const [ours, theirs] = socketPair();
  const raw = await openSocketChannel(theirs);
  raw.open({ data() {}, closed() {} });
  const { seen } = await openPort(await openSocketChannel(ours));
  raw.write(Uint8Array.of(0xff, 0xff, 0xff, 0xff));
  await until(() => seen.closed.length > 0);
  expect(seen.closed[0]).toMatchObject({ code: "GODWIT_DECODE" });
});

/** A paced port over a channel in the test's hands. */
function paced(onFrame: (id: number) => void = () => {}) {
  const seen = { ids: [] as number[], closed: [] as (GodwitError | undefined)[], pauses: [] as boolean[] };
  let handlers: ChannelHandlers | undefined;
  const port = new FramePort(
    {
      queuedBytes: 0,
      open: (given) => void (handlers = given),
      write() {},
      close() {},
      pause: (isPaused) => void seen.pauses.push(isPaused),
    },
    {
      frame(_type, id) {
        seen.ids.push(id);
        onFrame(id);
      },
      closed: (error) => void seen.closed.push(error),
    },
    { pacedBy: systemClock },
  );
  return { port, seen, hear: (bytes: Uint8Array) => handlers!.data(bytes), end: () => handlers!.closed() };
}
const work = (ms: number) => {
  for (const endMs = performance.now() + ms; performance.now() < endMs;);
};
const flood = (count: number, first = 1) =>
  Buffer.concat(Array.from({ length: count }, (_, n) => encodeFrame(0x7f, first + n)));

test("a flood of frames in one piece leaves turns to others: all of it comes, in order, and its end behind it", async () => {
  const { seen, hear, end } = paced(() => work(0.2));
  hear(flood(200));
  hear(flood(200, 201));
  end();
  expect(seen.ids.length).toBeLessThan(100);
  const before = seen.ids.length;
  const timer = Promise.withResolvers<number>();
  setTimeout(() => timer.resolve(seen.ids.length), 1);
  expect(await timer.promise).toBeLessThan(300);
  expect([seen.closed, seen.pauses]).toEqual([[], [true]]);
  await until(() => seen.closed.length > 0);
  expect(before).toBeGreaterThan(0);
  expect(seen.ids).toEqual(Array.from({ length: 400 }, (_, n) => n + 1));
  expect(seen.closed).toEqual([undefined]);
});

test("a flood of pieces with a frame each leaves turns to others as well, and what follows from them counts", async () => {
  // As what a call asks for is done behind the call.
  const { seen, hear } = paced(() => queueMicrotask(() => work(0.2)));
  let at = 0;
  for (; at < 400; at++) {
    hear(encodeFrame(0x7f, at + 1));
    await Promise.resolve();
  }
  expect(seen.ids.length).toBeLessThan(100);
  await until(() => seen.ids.length === 400);
  expect(seen.ids).toEqual(Array.from({ length: 400 }, (_, n) => n + 1));
  await until(() => seen.pauses.at(-1) === false);
});

test("what waits for its turn is bounded: beyond it the plugin floods", () => {
  const { seen, hear, port } = paced(() => work(5));
  hear(flood(40));
  const one = new Uint8Array(2_000);
  let pieces = 0;
  for (; !port.isClosed && pieces < 100_000; pieces++) hear(one);
  expect(seen.closed[0]).toMatchObject({
    code: "GODWIT_PLUGIN_FAILED",
    message: expect.stringContaining("floods"),
  });
  expect(pieces).toBeLessThan((64 * 2 ** 20) / 2_000);
});

test("what waits is dropped with the port, and handled no more", async () => {
  const { seen, hear, port } = paced(() => work(0.5));
  hear(flood(200));
  port.close();
  const before = seen.ids.length;
  for (let i = 0; i < 10; i++) await new Promise<void>((resolve) => setTimeout(resolve, 1));
  expect([seen.ids.length, seen.closed]).toEqual([before, [undefined]]);
});
