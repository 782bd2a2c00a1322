/** A TCP connection and a stream joined: real sockets of the kernel at one end, a stream in memory at the other. */
import { afterEach, expect, test } from "bun:test";
import { createConnection, type Socket as NodeSocket } from "node:net";
import type { Socket } from "bun";
import { fakeStreamPair } from "@godwit/sdk/testkit";
import type { ByteStream } from "../stream/byte-stream.ts";
import { Joint, jointHandlers, type JointState } from "./joint.ts";

/** What an unread stream holds before it says stop. */
const WINDOW_BYTES = 64 * 1_024;

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
});
const turn = (): Promise<void> => new Promise<void>((resolve) => setImmediate(resolve));
const until = async (isSo: () => boolean): Promise<void> => {
  while (!isSo()) await turn();
};

/** `outside` is connected to a port of ours; `far` is the end of the stream at another node. */
async function rig() {
  const accepted = Promise.withResolvers<Socket<JointState>>();
  const listener = Bun.listen<JointState>({
    hostname: "127.0.0.1",
    port: 0,
    allowHalfOpen: true,
    socket: {
      ...jointHandlers,
      open(socket) {
        socket.data = { joint: undefined };
        socket.pause();
        accepted.resolve(socket);
      },
    },
  });
  cleanups.push(() => listener.stop(true));
  const outside = createConnection({ host: "127.0.0.1", port: listener.port, allowHalfOpen: true });
  cleanups.push(() => outside.destroy());
  const seen = { got: [] as Buffer[], ended: false, gone: "" };
  outside.on("end", () => void (seen.ended = true));
  outside.once("error", (error) => void (seen.gone ||= (error as { code?: string }).code ?? "error"));
  outside.once("close", () => void (seen.gone ||= "closed"));
  outside.pause();
  const socket = await accepted.promise;
  const counts = { bytesSent: 0, bytesReceived: 0 };
  const over = Promise.withResolvers<Error | undefined>();
  const joint = new Joint(socket, counts, (error) => over.resolve(error));
  const { near, far } = fakeStreamPair({ opener: "a".repeat(52), handler: "b".repeat(52) }, "forward");
  far.accept();
  const atFar = { got: [] as Buffer[], ended: false, closed: undefined as string | undefined, drains: 0 };
  return {
    ...{ joint, counts, outside, far, seen, atFar, over: over.promise },
    join: () => joint.join(near as unknown as ByteStream),
    readOutside: () => void outside.on("data", (bytes: Buffer) => void seen.got.push(bytes)).resume(),
    readFar: () =>
      far.open({
        data: (bytes) => void atFar.got.push(Buffer.from(bytes)),
        end: () => void (atFar.ended = true),
        drain: () => void atFar.drains++,
        closed: (error) => void (atFar.closed = error?.code ?? "politely"),
      }),
  };
}
const sizeOf = (pieces: readonly Buffer[]): number => pieces.reduce((sum, { length }) => sum + length, 0);

/** Bytes that say where they stand. */
const patterned = (bytes: number): Buffer => {
  const out = Buffer.alloc(bytes);
  for (let at = 0; at + 4 <= bytes; at += 4) out.writeUInt32LE(at, at);
  return out;
};

/** As much as it takes, until it has taken nothing for a while. Answers how many bytes that were. */
async function stuff(outside: NodeSocket, most: number): Promise<number> {
  const piece = Buffer.alloc(262_144);
  let written = 0;
  for (let idle = 0; idle < 40 && written < most;) {
    if (outside.writableLength === 0) {
      outside.write(piece);
      written += piece.length;
      idle = 0;
    } else idle++;
    await new Promise<void>((resolve) => setTimeout(resolve, 1));
  }
  return written;
}

test("bytes cross both ways as they are, and are counted", async () => {
  const { join, outside, far, seen, atFar, counts, readOutside, readFar } = await rig();
  join();
  readOutside();
  readFar();
  outside.write("to the far node");
  far.write(Buffer.from("from the far node"));
  await until(() => sizeOf(seen.got) > 0 && sizeOf(atFar.got) > 0);
  expect([Buffer.concat(atFar.got).toString(), Buffer.concat(seen.got).toString()]).toEqual([
    "to the far node",
    "from the far node",
  ]);
  expect(counts).toEqual({ bytesSent: 15, bytesReceived: 17 });
});

test("what comes before there is a stream waits in the kernel, not here", async () => {
  const { join, outside, atFar, counts, readFar } = await rig();
  outside.write("early");
  for (let i = 0; i < 20; i++) await turn();
  expect(counts.bytesSent).toBe(0);
  join();
  readFar();
  await until(() => sizeOf(atFar.got) === 5);
});

test("a socket is not read while its stream is full, and read again when that has room: nothing is lost", async () => {
  const { join, outside, far, atFar, counts, readFar } = await rig();
  join();
  const most = 2 ** 26;
  const written = await stuff(outside, most);
  // The kernel's buffers took the rest.
  expect(written).toBeLessThan(most);
  expect(counts.bytesSent).toBeLessThanOrEqual(4 * WINDOW_BYTES + 2 ** 20);
  expect(far.unreadAtFarEnd).toBe(0);
  readFar();
  await until(() => sizeOf(atFar.got) === written);
});

test("a stream is not read while its socket is full, and read again when that has room: nothing is lost, nothing comes twice", async () => {
  const { join, far, seen, counts, readFar, atFar, readOutside } = await rig();
  join();
  readFar();
  const all = patterned(2 ** 24);
  let at = 0;
  let hasRoom = true;
  for (let idle = 0; idle < 200 && at < all.length; idle++) {
    while (hasRoom && at < all.length) {
      // Taken also where it says stop.
      hasRoom = far.write(all.subarray(at, at + 16_384));
      at += 16_384;
      idle = 0;
    }
    await turn();
    hasRoom = atFar.drains > 0;
    atFar.drains = 0;
  }
  expect(at).toBeLessThan(all.length);
  expect(counts.bytesReceived).toBeLessThan(all.length / 2);
  const sent = at;
  readOutside();
  await until(() => sizeOf(seen.got) >= sent);
  for (let i = 0; i < 20; i++) await turn();
  expect(Buffer.concat(seen.got).equals(all.subarray(0, sent))).toBe(true);
});

test("an end comes behind all bytes, also those that waited for the kernel", async () => {
  const { joint, seen, readOutside } = await rig();
  // A stream that says its end while it is paused: what it was told to hold is not there any more.
  let handlers: Parameters<ByteStream["open"]>[0] | undefined;
  const stream = {
    open: (given: typeof handlers) => void (handlers = given),
    pause() {},
    end() {},
    reset() {},
  };
  joint.join(stream as unknown as ByteStream);
  const all = patterned(2 ** 23);
  // More than the kernel takes, in one piece.
  handlers!.data(all);
  handlers!.end();
  for (let i = 0; i < 50; i++) await turn();
  expect(seen.ended).toBe(false);
  readOutside();
  await until(() => seen.ended);
  expect(Buffer.concat(seen.got).equals(all)).toBe(true);
});

test("one that has written everything may still read", async () => {
  const { join, outside, far, atFar, seen, readFar, readOutside, over } = await rig();
  join();
  readFar();
  readOutside();
  outside.end("a question");
  await until(() => atFar.ended);
  expect(Buffer.concat(atFar.got).toString()).toBe("a question");
  far.write(Buffer.from("an answer"));
  far.end();
  await until(() => seen.ended);
  expect(Buffer.concat(seen.got).toString()).toBe("an answer");
  expect([await over, atFar.closed]).toEqual([undefined, "politely"]);
});

test("a connection that breaks resets its stream: what came is not taken for all", async () => {
  const { join, outside, atFar, readFar } = await rig();
  join();
  readFar();
  outside.write("half of it");
  await until(() => sizeOf(atFar.got) > 0);
  outside.resetAndDestroy();
  await until(() => atFar.closed !== undefined);
  expect([atFar.ended, atFar.closed]).toEqual([false, "GODWIT_STREAM_RESET"]);
});

test("a stream that breaks resets its connection: what came is not taken for all", async () => {
  const { join, far, seen, readFar, readOutside, over, joint } = await rig();
  join();
  readFar();
  readOutside();
  far.write(Buffer.from("half of it"));
  await until(() => sizeOf(seen.got) > 0);
  far.reset();
  await until(() => seen.gone !== "");
  expect([seen.ended, seen.gone]).toEqual([false, "ECONNRESET"]);
  expect(await over).toBeInstanceOf(Error);
  expect(joint.isClosed).toBe(true);
});

test("there will be no stream: the peer sees its connection reset, and one that comes late is reset", async () => {
  const { joint, join, far, seen, over, readFar, readOutside, atFar } = await rig();
  readOutside();
  joint.abort(new Error("the far node did not answer in time"));
  await until(() => seen.gone !== "");
  expect(seen.gone).toBe("ECONNRESET");
  expect((await over)?.message).toBe("the far node did not answer in time");
  readFar();
  join();
  await until(() => far.isClosed);
  expect(atFar.ended).toBe(false);
});
