/** Row 1: a ring of ten nodes that were never started before, all processes at once. */
import { Lab, type LabNode } from "../../scripts/lab.ts";
import type { Bench, BenchOptions, Measure } from "./bench.ts";
import { follow, routesOf } from "./probe.ts";

const NODES = 10;

/** Ring in which everybody is told both neighbours, as an operator would. */
export async function addRing(lab: Lab, count: number): Promise<LabNode[]> {
  const nodes: LabNode[] = [];
  for (let i = 0; i < count; i++) nodes.push(await lab.add({ callsign: `RNG-${i}` }));
  for (const [i, node] of nodes.entries())
    await node.configure([nodes[(i + 1) % count]!.endpoint, nodes[(i + count - 1) % count]!.endpoint]);
  return nodes;
}

/** Resolves when the node knows a way to `count` others; by its events, because polling would cost it time. */
async function untilRoutes(node: LabNode, count: number): Promise<number> {
  const reachable = new Set<string>();
  const { promise, resolve } = Promise.withResolvers<number>();
  const check = (atMs: number) => void (reachable.size >= count && resolve(atMs));
  const events = await follow(node, "route", ({ type, data, atMs }) => {
    if (type !== "route.changed") return;
    if (data["reachable"] === true) reachable.add(String(data["destination"]));
    else reachable.delete(String(data["destination"]));
    check(atMs);
  });
  for (const { destination } of await routesOf(node)) reachable.add(destination);
  check(performance.now());
  const atMs = await promise;
  events.close();
  return atMs;
}

async function run({ runs, note }: BenchOptions): Promise<Measure[]> {
  const [fromExec, fromApis, apis]: [number[], number[], number[]] = [[], [], []];
  for (let i = 0; i < runs; i++) {
    const lab = await Lab.create();
    try {
      const nodes = await addRing(lab, NODES);
      const startMs = performance.now();
      const apiMs: number[] = [];
      const doneMs = await Promise.all(
        nodes.map(async (node) => {
          await node.start(30_000);
          apiMs.push(performance.now());
          return await untilRoutes(node, NODES - 1);
        }),
      );
      const [lastApiMs, endMs] = [Math.max(...apiMs), Math.max(...doneMs)];
      apis.push(lastApiMs - startMs);
      fromExec.push(endMs - startMs);
      fromApis.push(Math.max(0, endMs - lastApiMs));
      note(`cold start ${i + 1}/${runs}: ${Math.round(endMs - startMs)} ms`);
    } finally {
      await lab.close();
    }
  }
  return [
    {
      what: "all routes, from the start of the processes",
      unit: "ms",
      values: fromExec,
      goal: { of: "p95", atMost: 500 },
    },
    {
      what: "all routes, after the last API answered",
      unit: "ms",
      values: fromApis,
      goal: { of: "p95", atMost: 500 },
    },
    { what: "the last API answered, from the start", unit: "ms", values: apis },
  ];
}

export const coldStart: Bench = {
  name: "cold-start",
  row: 1,
  how: "10 processes in a ring, first boot (keys are made), started at once; done when each has 9 routes",
  run,
};
