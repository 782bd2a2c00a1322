/** Which hosts the device is told of: those that may be sent to on another's word, and whatever the operator named. */
import { afterEach, expect, test } from "bun:test";
import { FakeHostNetwork, FakePeers, ManualClock } from "@godwit/sdk/testkit";
import { Secret } from "@godwit/sdk/secret";
import type { WgDoor, WgPeer, WgPeerChange } from "./device.ts";
import { formatWgEndpoint, parseWgEndpoint } from "./endpoint.ts";
import { keyText } from "./keys.ts";
import type { Preshared } from "./preshared.ts";
import { Tunnel } from "./tunnel.ts";

const silent = { debug() {}, info() {}, warn() {}, error() {}, child: () => silent };
const far = "b".repeat(52);

async function told(hosts: string, refused: readonly string[], configured?: string): Promise<unknown[]> {
  const key = keyText(new Uint8Array(32).fill(7));
  const endpoint = `wg://${Buffer.from(key, "base64").toString("base64url")}/${hosts}`;
  const peers = new FakePeers({ id: "a".repeat(52) });
  peers.set([{ id: far, callsign: undefined, endpoints: [endpoint], isLinked: false, via: undefined }]);
  const network = new FakeHostNetwork();
  for (const address of refused) network.refused.set(address, "not to be sent to");
  const changes: WgPeerChange[] = [];
  const door: WgDoor = {
    read: async () => ({ publicKey: undefined, listenPort: 1, peers: [] }),
    change: async (change) => void changes.push(...(change.peers ?? [])),
    close() {},
  };
  const planned = Promise.withResolvers<void>();
  const tunnel = new Tunnel({
    ctx: { clock: new ManualClock(), log: silent, peers, network },
    pool: undefined,
    isRouted: false,
    keepalive: undefined,
    ownKey: () => keyText(new Uint8Array(32).fill(9)),
    ownHosts: () => [],
    guests: () => [],
    planned: () => planned.resolve(),
    failed: (reason) => planned.reject(new Error(reason)),
  });
  if (configured !== undefined)
    tunnel.noteConfigured(parseWgEndpoint(endpoint.replace(hosts, configured)).hosts);
  const stop = new AbortController();
  tunnel.door = door;
  const running = tunnel.run(stop.signal);
  await planned.promise;
  stop.abort();
  await running;
  expect(changes.map(({ publicKey }) => publicKey)).toEqual([key]);
  return changes.map((change) => change.endpoint);
}

test("a host in another's record that may not be sent to is passed over, by address and by name", async () => {
  expect(await told("127.0.0.1:22,192.0.2.7:51820", ["127.0.0.1"])).toEqual([
    { host: "192.0.2.7", port: 51_820 },
  ]);
  expect(await told("127.0.0.1:22", ["127.0.0.1"])).toEqual([undefined]);
  expect(await told("localhost:22", ["127.0.0.1", "::1"])).toEqual([undefined]);
});

test("what the operator named is sent to, at that port and no other", async () => {
  expect(await told("10.0.0.1:51820", ["10.0.0.1"], "10.0.0.1:51820")).toEqual([
    { host: "10.0.0.1", port: 51_820 },
  ]);
  expect(await told("10.0.0.1:22", ["10.0.0.1"], "10.0.0.1:51820")).toEqual([undefined]);
});

const key = (byte: number) => keyText(new Uint8Array(32).fill(byte));
const host = (text: string) => ({ host: text, port: 51_820 });
const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

/** A device in memory that does as it is told, and a tunnel that looks at it by the test's clock. */
async function rig() {
  const clock = new ManualClock();
  const peers = new FakePeers({ id: "a".repeat(52) });
  const held = new Map<string, WgPeer>();
  const changes: WgPeerChange[] = [];
  const door: WgDoor = {
    read: async () => ({ publicKey: undefined, listenPort: 1, peers: [...held.values()] }),
    async change(change) {
      for (const one of change.peers ?? []) {
        changes.push(one);
        const { publicKey, isRemoved, presharedKey, ...rest } = one;
        if (isRemoved === true) {
          held.delete(publicKey);
          continue;
        }
        const before = held.get(publicKey);
        const fresh = { presharedKey: undefined, endpoint: undefined, keepaliveSeconds: 0, allowedIps: [] };
        const counts = { handshakeMs: 0, receivedBytes: 0, sentBytes: 0 };
        const preshared = presharedKey === undefined ? before?.presharedKey : (presharedKey ?? undefined);
        held.set(publicKey, { ...fresh, ...counts, ...before, ...rest, publicKey, presharedKey: preshared });
      }
    },
    close() {},
  };
  const tunnel = new Tunnel({
    ctx: { clock, log: silent, peers, network: new FakeHostNetwork() },
    ...{ pool: undefined, isRouted: false, keepalive: undefined },
    ownKey: () => key(99),
    ownHosts: () => [],
    guests: () => [],
    planned() {},
    failed(reason) {
      throw new Error(reason);
    },
  });
  const stop = new AbortController();
  tunnel.door = door;
  // As the overlay has it.
  peers.onChange(() => tunnel.look());
  const running = tunnel.run(stop.signal);
  stops.push(async () => {
    stop.abort();
    await running;
  });
  /** So much time, look after look. */
  const pass = async (ms: number) => {
    for (let left = ms; left > 0; left -= 1_000) {
      await clock.advance(Math.min(1_000, left));
      for (let i = 0; i < 3; i++) await new Promise<void>((resolve) => setImmediate(resolve));
    }
  };
  const say = (byte: number | undefined, hosts = ["192.0.2.1"]) =>
    peers.set([
      {
        ...{ id: far, callsign: undefined, isLinked: false, via: undefined },
        endpoints:
          byte === undefined ? [] : [formatWgEndpoint({ publicKey: key(byte), hosts: hosts.map(host) })],
      },
    ]);
  const handshake = (byte: number, atMs: number, sentBytes = 1_000) =>
    held.set(key(byte), { ...held.get(key(byte))!, handshakeMs: atMs, sentBytes });
  return { clock, peers, held, changes, tunnel, pass, say, handshake };
}
const keysOf = (tunnel: Tunnel) => tunnel.candidates().map(({ publicKey }) => publicKey);

test("a node that has taken WireGuard out of its record is a peer for an hour: it may be starting", async () => {
  const { tunnel, say, pass, clock } = await rig();
  say(7);
  await pass(8_000);
  say(undefined);
  expect(keysOf(tunnel)).toEqual([key(7)]);
  await clock.advance(3_590_000);
  expect(keysOf(tunnel)).toEqual([key(7)]);
  await clock.advance(11_000);
  expect(keysOf(tunnel)).toEqual([]);
});

test("who is blocked or forgotten is no peer any more, at once, and leaves the device", async () => {
  const { tunnel, say, pass, held, peers } = await rig();
  say(7);
  await pass(8_000);
  expect([...held.keys()]).toEqual([key(7)]);
  peers.set([]);
  expect(keysOf(tunnel)).toEqual([]);
  await pass(8_000);
  expect([...held.keys()]).toEqual([]);
});

test("who was dialled and has no record stays a peer for two minutes", async () => {
  const { tunnel, pass, clock } = await rig();
  const dialling = tunnel.dial(
    far,
    { publicKey: key(8), hosts: [host("192.0.2.8")] },
    new AbortController().signal,
  );
  await pass(8_000);
  expect(await dialling).toStartWith("fd");
  expect(keysOf(tunnel)).toEqual([key(8)]);
  await clock.advance(110_000);
  expect(keysOf(tunnel)).toEqual([key(8)]);
  await clock.advance(3_000);
  expect(keysOf(tunnel)).toEqual([]);
});

test("a hint at another key takes nobody's place, unless nobody answers under its own", async () => {
  const { tunnel, say, pass, handshake, changes } = await rig();
  say(7);
  await pass(8_000);
  const endpoint = { publicKey: key(8), hosts: [host("192.0.2.8")] };
  void tunnel.dial(far, endpoint, new AbortController().signal);
  await pass(8_000);
  expect([tunnel.reach(key(7)), keysOf(tunnel)]).toEqual(["unknown", [key(7)]]);
  const tried = () => changes.some(({ publicKey, isRemoved }) => publicKey === key(8) && isRemoved !== true);
  expect(tried()).toBe(false);
  // Three initiations were sent, and nobody answered.
  handshake(7, 0, 10_000);
  await pass(20_000);
  expect(tried()).toBe(true);
});

test("while nobody answers the hosts are tried in turn; a tunnel that works is not moved by what a record says", async () => {
  const { say, pass, handshake, changes, clock, held } = await rig();
  say(7, ["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
  await pass(30_000);
  const tried = changes.flatMap(({ endpoint }) => endpoint?.host ?? []);
  expect(new Set(tried)).toEqual(new Set(["192.0.2.1", "192.0.2.2", "192.0.2.3"]));
  // It answers, from elsewhere.
  handshake(7, clock.wallMs());
  held.set(key(7), { ...held.get(key(7))!, endpoint: host("198.51.100.7") });
  await pass(8_000);
  changes.length = 0;
  say(7, ["192.0.2.4"]);
  await pass(30_000);
  expect(changes.flatMap(({ endpoint }) => endpoint ?? [])).toEqual([]);
  expect(held.get(key(7))!.endpoint).toEqual(host("198.51.100.7"));
});

test("a handshake of before a key was set confirms nothing, one after it does", async () => {
  const { tunnel, say, pass, handshake, clock } = await rig();
  const secret = new Secret(new Uint8Array(32).fill(5));
  const confirmed: string[] = [];
  let isThere = false;
  tunnel.preshared = {
    keyFor: () => (isThere ? secret : undefined),
    confirmed: (publicKey: string) => void confirmed.push(publicKey),
    tend() {},
  } as unknown as Preshared;
  say(7);
  await pass(8_000);
  const beforeMs = clock.wallMs();
  isThere = true;
  tunnel.look();
  await pass(8_000);
  // It went by the old key, and the device tells of it only now.
  handshake(7, beforeMs);
  await pass(8_000);
  expect(confirmed).toEqual([]);
  handshake(7, clock.wallMs());
  await pass(8_000);
  expect(confirmed).toEqual([key(7)]);
});
