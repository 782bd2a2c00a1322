import { afterEach, beforeEach, expect, test } from "bun:test";
import { closeSync } from "node:fs";
import { createConnection } from "node:net";
import { dlopen, ptr } from "bun:ffi";
import { ManualClock } from "../kernel/clock.ts";
import type { NodeId } from "../kernel/ids.ts";
import { silentLog } from "../kernel/log.ts";
import { seededRandom } from "../kernel/random.ts";
import type { ByteStream } from "../stream/byte-stream.ts";
import type { StreamHandler } from "../stream/streams.ts";
import { Forwards, type ForwardsDeps } from "./forwards.ts";

const REMOTE = "r".repeat(52) as NodeId;
const TRUSTED = { from: ["trusted"], targets: ["127.0.0.1:*"] };

let clock: ManualClock;
let isTrusted: boolean;
let forwards: Forwards;
let serve: StreamHandler;
let target: ReturnType<typeof listen>;

const listen = () => Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });

beforeEach(() => {
  clock = new ManualClock();
  isTrusted = true;
  target = listen();
  forwards = new Forwards({
    streams: {
      handle(_: string, handler: StreamHandler) {
        serve = handler;
        return () => {};
      },
    },
    clock,
    random: seededRandom(1),
    log: silentLog,
    allow: [TRUSTED],
    resolve: () => REMOTE,
    isFrom: (who: string) => who === "trusted" && isTrusted,
  } as unknown as ForwardsDeps);
});
afterEach(() => {
  forwards.stop();
  target.stop(true);
});

/** Somebody asks for a connection: why it was reset, and whether it was accepted before. */
async function asked(
  meanwhile = () => {},
): Promise<{ readonly resets: string[]; readonly isAccepted: boolean }> {
  const resets: string[] = [];
  const isAccepted = await new Promise<boolean>((resolve) => {
    const stream = {
      remote: REMOTE,
      metadata: Buffer.from(`127.0.0.1:${target.port}`),
      isClosed: false,
      accept: () => resolve(true),
      open() {},
      pause() {},
      write: () => true,
      end() {},
      reset(_code?: number, why?: string) {
        resets.push(why ?? "");
        resolve(false);
      },
    };
    serve(stream as unknown as ByteStream);
    meanwhile();
  });
  return { resets, isAccepted };
}

async function served(): Promise<{ readonly resets: string[] }> {
  const one = await asked();
  expect(one.isAccepted).toBe(true);
  return one;
}

const refusal = () => `the far node does not allow 127.0.0.1:${target.port}`;

test("a connection ends with a right that ran out, of which nobody tells", async () => {
  const { resets } = await served();
  await clock.advance(60_000);
  expect(resets).toEqual([]);
  isTrusted = false;
  await clock.advance(21_000);
  expect(resets[0]).toBe(refusal());
});

test("a right that is away for a moment, as one by a rule is without a link, ends nothing", async () => {
  const { resets } = await served();
  for (let i = 0; i < 10; i++) {
    isTrusted = !isTrusted;
    await clock.advance(10_000);
  }
  expect(resets).toEqual([]);
});

test("a change ends what is refused by it at once, and one of somebody's rights a moment later", async () => {
  const one = await served();
  forwards.allow([]);
  expect(one.resets[0]).toBe(refusal());
  forwards.allow([TRUSTED]);
  const two = await served();
  isTrusted = false;
  forwards.rightsChanged();
  await clock.advance(1_001);
  expect(two.resets[0]).toBe(refusal());
});

test("nothing is looked at while nothing is served", async () => {
  const { resets } = await served();
  forwards.allow([]);
  expect(resets).not.toEqual([]);
  await clock.advance(10_001);
  expect(clock.nextAtMs()).toBeUndefined();
});

test("a right that is taken back while its target is connected opens nothing", async () => {
  const one = await asked(() => (isTrusted = false));
  expect(one).toEqual({ isAccepted: false, resets: [refusal()] });
});

test("of a configuration read anew, forwards that are as before stay the same ones, and those of a command too", () => {
  const wanted = (to: string) => ({ listen: "127.0.0.1:0", to, target: "localhost:80" });
  const ids = () => Object.fromEntries(forwards.list().map(({ id, to }) => [to, id]));
  forwards.configure([wanted("LON-A"), wanted("LON-B")]);
  forwards.add(wanted("LON-C"), "api");
  const before = ids();
  expect(Object.keys(before)).toEqual(["LON-A", "LON-B", "LON-C"]);
  forwards.configure([wanted("LON-D"), wanted("LON-B")]);
  const after = ids();
  expect(after).toEqual({
    "LON-B": before["LON-B"]!,
    "LON-C": before["LON-C"]!,
    "LON-D": expect.any(String),
  });
  expect(forwards.list()).toHaveLength(3);
  expect(forwards.list().every(({ isListening }) => isListening)).toBe(true);
});

test("why a forward of the configuration does not listen is told until it does", async () => {
  const taken = listen();
  const address = `127.0.0.1:${taken.port}`;
  forwards.configure([
    { listen: address, to: "LON-A", target: "localhost:80" },
    { listen: "127.0.0.1:0", to: "LON-B", target: "localhost:80" },
  ]);
  expect(forwards.waiting).toHaveLength(1);
  expect(forwards.waiting[0]).toContain(address);
  taken.stop(true);
  await clock.advance(60_000);
  expect(forwards.waiting).toEqual([]);
  expect(forwards.list().every(({ isListening }) => isListening)).toBe(true);
});

/** One that asks for a target; what becomes of it is told to `resets` and `accepted`. */
function asking(text = `127.0.0.1:${target.port}`) {
  const seen = { resets: [] as string[], accepts: 0, ends: 0 };
  const stream = {
    remote: REMOTE,
    metadata: Buffer.from(text),
    isClosed: false,
    accept: () => void seen.accepts++,
    open() {},
    pause() {},
    write: () => true,
    end: () => void seen.ends++,
    reset(_code?: number, why?: string) {
      stream.isClosed = true;
      seen.resets.push(why ?? "");
    },
  };
  serve(stream as unknown as ByteStream);
  return seen;
}
const turn = (): Promise<void> => new Promise<void>((resolve) => setImmediate(resolve));
const until = async (isSo: () => boolean): Promise<void> => {
  while (!isSo()) await turn();
};
/** The target, and how often anybody connected to it. */
function countingTarget() {
  const seen = { opened: 0 };
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: { open: () => void seen.opened++, data() {} },
  });
  return { ...listener, port: listener.port, seen, stop: () => listener.stop(true) };
}

test("nobody reaches a target that no rule allows, not even for the time of a connection", async () => {
  const other = countingTarget();
  try {
    forwards.allow([{ from: ["trusted"], targets: [`127.0.0.1:${target.port}`] }]);
    for (const text of [`127.0.0.1:${other.port}`, `localhost:${target.port}`, "nonsense", ""]) {
      const { resets, accepts } = asking(text);
      expect([resets.length, accepts]).toEqual([1, 0]);
      expect(resets[0]).toContain("does not allow");
    }
    isTrusted = false;
    expect(asking().resets[0]).toContain("does not allow");
    for (let i = 0; i < 20; i++) await turn();
    expect(other.seen.opened).toBe(0);
  } finally {
    other.stop();
  }
});

test("connections that this node serves are bounded, and one that came to nothing leaves its place", async () => {
  // To where nobody listens: each comes to nothing at once.
  const dead = listen();
  const { port } = dead;
  dead.stop(true);
  // All at once, before one of them is connected.
  const crowd = Array.from({ length: 2_048 }, () => asking(`127.0.0.1:${port}`));
  expect(asking().resets).toEqual(["the far node serves too many connections"]);
  await until(() => crowd.every(({ resets }) => resets.length > 0));
  expect(crowd[0]!.resets).toEqual([`127.0.0.1:${port}: connection refused`]);
  expect((await asked()).isAccepted).toBe(true);
});

/** A port whose queue is full: whoever connects there waits. Nobody ever accepts. */
async function deafPort() {
  const libc = dlopen("libc.so.6", {
    socket: { args: ["i32", "i32", "i32"], returns: "i32" },
    bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
    listen: { args: ["i32", "i32"], returns: "i32" },
    getsockname: { args: ["i32", "ptr", "ptr"], returns: "i32" },
  } as const).symbols;
  const fd = libc.socket(2, 1, 0);
  const address = new Uint8Array(16);
  address.set([2, 0, 0, 0, 127, 0, 0, 1]);
  expect([libc.bind(fd, ptr(address), 16), libc.listen(fd, 0)]).toEqual([0, 0]);
  libc.getsockname(fd, ptr(address), ptr(Uint32Array.of(16)));
  const port = address[2]! * 256 + address[3]!;
  const fillers = Array.from({ length: 4 }, () => createConnection({ host: "127.0.0.1", port }));
  for (const filler of fillers) filler.on("error", () => {});
  await until(() => fillers.some(({ connecting }) => !connecting));
  return {
    port,
    close() {
      for (const filler of fillers) filler.destroy();
      closeSync(fd);
    },
  };
}

test("a target that does not answer is told within ten seconds, and what connects later is not kept", async () => {
  const deaf = await deafPort();
  try {
    const one = asking(`127.0.0.1:${deaf.port}`);
    await clock.advance(9_999);
    expect(one.resets).toEqual([]);
    await clock.advance(1);
    expect([one.resets, one.accepts]).toEqual([[`127.0.0.1:${deaf.port} does not answer`], 0]);
  } finally {
    deaf.close();
  }
});

/** Whoever connects to a port of ours; `answer` is what the far node says, in its own time. */
function listening(answer: () => Promise<ByteStream>) {
  forwards.stop();
  forwards = new Forwards({
    streams: {
      handle: () => () => {},
      open: (_to: unknown, _service: unknown, { signal }: { signal: AbortSignal }) =>
        Promise.race([
          answer(),
          new Promise<never>((_, reject) =>
            signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true }),
          ),
        ]),
    },
    ...{ clock, random: seededRandom(1), log: silentLog, allow: [] },
    resolve: () => REMOTE,
    isFrom: () => false,
  } as unknown as ForwardsDeps);
  const row = forwards.add({ listen: "127.0.0.1:0", to: "LON-A", target: "localhost:80" }, "api");
  const port = Number(row.listen.split(":").at(-1));
  return { row, port };
}
/** Somebody of this machine who connects and says nothing. */
function caller(port: number) {
  const seen = { gone: "" };
  const socket = createConnection({ host: "127.0.0.1", port });
  socket.once("error", (error) => void (seen.gone ||= (error as { code?: string }).code ?? "error"));
  socket.once("close", () => void (seen.gone ||= "closed"));
  return {
    seen,
    say: (text: string) => void socket.write(text),
    destroy: () => socket.destroy(),
    reset: () => socket.resetAndDestroy(),
  };
}

test("whoever connects is reset when the far node does not answer within twenty seconds", async () => {
  const { port } = listening(() => new Promise(() => {}));
  const one = caller(port);
  await until(() => forwards.list()[0]!.connections === 1);
  await clock.advance(19_999);
  await turn();
  expect(one.seen.gone).toBe("");
  await clock.advance(1);
  await until(() => one.seen.gone !== "");
  expect([forwards.list()[0]!.connections, forwards.list()[0]!.lastError]).toEqual([
    0,
    "the far node did not answer in time",
  ]);
});

test("a forward that is removed ends its connections, and listens no more", async () => {
  const { row, port } = listening(() => new Promise(() => {}));
  const one = caller(port);
  await until(() => forwards.list()[0]!.connections === 1);
  expect(forwards.remove(row.id)).toBe(true);
  await until(() => one.seen.gone !== "");
  const late = caller(port);
  await until(() => late.seen.gone !== "");
  expect(late.seen.gone).toBe("ECONNREFUSED");
  expect(forwards.remove(row.id)).toBe(false);
});

test("a connection that is over leaves its place to others, also one that was in use", async () => {
  const stream = { open() {}, write: () => true, pause() {}, end() {}, reset() {} } as unknown as ByteStream;
  const { port } = listening(() => Promise.resolve(stream));
  // Of one source at most 256 at once, and who is in use yields to nobody of its own.
  for (let round = 0; round < 6; round++) {
    const some = Array.from({ length: 50 }, () => caller(port));
    for (const one of some) one.say("x");
    await until(() => forwards.list()[0]!.bytesSent === 50 * (round + 1));
    for (const one of some) one.reset();
    await until(() => forwards.list()[0]!.connections === 0);
  }
  expect([forwards.list()[0]!.connectionsTotal, forwards.list()[0]!.bytesSent]).toEqual([300, 300]);
});

test("of one source 256 connections stand at once, and who comes then takes the place of a silent one", async () => {
  const { port } = listening(() => new Promise(() => {}));
  const crowd = Array.from({ length: 256 }, () => caller(port));
  await until(() => forwards.list()[0]!.connections === 256);
  const late = caller(port);
  await until(() => crowd.some(({ seen }) => seen.gone !== ""));
  await turn();
  expect([forwards.list()[0]!.connections, late.seen.gone]).toEqual([256, ""]);
  for (const one of [...crowd, late]) one.destroy();
});

test("forwards made by the API are bounded: 64", () => {
  const wanted = { listen: "127.0.0.1:0", to: "LON-A", target: "localhost:80" };
  for (let i = 0; i < 64; i++) forwards.add(wanted, "api");
  expect(() => forwards.add(wanted, "api")).toThrow("there are 64 forwards already");
  // Those of the configuration have a bound of their own there.
  forwards.configure([wanted]);
  expect(forwards.list()).toHaveLength(65);
});
