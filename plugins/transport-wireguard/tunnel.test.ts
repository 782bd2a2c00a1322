/** Which hosts the device is told of: those that may be sent to on another's word, and whatever the operator named. */
import { expect, test } from "bun:test";
import { FakeHostNetwork, FakePeers, ManualClock } from "@godwit/sdk/testkit";
import type { WgDoor, WgPeerChange } from "./device.ts";
import { parseWgEndpoint } from "./endpoint.ts";
import { keyText } from "./keys.ts";
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
