/**
 * `bun test/bench/store-bytes.ts [--tree DIR]... [--runs N] [--meta BYTES] [--dir DIR]`: what the store writes for a message of 512 bytes at
 * its source, accept to receipt: bytes by `write_bytes` of /proc/PID/io, the database brought up to date included, commits a second, times of
 * a commit, processor time. One sender alone, and 128 at once. Each `DIR` is the source of another Godwit, measured in turns with this one.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { root } from "../../scripts/lib.ts";
import { quantile } from "./bench.ts";

const BODY_BYTES = 512;
const LOADS = { alone: { senders: 1, messages: 400 }, crowd: { senders: 128, messages: 8_000 } } as const;
type Load = keyof typeof LOADS;
/** Between two messages of the paced load, ms: each a lone one, and the disk has rest in between. */
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
  const { senders, messages } = ${JSON.stringify(LOADS[load])};
  const store = await openSqliteStore({ path: ${JSON.stringify(path)}, log: silentLog, clock: systemClock });
  const hashes = Array.from({ length: 16 }, (_, i) => Bun.hash(String(i)).toString(16).padStart(16, "0").repeat(2));
  const metaOf = (id, state) => {
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
  const send = async () => {
    while (next < messages) {
      const id = new Bun.CryptoHasher("sha256").update(String(next++)).digest("hex").slice(0, 32);
      const body = crypto.getRandomValues(new Uint8Array(${BODY_BYTES}));
      await commit([{ op: "put", in: "outbox", key: id, meta: metaOf(id, "queued"), body }]);
      await commit([{ op: "put", in: "outbox", key: id, meta: metaOf(id, "delivered") }]);
    }
  };
  const before = { bytes: written(), cpu: process.cpuUsage(), ms: performance.now() };
  await Promise.all(Array.from({ length: senders }, send));
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

const { values } = parseArgs({
  options: {
    tree: { type: "string", multiple: true, default: [] },
    runs: { type: "string", default: "3" },
    meta: { type: "string", default: "2000" },
    dir: { type: "string", default: tmpdir() },
  },
});
const trees = [root, ...values.tree];
const samples = new Map<string, Figures[]>();
for (let turn = 0; turn < Number(values.runs); turn++)
  for (const tree of trees)
    for (const load of Object.keys(LOADS) as Load[]) {
      const name = `${load.padEnd(6)} ${tree}`;
      const figures = await measure(tree, load, Number(values.meta), values.dir);
      samples.set(name, [...(samples.get(name) ?? []), figures]);
    }
console.log(`loadavg ${readFileSync("/proc/loadavg", "utf8").trim()}; median (least to most) of ${values.runs} turns`);
for (const [name, all] of [...samples].sort(([a], [b]) => a.localeCompare(b))) {
  const words = (Object.keys(all[0]!) as (keyof Figures)[]).map((key) => {
    const of = all.map((one) => one[key]);
    const text = (value: number): string => value.toPrecision(3).replace(/e\+.*/, "") && String(Number(value.toPrecision(3)));
    return `${key} ${text(quantile(of, 0.5))} (${text(quantile(of, 0))} to ${text(quantile(of, 1))})`;
  });
  console.log(`${name}\n  ${words.join(", ")}`);
}
