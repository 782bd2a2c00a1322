/** The stream of sdk/README.md over a real socket. */
import { expect, test } from "bun:test";
import { connect, createServer } from "node:net";
import { type Clock, StreamPipe, type StreamPipeFacts } from "@godwit/sdk";
import type { Socket } from "node:net";

export function pipeOf(socket: Socket, facts: StreamPipeFacts, clock: Clock): StreamPipe {
  const pipe = new StreamPipe(
    {
      write: (bytes) => (socket.write(new Uint8Array(bytes)), bytes.length),
      get bufferedBytes() {
        return socket.writableLength;
      },
      pause: () => void socket.pause(),
      resume: () => void socket.resume(),
      shut: () => void socket.end(),
      destroy: () => void socket.destroy(),
    },
    facts,
    { clock }, // cuts a socket whose far end never reads what a close still has to send
  );
  socket.pause();
  socket.on("data", (bytes: Buffer) => pipe.onData(bytes));
  socket.on("drain", () => pipe.onDrain());
  socket.on("end", () => pipe.onEnd());
  socket.on("error", (error) => pipe.onGone(error));
  socket.on("close", () => pipe.onGone());
  return pipe;
}

const clock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(ms, fn) {
    const timer = setTimeout(fn, ms);
    return { cancel: () => clearTimeout(timer) };
  },
};
const facts: StreamPipeFacts = {
  direction: "outbound",
  local: "pair://near",
  remote: "pair://far",
  linkClass: "fast",
  rateBitsPerSecond: 1_000_000,
};

test("the stream pipe of the README carries bytes over a real socket, holds back what is not read, and closes politely", async () => {
  const listening = Promise.withResolvers<void>();
  const accepted = Promise.withResolvers<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => accepted.resolve(socket));
  server.listen(0, "127.0.0.1", () => listening.resolve());
  await listening.promise;
  const near = pipeOf(
    connect((server.address() as { readonly port: number }).port, "127.0.0.1"),
    facts,
    clock,
  );
  const far = pipeOf(await accepted.promise, { ...facts, direction: "inbound" }, clock);
  const ended = [Promise.withResolvers<unknown>(), Promise.withResolvers<unknown>()] as const;
  let taken = 0;
  far.open({
    data: (bytes) => void (taken += bytes.length),
    drain() {},
    closed: (error) => ended[1].resolve(error),
  });
  far.pause(true);
  const drained = Promise.withResolvers<void>();
  near.open({ data() {}, drain: () => drained.resolve(), closed: (error) => ended[0].resolve(error) });
  let written = 0;
  const piece = new Uint8Array(65_536);
  do written += piece.length;
  while (near.write(piece) && written < 64 * 2 ** 20);
  expect([taken, written < 64 * 2 ** 20]).toEqual([0, true]);
  far.pause(false);
  await drained.promise;
  near.close();
  expect(await Promise.all(ended.map(({ promise }) => promise))).toEqual([undefined, undefined]);
  expect(taken).toBe(written);
  server.close();
});

test("a close towards a far end that never reads cuts the socket in the end, and keeps nothing", async () => {
  const accepted = Promise.withResolvers<Socket>();
  const listening = Promise.withResolvers<void>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.pause();
    accepted.resolve(socket);
  });
  server.listen(0, "127.0.0.1", () => listening.resolve());
  await listening.promise;
  const socket = connect((server.address() as { readonly port: number }).port, "127.0.0.1");
  const gone = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  const near = pipeOf(socket, facts, clock);
  const far = await accepted.promise;
  far.on("error", () => {});
  near.open({ data() {}, drain() {}, closed() {} });
  for (let written = 0; written < 16 * 2 ** 20; written += 65_536) near.write(new Uint8Array(65_536));
  near.close();
  await gone;
  expect(socket.destroyed).toBe(true);
  far.destroy();
  server.close();
});
