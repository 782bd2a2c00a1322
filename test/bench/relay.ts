/**
 * Row 7: packets of 240 bytes through one node, between two neighbours: many from one write, and one from each, by Godwit and by the peers
 * alike. How fast it goes is up to who sends as well; what the relay pays for a packet is not.
 */
import { Lab, type LabNode } from "../../scripts/lab.ts";
import { encodePacket, PACKET_HEADER_BYTES, PacketKind } from "../../runtime/wire/packet.ts";
import { GODWIT, type Bench } from "./bench.ts";
import { contest, type Contestant, type Figure, type Sample, type Turns } from "./contest.ts";
import { untilPing } from "./ip-probe.ts";
import { LightNode } from "./light.ts";
import { Daemon, Hosts, type Host } from "./namespaces.ts";
import type { MakeMesh } from "./peers/peer.ts";
import { makeWireguard } from "./peers/wireguard.ts";
import { makeYggdrasil } from "./peers/yggdrasil.ts";
import { metricOf, routesOf } from "./probe.ts";
import { type Cost, costFigures, costSample, meter } from "./process.ts";

const PACKET_BYTES = 240;
const SECONDS = 5;
/** Packets handed over per turn of the event loop. */
const BURST = 256;

/** `batches`: as many as there are go in one write. `single`: each goes in a write of its own. */
export type Writes = "batches" | "single";
const WRITES: readonly Writes[] = ["batches", "single"];

interface Flow {
  readonly perSecond: number;
  readonly droppedShare: number;
  /** Of the relay, while `packets` arrived. */
  readonly cost: Cost;
  readonly packets: number;
}

/** Sends what the lanes take, at most `perSecond`, for some seconds; counts what arrives. */
export async function flow(node: LabNode, perSecond: number, writes: Writes = "batches"): Promise<Flow> {
  const [source, sink] = [new LightNode(), new LightNode()];
  try {
    const relayId = await source.connect(node.linkPort);
    await sink.connect(node.linkPort);
    await node.until(
      "routes to both",
      async () => {
        const known = (await routesOf(node)).map(({ destination }) => destination);
        return known.includes(source.id) && known.includes(sink.id);
      },
      10_000,
    );
    let arrived = 0;
    sink.onPacket = () => void arrived++;
    const header = {
      priority: 2,
      plane: "any",
      hopsLeft: 8,
      kind: PacketKind.transient,
      destination: sink.id,
      source: source.id,
    } as const;
    const packet = encodePacket(header, new Uint8Array(PACKET_BYTES - PACKET_HEADER_BYTES));
    let sent = 0;
    const startMs = performance.now();
    const turn = () => {
      const elapsedMs = performance.now() - startMs;
      if (elapsedMs > (SECONDS + 1) * 1_000) return;
      const due = Math.min(BURST, (elapsedMs / 1_000) * perSecond - sent);
      for (let i = 0; i < due && source.sendData(relayId, packet); i++) {
        sent++;
        if (writes === "single") source.flush(relayId);
      }
      setImmediate(turn);
    };
    turn();
    // The first second fills the lanes and warms the compiler.
    await Bun.sleep(1_000);
    const dropped = () => metricOf(node, "godwit_packets_dropped_total");
    const forwarded = () => metricOf(node, "godwit_packets_forwarded_total");
    const before = { arrived, dropped: await dropped(), forwarded: await forwarded() };
    const cost = meter(node.pid!);
    const fromMs = performance.now();
    await Bun.sleep((SECONDS - 1) * 1_000);
    const forMs = performance.now() - fromMs;
    const count = arrived - before.arrived;
    const paid = cost();
    const lost = (await dropped()) - before.dropped;
    const passed = (await forwarded()) - before.forwarded;
    return {
      perSecond: (count / forMs) * 1_000,
      droppedShare: lost / Math.max(1, lost + passed),
      cost: paid,
      packets: Math.max(1, count),
    };
  } finally {
    source.stop();
    sink.stop();
  }
}

async function openGodwit(): Promise<Turns> {
  const lab = await Lab.create();
  const node = await lab.add({ callsign: "MID-A" });
  await node.start();
  return {
    async run() {
      const sample: Record<string, readonly number[]> = {};
      for (const writes of WRITES) {
        const { perSecond, droppedShare, cost, packets } = await flow(node, Number.POSITIVE_INFINITY, writes);
        Object.assign(sample, sampleOf(writes, perSecond, droppedShare, cost, packets));
      }
      return sample;
    },
    close: () => lab.close(),
  };
}

const sampleOf = (writes: Writes, rate: number, lostShare: number, cost: Cost, packets: number): Sample => ({
  [`${writes}Rate`]: [rate],
  [`${writes}Lost`]: [lostShare * 100],
  ...costSample(writes, cost, packets),
});

/** Datagrams per second that are offered; a receiver that is flooded may do less than it could. */
const OFFERED = [20_000, 50_000, 100_000, 0] as const;
const PEER_SECONDS = 2;
const READY_MS = 60_000;
/** Of IP and TCP with time stamps, and of IP and UDP. */
const TCP_BYTES = { v4: 52, v6: 72 } as const;
const UDP_BYTES = { v4: 28, v6: 48 } as const;

interface Report {
  readonly end: {
    readonly sum: { readonly packets: number; readonly lost_packets: number; readonly seconds: number };
    readonly sum_received: { readonly bytes: number; readonly seconds: number };
  };
}

/** By iperf3 with IP packets of the same size within the tunnel: datagrams, the best of several offers, and TCP, which cuts its writes into segments. */
const peer = (name: string, make: MakeMesh): Contestant => ({
  name,
  needs: [name, "iperf3", "ping"],
  async open() {
    const hosts = Hosts.line(3);
    await hosts.settle();
    const { peers } = await make(hosts);
    await Promise.all(peers.map((each) => each.start()));
    const [source, relayHost, sink] = hosts.all as [Host, Host, Host];
    const { address } = peers[2]!;
    await untilPing(source, address, READY_MS);
    const family = address.includes(":") ? "v6" : "v4";
    const { pid } = peers[relayHost.index]!.daemon;
    const iperf = async (words: readonly string[]): Promise<{ report: Report["end"]; cost: Cost }> => {
      const server = new Daemon(sink, ["iperf3", "-s", "-1"], `${hosts.dir}/iperf3.log`);
      server.start();
      try {
        const isOpen = () => sink.run(["sh", "-c", "ss -Hltn | grep -q :5201 && echo yes"]);
        await server.until("its port", isOpen, 5_000);
        const cost = meter(pid);
        const argv = ["iperf3", "-c", address, "-J", "-t", String(PEER_SECONDS)];
        const text = await source.run([...argv, ...words]);
        return { report: (JSON.parse(text) as Report).end, cost: cost() };
      } finally {
        await server.kill();
      }
    };
    const single = async (): Promise<Sample> => {
      const payload = PACKET_BYTES - UDP_BYTES[family];
      let best: { rate: number; sample: Sample } = { rate: -1, sample: {} };
      for (const offered of OFFERED) {
        const bits = String(offered * payload * 8);
        const { report, cost } = await iperf(["-u", "-l", String(payload), "-b", bits]);
        const { packets, lost_packets: lost, seconds } = report.sum;
        const rate = (packets - lost) / seconds;
        if (rate <= best.rate) continue;
        best = { rate, sample: sampleOf("single", rate, lost / Math.max(1, packets), cost, packets - lost) };
      }
      return best.sample;
    };
    const batches = async (): Promise<Sample> => {
      const payload = PACKET_BYTES - TCP_BYTES[family];
      // The option speaks of segments without the time stamps.
      const { report, cost } = await iperf(["-M", String(payload + 12)]);
      const { bytes, seconds } = report.sum_received;
      return sampleOf("batches", bytes / payload / seconds, 0, cost, bytes / payload);
    };
    return {
      run: async () => ({ ...(await batches()), ...(await single()) }),
      close: () => hosts.close(),
    };
  },
});

const figures = (writes: Writes, words: string, atLeast: number): Readonly<Record<string, Figure>> => ({
  [`${writes}Rate`]: {
    what: `packets of 240 B relayed and received, ${words}`,
    unit: "1/s",
    better: "more",
    goal: { of: "median", atLeast },
  },
  [`${writes}Lost`]: { what: `lost of what was sent (Godwit: dropped by the relay), ${words}`, unit: "%" },
  ...costFigures(writes, "the relay", `a packet, ${words}`),
});

export const relay: Bench = contest({
  name: "relay",
  row: 7,
  how:
    "one process relays between two neighbours. Godwit's live in the measuring process and share the other core; peers: iperf3 through the tunnels, all daemons on the same two cores. " +
    `One packet a write: Godwit's source seals and writes each packet for itself, peers get UDP datagrams in IP packets of ${PACKET_BYTES} B, the best of ${OFFERED.length} offered rates. ` +
    `In batches: Godwit's source hands over up to ${BURST} at once, peers get a TCP connection whose segments are IP packets of ${PACKET_BYTES} B, acknowledgements come on top`,
  figures: {
    ...figures("batches", "in batches", 400_000),
    ...figures("single", "one packet a write", 60_000),
  },
  contestants: [
    { name: GODWIT, open: openGodwit },
    peer("yggdrasil", makeYggdrasil),
    peer("wireguard-go", makeWireguard),
  ],
});
