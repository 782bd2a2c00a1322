/** Rows 14 and 15: what an idle daemon sends over a link, and what it holds in memory meanwhile. */
import { Lab } from "../../scripts/lab.ts";
import { GODWIT, type Bench } from "./bench.ts";
import { contest, separateTurns, type Contestant, type Sample } from "./contest.ts";
import { addToHosts } from "./godwit-hosts.ts";
import { Hosts } from "./namespaces.ts";
import { makeBabeld } from "./peers/babeld.ts";
import type { MakeMesh } from "./peers/peer.ts";
import { makeWireguard } from "./peers/wireguard.ts";
import { makeYggdrasil } from "./peers/yggdrasil.ts";
import { untilWhole } from "./probe.ts";
import { memoryOf } from "./process.ts";

const SETTLE_MS = 20_000;
const COUNT_MS = 60_000;
/** The counters of an interface include it; a goal in bytes of IP does not. */
const ETHERNET_BYTES = 14;

async function measure(hosts: Hosts, pids: readonly number[]): Promise<Sample> {
  await Bun.sleep(SETTLE_MS);
  const ports = [hosts.port(hosts.all[0]!, hosts.all[1]!), hosts.port(hosts.all[1]!, hosts.all[2]!)];
  const read = () => ports.map(({ host, net }) => host.counters(net.device));
  const before = read();
  await Bun.sleep(COUNT_MS);
  const bytes = read().map((now, i) => {
    const packets = now.packets - before[i]!.packets;
    return (now.bytes - before[i]!.bytes - packets * ETHERNET_BYTES) / (COUNT_MS / 1_000);
  });
  const memory = pids.map(memoryOf);
  return { bytes, rss: memory.map(({ rssMb }) => rssMb), pss: memory.map(({ pssMb }) => pssMb) };
}

async function runGodwit(): Promise<Sample> {
  const hosts = Hosts.line(3);
  const lab = await Lab.create();
  try {
    await hosts.settle();
    const nodes = await addToHosts(lab, hosts);
    await Promise.all(nodes.map((node) => node.start()));
    await untilWhole(nodes);
    return await measure(
      hosts,
      nodes.map(({ pid }) => pid!),
    );
  } finally {
    await lab.close();
    await hosts.close();
  }
}

const peer = (name: string, make: MakeMesh): Contestant => ({
  name,
  needs: [name],
  open: async () =>
    separateTurns(async () => {
      const hosts = Hosts.line(3);
      try {
        await hosts.settle();
        const { peers } = await make(hosts);
        await Promise.all(peers.map((each) => each.start()));
        return await measure(
          hosts,
          peers.map(({ daemon }) => daemon.pid),
        );
      } finally {
        await hosts.close();
      }
    }),
});

export const idle: Bench = contest({
  name: "idle",
  row: 14,
  how:
    `line of 3 namespaces, ${SETTLE_MS / 1_000} s after all links are up, for ${COUNT_MS / 1_000} s; all contestants at once, each in namespaces of its own. ` +
    "Bytes of IP by the veth counters, the kernel's own neighbour discovery included. Row 15: memory of the 3 processes at the end",
  isTogether: true,
  figures: {
    bytes: {
      what: "idle traffic of a link, both directions",
      unit: "B/s",
      goal: { of: "median", atMost: 30 },
    },
    rss: { what: "resident, idle (row 15)", unit: "MB", goal: { of: "max", atMost: 55 } },
    pss: { what: "proportional share, idle (row 15)", unit: "MB" },
  },
  contestants: [
    { name: GODWIT, open: async () => separateTurns(runGodwit) },
    peer("babeld", makeBabeld),
    peer("yggdrasil", makeYggdrasil),
    peer("wireguard-go", makeWireguard),
  ],
});
