/** Row 8: round trips inside an idle mesh, timed by the node that sends the probe. */
import { Lab, type LabNode } from "../../scripts/lab.ts";
import type { Bench, BenchOptions, Measure } from "./bench.ts";
import { untilWhole } from "./probe.ts";

const PROBES = 200;

async function run({ runs, note }: BenchOptions): Promise<Measure[]> {
  const [near, far]: [number[], number[]] = [[], []];
  const lab = await Lab.create();
  try {
    const nodes: LabNode[] = [];
    for (const callsign of ["LIN-A", "LIN-B", "LIN-C", "LIN-D"])
      nodes.push(
        await lab.add({ callsign, peers: nodes.length === 0 ? [] : [nodes[nodes.length - 1]!.endpoint] }),
      );
    await Promise.all(nodes.map((node) => node.start()));
    await untilWhole(nodes);
    const trace = async (to: LabNode) =>
      (await nodes[0]!.json<{ rtt_ms: number | null }>(`/mesh/trace/${to.callsign}`, { method: "POST" }))
        .rtt_ms ?? Number.POSITIVE_INFINITY;
    // The first ones run before the compiler has seen them.
    for (let i = 0; i < PROBES; i++) await trace(nodes[3]!);
    for (let i = 0; i < runs; i++) {
      for (let j = 0; j < PROBES; j++) {
        near.push(await trace(nodes[1]!));
        far.push(await trace(nodes[3]!));
        await Bun.sleep(5);
      }
      note(`rtt ${i + 1}/${runs}`);
    }
  } finally {
    await lab.close();
  }
  return [
    { what: "round trip, 1 hop", unit: "ms", values: near, goal: { of: "median", atMost: 0.4 } },
    { what: "round trip, 3 hops", unit: "ms", values: far, goal: { of: "median", atMost: 1 } },
  ];
}

export const rtt: Bench = {
  name: "rtt",
  row: 8,
  how: "line of 4 over loopback; POST /mesh/trace every few ms, 200 per run, the rtt_ms of the last hop",
  run,
};
