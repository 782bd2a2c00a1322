/** `ctx.net` of a plugin outside of the node's thread: real sockets here, the real context of the plugin there. */
import { afterEach, expect, test } from "bun:test";
import { createConnection, type Socket } from "node:net";
import type { NetStream } from "@godwit/sdk";
import { Scope } from "../../kernel/scope.ts";
import { FLOWS_MAX } from "../frames/flow.ts";
import { decodeParts, FLOW_WINDOW_BYTES, PluginFrame } from "../frames/frames.ts";
import { FrameBed } from "../frames/testing.ts";
import { createNet } from "../guest/net.ts";
import { openPluginNet } from "../host/net.ts";
import { allowAll, netPolicyOf } from "../permissions.ts";
import { addNetCalls } from "./net.ts";
import type { RemoteParts } from "./parts.ts";

const scopes: Scope[] = [];
const sockets: Socket[] = [];
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const scope of scopes.splice(0)) await scope.close();
});
const scopeOf = (name: string): Scope => {
  const scope = new Scope(name);
  scopes.push(scope);
  return scope;
};

function rig(policy = allowAll) {
  const bed = new FrameBed(true);
  const scope = scopeOf("host");
  const network = { refusal: (address: string) => (address === "127.0.0.1" ? "loopback" : undefined) };
  const ctx = { net: openPluginNet(scope, policy), network };
  addNetCalls({ ...bed.node, ctx } as unknown as RemoteParts);
  const net = createNet(bed.plugin.calls, bed.plugin.flows, scopeOf("guest"));
  bed.onOther = (end, type, id, body) => {
    if (end === "plugin" && type === PluginFrame.open) net.onOpen(id, decodeParts(body).json as object);
  };
  return { bed, net, scope };
}

/** Somebody outside, over the kernel. */
function dial(port: number) {
  const socket = createConnection({ host: "127.0.0.1", port });
  sockets.push(socket);
  const over = Promise.withResolvers<string>();
  const said: Buffer[] = [];
  socket.on("data", (bytes: Buffer) => void said.push(bytes));
  socket.once("error", (error) => over.resolve((error as { code?: string }).code ?? "error"));
  socket.once("close", () => over.resolve("closed"));
  return { socket, over: over.promise, said };
}

test("a connection crosses both ways with both addresses, and each direction ends by itself", async () => {
  const { net, bed } = rig();
  const accepted = Promise.withResolvers<NetStream>();
  const { port } = await net.listen("127.0.0.1", 0, accepted.resolve);
  const near = await net.connect("127.0.0.1", port);
  const far = await accepted.promise;
  expect([near.remote, far.local]).toEqual([
    { host: "127.0.0.1", port },
    { host: "127.0.0.1", port },
  ]);
  expect(near.local).toEqual(far.remote);
  const ended = Promise.withResolvers<void>();
  const closed = Promise.withResolvers<unknown>();
  let got = "";
  far.open({
    data: (bytes) => void (got += Buffer.from(bytes).toString()),
    end: () => (far.write(Buffer.from("back")), far.end(), ended.resolve()),
    drain() {},
    closed() {},
  });
  let back = "";
  near.open({
    data: (bytes) => void (back += Buffer.from(bytes).toString()),
    end() {},
    drain() {},
    closed: (error) => closed.resolve(error),
  });
  near.write(Buffer.from("there"));
  near.end();
  await ended.promise;
  expect([await closed.promise, got, back]).toEqual([undefined, "there", "back"]);
  expect([bed.node.flows.size, bed.plugin.flows.size]).toEqual([0, 0]);
});

test("a listener that a plugin closes does not listen any more, and its connections go on", async () => {
  const { net } = rig();
  const accepted = Promise.withResolvers<NetStream>();
  const listener = await net.listen("127.0.0.1", 0, accepted.resolve);
  const one = dial(listener.port);
  const stream = await accepted.promise;
  stream.open({ data() {}, end() {}, drain() {}, closed() {} });
  listener.close();
  // A call later: the node has heard of it.
  await net.connect("127.0.0.1", listener.port).catch(() => {});
  expect(await dial(listener.port).over).toBe("ECONNREFUSED");
  stream.write(Buffer.from("still here"));
  while (one.said.length === 0) await new Promise<void>((resolve) => setImmediate(resolve));
  expect(Buffer.concat(one.said).toString()).toBe("still here");
});

test("who connects to a plugin that has no room is reset, and not left waiting", async () => {
  const { net, bed } = rig();
  const { port } = await net.listen("127.0.0.1", 0, () => {});
  const none = { onData() {}, onCredit() {}, onProven() {}, onLeft() {}, onClose() {}, onClosed() {} };
  for (let i = 0; i < FLOWS_MAX; i++) bed.node.flows.add(2 * i + 2, { ...none, onEnd() {}, onChange() {} });
  expect(["ECONNRESET", "closed"]).toContain(await dial(port).over);
  for (let i = 0; i < FLOWS_MAX; i++) bed.node.flows.delete(2 * i + 2);
});

test("a plugin opens no socket that was not granted, and is told which grant that takes", async () => {
  const { net } = rig(
    netPolicyOf(["broker.listen:*", "broker.connect:*:*", "broker.udp:*"], ["broker.listen:1"]),
  );
  for (const [open, grant] of [
    [() => net.listen("127.0.0.1", 0, () => {}), "broker.listen:0"],
    [() => net.connect("127.0.0.1", 9), "broker.connect:127.0.0.1:9"],
    [() => net.datagrams("127.0.0.1", 0, () => {}), "broker.udp:0"],
  ] as const)
    expect(await open().then(String, (error: unknown) => error)).toMatchObject({
      code: "GODWIT_FORBIDDEN",
      message: expect.stringContaining(`grant = ["${grant}"]`),
    });
});

test("what is no place is refused before anything is opened", async () => {
  const { bed } = rig();
  for (const at of [
    { host: "", port: 1 },
    { host: "x".repeat(256), port: 1 },
    { host: "::1", port: 65_536 },
    { host: "::1" },
  ])
    expect(
      await bed.plugin.calls.ask("net.connect", at, () => "opened").catch((error: unknown) => error),
    ).toMatchObject({ code: "GODWIT_DECODE" });
});

test("datagrams cross with whom they are of, and one to nowhere breaks the protocol", async () => {
  const { net, bed } = rig();
  const got = Promise.withResolvers<{ text: string; port: number }>();
  const near = await net.datagrams("127.0.0.1", 0, () => {});
  const far = await net.datagrams("127.0.0.1", 0, (bytes, from) =>
    got.resolve({ text: Buffer.from(bytes).toString(), port: from.port }),
  );
  near.send(Buffer.from("hello"), { host: "127.0.0.1", port: far.port });
  expect(await got.promise).toEqual({ text: "hello", port: near.port });
  // The first flow of the node.
  bed.plugin.port.send(PluginFrame.data, 2, Uint8Array.of(0));
  await new Promise<void>((resolve) => setImmediate(resolve));
  expect(bed.errors[0]).toMatchObject({
    code: "GODWIT_DECODE",
    message: expect.stringContaining("to nowhere"),
  });
});

test("a far end that writes to a plugin that does not read is held back by its kernel", async () => {
  const { net } = rig();
  const accepted = Promise.withResolvers<NetStream>();
  const { port } = await net.listen("127.0.0.1", 0, accepted.resolve);
  const { socket } = dial(port);
  const stream = await accepted.promise;
  const seen = { got: 0, written: 0 };
  stream.open({ data: (bytes) => void (seen.got += bytes.length), end() {}, drain() {}, closed() {} });
  stream.pause(true);
  const piece = Buffer.alloc(2 ** 20);
  // Until the kernel takes no more for a while: windows of TCP, of the socket, and of the flow.
  for (let idle = 0; idle < 50;) {
    if (socket.writableLength === 0) {
      socket.write(piece);
      seen.written += piece.length;
      idle = 0;
    } else idle++;
    await new Promise<void>((resolve) => setTimeout(resolve, 1));
    if (seen.written > 2 ** 26) break;
  }
  expect(seen.written).toBeLessThan(2 ** 26);
  expect(seen.got).toBeLessThanOrEqual(2 * FLOW_WINDOW_BYTES);
  stream.pause(false);
  while (seen.got < seen.written) await new Promise<void>((resolve) => setImmediate(resolve));
  expect(seen.got).toBe(seen.written);
});
