/**
 * What a node costs that is a member of a Serf cluster (docs/serf.md), beside one that is the same without the plugin, and how soon the agents see it come
 * and die, beside the death of one of them. All on the loopback of one namespace.
 */
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import type { Measure } from "./bench.ts";
import { cpuMs, memoryOf } from "./process.ts";
import { SERF_SEED, startSerfAgents } from "./serf-agents.ts";

const AGENTS = 24;
const SETTLE_MS = 20_000;
const IDLE_MS = 30_000;
const WAIT_MS = 60_000;
const NODE_PORT = 22_000;

export interface MemberFigures {
  readonly memoryMb: number;
  readonly cpuPercent: number;
  /** From the first exec to the last agent that saw it, and from its API's first answer. */
  readonly seenMs: number;
  readonly seenSinceUpMs: number;
  readonly failedMs: number;
  readonly serfFailedMs: number;
}

export async function measureMember(namespace: string): Promise<MemberFigures> {
  const lab = await Lab.create();
  const agents = await startSerfAgents(namespace, AGENTS, WAIT_MS);
  const all = async (pattern: RegExp, sinceMs: number, besides: readonly number[] = []) =>
    Math.max(
      ...(await Promise.all(
        agents.pids.map(async (_, index) =>
          besides.includes(index) ? 0 : await agents.until(index, pattern, 1, sinceMs),
        ),
      )),
    );
  try {
    const command = ["ip", "netns", "exec", namespace, binaryPath];
    const table = `[discovery.cluster]\ntype = "serf"\nlisten = "127.0.0.1:${NODE_PORT}"\njoin = ["${SERF_SEED}"]\n`;
    const plain = await lab.add({ callsign: "BEN-PLAIN", command });
    const member = await lab.add({ callsign: "BEN-MEMBER", command, extra: table });
    await plain.start(WAIT_MS);
    const startMs = performance.now();
    await member.start(WAIT_MS);
    const upMs = performance.now();
    const seenAtMs = await all(/EventMemberJoin: BEN-MEMBER/, startMs);
    await Bun.sleep(SETTLE_MS);
    const cpuOf = (node: LabNode) => cpuMs(node.pid!);
    const [before, fromMs] = [cpuOf(member) - cpuOf(plain), performance.now()];
    await Bun.sleep(IDLE_MS);
    const cpuPercent = ((cpuOf(member) - cpuOf(plain) - before) / (performance.now() - fromMs)) * 100;
    const memoryMb = memoryOf(member.pid!).anonMb - memoryOf(plain.pid!).anonMb;
    let atMs = performance.now();
    agents.signal(AGENTS - 1, "SIGKILL");
    const gone = [AGENTS - 1];
    const serfFailedMs = (await all(new RegExp(`EventMemberFailed: n${AGENTS - 1}x`), atMs, gone)) - atMs;
    // Until the dead one counts no more: agents wait for its confirmations as long as it does.
    await Bun.sleep(40_000);
    atMs = performance.now();
    await member.kill("SIGKILL");
    const failedMs = (await all(/EventMemberFailed: BEN-MEMBER/, atMs, gone)) - atMs;
    return {
      memoryMb,
      cpuPercent,
      seenMs: seenAtMs - startMs,
      seenSinceUpMs: seenAtMs - upMs,
      failedMs,
      serfFailedMs,
    };
  } finally {
    await agents.close();
    await lab.close();
  }
}

/** Limits of docs/serf.md. */
export function memberRows(found: readonly MemberFigures[]): Measure[] {
  const row = (what: string, unit: string, key: keyof MemberFigures, atMost?: number): Measure => ({
    what: `a node in a Serf cluster of ${AGENTS + 1}: ${what}`,
    unit,
    values: found.map((figures) => figures[key]),
    ...(atMost === undefined ? {} : { goal: { of: "p95", atMost } }),
  });
  return [
    row("memory beside the same node without the plugin", "MB", "memoryMb", 15),
    row("processor beside it, of one core", "%", "cpuPercent", 0.5),
    row("from its first exec until all agents see it", "ms", "seenMs"),
    row("from its API's first answer until all agents see it", "ms", "seenSinceUpMs", 1_000),
    row("kill -9 until all agents see it failed", "ms", "failedMs"),
    row("the same of an agent", "ms", "serfFailedMs"),
  ];
}
