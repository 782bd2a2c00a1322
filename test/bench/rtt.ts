/** Row 8: round trips inside an idle mesh, over one hop and over three. */
import { join } from "node:path";
import { Lab, type LabNode } from "../../scripts/lab.ts";
import { GODWIT, type Bench } from "./bench.ts";
import { contest, type Contestant, type Sample, type Turns } from "./contest.ts";
import { echoMs, serveEcho } from "./echo.ts";
import { addToHosts } from "./godwit-hosts.ts";
import { ALLOW, openForward } from "./goodput.ts";
import { pingMs, untilPing } from "./ip-probe.ts";
import { Hosts } from "./namespaces.ts";
import { makeWireguard } from "./peers/wireguard.ts";
import type { MakeMesh } from "./peers/peer.ts";
import { makeYggdrasil } from "./peers/yggdrasil.ts";
import { untilWhole } from "./probe.ts";

const PROBES = 200;
const READY_MS = 60_000;
const ECHO_PORT = 5_302;

/** Answers at both ends that are measured. */
async function serveBoth(hosts: Hosts): Promise<void> {
  for (const at of [1, 3]) await serveEcho(hosts.all[at]!, ECHO_PORT, join(hosts.dir, `echo-${at}.log`));
}

async function openGodwit(): Promise<Turns> {
  const hosts = Hosts.line(4);
  const lab = await Lab.create();
  const close = async () => {
    await lab.close();
    await hosts.close();
  };
  try {
    await hosts.settle();
    const nodes = await addToHosts(lab, hosts, { extra: ALLOW });
    await Promise.all(nodes.map((node) => node.start()));
    await untilWhole(nodes);
    await serveBoth(hosts);
    const source = hosts.all[0]!;
    const [near, far] = [
      await openForward(nodes[0]!, nodes[1]!, ECHO_PORT),
      await openForward(nodes[0]!, nodes[3]!, ECHO_PORT),
    ];
    const trace = async (to: LabNode) =>
      (await nodes[0]!.json<{ rtt_ms: number | null }>(`/mesh/trace/${to.callsign}`, { method: "POST" }))
        .rtt_ms ?? Number.POSITIVE_INFINITY;
    const once = async (): Promise<Sample> => {
      const [ownNear, ownFar]: [number[], number[]] = [[], []];
      for (let i = 0; i < PROBES; i++) {
        ownNear.push(await trace(nodes[1]!));
        await Bun.sleep(2);
        ownFar.push(await trace(nodes[3]!));
        await Bun.sleep(2);
      }
      return {
        near: await echoMs(source, "127.0.0.1", near, PROBES),
        far: await echoMs(source, "127.0.0.1", far, PROBES),
        ownNear,
        ownFar,
      };
    };
    // The first ones run before the compiler has seen them.
    await once();
    return { run: once, close };
  } catch (error) {
    await close();
    throw error;
  }
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
    await serveBoth(hosts);
    return {
      run: async () => ({
        near: await echoMs(source, peers[1]!.address, ECHO_PORT, PROBES),
        far: await echoMs(source, peers[3]!.address, ECHO_PORT, PROBES),
        ownNear: await pingMs(source, peers[1]!.address, PROBES),
        ownFar: await pingMs(source, peers[3]!.address, PROBES),
      }),
      close: () => hosts.close(),
    };
  },
});

export const rtt: Bench = contest({
  name: "rtt",
  row: 8,
  how:
    `line of 4 namespaces, ${PROBES} a turn every few ms: 64 bytes over a TCP connection to a program that sends them back, timed by the one that asks; Godwit's goes through godwit forward, sealed end to end, ` +
    "the peers' through their interfaces. As each tells it by itself: Godwit POST /mesh/trace, timed and answered by the nodes; peers ping, answered by the far kernel",
  figures: {
    near: { what: "round trip, 1 hop", unit: "ms", better: "less", goalBeside: { of: "median", atMost: 1 } },
    far: { what: "round trip, 3 hops", unit: "ms", better: "less", goalBeside: { of: "median", atMost: 1 } },
    ownNear: { what: "round trip as it tells it by itself, 1 hop", unit: "ms", better: "less" },
    ownFar: { what: "round trip as it tells it by itself, 3 hops", unit: "ms", better: "less" },
  },
  contestants: [
    { name: GODWIT, open: openGodwit },
    peer("yggdrasil", makeYggdrasil),
    peer("wireguard-go", makeWireguard),
  ],
});
