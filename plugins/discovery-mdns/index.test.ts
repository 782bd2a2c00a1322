import { afterEach, expect, test } from "bun:test";
import { createSocket, type Socket } from "node:dgram";
import { decode, encode, type Answer, type Packet } from "dns-packet";
import type { TestHost } from "@godwit/sdk/testkit";
import { freeUdpPort, LOOPBACK, loopbackHost, type LoopbackHost, ON_LOOPBACK } from "./testing.ts";

const GROUP = "224.0.0.251";
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean();
});

async function started(port: number, sockets: readonly string[], callsign?: string): Promise<LoopbackHost> {
  const made = loopbackHost(port, sockets, callsign);
  cleanups.push(() => made.host.stop());
  await made.host.start(ON_LOOPBACK);
  return made;
}

/** Sockets are real, clocks go on by hand: some milliseconds for each look. */
async function until(hosts: readonly TestHost[], what: string, check: () => boolean): Promise<void> {
  for (let look = 0; look < 400; look++) {
    if (check()) return;
    for (const host of hosts) host.clock.advance(20);
    await Bun.sleep(2);
  }
  throw new Error(`waited for ${what}`);
}

test("two nodes find each other, with id and port, and the one that stops is gone at the other", async () => {
  const port = await freeUdpPort();
  const a = await started(port, ["tcp://[::]:4860", "udp://127.0.0.1:4861"], "DUN-A");
  const b = await started(port, ["ws://0.0.0.0:80/godwit"]);
  await until([a.host, b.host], "both", () => a.host.hints.size === 1 && b.host.hints.size === 2);
  expect([...a.host.hints.values()]).toEqual([
    { endpoint: "ws://127.0.0.1:80/godwit", interface: "lo", dialTimeoutMs: 2_000, nodeId: b.self.id },
  ]);
  expect([...b.host.hints.values()].map(({ endpoint, nodeId }) => [endpoint, nodeId])).toEqual([
    ["tcp://127.0.0.1:4860", a.self.id],
    ["udp://127.0.0.1:4861", a.self.id],
  ]);
  await a.host.stop();
  await until([b.host], "the goodbye", () => b.host.hints.size === 0);
});

/** Somebody on the loopback interface who says what he likes. */
async function speaker(port: number, address = "127.0.0.1"): Promise<(packet: Packet | Uint8Array) => void> {
  const socket: Socket = createSocket({ type: "udp4", reuseAddr: true });
  await new Promise<void>((resolve) => socket.bind({ port, address }, () => resolve()));
  socket.setMulticastInterface("127.0.0.1");
  cleanups.push(() => void socket.close());
  return (packet) => socket.send(packet instanceof Uint8Array ? packet : encode(packet), port, GROUP);
}

const TYPE = "_godwit._tcp.local";
const id = "a".repeat(52);

function said(name: string, text: readonly string[], ttl = 4_500, port = 4_860): Answer[] {
  const instance = `${name}.${TYPE}`;
  return [
    { type: "PTR", name: TYPE, ttl, data: instance },
    { type: "SRV", name: instance, ttl: Math.min(ttl, 120), data: { port, target: `${name}.local` } },
    { type: "TXT", name: instance, ttl, data: [...text] },
  ];
}

const response = (answers: readonly Answer[]): Packet => ({ type: "response", answers: [...answers] });

test("what is said in parts is asked for, and is one hint when it is whole", async () => {
  const port = await freeUdpPort();
  const { host } = await started(port, []);
  const say = await speaker(port);
  const [pointer, ...rest] = said("Some one. Here", [`id=${id}`]);
  say(response([pointer!]));
  const listener = createSocket({ type: "udp4", reuseAddr: true });
  const asked: string[] = [];
  listener.on("message", (bytes) => {
    const { questions = [] } = decode(bytes);
    asked.push(...questions.map(({ type, name }) => `${type} ${name}`));
  });
  await new Promise<void>((resolve) => listener.bind({ port, address: GROUP }, () => resolve()));
  listener.addMembership(GROUP, "127.0.0.1");
  cleanups.push(() => void listener.close());
  const instance = `some one. here.${TYPE}`;
  await until([host], "the question", () => {
    say(response([pointer!]));
    return asked.includes(`SRV ${instance}`) && asked.includes(`TXT ${instance}`);
  });
  expect(host.hints.size).toBe(0);
  say(response([rest[0]!]));
  say(response([rest[1]!]));
  await until([host], "the hint", () => host.hints.size === 1);
  expect([...host.hints.values()]).toEqual([
    { endpoint: "tcp://127.0.0.1:4860", interface: "lo", dialTimeoutMs: 2_000, nodeId: id },
  ]);
});

test("what is no node, or speaks another protocol, is no hint and is counted", async () => {
  const port = await freeUdpPort();
  const { host, self } = await started(port, []);
  const say = await speaker(port);
  say(response(said("liar", ["id=nobody"])));
  say(response(said("future", [`id=${id}`, "protocol=7-9"])));
  say(response(said("odd", [`id=${id}`, "protocol=all"])));
  say(response(said("me", [`id=${self.id}`])));
  // A label of bytes that are no text has other bytes when it is said again.
  const [pointer] = said("x".repeat(63), []);
  say(Buffer.from(encode(response([pointer!])).map((byte) => (byte === 120 ? 255 : byte))));
  say(response(said("portless", [`id=${id}`], 4_500, 0)));
  say(response(said("good", [`id=${id}`, "protocol=1-7", "ID=second"])));
  await until([host], "the good one", () => host.hints.size > 0);
  await until([host], "the counts", () => host.counters.get("dropped{reason=protocol}") === 2);
  expect([...host.hints.keys()]).toEqual(["tcp://127.0.0.1:4860"]);
  expect(host.counters.get("dropped{reason=id}")).toBe(1);
});

test("datagrams that are none, too long, too full or of elsewhere are counted and cost no hint", async () => {
  const port = await freeUdpPort();
  const { host } = await started(port, []);
  const say = await speaker(port);
  const header = (records: number): Buffer => {
    const bytes = Buffer.alloc(12);
    bytes.writeUInt16BE(0x8400, 2);
    bytes.writeUInt16BE(records, 6);
    return bytes;
  };
  // Names that point at themselves and at each other; a text of 64 KiB; more records than are looked at.
  say(Buffer.concat([header(1), Buffer.from([0xc0, 12, 0, 12, 0, 1, 0, 0, 0, 1, 0, 0])]));
  say(Buffer.concat([header(1), Buffer.from([0xc0, 14, 0xc0, 12, 0, 12, 0, 1])]));
  say(Buffer.from([1, 2, 3]));
  say(
    response([
      { type: "TXT", name: `big.${TYPE}`, data: Array.from({ length: 240 }, () => Buffer.alloc(255)) },
    ]),
  );
  say(Buffer.concat([header(65_535), Buffer.alloc(500)]));
  const elsewhere = createSocket({ type: "udp4", reuseAddr: true });
  await new Promise<void>((resolve) => elsewhere.bind({ port: 0, address: "127.0.0.1" }, () => resolve()));
  elsewhere.setMulticastInterface("127.0.0.1");
  cleanups.push(() => void elsewhere.close());
  elsewhere.send(encode(response(said("port", [`id=${id}`]))), port, GROUP);
  const counts = () =>
    ["malformed", "too_big", "too_many_records", "port"].map((reason) =>
      host.counters.get(`dropped{reason=${reason}}`),
    );
  await until([host], "all counts", () => counts().every((count) => count !== undefined));
  expect([counts(), host.hints.size]).toEqual([[3, 1, 1, 1], 0]);
});

test("one sender has sixteen instances, however many he names, and keeps those that he has", async () => {
  const port = await freeUdpPort();
  const { host } = await started(port, []);
  const say = await speaker(port);
  for (let i = 0; i < 40; i += 4) {
    say(response([0, 1, 2, 3].flatMap((j) => said(`n${i + j}`, [`id=${id}`], 4_500, 1_000 + i + j))));
    await until(
      [host],
      "each to be read",
      () => (host.counters.get("dropped{reason=full}") ?? 0) + host.hints.size === i + 4,
    );
  }
  expect([host.hints.size, host.counters.get("dropped{reason=full}")]).toEqual([16, 24]);
  expect(host.hints.has("tcp://127.0.0.1:1000")).toBe(true);
  say(response(said("n0", [`id=${id}`], 0)));
  await until([host], "the goodbye", () => host.hints.size === 15);
  say(response(said("n39", [`id=${id}`], 4_500, 1_039)));
  await until([host], "the one that found room", () => host.hints.has("tcp://127.0.0.1:1039"));
});

test("what one sender said no other takes back or replaces, and an address of elsewhere is none", async () => {
  const port = await freeUdpPort();
  const { host } = await started(port, []);
  const [honest, liar] = [await speaker(port), await speaker(port, "127.0.0.2")];
  const address = (name: string, data: string): Answer => ({
    type: "A",
    name: `${name}.local`,
    ttl: 120,
    data,
  });
  honest(response([...said("one", [`id=${id}`]), address("one", "127.0.0.1")]));
  await until([host], "the honest one", () => host.hints.size === 1);
  liar(response(said("one", [`id=${id}`], 0)));
  liar(response([...said("two", [`id=${id}`], 4_500, 2), address("two", "192.0.2.1")]));
  liar(response([...said("one", [`id=${id}`], 4_500, 1), address("one", "127.0.0.2")]));
  await until([host], "the lie", () => host.hints.size === 2);
  expect([...host.hints.keys()]).toEqual(["tcp://127.0.0.1:4860", "tcp://127.0.0.2:1"]);
  liar(response(said("one", [`id=${id}`], 0)));
  await until([host], "its end", () => host.hints.size === 1);
  expect(host.hints.has("tcp://127.0.0.1:4860")).toBe(true);
});

test("too fast a sender is not decoded, and what was said ends with its time", async () => {
  const port = await freeUdpPort();
  const { host } = await started(port, []);
  const say = await speaker(port);
  for (let i = 0; i < 200; i++) say(response(said("fast", [`id=${id}`], 60)));
  // The kernel may have lost some of them.
  for (let look = 0; look < 400 && (host.counters.get("dropped{reason=rate}") ?? 0) < 50; look++)
    await Bun.sleep(2);
  expect(host.counters.get("dropped{reason=rate}")!).toBeGreaterThanOrEqual(50);
  expect(host.hints.size).toBe(1);
  host.clock.advance(100_000);
  expect(host.hints.size).toBe(0);
});

test("an interface that goes takes what was heard on it along, and comes back", async () => {
  const port = await freeUdpPort();
  const { host, network } = await started(port, []);
  const say = await speaker(port);
  say(response(said("near", [`id=${id}`])));
  await until([host], "the hint", () => host.hints.size === 1);
  network.set([]);
  expect([host.hints.size, host.gauges.get("sockets")]).toEqual([0, 0]);
  network.set([LOOPBACK]);
  await until([host], "it again", () => {
    say(response(said("near", [`id=${id}`])));
    return host.hints.size === 1;
  });
});

test("nothing is announced without a socket, nor where the operator says so; a change is said at once", async () => {
  const port = await freeUdpPort();
  const { host, self } = await started(port, []);
  const quiet = loopbackHost(port, ["tcp://[::]:1"]);
  cleanups.push(() => quiet.host.stop());
  await quiet.host.start({ ...ON_LOOPBACK, announce: false });
  const b = await started(port, ["tcp://[::]:2"]);
  const hosts = [host, quiet.host, b.host];
  const heardBy = (who: TestHost) => [...who.hints.keys()];
  await until(hosts, "b at both", () => host.hints.size === 1 && quiet.host.hints.size === 1);
  expect(heardBy(b.host)).toEqual([]);
  self.set(
    [],
    ["tcp://127.0.0.1:3", "tor://somewhere:1", "wss://127.0.0.1:4/godwit", "ws://127.0.0.1:5/other"],
  );
  await until(hosts, "its new socket", () => b.host.hints.size === 1);
  self.set([], ["tcp://127.0.0.1:6"]);
  await until(hosts, "the next", () => b.host.hints.has("tcp://127.0.0.1:6") && b.host.hints.size === 1);
});

test("a group that cannot be joined is named in health, and tried again", async () => {
  const port = await freeUdpPort();
  const { host, network } = loopbackHost(port, []);
  cleanups.push(() => host.stop());
  network.set([{ ...LOOPBACK, address: "192.0.2.77" }]);
  await host.start(ON_LOOPBACK);
  await until([host], "the trouble", () => host.health.at(-1)?.state === "degraded");
  expect(host.health.at(-1)!.reason).toContain("lo:");
  network.set([LOOPBACK]);
  await until([host], "its end", () => host.health.at(-1)?.state === "running");
});

test("an interface that is named and not there is said; so is that there is none, which is no fault", async () => {
  const port = await freeUdpPort();
  const named = loopbackHost(port, []);
  cleanups.push(() => named.host.stop());
  await named.host.start({ interfaces: ["lo", "eth7"] });
  expect(named.host.health.at(-1)).toEqual({
    state: "running",
    reason: "eth7 is not there, or has no address",
  });
  named.network.set([]);
  expect(named.host.health.at(-1)).toEqual({
    state: "degraded",
    reason: "lo is not there, or has no address; eth7 is not there, or has no address",
  });
  named.network.set([LOOPBACK, { ...LOOPBACK, interface: "eth7" }]);
  expect(named.host.health.at(-1)).toEqual({ state: "running" });

  const any = loopbackHost(port, []);
  cleanups.push(() => any.host.stop());
  await any.host.start({});
  expect(any.host.health.at(-1)).toEqual({ state: "running", reason: "no interface has neighbours" });
});
