/**
 * Links over an overlay beside the bare overlay: two hosts, one pair of daemons, and through it now iperf3 and ping, now
 * godwit forward and a trace, in turns. What is left of the overlay's own goodput is the figure.
 */
import { join } from "node:path";
import { Lab, type LabNode } from "../../scripts/lab.ts";
import type { Bench, BenchOptions, Measure } from "./bench.ts";
import { ALLOW, iperf, IPERF_PORT, openForward, SECONDS } from "./goodput.ts";
import { pingMs, untilPing } from "./ip-probe.ts";
import { Hosts } from "./namespaces.ts";
import { type Cost, costMeasures, meter, perUnit } from "./process.ts";
import { makeYggdrasil } from "./peers/yggdrasil.ts";
import { entry, WgNet, type WgNode } from "../wireguard/wg-net.ts";
import { untilWhole } from "./probe.ts";

const PROBES = 200;
const READY_MS = 60_000;
/** Of the wire, kbit/s: where the processors are not what limits. */
const SLOW_WIRE_KBITS = 200_000;

async function traces(near: LabNode, far: LabNode): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < PROBES; i++) {
    const { rtt_ms: ms } = await near.json<{ rtt_ms: number | null }>(`/mesh/trace/${far.callsign}`, {
      method: "POST",
    });
    times.push(ms ?? Number.POSITIVE_INFINITY);
    // A node answers 200 questions of traces a second, and each trace asks several.
    await Bun.sleep(10);
  }
  return times;
}

/** Two hosts with a node each, linked over the overlay alone, whatever it is. */
interface Overlaid {
  readonly name: string;
  readonly hosts: Hosts;
  /** Address of the second host in the overlay. */
  readonly far: string;
  readonly near: LabNode;
  readonly other: LabNode;
}

async function besideBare(
  { name, hosts, far, near, other }: Overlaid,
  { runs, note }: BenchOptions,
): Promise<Measure[]> {
  const [bareRate, linkRate, shares, slowBare, slowLink, slowShares]: number[][] = [[], [], [], [], [], []];
  const [bareRtt, linkRtt]: number[][] = [[], []];
  const costs: Cost[] = [];
  const [source, sink] = [hosts.all[0]!, hosts.all[1]!];
  const port = await openForward(near, other);
  const limit = (kilobits: number | undefined) => {
    for (const host of hosts.all) host.ports[0]!.net.limit(kilobits);
  };
  // The first ones run before the compiler has seen them.
  await traces(near, other);
  for (let i = 0; i < runs; i++) {
    bareRate!.push((await iperf(source, sink, far, IPERF_PORT, hosts.dir)).rate);
    const cost = meter(near.pid!, other.pid!);
    const { rate, megabytes } = await iperf(source, sink, "127.0.0.1", port, hosts.dir);
    costs.push(perUnit(cost(), megabytes));
    linkRate!.push(rate);
    shares!.push((linkRate!.at(-1)! / bareRate!.at(-1)!) * 100);
    limit(SLOW_WIRE_KBITS);
    slowBare!.push((await iperf(source, sink, far, IPERF_PORT, hosts.dir)).rate);
    slowLink!.push((await iperf(source, sink, "127.0.0.1", port, hosts.dir)).rate);
    slowShares!.push((slowLink!.at(-1)! / slowBare!.at(-1)!) * 100);
    limit(undefined);
    bareRtt!.push(...(await pingMs(source, far, PROBES)));
    linkRtt!.push(...(await traces(near, other)));
    note(
      `${name} ${i + 1}/${runs}: bare ${bareRate!.at(-1)!.toFixed(0)}, link ${linkRate!.at(-1)!.toFixed(0)} Mbit/s`,
    );
  }
  return [
    { what: `${name}, bare: goodput of a TCP connection`, unit: "Mbit/s", values: bareRate! },
    { what: `${name}, through a forward over a link`, unit: "Mbit/s", values: linkRate! },
    ...costMeasures("both nodes", "a MB through it", costs),
    {
      what: "of the bare overlay's goodput, run by run",
      unit: "%",
      values: shares!,
      goal: { of: "median", atLeast: 85 },
    },
    { what: `${name}, bare, on a wire of 200 Mbit/s`, unit: "Mbit/s", values: slowBare! },
    { what: `${name}, through a forward, on that wire`, unit: "Mbit/s", values: slowLink! },
    {
      what: "of the bare overlay's goodput, on that wire",
      unit: "%",
      values: slowShares!,
      goal: { of: "median", atLeast: 85 },
    },
    { what: `${name}, bare: ping`, unit: "ms", values: bareRtt! },
    { what: `${name}, round trip of a link (trace)`, unit: "ms", values: linkRtt! },
  ];
}

function demandPrograms(...programs: readonly string[]): void {
  const missing = programs.filter((program) => Bun.which(program) === null);
  if (missing.length > 0) throw new Error(`${missing.join(", ")} missing`);
}

async function runYggdrasil(options: BenchOptions): Promise<Measure[]> {
  demandPrograms("yggdrasil", "iperf3", "ping");
  const hosts = Hosts.line(2);
  const lab = await Lab.create();
  try {
    await hosts.settle();
    const { peers } = await makeYggdrasil(hosts);
    await Promise.all(peers.map((each) => each.start()));
    const far = peers[1]!.address;
    await untilPing(hosts.all[0]!, far, READY_MS);
    const nodes: LabNode[] = [];
    for (const host of hosts.all)
      nodes.push(
        await lab.add({
          callsign: `HST-${host.index}`,
          namespace: host.net.namespace,
          listen: [],
          peers: host.index === 0 ? [`yggdrasil://[${far}]:4862`] : [],
          extra: `[transports.overlay]\ntype = "yggdrasil"\nadmin = "unix://${join(hosts.dir, `yggdrasil-${host.index}.sock`)}"\n\n${ALLOW}`,
        }),
      );
    await Promise.all(nodes.map((node) => node.start()));
    await untilWhole(nodes);
    const [near, other] = nodes as [LabNode, LabNode];
    return await besideBare({ name: "Yggdrasil", hosts, far, near, other }, options);
  } finally {
    await lab.close();
    await hosts.close();
  }
}

/** The bare overlay is the interface that the node itself has made: the same wireguard-go carries both. */
async function runWireguard(options: BenchOptions): Promise<Measure[]> {
  demandPrograms("wireguard-go", "wg", "iperf3", "ping");
  const hosts = Hosts.line(2);
  const w = await WgNet.create();
  try {
    await hosts.settle();
    const made = [];
    for (const host of hosts.all) made.push(await w.add(`HST-${host.index}`, host.net, { extra: ALLOW }));
    const [near, other] = made as [WgNode, WgNode];
    const addressOf = (index: number) => hosts.all[index]!.ports[0]!.net.addresses.v4!;
    await near.node.configure([entry(other, addressOf(1))]);
    await other.node.configure([entry(near, addressOf(0))]);
    await Promise.all(made.map(({ node }) => node.start()));
    await untilWhole(made.map(({ node }) => node));
    await untilPing(hosts.all[0]!, other.address, READY_MS);
    const overlaid = { name: "WireGuard", hosts, far: other.address, near: near.node, other: other.node };
    return await besideBare(overlaid, options);
  } finally {
    await w.close();
    await hosts.close();
  }
}

export const overlay: Bench = {
  name: "overlay",
  row: 0,
  how: `two namespaces, a daemon of Yggdrasil in each; iperf3 with one TCP connection for ${SECONDS} s, to the overlay's address and through godwit forward over a link of transport-yggdrasil, in turns. All daemons, nodes, source and sink on two cores`,
  run: runYggdrasil,
};

export const wireguard: Bench = {
  name: "wireguard",
  row: 0,
  how: `two namespaces, a node in each with a tunnel by wireguard-go; iperf3 with one TCP connection for ${SECONDS} s, to the node's address in the tunnel and through godwit forward over a link in the same tunnel, in turns. All daemons, nodes, source and sink on two cores`,
  run: runWireguard,
};
