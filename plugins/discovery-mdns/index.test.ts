import { afterEach, expect, test } from "bun:test";
import { createSocket, type Socket } from "node:dgram";
import { encode, type Answer, type Packet } from "dns-packet";
import type { TestHost } from "@godwit/sdk/testkit";
import { freeUdpPort, loopbackHost, type LoopbackHost, ON_LOOPBACK } from "./testing.ts";

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
    { endpoint: "ws://127.0.0.1:80/godwit", interface: "lo", dialTimeoutMs: 3_000, nodeId: b.self.id },
  ]);
  expect([...b.host.hints.values()].map(({ endpoint, nodeId }) => [endpoint, nodeId])).toEqual([
    ["tcp://127.0.0.1:4860", a.self.id],
    ["udp://127.0.0.1:4861", a.self.id],
  ]);
  await a.host.stop();
  await until([b.host], "the goodbye", () => b.host.hints.size === 0);
});
