/** Row 15: what a node holds in memory: idle, with many links, with 10,000 routes. */
import { Lab } from "../../scripts/lab.ts";
import type { Bench, BenchOptions, Measure } from "./bench.ts";
import { LightNode, openHub } from "./light.ts";
import { routesOf } from "./probe.ts";
import { memoryOf, type Memory } from "./process.ts";

const IDLE_MS = 30_000;
const LINKS = 50;
const LINKS_MANY = 250;
/** Runs with links, each more than half a minute. */
const LOADED_RUNS_MAX = 2;
const ROUTES = 10_000;
/** Dials at once: the node admits no more half-open handshakes of one address. */
const DIALS = 5;

const parts = [
  ["resident", "rssMb"],
  ["of it anonymous", "anonMb"],
  ["of it pages of the binary", "fileMb"],
  ["proportional share", "pssMb"],
] as const satisfies readonly (readonly [string, keyof Memory])[];

export function memoryLines(what: string, samples: readonly Memory[], goal?: Measure["goal"]): Measure[] {
  return parts.map(([name, key], i) => ({
    what: `${what}: ${name}`,
    unit: "MB",
    values: samples.map((sample) => sample[key]),
    ...(i === 0 && goal !== undefined ? { goal } : {}),
  }));
}

/** Idle nodes wait together: five processes at once, as long as one. */
async function idle(runs: number): Promise<Memory[]> {
  const lab = await Lab.create();
  try {
    for (let i = 0; i < runs; i++) {
      const node = await lab.add({ callsign: `IDL-${i}` });
      await node.start();
    }
    await Bun.sleep(IDLE_MS);
    return lab.nodes.map((node) => memoryOf(node.pid!));
  } finally {
    await lab.close();
  }
}

async function loaded(links: number, routes: number, note: (text: string) => void): Promise<Memory> {
  const hub = await openHub(routes);
  const { node, destinations, neighbours } = hub;
  try {
    for (let i = 1; i < links; i++) neighbours.push(new LightNode());
    for (let i = 0; i < neighbours.length; i += DIALS)
      await Promise.all(neighbours.slice(i, i + DIALS).map((neighbour) => neighbour.connect(node.linkPort)));
    // Last, so that its news goes to everybody at once and no handshake waits behind it.
    const gateway = new LightNode(destinations);
    neighbours.push(gateway);
    await gateway.connect(node.linkPort);
    let known = 0;
    await node
      .until(
        `${links + routes} routes`,
        async () => (known = (await routesOf(node)).length) >= links + routes,
        120_000,
        2_000,
      )
      .catch((error: unknown) =>
        note(`${known} routes of ${links + routes}: ${String(error).slice(0, 300)}`),
      );
    await Bun.sleep(IDLE_MS);
    return memoryOf(node.pid!);
  } finally {
    await hub.close();
  }
}

async function run({ runs, note }: BenchOptions): Promise<Measure[]> {
  const measures = memoryLines("idle", await idle(runs), { of: "max", atMost: 60 });
  note("idle measured");
  const loadedRuns = Math.min(runs, LOADED_RUNS_MAX);
  const many = async (links: number, routes: number): Promise<Memory[]> => {
    const samples: Memory[] = [];
    for (let i = 0; i < loadedRuns; i++) samples.push(await loaded(links, routes, note));
    note(`${links} links, ${routes} routes behind them measured`);
    return samples;
  };
  measures.push(...memoryLines(`${LINKS} links`, await many(LINKS, 0)));
  measures.push(
    ...memoryLines(`${LINKS_MANY} links, 10,000 routes`, await many(LINKS_MANY, ROUTES), {
      of: "max",
      atMost: 120,
    }),
  );
  return measures;
}

export const memory: Bench = {
  name: "memory",
  row: 15,
  how: "30 s after the last change; neighbours and far destinations are light nodes of the measuring process; at most 2 runs with links",
  run,
};
