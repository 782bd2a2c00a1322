/** Row 7: packets of 240 bytes through one node, from a light node to a light node. */
import { Lab, type LabNode } from "../../scripts/lab.ts";
import { encodePacket, PACKET_HEADER_BYTES, PacketKind } from "../../runtime/wire/packet.ts";
import { GODWIT, type Bench } from "./bench.ts";
import { contest, type Contestant, type Turns } from "./contest.ts";
import { untilPing } from "./ip-probe.ts";
import { LightNode } from "./light.ts";
import { Daemon, Hosts, type Host } from "./namespaces.ts";
import type { MakeMesh } from "./peers/peer.ts";
import { makeWireguard } from "./peers/wireguard.ts";
import { makeYggdrasil } from "./peers/yggdrasil.ts";
import { metricOf, routesOf } from "./probe.ts";
import { cpuMs } from "./process.ts";

const PACKET_BYTES = 240;
const SECONDS = 5;
/** Packets handed over per turn of the event loop. */
const BURST = 256;

interface Flow {
  readonly perSecond: number;
  readonly droppedShare: number;
  readonly cpuShare: number;
}

/** Sends what the lanes take, at most `perSecond`, for some seconds; counts what arrives. */
export async function flow(node: LabNode, perSecond: number): Promise<Flow> {
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
      for (let i = 0; i < due && source.sendData(relayId, packet); i++) sent++;
      setImmediate(turn);
    };
    turn();
    // The first second fills the lanes and warms the compiler.
    await Bun.sleep(1_000);
    const dropped = () => metricOf(node, "godwit_packets_dropped_total");
    const forwarded = () => metricOf(node, "godwit_packets_forwarded_total");
    const before = { arrived, cpu: cpuMs(node.pid!), dropped: await dropped(), forwarded: await forwarded() };
    const fromMs = performance.now();
    await Bun.sleep((SECONDS - 1) * 1_000);
    const forMs = performance.now() - fromMs;
    const count = arrived - before.arrived;
    const lost = (await dropped()) - before.dropped;
    const passed = (await forwarded()) - before.forwarded;
    return {
      perSecond: (count / forMs) * 1_000,
      droppedShare: lost / Math.max(1, lost + passed),
      cpuShare: (cpuMs(node.pid!) - before.cpu) / forMs,
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
      const { perSecond, droppedShare, cpuShare } = await flow(node, Number.POSITIVE_INFINITY);
      return { rate: [perSecond], dropped: [droppedShare * 100], cpu: [cpuShare * 100] };
    },
    close: () => lab.close(),
  };
}

/** Datagrams per second that are offered; a receiver that is flooded may do less than it could. */
const OFFERED = [20_000, 50_000, 100_000, 0] as const;
const PEER_SECONDS = 2;
const READY_MS = 60_000;

interface Report {
  readonly end: { readonly sum: { packets: number; lost_packets: number; seconds: number } };
}

/** The best that arrived of several offers, by iperf3 with datagrams that are packets of the same size within the tunnel. */
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
    const ipBytes = address.includes(":") ? 48 : 28;
    const payload = PACKET_BYTES - ipBytes;
    return {
      async run() {
        let best = { rate: 0, cpu: 0, dropped: 0 };
        const { pid } = peers[relayHost.index]!.daemon;
        for (const offered of OFFERED) {
          const server = new Daemon(sink, ["iperf3", "-s", "-1"], `${hosts.dir}/iperf3.log`);
          server.start();
          await server.until(
            "its port",
            () => sink.run(["sh", "-c", "ss -Hltn | grep -q :5201 && echo yes"]),
            5_000,
          );
          const cpuBefore = cpuMs(pid);
          const text = await source.run(
            ["iperf3", "-c", address, "-u", "-J", "-t", String(PEER_SECONDS)].concat([
              "-l",
              String(payload),
              "-b",
              String(offered * payload * 8),
            ]),
          );
          const cpu = (cpuMs(pid) - cpuBefore) / (PEER_SECONDS * 10);
          await server.kill();
          const { packets, lost_packets: lost, seconds } = (JSON.parse(text) as Report).end.sum;
          const rate = (packets - lost) / seconds;
          if (rate > best.rate) best = { rate, cpu, dropped: (100 * lost) / packets };
        }
        return { rate: [best.rate], dropped: [best.dropped], cpu: [best.cpu] };
      },
      close: () => hosts.close(),
    };
  },
});

export const relay: Bench = contest({
  name: "relay",
  row: 7,
  how:
    "one process relays between two neighbours. Godwit's live in the measuring process and share the other core; peers: iperf3 sends UDP in IP packets of 240 B " +
    `through the tunnels, the best of ${OFFERED.length} offered rates counts, both end daemons on the same two cores`,
  figures: {
    rate: {
      what: "packets of 240 B relayed and received",
      unit: "1/s",
      goal: { of: "median", atLeast: 60_000 },
    },
    dropped: { what: "lost of what was sent (Godwit: dropped by the relay)", unit: "%" },
    cpu: { what: "processor time of the relay, 100 = one core", unit: "%" },
  },
  contestants: [
    { name: GODWIT, open: openGodwit },
    peer("yggdrasil", makeYggdrasil),
    peer("wireguard-go", makeWireguard),
  ],
});
