/** What one look at /metrics costs a node with many links. */
import { Lab } from "../../scripts/lab.ts";
import { GODWIT, type Bench } from "./bench.ts";
import { contest, separateTurns, type Sample } from "./contest.ts";
import { LightNode } from "./light.ts";
import { threadsCpuMs } from "./process.ts";

const LINKS = 100;
/** Dials at once: the node admits no more half-open handshakes of one address. */
const DIALS = 5;
const SCRAPES = 400;
/** Those before the compiler has seen them: whoever scrapes every minute sees no others for long. */
const COLD = 10;
const LINK_MS = 20_000;
const SETTLE_MS = 3_000;

/** A node of its own each time: the first scrapes of one are what is asked for. */
async function run(): Promise<Sample> {
  const lab = await Lab.create();
  const neighbours = Array.from({ length: LINKS }, () => new LightNode());
  try {
    const node = await lab.add({ callsign: "MID-A" });
    await node.start();
    for (let i = 0; i < LINKS; i += DIALS)
      await Promise.all(neighbours.slice(i, i + DIALS).map((neighbour) => neighbour.connect(node.linkPort)));
    const linked = async () =>
      (await node.json<{ peers: { connected: number } }>("/mesh/status")).peers.connected === LINKS;
    await node.until("the links", linked, LINK_MS);
    // What links do when they are new is over.
    await Bun.sleep(SETTLE_MS);
    const costOf = async (path: string, times: number): Promise<number[]> => {
      const before = threadsCpuMs(node.pid!);
      for (let i = 0; i < times; i++) await (await node.api(path)).text();
      return [(threadsCpuMs(node.pid!) - before) / times];
    };
    return {
      first: await costOf("/metrics", 1),
      cold: await costOf("/metrics", COLD),
      warm: await costOf("/metrics", SCRAPES),
      health: await costOf("/health", SCRAPES),
      bytes: [(await (await node.api("/metrics")).text()).length],
    };
  } finally {
    for (const neighbour of neighbours) neighbour.stop();
    await lab.close();
  }
}

export const scrape: Bench = contest({
  name: "scrape",
  row: 19,
  how: `GET /metrics over the unix socket of a node with ${LINKS} links, one after the other, ${SCRAPES} times; what the links do meanwhile is in it`,
  figures: {
    first: { what: "processor time of the first, which loads what writes them", unit: "ms" },
    cold: {
      what: `processor time of each of the next ${COLD}`,
      unit: "ms",
      goal: { of: "median", atMost: 5 },
    },
    warm: { what: "processor time of one, later", unit: "ms", goal: { of: "median", atMost: 5 } },
    health: { what: "the same for GET /health: what the request itself costs", unit: "ms" },
    bytes: { what: "text of one", unit: "B" },
  },
  contestants: [{ name: GODWIT, open: async () => separateTurns(run) }],
});
