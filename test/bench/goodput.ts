/** Row 6: what one TCP connection gets through, by iperf3, over one hop and over three. */
import { bind } from "../stream/rig.ts";
import { Lab, type LabNode } from "../../scripts/lab.ts";
import { GODWIT, type Bench } from "./bench.ts";
import { contest, type Contestant, type Sample, type Turns } from "./contest.ts";
import { addToHosts } from "./godwit-hosts.ts";
import { untilPing } from "./ip-probe.ts";
import { Daemon, Hosts, type Host } from "./namespaces.ts";
import type { MakeMesh } from "./peers/peer.ts";
import { makeWireguard } from "./peers/wireguard.ts";
import { makeYggdrasil } from "./peers/yggdrasil.ts";
import { untilWhole } from "./probe.ts";
import { costFigures, costSample, meter } from "./process.ts";

export const SECONDS = 3;
/** Not counted: the first second warms compilers and windows. */
const WARM_SECONDS = 1;
const READY_MS = 60_000;
export const IPERF_PORT = 5_201;
export const ALLOW = '[[forward_allow]]\nfrom = ["HST-0"]\ntargets = ["127.0.0.0/8:*"]';

interface Report {
  readonly intervals: readonly { readonly sum: { readonly bytes: number } }[];
  readonly end: { readonly sum_received: { readonly bits_per_second: number } };
}

export interface Throughput {
  /** Mbit/s that the server received, without the first second. */
  readonly rate: number;
  /** All that was sent, with it. */
  readonly megabytes: number;
}

export async function iperf(
  source: Host,
  sink: Host,
  address: string,
  port: number,
  dir: string,
): Promise<Throughput> {
  const server = new Daemon(sink, ["iperf3", "-s", "-1"], `${dir}/iperf3.log`);
  server.start();
  try {
    await server.until("its port", () => sink.run(["sh", "-c", `ss -Hltn | grep :${IPERF_PORT}`]), READY_MS);
    const text = await source.run(
      ["iperf3", "-J", "-c", address, "-p", String(port)].concat([
        "-t",
        String(SECONDS),
        "-O",
        String(WARM_SECONDS),
      ]),
    );
    const { intervals, end } = JSON.parse(text) as Report;
    const bytes = intervals.reduce((total, { sum }) => total + sum.bytes, 0);
    return { rate: end.sum_received.bits_per_second / 1e6, megabytes: bytes / 1e6 };
  } finally {
    await server.kill();
  }
}

/** A port of the first node that leads to one behind `far`. */
export async function openForward(near: LabNode, far: LabNode, target = IPERF_PORT): Promise<number> {
  // Routes come before the names of those that they lead to.
  await far.until(
    `the name ${near.callsign}`,
    async () =>
      (await far.json<{ names: { name: string }[] }>("/mesh/names")).names.some(
        ({ name }) => name === near.callsign,
      ),
    READY_MS,
  );
  await bind(far, near);
  const { listen } = await near.json<{ listen: string }>("/forwards", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ listen: "127.0.0.1:0", to: far.callsign, target: `127.0.0.1:${target}` }),
  });
  return Number(listen.split(":").at(-1));
}

/** The rate, and what the daemons on the way paid together. */
async function paid(key: string, pids: readonly number[], run: () => Promise<Throughput>): Promise<Sample> {
  const cost = meter(...pids);
  const { rate, megabytes } = await run();
  return { [key]: [rate], ...costSample(key, cost(), megabytes) };
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
    const source = hosts.all[0]!;
    const ports = {
      near: await openForward(nodes[0]!, nodes[1]!),
      far: await openForward(nodes[0]!, nodes[3]!),
    };
    return {
      run: async () => {
        const pids = nodes.map(({ pid }) => pid!);
        return {
          ...(await paid("near", pids.slice(0, 2), () =>
            iperf(source, hosts.all[1]!, "127.0.0.1", ports.near, hosts.dir),
          )),
          ...(await paid("far", pids, () => iperf(source, hosts.all[3]!, "127.0.0.1", ports.far, hosts.dir))),
        };
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

const peer = (name: string, make: MakeMesh): Contestant => ({
  name,
  needs: [name, "iperf3", "ping"],
  async open() {
    const hosts = Hosts.line(4);
    await hosts.settle();
    const { peers } = await make(hosts);
    await Promise.all(peers.map((each) => each.start()));
    const source = hosts.all[0]!;
    for (const at of [1, 3]) await untilPing(source, peers[at]!.address, READY_MS);
    return {
      run: async () => {
        const pids = peers.map(({ daemon }) => daemon.pid);
        return {
          ...(await paid("near", pids.slice(0, 2), () =>
            iperf(source, hosts.all[1]!, peers[1]!.address, IPERF_PORT, hosts.dir),
          )),
          ...(await paid("far", pids, () =>
            iperf(source, hosts.all[3]!, peers[3]!.address, IPERF_PORT, hosts.dir),
          )),
        };
      },
      close: () => hosts.close(),
    };
  },
});

export const goodput: Bench = contest({
  name: "goodput",
  row: 6,
  how:
    `line of 4 namespaces, iperf3 with one TCP connection for ${SECONDS} s. Godwit: through godwit forward, sealed end to end, relays blind; ` +
    "peers carry IP over TUN; WireGuard's relays decrypt and encrypt again. All daemons, source and sink on two cores; of wireguard-go the daemons are counted, not the kernel that forwards",
  figures: {
    near: {
      what: "goodput of a TCP connection, 1 hop",
      unit: "Mbit/s",
      better: "more",
      goalBeside: { of: "median", atLeast: 2 },
    },
    ...costFigures("near", "both ends", "a MB, 1 hop"),
    far: {
      what: "goodput of a TCP connection, 3 hops",
      unit: "Mbit/s",
      better: "more",
      goalBeside: { of: "median", atLeast: 2 },
    },
    ...costFigures("far", "all four on the way", "a MB, 3 hops"),
  },
  contestants: [
    { name: GODWIT, open: openGodwit },
    peer("yggdrasil", makeYggdrasil),
    peer("wireguard-go", makeWireguard),
  ],
});
