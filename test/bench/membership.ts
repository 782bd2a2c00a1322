/**
 * Rows 4, 14 and 18: how soon everybody knows who came, was killed or froze, and what an idle node costs, beside Debian's
 * Serf in the same run, one after the other. Each mesh has a network namespace of its own, whose loopback counts bytes;
 * control goes over unix sockets and standard output, so only the protocols are counted.
 */
import { Lab, binaryPath, type LabNode } from "../../scripts/lab.ts";
import { run as runCommand } from "../../scripts/lib.ts";
import { idOf, MemberWatch, membersOf } from "../membership/mesh.ts";
import type { Bench, BenchOptions, Measure } from "./bench.ts";
import { cpuMs } from "./process.ts";
import { startSerfAgents } from "./serf-agents.ts";
import { type MemberFigures, measureMember, memberRows } from "./serf-member.ts";

const SIZES = (process.env["BENCH_MEMBERS"] ?? "5,8,25").split(",").map(Number);
/** Up to here everybody dials everybody; larger meshes dial this many. */
const FULL_MAX = 8;
const DIALS = 3;
/** Until a mesh is idle: links that came up while all processes started are measured anew, which takes longer the more there are. */
const settleMs = (count: number): number => 8_000 + 500 * count;
const IDLE_MS = 30_000;
const WAIT_MS = 180_000;
/** Between two looks at a node that does not know all yet, ms; one node at a time, so that looking costs the mesh little. */
const LOOK_MS = 100;
/** Ethernet header that the loopback counts and no wire carries. */
const LOOPBACK_HEADER_BYTES = 14;

/** One mesh of either system. */
interface Cluster {
  /** Links of all nodes; undefined where the protocol has none. */
  readonly links: number | undefined;
  readonly pids: number[];
  /** When the last process answered its first call, and when all knew all (performance.now). */
  readonly upAtMs: number;
  readonly wholeAtMs: number;
  signal(index: number, signal: NodeJS.Signals): void;
  /** When every other node knew (performance.now). */
  untilFailed(index: number, sinceMs: number): Promise<number>;
  close(): Promise<void>;
}

let namespaces = 0;

async function command(words: readonly string[]): Promise<string> {
  const { output, code } = await runCommand(words);
  if (code !== 0) throw new Error(`${words.join(" ")}: ${output}`);
  return output;
}

async function withNamespace<T>(work: (name: string) => Promise<T>): Promise<T> {
  const name = `gwm${process.pid}n${namespaces++}`;
  await command(["ip", "netns", "add", name]);
  try {
    await command(["ip", "-n", name, "link", "set", "lo", "up"]);
    return await work(name);
  } finally {
    await command(["ip", "netns", "del", name]);
  }
}

/** IP bytes over the loopback of a namespace so far. */
async function loopbackBytes(namespace: string): Promise<number> {
  const text = await command(["ip", "netns", "exec", namespace, "cat", "/proc/net/dev"]);
  const fields = /lo:\s*(.*)$/m.exec(text)![1]!.trim().split(/\s+/).map(Number);
  return fields[0]! - LOOPBACK_HEADER_BYTES * fields[1]!;
}

async function startGodwit(namespace: string, count: number): Promise<Cluster> {
  const lab = await Lab.create();
  const nodes: LabNode[] = [];
  let links = 0;
  for (let i = 0; i < count; i++) {
    const others = count <= FULL_MAX ? nodes : [...nodes].sort(() => Math.random() - 0.5).slice(0, DIALS);
    links += others.length;
    const peers = others.map((node) => node.endpoint);
    const words = ["ip", "netns", "exec", namespace, binaryPath];
    nodes.push(await lab.add({ callsign: `BEN-${i}`, peers, command: words }));
  }
  const close = () => lab.close();
  try {
    await Promise.all(nodes.map((node) => node.start(WAIT_MS)));
    const upAtMs = performance.now();
    const isWhole = async (node: LabNode) =>
      (await membersOf(node)).filter(({ state }) => state === "alive").length === count;
    for (const node of nodes) await node.until("all members", () => isWhole(node), WAIT_MS, LOOK_MS);
    const wholeAtMs = performance.now();
    const ids = await Promise.all(nodes.map(idOf));
    const watches = await Promise.all(nodes.map((node) => MemberWatch.open(node)));
    return {
      links,
      upAtMs,
      wholeAtMs,
      pids: nodes.map(({ pid }) => pid!),
      signal: (index, signal) => nodes[index]!.signal(signal),
      untilFailed: async (index, sinceMs) => {
        const others = watches.filter((_, at) => at !== index && nodes[at]!.isRunning);
        const times = others.map((watch) => watch.at("member.failed", ids[index]!, WAIT_MS, sinceMs));
        return Math.max(...(await Promise.all(times)));
      },
      close: async () => {
        for (const watch of watches) watch.close();
        await close();
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function startSerf(namespace: string, count: number): Promise<Cluster> {
  const agents = await startSerfAgents(namespace, count, WAIT_MS);
  const wholeAtMs = performance.now();
  const gone = new Set<number>();
  return {
    links: undefined,
    upAtMs: Number.NaN,
    wholeAtMs,
    pids: [...agents.pids],
    signal: (index, signal) => {
      if (signal === "SIGKILL") gone.add(index);
      agents.signal(index, signal);
    },
    untilFailed: async (index, sinceMs) => {
      const others = agents.pids.map((_, at) => at).filter((at) => at !== index && !gone.has(at));
      const pattern = new RegExp(`EventMemberFailed: n${index}x`);
      return Math.max(...(await Promise.all(others.map((at) => agents.until(at, pattern, 1, sinceMs)))));
    },
    close: () => agents.close(),
  };
}

interface Figures {
  readonly joinMs: number;
  /** From the last API that answered until all knew all. */
  readonly convergeMs: number;
  readonly killMs: number;
  readonly freezeMs: number;
  readonly bytesPerSecond: number;
  readonly bytesPerLink: number;
  readonly cpuPercent: number;
}

async function measure(
  start: (namespace: string, count: number) => Promise<Cluster>,
  count: number,
): Promise<Figures> {
  return withNamespace(async (namespace) => {
    const startMs = performance.now();
    const cluster = await start(namespace, count);
    try {
      const joinMs = cluster.wholeAtMs - startMs;
      await Bun.sleep(settleMs(count));
      const cpu = () => cluster.pids.reduce((sum, pid) => sum + cpuMs(pid), 0);
      const [bytes, busyMs, fromMs] = [await loopbackBytes(namespace), cpu(), performance.now()];
      await Bun.sleep(IDLE_MS);
      const tookMs = performance.now() - fromMs;
      const perSecond = ((await loopbackBytes(namespace)) - bytes) / (tookMs / 1_000);
      const cpuPercent = ((cpu() - busyMs) / tookMs / count) * 100;
      const strike = async (index: number, signal: NodeJS.Signals) => {
        const atMs = performance.now();
        cluster.signal(index, signal);
        return (await cluster.untilFailed(index, atMs)) - atMs;
      };
      const killMs = await strike(count - 1, "SIGKILL");
      await Bun.sleep(2_000 + 5_000 * Math.random());
      const freezeMs = await strike(1, "SIGSTOP");
      cluster.signal(1, "SIGCONT");
      return {
        joinMs,
        convergeMs: cluster.wholeAtMs - cluster.upAtMs,
        killMs,
        freezeMs,
        bytesPerSecond: perSecond / count,
        bytesPerLink: cluster.links === undefined ? Number.NaN : perSecond / cluster.links,
        cpuPercent,
      };
    } finally {
      await cluster.close();
    }
  });
}

async function runMembership({ runs, note }: BenchOptions): Promise<Measure[]> {
  const hasSerf = Bun.which("serf") !== null;
  if (!hasSerf) note("no serf here (apt-get install serf): Godwit alone");
  const measures: Measure[] = [];
  for (const count of SIZES) {
    const found: Record<"Godwit" | "Serf", Figures[]> = { Godwit: [], Serf: [] };
    for (let i = 0; i < runs; i++) {
      found.Godwit.push(await measure(startGodwit, count));
      if (hasSerf) found.Serf.push(await measure(startSerf, count));
      for (const [name, list] of Object.entries(found))
        if (list.length > 0) note(`${count} ${name} ${i + 1}/${runs}: ${JSON.stringify(list.at(-1))}`);
    }
    for (const [name, list] of Object.entries(found)) {
      if (list.length === 0) continue;
      const isOurs = name === "Godwit";
      const row = (what: string, unit: string, key: keyof Figures, atMost?: number): Measure => ({
        what: `${count} nodes, ${name}: ${what}`,
        unit,
        values: list.map((figures) => figures[key]),
        ...(atMost === undefined || !isOurs ? {} : { goal: { of: "p95", atMost } }),
      });
      measures.push(
        row("from the first exec until all know all", "ms", "joinMs", 10_000),
        ...(isOurs ? [row("from the last API that answered until all know all", "ms", "convergeMs")] : []),
        row("kill -9 until all know", "ms", "killMs", 300),
        row("SIGSTOP until all know", "ms", "freezeMs", count <= FULL_MAX ? 3_000 : 10_000),
        row("idle, of one node, both directions", "B/s", "bytesPerSecond"),
        ...(isOurs ? [row("idle, of one link, both directions", "B/s", "bytesPerLink", 45)] : []),
        row("idle processor, of one core", "%", "cpuPercent"),
      );
    }
  }
  if (hasSerf && (process.env["BENCH_SERF_MEMBER"] ?? "1") !== "0") {
    const members: MemberFigures[] = [];
    for (let i = 0; i < runs; i++) {
      members.push(await withNamespace(measureMember));
      note(`Serf member ${i + 1}/${runs}: ${JSON.stringify(members.at(-1))}`);
    }
    measures.push(...memberRows(members));
  }
  return measures;
}

export const membership: Bench = {
  name: "membership",
  row: 4,
  how: "Godwit and Serf alternately, each mesh in a namespace; full mesh up to 8 nodes, above each dials 3; idle bytes are those of the namespace's loopback without Ethernet headers",
  run: runMembership,
};
