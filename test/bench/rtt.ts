/** Row 8: round trips inside an idle mesh, over one hop and over three. */
import { Lab, type LabNode } from "../../scripts/lab.ts";
import { GODWIT, type Bench } from "./bench.ts";
import { contest, type Contestant, type Turns } from "./contest.ts";
import { addToHosts } from "./godwit-hosts.ts";
import { pingMs, untilPing } from "./ip-probe.ts";
import { Hosts } from "./namespaces.ts";
import { makeWireguard } from "./peers/wireguard.ts";
import type { MakeMesh } from "./peers/peer.ts";
import { makeYggdrasil } from "./peers/yggdrasil.ts";
import { untilWhole } from "./probe.ts";

const PROBES = 200;
const READY_MS = 60_000;

async function openGodwit(): Promise<Turns> {
  const hosts = Hosts.line(4);
  const lab = await Lab.create();
  await hosts.settle();
  const nodes = await addToHosts(lab, hosts);
  await Promise.all(nodes.map((node) => node.start()));
  await untilWhole(nodes);
  const trace = async (to: LabNode) =>
    (await nodes[0]!.json<{ rtt_ms: number | null }>(`/mesh/trace/${to.callsign}`, { method: "POST" }))
      .rtt_ms ?? Number.POSITIVE_INFINITY;
  // The first ones run before the compiler has seen them.
  for (let i = 0; i < PROBES; i++) await trace(nodes[3]!);
  return {
    async run() {
      const [near, far]: [number[], number[]] = [[], []];
      for (let i = 0; i < PROBES; i++) {
        near.push(await trace(nodes[1]!));
        await Bun.sleep(2);
        far.push(await trace(nodes[3]!));
        await Bun.sleep(2);
      }
      return { near, far };
    },
    async close() {
      await lab.close();
      await hosts.close();
    },
  };
}

const peer = (name: string, make: MakeMesh): Contestant => ({
  name,
  needs: [name, "ping"],
  async open() {
    const hosts = Hosts.line(4);
    await hosts.settle();
    const { peers } = await make(hosts);
    await Promise.all(peers.map((each) => each.start()));
    const source = hosts.all[0]!;
    await untilPing(source, peers[1]!.address, READY_MS);
    await untilPing(source, peers[3]!.address, READY_MS);
    return {
      run: async () => ({
        near: await pingMs(source, peers[1]!.address, PROBES),
        far: await pingMs(source, peers[3]!.address, PROBES),
      }),
      close: () => hosts.close(),
    };
  },
});

export const rtt: Bench = contest({
  name: "rtt",
  row: 8,
  how: `line of 4 namespaces, ${PROBES} a turn every few ms. Godwit: POST /mesh/trace, timed and answered by the nodes; peers: ping, answered by the far kernel`,
  figures: {
    near: { what: "round trip, 1 hop", unit: "ms", better: "less", goalBeside: { of: "median", atMost: 1 } },
    far: { what: "round trip, 3 hops", unit: "ms", better: "less", goalBeside: { of: "median", atMost: 1 } },
  },
  contestants: [
    { name: GODWIT, open: openGodwit },
    peer("yggdrasil", makeYggdrasil),
    peer("wireguard-go", makeWireguard),
  ],
});
