/**
 * `bun test/bench/store-bytes.ts [--tree DIR]... [--runs N] [--meta BYTES] [--dir DIR] [--nodes]`: what the store writes for a message of 512 bytes at
 * its source, accept to receipt: bytes by `write_bytes` of /proc/PID/io, the database brought up to date included, commits a second, times of
 * a commit, processor time. One sender alone, and 128 at once. Each `DIR` is the source of another Godwit, measured in turns with this one;
 * `--nodes`: whole nodes of their dist/godwit, a source and a recipient.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Lab } from "../../scripts/lab.ts";
import { root } from "../../scripts/lib.ts";
import { quantile } from "./bench.ts";
import { idOf, metricOf, untilWhole } from "./probe.ts";
import { cpuMs } from "./process.ts";

const BODY_BYTES = 512;
const LOADS = {
  alone: { senders: 1, messages: 400, everyMs: 0 },
  crowd: { senders: 128, messages: 8_000, everyMs: 0 },
  // At a steady rate: what a commit meets while rows are brought to the database.
  paced: { senders: 0, messages: 6_000, everyMs: 1 },
} as const;
type Load = keyof typeof LOADS;
type NodeLoad = keyof typeof NODE_LOADS;
/** Messages through whole nodes. */
const NODE_LOADS = {
  alone: { senders: 1, messages: 800 },
  crowd: { senders: 128, messages: 5_000 },
} as const;
const TIMEOUT_MS = 120_000;

interface Figures {
  readonly bytesPerMessage: number;
  readonly commitsPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly cpuUsPerMessage: number;
  readonly rssMb: number;
}

/** Runs in a process of its own, with the store of `tree`. */
const childSource = (tree: string, path: string, load: Load, metaBytes: number): string => `
  import { readFileSync } from "node:fs";
  import { openSqliteStore } from ${JSON.stringify(join(tree, "runtime/store/sqlite.ts"))};
  import { silentLog } from ${JSON.stringify(join(tree, "runtime/kernel/log.ts"))};
  import { systemClock } from ${JSON.stringify(join(tree, "runtime/kernel/clock.ts"))};
  const written = () => Number(/write_bytes: (\\d+)/.exec(readFileSync("/proc/self/io", "utf8"))[1]);
  const { senders, messages, everyMs } = ${JSON.stringify(LOADS[load])};
  const store = await openSqliteStore({ path: ${JSON.stringify(path)}, log: silentLog, clock: systemClock });
  const hashes = Array.from({ length: 16 }, (_, i) => Bun.hash(String(i)).toString(16).padStart(16, "0").repeat(2));
  const metaOf = (id, state) => {
    if (${metaBytes < 1_000}) return JSON.stringify({ id, state, at: Date.now() }).padEnd(${metaBytes}, " ");
    const meta = { id, state, to: "NYC-C", seen: hashes, at: Date.now() };
    return JSON.stringify({ ...meta, pad: "" }).padEnd(${metaBytes}, " ");
  };
  const times = [];
  const commit = async (ops) => {
    const startMs = performance.now();
    await store.commit(ops);
    times.push(performance.now() - startMs);
  };
  let next = 0;
  const one = async () => {
    const id = new Bun.CryptoHasher("sha256").update(String(next++)).digest("hex").slice(0, 32);
    const body = crypto.getRandomValues(new Uint8Array(${BODY_BYTES}));
    await commit([{ op: "put", in: "outbox", key: id, meta: metaOf(id, "queued"), body }]);
    await commit([{ op: "put", in: "outbox", key: id, meta: metaOf(id, "delivered") }]);
  };
  const send = async () => {
    while (next < messages) await one();
  };
  const pace = async () => {
    const startMs = performance.now();
    const all = [];
    while (next < messages) {
      while (next < messages && next * everyMs <= performance.now() - startMs) all.push(one());
      await Bun.sleep(1);
    }
    await Promise.all(all);
  };
  const before = { bytes: written(), cpu: process.cpuUsage(), ms: performance.now() };
  await (everyMs > 0 ? pace() : Promise.all(Array.from({ length: senders }, send)));
  const ms = performance.now() - before.ms;
  const rss = process.memoryUsage.rss();
  await store.close();
  const { user, system } = process.cpuUsage(before.cpu);
  console.log(JSON.stringify({ times, ms, bytes: written() - before.bytes, cpuUs: user + system, rss }));
`;

async function measure(tree: string, load: Load, metaBytes: number, dir: string): Promise<Figures> {
  const folder = mkdtempSync(join(dir, "godwit-bytes-"));
  try {
    const child = Bun.spawn(
      [process.execPath, "-e", childSource(tree, join(folder, "godwit.db"), load, metaBytes)],
      { stdout: "pipe", stderr: "inherit", timeout: TIMEOUT_MS },
    );
    const text = await new Response(child.stdout).text();
    if ((await child.exited) !== 0) throw new Error(`the store of ${tree} did not end well`);
    const { times, ms, bytes, cpuUs, rss } = JSON.parse(text) as {
      times: number[];
      ms: number;
      bytes: number;
      cpuUs: number;
      rss: number;
    };
    const { messages } = LOADS[load];
    return {
      bytesPerMessage: bytes / messages,
      commitsPerSecond: times.length / (ms / 1_000),
      p50Ms: quantile(times, 0.5),
      p99Ms: quantile(times, 0.99),
      cpuUsPerMessage: cpuUs / messages,
      rssMb: rss / 1e6,
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

interface NodeFigures {
  readonly bytesPerMessage: number;
  readonly bytesPerMessageAtRecipient: number;
  readonly acceptedPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly cpuUsPerMessage: number;
}

const writtenBy = (pid: number): number =>
  Number(/\nwrite_bytes: (\d+)/.exec(readFileSync(`/proc/${pid}/io`, "utf8"))![1]);

async function measureNodes(tree: string, load: NodeLoad): Promise<NodeFigures> {
  const lab = await Lab.create();
  const { senders, messages } = NODE_LOADS[load];
  try {
    const extra = "[delivery]\ninbox_messages_max = 1000000";
    const target = await lab.add({ callsign: "BYT-B", extra });
    const source = await lab.add({ callsign: "BYT-A", peers: [target.endpoint], extra });
    for (const node of [target, source]) {
      await node.reconfigure({ command: [join(tree, "dist/godwit")] });
      await node.start();
    }
    await untilWhole([source, target]);
    const to = await idOf(target);
    const pids = [source.pid!, target.pid!];
    const before = pids.map(writtenBy);
    const cpuBefore = cpuMs(source.pid!);
    const startMs = performance.now();
    const times: number[] = [];
    let next = 0;
    const send = async (): Promise<void> => {
      while (next++ < messages) {
        const askedMs = performance.now();
        await source.sendBytes(crypto.getRandomValues(new Uint8Array(BODY_BYTES)), { to });
        times.push(performance.now() - askedMs);
      }
    };
    await Promise.all(Array.from({ length: senders }, send));
    const ms = performance.now() - startMs;
    const isEmpty = async () => (await metricOf(source, "godwit_queue_messages")) === 0;
    await source.until("all receipts", isEmpty, TIMEOUT_MS, 20);
    const [atSource, atRecipient] = pids.map((pid, i) => (writtenBy(pid) - before[i]!) / messages);
    return {
      bytesPerMessage: atSource!,
      bytesPerMessageAtRecipient: atRecipient!,
      acceptedPerSecond: messages / (ms / 1_000),
      p50Ms: quantile(times, 0.5),
      p99Ms: quantile(times, 0.99),
      cpuUsPerMessage: ((cpuMs(source.pid!) - cpuBefore) * 1_000) / messages,
    };
  } finally {
    await lab.close();
  }
}

const { values } = parseArgs({
  options: {
    tree: { type: "string", multiple: true, default: [] },
    runs: { type: "string", default: "3" },
    meta: { type: "string", default: "2000" },
    dir: { type: "string", default: tmpdir() },
    nodes: { type: "boolean", default: false },
  },
});
const trees = [root, ...values.tree];
const samples = new Map<string, (Figures | NodeFigures)[]>();
for (let turn = 0; turn < Number(values.runs); turn++)
  for (const tree of trees)
    for (const load of Object.keys(values.nodes ? NODE_LOADS : LOADS)) {
      const name = `${load.padEnd(6)} ${tree}`;
      const figures = values.nodes
        ? await measureNodes(tree, load as NodeLoad)
        : await measure(tree, load as Load, Number(values.meta), values.dir);
      samples.set(name, [...(samples.get(name) ?? []), figures]);
    }
const loadavg = readFileSync("/proc/loadavg", "utf8").trim();
console.log(`load ${loadavg}; median (least to most) of ${values.runs} turns`);
const text = (value: number): string => String(Number(value.toPrecision(3)));
for (const [name, all] of [...samples].sort(([a], [b]) => a.localeCompare(b))) {
  const words = Object.keys(all[0]!).map((key) => {
    const of = all.map((one) => (one as unknown as Record<string, number>)[key]!);
    return `${key} ${text(quantile(of, 0.5))} (${text(quantile(of, 0))} to ${text(quantile(of, 1))})`;
  });
  console.log(`${name}\n  ${words.join(", ")}`);
}
