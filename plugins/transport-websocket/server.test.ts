import { afterEach, expect, test } from "bun:test";
import { connect, type Socket } from "node:net";
import { ManualClock } from "@godwit/sdk/testkit";
import { PROTOCOL } from "./endpoint.ts";
import type { WebSocketPipe } from "./pipe.ts";
import { REQUEST_MS, STRANGERS_PER_SOURCE_MAX, WebSocketListener } from "./server.ts";

const open: { stop(isOver: boolean): void }[] = [];
afterEach(() => {
  for (const listener of open.splice(0)) listener.stop(true);
});

function listen() {
  const clock = new ManualClock();
  const seen = { pipes: [] as WebSocketPipe[], refused: 0 };
  const listener = new WebSocketListener({
    address: { host: "127.0.0.1", port: 0, isIpv6Only: false },
    path: "/godwit",
    names: [],
    tls: undefined,
    clock,
    accept: (pipe) => void seen.pipes.push(pipe),
    refused: () => seen.refused++,
  });
  open.push(listener);
  return { clock, seen, port: listener.address.port };
}

/** What the far end answers until it closes. */
const say = (port: number, text: string, onSocket?: (socket: Socket) => void): Promise<string> =>
  new Promise((resolve) => {
    let heard = "";
    const socket = connect(port, "127.0.0.1", () => (socket.write(text), onSocket?.(socket)));
    socket.on("data", (bytes) => (heard += bytes.toString("latin1")));
    socket.on("error", () => socket.destroy());
    socket.on("close", () => resolve(heard));
  });

const upgrade = (more = "", path = "/godwit") =>
  `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n` +
  `Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: ${PROTOCOL}\r\n${more}\r\n`;

test("whatever is not for us gets 404 and the end, a browser too", async () => {
  const { port, seen } = listen();
  for (const text of [
    upgrade("Origin: http://127.0.0.1\r\n"),
    upgrade("", "/other"),
    upgrade("", "/godwit2"),
    upgrade("", "/godwit/x"),
    upgrade().replace(PROTOCOL, "chat"),
    upgrade().replace("127.0.0.1", "evil.example"),
    "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "nonsense\r\n\r\n",
    "x".repeat(20_000),
  ])
    expect(await say(port, text)).toStartWith("HTTP/1.1 404 ");
  expect(seen.pipes).toEqual([]);
});

test("a connection is counted before it says anything: the oldest gives way, and who asks gets in", async () => {
  const { port, seen } = listen();
  let gone = 0;
  const silent: Socket[] = [];
  const goings: Promise<void>[] = [];
  for (let i = 0; i < STRANGERS_PER_SOURCE_MAX; i++)
    await new Promise<void>((resolve) => {
      const socket = connect(port, "127.0.0.1", resolve);
      socket.on("error", () => {});
      goings.push(new Promise((left) => socket.on("close", () => (gone++, left()))));
      silent.push(socket);
    });
  const asked = say(port, upgrade(), (socket) =>
    socket.once("data", (bytes) => {
      expect(bytes.toString("latin1")).toStartWith("HTTP/1.1 101 ");
      socket.destroy();
    }),
  );
  await asked;
  await Promise.race(goings);
  expect([gone, seen.pipes.length, seen.refused]).toEqual([1, 1, 1]);
  for (const socket of silent) socket.destroy();
});

test("half a request ends after its time, however often another byte comes", async () => {
  const { port, clock } = listen();
  const ended = say(port, "GET /godwit HT", (socket) => void socket.write("TP/1"));
  // Accepted for certain: a later one was answered.
  await say(port, "GET / HTTP/1.1\r\n\r\n");
  await clock.advance(REQUEST_MS);
  expect(await ended).toBe("");
});

test("a client that is not ours is understood: it offers compression, and its messages come back", async () => {
  const { port, seen } = listen();
  const client = new WebSocket(`ws://127.0.0.1:${port}/godwit`, [PROTOCOL]);
  client.binaryType = "arraybuffer";
  await new Promise<void>((resolve, reject) => {
    client.onopen = () => resolve();
    client.onerror = () => reject(new Error("refused"));
  });
  const [pipe] = seen.pipes;
  pipe!.open({ data: (bytes) => void pipe!.write(bytes), drain() {}, closed() {} });
  const sent = Buffer.alloc(300_000, "godwit");
  const got: Uint8Array[] = [];
  const ended = new Promise<number>((resolve) => (client.onclose = ({ code }) => resolve(code)));
  client.onmessage = ({ data }: MessageEvent<ArrayBuffer>) => {
    got.push(new Uint8Array(data));
    if (Buffer.concat(got).length === sent.length) pipe!.close();
  };
  client.send(sent.subarray(0, 100_000));
  client.send(sent.subarray(100_000));
  expect(await ended).toBe(1_000);
  expect(Buffer.concat(got).equals(sent)).toBe(true);
});

test("of a hundred thousand pings in one write the last of each piece is answered, not each", async () => {
  const { port, seen } = listen();
  const pings = Buffer.alloc(6 * 100_000);
  // Masked with zeroes, without and, the last one, with a payload.
  for (let n = 0; n < 100_000; n++) pings.set([0x89, 0x80], n * 6);
  const last = Buffer.from([0x89, 0x82, 0, 0, 0, 0, 0x6f, 0x6b]);
  const socket = connect(port, "127.0.0.1", () => socket.write(upgrade()));
  await new Promise((resolve) => socket.once("data", resolve));
  seen.pipes[0]!.open({ data() {}, drain() {}, closed() {} });
  let heard = Buffer.alloc(0);
  const answered = new Promise<void>((resolve) =>
    socket.on("data", (bytes: Buffer) => {
      heard = Buffer.concat([heard, bytes]);
      if (heard.subarray(-2).toString() === "ok") resolve();
    }),
  );
  socket.write(pings);
  socket.write(last);
  await answered;
  expect(heard.length).toBeLessThan(2 * 10_000);
  socket.destroy();
});

const until = async (isSo: () => boolean): Promise<void> => {
  while (!isSo()) await new Promise<void>((resolve) => setImmediate(resolve));
};
/** Somebody who keeps its own end open, whatever comes; `isGone` when ours is gone for certain. */
function stubborn(port: number, text = "") {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  const seen = { socket, heard: "", isGone: false };
  socket.on("connect", () => text !== "" && socket.write(text));
  socket.on("data", (bytes: Buffer) => (seen.heard += bytes.toString("latin1")));
  socket.on("error", () => {});
  socket.on("close", () => (seen.isGone = true));
  return seen;
}

test("who was refused and does not go is cut off after a second", async () => {
  const { port, clock } = listen();
  const one = stubborn(port, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
  await until(() => one.heard.includes("404"));
  // It goes on talking: its own end is open. What it says then is answered by nothing but a reset.
  await clock.advance(1_001);
  await until(() => (one.isGone ? true : (one.socket.write("more"), false)));
});

test("who breaks the rules of frames is cut off", async () => {
  const { port, seen } = listen();
  const one = stubborn(port, upgrade());
  await until(() => seen.pipes.length === 1);
  const closed = Promise.withResolvers<unknown>();
  seen.pipes[0]!.open({ data() {}, drain() {}, closed: (error) => closed.resolve(error) });
  // A frame of a client that is not masked.
  one.socket.write(Uint8Array.of(0x82, 1, 7));
  await closed.promise;
  await until(() => one.isGone);
});

test("who has proven itself makes room for nobody, and a stranger that goes leaves its place to others", async () => {
  const { port, seen } = listen();
  const proven = stubborn(port, upgrade());
  await until(() => seen.pipes.length === 1);
  seen.pipes[0]!.open({ data() {}, drain() {}, closed() {} });
  seen.pipes[0]!.proven();
  // As many as may be, who go again before others come.
  for (let round = 0; round < 2; round++) {
    const some = Array.from({ length: STRANGERS_PER_SOURCE_MAX / 2 + 20 }, () => stubborn(port));
    await until(() => some.every(({ socket }) => !socket.connecting));
    for (const { socket } of some) socket.destroy();
    await until(() => some.every(({ isGone }) => isGone));
    // Accepted after them, so that all of them are gone.
    await say(port, "GET / HTTP/1.1\r\n\r\n");
  }
  expect(seen.refused).toBe(0);
  const crowd = Array.from({ length: STRANGERS_PER_SOURCE_MAX + 20 }, () => stubborn(port));
  await until(() => seen.refused >= 20);
  await until(() => crowd.filter(({ isGone }) => isGone).length >= 20);
  expect([proven.isGone, seen.pipes[0]!.bufferedBytes]).toEqual([false, 0]);
  for (const { socket } of [...crowd, proven]) socket.destroy();
});
