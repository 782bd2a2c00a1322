/** Row 9: bytes and rate of the link handshake. */
import { systemRandom } from "../../runtime/kernel/random.ts";
import type { OpenSessionOptions } from "../../runtime/link/handshake.ts";
import { GODWIT, type Bench } from "./bench.ts";
import { contest, separateTurns, type Figure, type Sample } from "./contest.ts";
import { untilPing } from "./ip-probe.ts";
import { measureHandshakes } from "./link.ts";
import { Hosts } from "./namespaces.ts";
import { makeWireguard } from "./peers/wireguard.ts";

const secrets = [systemRandom.bytes(32)];
const patterns: readonly (readonly [string, Partial<OpenSessionOptions>, number])[] = [
  ["IK", {}, 170],
  ["XX", { hideIdentity: true }, 220],
  ["IKpsk2", { secrets }, 170],
  ["XXpsk3", { secrets, hideIdentity: true }, 220],
];

async function runGodwit(): Promise<Sample> {
  const sample: Record<string, number[]> = {};
  for (const [name, options] of patterns) {
    const { bytes, perSecond } = await measureHandshakes(options);
    sample[`${name} bytes`] = [bytes];
    sample[`${name} rate`] = [perSecond];
  }
  return sample;
}

const READY_MS = 30_000;
/** Of IPv4 and UDP, and of a ping in a transport packet: what is left of two counters after the first one. */
const IP_UDP_BYTES = 28;
const ETHERNET_BYTES = 14;

/** The first ping through a new tunnel, less what a second one costs: the handshake alone. */
async function runWireguard(): Promise<Sample> {
  const hosts = Hosts.line(2);
  try {
    await hosts.settle();
    const { peers } = await makeWireguard(hosts);
    const [near, far] = [hosts.all[0]!, hosts.all[1]!];
    // Resolution of the link's own addresses is no part of it.
    await untilPing(near, hosts.port(near, far).farAddress, READY_MS);
    for (const peer of peers) await peer.start();
    const port = hosts.port(near, far).net.device;
    const read = () => near.counters(port);
    const start = read();
    await untilPing(near, peers[1]!.address, READY_MS);
    const first = read();
    await untilPing(near, peers[1]!.address, READY_MS);
    const second = read();
    const payload = (from: typeof start, to: typeof start) =>
      to.bytes - from.bytes - (to.packets - from.packets) * (IP_UDP_BYTES + ETHERNET_BYTES);
    return { "IK bytes": [payload(start, first) - payload(first, second)] };
  } finally {
    await hosts.close();
  }
}

const figures = Object.fromEntries(
  patterns.flatMap(([name, , bytesMax]): [string, Figure][] => [
    [
      `${name} bytes`,
      {
        what:
          name === "IK"
            ? "IK (WireGuard: IKpsk2): bytes of payload on the wire"
            : `${name}: bytes on the wire`,
        unit: "B",
        goal: { of: "max", atMost: bytesMax },
      },
    ],
    [
      `${name} rate`,
      {
        what: `${name}: handshakes in a second of processor time, both ends`,
        unit: "1/s",
        goal: { of: "median", atLeast: 3_000 },
      },
    ],
  ]),
);

export const handshake: Bench = contest({
  name: "handshake",
  row: 9,
  how:
    "both ends in one process, pipes in memory; a node does one end, so its own rate is about twice this. " +
    "WireGuard: UDP payload by the veth counters, first ping through the tunnel less a second one",
  figures,
  contestants: [
    { name: GODWIT, isInProcess: true, open: async () => separateTurns(runGodwit) },
    {
      name: "wireguard-go",
      needs: ["wireguard-go", "wg", "ping"],
      open: async () => separateTurns(runWireguard),
    },
  ],
});
