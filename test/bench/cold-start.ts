/** Row 1: a ring of ten nodes that were never started before, all processes at once. */
import { Lab, type LabNode } from "../../scripts/lab.ts";
import { GODWIT, type Bench } from "./bench.ts";
import { contest, separateTurns, type Contestant, type Sample } from "./contest.ts";
import { addToHosts } from "./godwit-hosts.ts";
import { AllPairs } from "./ip-probe.ts";
import { Hosts } from "./namespaces.ts";
import { makeBabeld } from "./peers/babeld.ts";
import type { MakeMesh } from "./peers/peer.ts";
import { makeYggdrasil } from "./peers/yggdrasil.ts";
import { follow, routesOf } from "./probe.ts";
import { peakMb, threadsCpuMs } from "./process.ts";

const NODES = 10;
const EVERY_MS = 20;

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

/** Since they were started. */
const ofEach = (pids: readonly number[]): Sample => ({ cpu: pids.map(threadsCpuMs), peak: pids.map(peakMb) });

async function runGodwit(): Promise<Sample> {
  const hosts = Hosts.ring(NODES);
  const lab = await Lab.create();
  try {
    await hosts.settle();
    const nodes = await addToHosts(lab, hosts);
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
    return {
      whole: [endMs - startMs],
      converged: [Math.max(0, endMs - lastApiMs)],
      apis: [lastApiMs - startMs],
      ...ofEach(nodes.map(({ pid }) => pid!)),
    };
  } finally {
    await lab.close();
    await hosts.close();
  }
}

const runPeers = (make: MakeMesh) => async (): Promise<Sample> => {
  const hosts = Hosts.ring(NODES);
  try {
    await hosts.settle();
    const { peers } = await make(hosts);
    const pairs = await AllPairs.start(peers, EVERY_MS);
    try {
      const startMs = performance.now();
      const apiMs: number[] = [];
      await Promise.all(
        peers.map(async (peer) => {
          await peer.start();
          apiMs.push(performance.now());
        }),
      );
      const endMs = await pairs.done;
      const lastApiMs = Math.max(...apiMs);
      return {
        whole: [endMs - startMs],
        converged: [Math.max(0, endMs - lastApiMs)],
        apis: [lastApiMs - startMs],
        ...ofEach(peers.map(({ daemon }) => daemon.pid)),
      };
    } finally {
      pairs.stop();
    }
  } finally {
    await hosts.close();
  }
};

const peer = (name: string, make: MakeMesh): Contestant => ({
  name,
  needs: [name],
  open: async () => separateTurns(runPeers(make)),
});

export const coldStart: Bench = contest({
  name: "cold-start",
  row: 1,
  how:
    "10 processes in a ring of namespaces, first boot, started at once. Godwit: done when each has 9 routes (its events); " +
    `peers: when a datagram from each to each other, tried every ${EVERY_MS} ms, has arrived`,
  figures: {
    whole: {
      what: "all routes, from the start of the processes",
      unit: "ms",
      better: "less",
      goalBeside: { of: "median", atMost: 1 },
    },
    converged: {
      what: "all routes, after the last API answered",
      unit: "ms",
      goal: { of: "p95", atMost: 150 },
    },
    cpu: { what: "processor time of one, from its start until all routes", unit: "ms", better: "less" },
    peak: { what: "most resident memory of one", unit: "MB", better: "less" },
    apis: { what: "the last API answered, from the start", unit: "ms" },
  },
  contestants: [
    { name: GODWIT, open: async () => separateTurns(runGodwit) },
    peer("babeld", makeBabeld),
    peer("yggdrasil", makeYggdrasil),
  ],
});
