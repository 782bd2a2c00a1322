/** Connections that the node opens for a plugin, over loopback: halves, back-pressure, resets, and what ends with the plugin. */
import { afterEach, describe, expect, test } from "bun:test";
import { createConnection, type Socket } from "node:net";
import type { NetStream } from "@godwit/sdk";
import { Scope } from "../../kernel/scope.ts";
import { openPluginNet } from "./net.ts";
import { allowAll, netPolicyOf } from "../permissions.ts";

const scopes: Scope[] = [];
afterEach(async () => {
  for (const scope of scopes.splice(0)) await scope.close();
});

function makeNet() {
  const scope = new Scope("plugin");
  scopes.push(scope);
  return { scope, net: openPluginNet(scope, allowAll) };
}

async function connect() {
  const { scope, net } = makeNet();
  const accepted = Promise.withResolvers<NetStream>();
  const { port } = await net.listen("127.0.0.1", 0, accepted.resolve);
  const near = await net.connect("127.0.0.1", port);
  return { scope, net, port, near, far: await accepted.promise };
}

function watch(stream: NetStream) {
  const [ended, drained, closed] = [
    Promise.withResolvers<void>(),
    Promise.withResolvers<void>(),
    Promise.withResolvers<Error | undefined>(),
  ];
  const seen = { bytes: 0, events: [] as string[] };
  stream.open({
    data: (bytes) => void (seen.bytes += bytes.length),
    end: () => (seen.events.push("end"), ended.resolve()),
    drain: () => (seen.events.push("drain"), drained.resolve()),
    closed: (error) => (seen.events.push("closed"), closed.resolve(error)),
  });
  return { seen, ended: ended.promise, drained: drained.promise, closed: closed.promise };
}

describe("a connection", () => {
  test("ends one direction at a time: the other goes on until it ends as well", async () => {
    const { near, far } = await connect();
    const [atNear, atFar] = [watch(near), watch(far)];
    near.write(new Uint8Array(5));
    near.end();
    await atFar.ended;
    expect([near.write(new Uint8Array(9)), atFar.seen]).toEqual([true, { bytes: 5, events: ["end"] }]);
    far.write(new Uint8Array(7));
    far.end();
    expect(await Promise.all([atNear.closed, atFar.closed])).toEqual([undefined, undefined]);
    expect([atNear.seen.bytes, atFar.seen]).toEqual([7, { bytes: 5, events: ["end", "closed"] }]);
    // The end that comes last may come as the close that it is.
    expect(atNear.seen.events.filter((event) => event !== "end")).toEqual(["closed"]);
  });

  test("whose reader waits says stop, holds little, and drains once it reads; its end comes after all of it", async () => {
    const { near, far } = await connect();
    const [atNear, atFar] = [watch(near), watch(far)];
    far.pause(true);
    let written = 0;
    for (let goesOn = true; goesOn; written += 65_536) goesOn = near.write(new Uint8Array(65_536));
    near.write(new Uint8Array(1));
    near.end();
    expect(atNear.seen.events).toEqual([]);
    far.pause(false);
    await atFar.ended;
    expect(atFar.seen.bytes).toBe(written + 1);
    far.end();
    await atNear.closed;
    // Who said that nothing more comes is not asked for more.
    expect(atNear.seen.events).not.toContain("drain");
  });

  test("drains once for all that said stop", async () => {
    const { near, far } = await connect();
    const [atNear, atFar] = [watch(near), watch(far)];
    far.pause(true);
    while (near.write(new Uint8Array(65_536)));
    near.write(new Uint8Array(9));
    far.pause(false);
    await atNear.drained;
    expect(near.write(new Uint8Array(1))).toBe(true);
    near.reset();
    await Promise.all([atNear.closed, atFar.closed]);
    expect(atNear.seen.events).toEqual(["drain", "closed"]);
  });

  test("ends with the plugin, as listeners do; nothing is opened after it", async () => {
    const { scope, net, port, near, far } = await connect();
    const [atNear, atFar] = [watch(near), watch(far)];
    await scope.close();
    await Promise.all([atNear.closed, atFar.closed]);
    await expect(net.connect("127.0.0.1", port)).rejects.toMatchObject({ code: "GODWIT_STOPPED" });
    const other = makeNet();
    await expect(other.net.connect("127.0.0.1", port)).rejects.toMatchObject({ code: "GODWIT_DIAL_FAILED" });
  });

  test("given up before it is there rejects with the reason", async () => {
    const { net } = makeNet();
    const reason = new Error("no longer wanted");
    await expect(net.connect("127.0.0.1", 1, AbortSignal.abort(reason))).rejects.toBe(reason);
    const { port } = await net.listen("127.0.0.1", 0, (stream) => void watch(stream));
    const abort = new AbortController();
    const connecting = net.connect("127.0.0.1", port, abort.signal);
    abort.abort(reason);
    await expect(connecting).rejects.toBe(reason);
  });
});

test("a refusal names the permission as a manifest or a grant would, an IPv6 address in brackets", async () => {
  const scope = new Scope("plugin");
  scopes.push(scope);
  const asked = ["broker.connect:[2001:db8::1]:443"];
  const net = openPluginNet(scope, netPolicyOf(asked, []));
  await expect(net.connect("2001:db8::1", 443)).rejects.toThrow(
    `was not granted ${asked[0]}: its table gives it by grant = ["${asked[0]}"]`,
  );
  await expect(net.connect("192.0.2.1", 443)).rejects.toThrow("add it to permissions in godwit-plugin.json");
});

describe("a crowd at a plugin's listeners", () => {
  const sockets: Socket[] = [];
  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.destroy();
  });

  /** Connected from that address of loopback, and it has said something. */
  const call = (port: number, from: string, onData: (bytes: Buffer) => void = () => {}): Promise<Socket> =>
    new Promise((resolve, reject) => {
      const socket = createConnection({ host: "127.0.0.1", port, localAddress: from }, () =>
        socket.write("x", () => resolve(socket)),
      );
      sockets.push(socket);
      socket.on("data", onData);
      socket.once("error", reject);
    });
  const echo = (stream: NetStream) =>
    stream.open({ data: (bytes) => void stream.write(bytes), drain() {}, end() {}, closed() {} });

  test("that holds all places with a byte each keeps no third source out", async () => {
    const { net } = makeNet();
    const { port } = await net.listen("127.0.0.1", 0, echo);
    const all = Promise.withResolvers<void>();
    let answered = 0;
    const onAnswer = () => {
      if (++answered === 512) all.resolve();
    };
    for (let i = 0; i < 512; i++) await call(port, `127.0.1.${1 + (i % 2)}`, onAnswer);
    await all.promise;
    await new Promise<void>((resolve, reject) => {
      call(port, "127.0.2.1", () => resolve()).then((socket) => socket.on("close", reject), reject);
    });
  });

  test("leaves the plugin the sockets that it opens itself, however many listeners it has", async () => {
    const { net } = makeNet();
    const listeners = [await net.listen("127.0.0.1", 0, echo), await net.listen("127.0.0.1", 0, echo)];
    let answered = 0;
    for (let i = 0; i < 1_024; i++)
      await call(listeners[i % 2]!.port, `127.0.1.${1 + (i % 4)}`, () => answered++).catch(() => {});
    const near = await net.connect("127.0.0.1", listeners[0]!.port);
    near.reset();
    expect(answered).toBeLessThanOrEqual(512);
  });
});

test("a plugin has a bounded number of sockets: 1,024, and one that it closes makes room for another", async () => {
  const { net } = makeNet();
  const one = await net.datagrams("127.0.0.1", 0, () => {});
  for (let i = 1; i < 1_024; i++) await net.datagrams("127.0.0.1", 0, () => {});
  for (const open of [
    () => net.datagrams("127.0.0.1", 0, () => {}),
    () => net.listen("127.0.0.1", 0, () => {}),
    () => net.connect("127.0.0.1", 9),
  ])
    await expect(open()).rejects.toMatchObject({ code: "GODWIT_QUEUE_FULL" });
  one.close();
  await net.datagrams("127.0.0.1", 0, () => {});
});
