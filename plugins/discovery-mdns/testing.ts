/** Hosts on the loopback interface, where multicast reaches every process of the machine, on a port of the test's own. */
import { createSocket } from "node:dgram";
import type { HostAddress } from "@godwit/sdk";
import { FakeHostNetwork, FakeSelf, TestHost } from "@godwit/sdk/testkit";
import { createMdns } from "./index.ts";

export const LOOPBACK: HostAddress = {
  address: "127.0.0.1",
  family: 4,
  prefixLength: 8,
  interface: "lo",
  scope: "host",
  isAdvertisable: false,
};

export const ON_LOOPBACK = { interfaces: ["lo"] } as const;

/** One that the kernel chose and nobody has. */
export async function freeUdpPort(): Promise<number> {
  const socket = createSocket("udp4");
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  const { port } = socket.address();
  await new Promise<void>((resolve) => socket.close(resolve));
  return port;
}

export interface LoopbackHost {
  readonly host: TestHost;
  readonly self: FakeSelf;
  readonly network: FakeHostNetwork;
}

/** A host that was not started. */
export function loopbackHost(port: number, sockets: readonly string[], callsign?: string): LoopbackHost {
  const self = new FakeSelf(callsign === undefined ? {} : { callsign });
  self.set(sockets, sockets);
  const network = new FakeHostNetwork();
  network.set([LOOPBACK]);
  return { host: new TestHost(createMdns(port), { self, network }), self, network };
}
