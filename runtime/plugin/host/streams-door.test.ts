import { expect, test } from "bun:test";
import { ENGINE_STREAM_LIMITS, type IncomingMeshStream } from "@godwit/sdk";
import { type FakeStream, fakeStreamPair } from "@godwit/sdk/testkit";
import { silentLog } from "../../kernel/log.ts";
import { Scope } from "../../kernel/scope.ts";
import { openEngineStreams } from "./streams-door.ts";

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
const nothing = { data() {}, end() {}, drain() {}, closed() {} };

function setup(isAllowed = true) {
  const services = new Map<string, (stream: IncomingMeshStream) => void>();
  const opened: FakeStream[] = [];
  let gate: Promise<void> | undefined;
  const scope = new Scope("engine.test");
  const door = openEngineStreams({
    plugin: "raft",
    isAllowed,
    scope,
    log: silentLog,
    backend: {
      async openStream(to, service) {
        await gate;
        const { near } = fakeStreamPair({ opener: "a", handler: to }, service);
        opened.push(near);
        return near;
      },
      onStream(service, handler) {
        services.set(service, handler);
        return () => void services.delete(service);
      },
    },
  });
  const hold = () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    gate = promise;
    return resolve;
  };
  const receive = (from = "b") => {
    const { far } = fakeStreamPair({ opener: from, handler: "a" }, "raft:log");
    services.get("raft:log")!(far);
    return far;
  };
  return { door, scope, services, opened, receive, hold };
}
const { streams: STREAMS, takenPerNode: PER_NODE } = ENGINE_STREAM_LIMITS;

test("a channel goes by the plugin's id on the way, and by its own name at both ends", async () => {
  const { door, services, opened, receive } = setup();
  const seen: IncomingMeshStream[] = [];
  door.onStream("log", (stream) => {
    seen.push(stream);
    stream.accept();
  });
  const stream = await door.openStream("LON-B", "log");
  const far = receive();
  expect([[...services.keys()], opened[0]!.service, stream.service, seen[0]!.service]).toEqual([
    ["raft:log"],
    "raft:log",
    "log",
    "log",
  ]);
  expect([far.isAccepted, stream.remote, seen[0]!.remote]).toEqual([true, "LON-B", "b"]);
});

test("no more streams than its bound, opened and taken together, those on their way among them; one that ends makes room", async () => {
  const { door, opened, receive, hold } = setup();
  const taken: IncomingMeshStream[] = [];
  door.onStream("log", (stream) => {
    stream.accept();
    stream.open(nothing);
    taken.push(stream);
  });
  for (let n = 1; n < STREAMS; n++) receive(`node ${n}`);
  const release = hold();
  const opening = door.openStream("LON-B", "log");
  const refused = await door.openStream("LON-B", "log").catch((error: unknown) => error);
  const late = receive();
  expect([refused, late.isClosed, taken.length]).toMatchObject([
    { code: "GODWIT_STREAM_LIMIT" },
    true,
    STREAMS - 1,
  ]);
  release();
  (await opening).reset();
  const again = await door.openStream("LON-B", "log");
  again.open(nothing);
  // Ended by the far node, not by the plugin.
  opened[1]!.reset();
  await turn();
  expect(receive().isAccepted).toBe(true);
});

test("one node takes its share of the places and no more, and the others theirs", () => {
  const { door, receive } = setup();
  door.onStream("log", (stream) => stream.accept());
  const ofB = Array.from({ length: PER_NODE }, () => receive("b"));
  expect([receive("b").isClosed, receive("c").isAccepted]).toEqual([true, true]);
  expect(ofB.every(({ isClosed }) => !isClosed)).toBe(true);
});

test("what it opened and took ends with it, and an opening that comes too late", async () => {
  const { door, scope, services, opened, receive, hold } = setup();
  door.onStream("log", (stream) => stream.accept());
  const far = receive();
  await door.openStream("LON-B", "log");
  const release = hold();
  const opening = door.openStream("LON-B", "log");
  await scope.close();
  release();
  await opening.catch(() => {});
  expect([far.isClosed, opened.map(({ isClosed }) => isClosed), services.size]).toEqual([
    true,
    [true, true],
    0,
  ]);
  await expect(door.openStream("LON-B", "log")).rejects.toMatchObject({ code: "GODWIT_STOPPED" });
});

test("a handler that throws refuses the stream, and makes room", () => {
  const { door, receive } = setup();
  let calls = 0;
  door.onStream("log", () => {
    calls++;
    throw new Error("no");
  });
  for (let n = 0; n < STREAMS + 1; n++) expect(receive().isClosed).toBe(true);
  expect(calls).toBe(STREAMS + 1);
});

test("names that are none, and engines without the permission, are refused", async () => {
  const { door } = setup();
  for (const channel of ["", "Log", "a:b", "x".repeat(33), "plugin:mail"]) {
    expect(() => door.onStream(channel, () => {})).toThrow("is no name of a channel");
    await expect(door.openStream("LON-B", channel)).rejects.toMatchObject({ code: "GODWIT_REQUEST_INVALID" });
  }
  const other = setup(false);
  expect(() => other.door.onStream("log", () => {})).toThrow("was not granted engine.streams");
  await expect(other.door.openStream("LON-B", "log")).rejects.toMatchObject({ code: "GODWIT_FORBIDDEN" });
  expect([other.services.size, other.opened.length]).toEqual([0, 0]);
});
