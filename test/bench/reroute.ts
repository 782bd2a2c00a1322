/**
 * Rows 2 and 3: how long traffic stops when a link goes down, or when a relay freezes. A transient message goes every
 * 10 ms; the outage lasts until the first one arrives that was sent after the fault.
 */
import { Lab, type LabNode } from "../../scripts/lab.ts";
import { Wire } from "../chaos/wire.ts";
import type { Bench, BenchOptions, Measure } from "./bench.ts";
import { Traffic, untilVia, untilWhole } from "./probe.ts";

const NODES = 10;
const EVERY_MS = 10;
const FAULT_TIMEOUT_MS = 60_000;
/**
 * Ten nodes on two cores measure their links as slow as the scheduler is, so that the long way round may look as cheap
 * as the direct one. A fixed cost for each hop makes the direct way the one that is used before the fault.
 */
const EXTRA = '[routing]\nhop_cost = "5ms"';
/** A fault on links that just came up measures something else. */
const SETTLE_MS = 6_000;

/** Ring of ten whose link between the first two goes through a wire. */
async function wiredRing(lab: Lab): Promise<{ nodes: LabNode[]; wire: Wire }> {
  const nodes: LabNode[] = [];
  for (let i = 0; i < NODES; i++)
    nodes.push(await lab.add({ callsign: `RNG-${i}`, extra: EXTRA, ...(i < 2 ? { advertise: [] } : {}) }));
  const wire = await Wire.open(() => nodes[1]!.linkPort);
  for (const [i, node] of nodes.entries())
    await node.configure([i === 0 ? wire.endpoint : nodes[(i + 1) % NODES]!.endpoint]);
  await Promise.all(nodes.map((node) => node.start(30_000)));
  await untilWhole(nodes);
  return { nodes, wire };
}

async function runLink({ runs, note }: BenchOptions): Promise<Measure[]> {
  const values: number[] = [];
  const lab = await Lab.create();
  let wire: Wire | undefined;
  try {
    const ring = await wiredRing(lab);
    wire = ring.wire;
    const [source, target] = ring.nodes as [LabNode, LabNode];
    for (let i = 0; i < runs; i++) {
      await untilVia(source, target, target, FAULT_TIMEOUT_MS);
      await Bun.sleep(SETTLE_MS);
      const traffic = await Traffic.start(source, target, EVERY_MS);
      await traffic.arrivalAfter(performance.now(), FAULT_TIMEOUT_MS);
      const cutMs = performance.now();
      wire.cut();
      values.push((await traffic.arrivalAfter(cutMs, FAULT_TIMEOUT_MS)) - cutMs);
      traffic.stop();
      wire.heal();
      note(`link cut ${i + 1}/${runs}: ${Math.round(values.at(-1)!)} ms`);
    }
  } finally {
    await lab.close();
    await wire?.close();
  }
  return [
    {
      what: "outage when a link closes, way round over 9 hops",
      unit: "ms",
      values,
      goal: { of: "p95", atMost: 300 },
    },
  ];
}

export const rerouteLink: Bench = {
  name: "reroute-link",
  row: 2,
  how: "ring of 10; the link between two neighbours closes while one talks to the other every 10 ms; sent over the other 9 links",
  run: runLink,
};

async function runSilent({ runs, note }: BenchOptions): Promise<Measure[]> {
  const values: number[] = [];
  const lab = await Lab.create();
  try {
    const nodes: LabNode[] = [];
    for (let i = 0; i < NODES; i++) nodes.push(await lab.add({ callsign: `RNG-${i}`, extra: EXTRA }));
    for (const [i, node] of nodes.entries()) await node.configure([nodes[(i + 1) % NODES]!.endpoint]);
    await Promise.all(nodes.map((node) => node.start(30_000)));
    await untilWhole(nodes);
    const [source, relay, target] = nodes as [LabNode, LabNode, LabNode];
    for (let i = 0; i < runs; i++) {
      await untilVia(source, target, relay, FAULT_TIMEOUT_MS);
      await Bun.sleep(SETTLE_MS);
      const traffic = await Traffic.start(source, target, EVERY_MS);
      await traffic.arrivalAfter(performance.now(), FAULT_TIMEOUT_MS);
      const stopMs = performance.now();
      relay.signal("SIGSTOP");
      try {
        values.push((await traffic.arrivalAfter(stopMs, FAULT_TIMEOUT_MS)) - stopMs);
      } finally {
        relay.signal("SIGCONT");
        traffic.stop();
      }
      note(`silent relay ${i + 1}/${runs}: ${Math.round(values.at(-1)!)} ms`);
    }
  } finally {
    await lab.close();
  }
  return [
    {
      what: "outage when a relay freezes (SIGSTOP)",
      unit: "ms",
      values,
      goal: { of: "p95", atMost: 2_500 },
    },
  ];
}

export const rerouteSilent: Bench = {
  name: "reroute-silent",
  row: 3,
  how: "ring of 10; the only relay between the two talkers gets SIGSTOP while a message goes every 10 ms; sent over the other 8 links",
  run: runSilent,
};
