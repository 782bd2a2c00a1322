/** Row 7: packets of 240 bytes through one node, from a light node to a light node. */
import { Lab, type LabNode } from "../../scripts/lab.ts";
import { encodePacket, PACKET_HEADER_BYTES, PacketKind } from "../../runtime/wire/packet.ts";
import type { Bench, BenchOptions, Measure } from "./bench.ts";
import { LightNode } from "./light.ts";
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
async function flow(node: LabNode, perSecond: number): Promise<Flow> {
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

async function run({ runs, note }: BenchOptions): Promise<Measure[]> {
  const [rates, drops, cpu]: [number[], number[], number[]] = [[], [], []];
  const lab = await Lab.create();
  try {
    const node = await lab.add({ callsign: "MID-A" });
    await node.start();
    for (let i = 0; i < runs; i++) {
      const { perSecond, droppedShare, cpuShare } = await flow(node, Number.POSITIVE_INFINITY);
      rates.push(perSecond);
      drops.push(droppedShare * 100);
      cpu.push(cpuShare * 100);
      note(`relay ${i + 1}/${runs}: ${Math.round(perSecond)}/s`);
    }
  } finally {
    await lab.close();
  }
  return [
    {
      what: "packets of 240 B relayed and received",
      unit: "1/s",
      values: rates,
      goal: { of: "median", atLeast: 60_000 },
    },
    { what: "dropped by the relay of what came in", unit: "%", values: drops },
    { what: "processor time of the relay, 100 = one core", unit: "%", values: cpu },
  ];
}

export const relay: Bench = {
  name: "relay",
  row: 7,
  how: "one process relays between two neighbours that live in the measuring process; source and sink share the other core",
  run,
};
