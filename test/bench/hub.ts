/** Row 15, the hub: every neighbour tells it every destination, so that it holds a candidate for each of both. */
import type { Bench, BenchOptions, Measure } from "./bench.ts";
import { LightNode, News, openHub } from "./light.ts";
import { memoryLines } from "./memory.ts";
import { metricOf } from "./probe.ts";
import { cpuMs, memoryOf, peakMb, type Memory } from "./process.ts";

const IDLE_MS = 30_000;
const LINKS = 250;
const ROUTES = 10_000;
const RUNS_MAX = 5;
/** Dials at once: the node admits no more half-open handshakes of one address. */
const DIALS = 5;
const DIAL_TRIES = 60;
/** For each neighbour to have told all that it knows. */
const TOLD_WAIT_MS = 240_000;

/** What a hub that all its neighbours tell everything comes to. */
interface Told {
  readonly peakMb: number;
  readonly after: Memory;
  readonly candidates: number;
  readonly lost: number;
  readonly cpuMs: number;
}

/** Each neighbour's way has a length of its own, and one of some has another one for bulk. */
const LENGTHS = 8;
const OTHER_BULK_OF = 8;

/** A hub that is busy with others is dialled again, as any node does. */
async function dial(neighbour: LightNode, port: number): Promise<void> {
  for (let tries = 1; ; tries++)
    try {
      await neighbour.connect(port);
      return;
    } catch (error) {
      if (tries === DIAL_TRIES) throw error;
    }
}

async function toldByAll(links: number, routes: number, note: (text: string) => void): Promise<Told> {
  const opened = await openHub(routes);
  const { node, destinations, neighbours } = opened;
  try {
    const gateway = new LightNode(destinations);
    neighbours.push(gateway);
    const hubId = await gateway.connect(node.linkPort);
    await node.until("the first to have told all", () => Promise.resolve(gateway.hasTold), TOLD_WAIT_MS, 100);
    // The proofs are there: nobody sends them again to whoever has sent them.
    const news = Array.from(
      { length: LENGTHS },
      (_, i) => new News(destinations, { metric: 20 + i, hasProofs: false }),
    );
    const otherBulk = new News(destinations, { metric: 20, bulkMetric: 30, hasProofs: false });
    const silence = new News([], { metric: 0, hasProofs: false });
    for (let i = 1; i < links; i++) neighbours.push(new LightNode(destinations, silence));
    for (let i = 1; i < links; i += DIALS)
      await Promise.all(neighbours.slice(i, i + DIALS).map((neighbour) => dial(neighbour, node.linkPort)));
    // All links stand: now all tell it everything, as to a hub that has just begun anew.
    for (let i = 1; i < links; i++)
      neighbours[i]!.tell(hubId, i % OTHER_BULK_OF === 0 ? otherBulk : news[i % LENGTHS]!);
    await node
      .until(
        "all to have told all",
        () => Promise.resolve(neighbours.every(({ hasTold }) => hasTold)),
        TOLD_WAIT_MS,
        100,
      )
      .catch((error: unknown) => note(String(error).slice(0, 300)));
    await Bun.sleep(IDLE_MS);
    const pid = node.pid!;
    return {
      peakMb: peakMb(pid),
      after: memoryOf(pid),
      candidates: await metricOf(node, "godwit_route_candidates"),
      lost: await metricOf(node, "godwit_peers_lost_total"),
      cpuMs: cpuMs(pid),
    };
  } finally {
    await opened.close();
  }
}

async function run({ runs, note }: BenchOptions): Promise<Measure[]> {
  const told: Told[] = [];
  for (let i = 0; i < Math.min(runs, RUNS_MAX); i++) {
    const one = await toldByAll(LINKS, ROUTES, note);
    note(`peak ${Math.round(one.peakMb)} MB, ${one.candidates} candidates, ${one.lost} neighbours lost`);
    told.push(one);
  }
  const title = `${LINKS} links, ${ROUTES} destinations told by all of them`;
  const line = (what: string, unit: string, of: (run: Told) => number, goal?: Measure["goal"]): Measure => ({
    what: `${title}: ${what}`,
    unit,
    values: told.map(of),
    ...(goal === undefined ? {} : { goal }),
  });
  return [
    line("peak", "MB", ({ peakMb: peak }) => peak, { of: "max", atMost: 200 }),
    line("candidates held", "", ({ candidates }) => candidates),
    line("neighbours lost", "", ({ lost }) => lost, { of: "max", atMost: 0 }),
    line("processor time", "s", ({ cpuMs: ms }) => ms / 1_000),
    ...memoryLines(
      title,
      told.map(({ after }) => after),
    ),
  ];
}

export const hub: Bench = {
  name: "hub",
  row: 15,
  how: "neighbours are light nodes of the measuring process; one brings the proofs, then all come and tell all; one in eight has another way for bulk; resident 30 s after the last was heard",
  run,
};
