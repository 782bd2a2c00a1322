/**
 * `bun test/bench/full-inbox.ts [--messages N,N] [--runs N] [--old DIR]`: a node of dist/godwit with so many messages in its inbox, planted through
 * the store: from exec to the answering API, resident memory, times of a page at the beginning, in the middle and at the end of the box, over
 * the API as a whole and without what the same call costs on an empty box. `--old`: a tree of 0.2.0, whose store takes the rows: what the
 * first start over them costs as well.
 */
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openSqliteStore } from "../../runtime/store/sqlite.ts";
import { silentLog } from "../../runtime/kernel/log.ts";
import { Lab, type LabNode } from "../../scripts/lab.ts";
import { quantile } from "./bench.ts";
import { idOf } from "./probe.ts";
import { cpuMs, memoryOf } from "./process.ts";

const BODY_BYTES = 512;
const SENDERS = 1_000;
const COMMIT_OPS = 500;
const PAGE = 50;
const ASKED = 40;
const SETTLE_MS = 3_000;

const idAt = (n: number): string =>
  new Bun.CryptoHasher("sha256").update(`message ${n}`).digest("hex").slice(0, 32);
const senderAt = (n: number): string =>
  new Bun.CryptoHasher("sha256")
    .update(`sender ${n % SENDERS}`)
    .digest("hex")
    .slice(0, 52);

function metaOf(n: number, self: string): string {
  const from = senderAt(n);
  const atMs = 1_790_000_000_000 + n;
  const hops = [from, senderAt(n + 1), self].map((node) => ({ node, atMs }));
  return JSON.stringify({
    ...{ id: idAt(n), from, to: self, subject: `message ${n}`, contentType: "text/plain; charset=utf-8" },
    ...{ priority: 2, size: BODY_BYTES, createdAtMs: atMs, deliveredAtMs: atMs, atRunMs: 1_000 + n },
    ...{ forwardSecret: true, isUnconfirmed: false, trace: hops },
  });
}

/** Rows as deliveries make them; into a store of an earlier release without what that did not know. */
async function plant(
  tree: string | undefined,
  stateDir: string,
  self: string,
  messages: number,
): Promise<void> {
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  const path = join(stateDir, "godwit.db");
  const open =
    tree === undefined
      ? openSqliteStore
      : ((await import(join(tree, "runtime/store/sqlite.ts"))) as { openSqliteStore: typeof openSqliteStore })
          .openSqliteStore;
  const store = await open({ path, log: silentLog });
  const body = crypto.getRandomValues(new Uint8Array(BODY_BYTES));
  for (let at = 0; at < messages; at += COMMIT_OPS)
    await store.commit(
      Array.from({ length: Math.min(COMMIT_OPS, messages - at) }, (_, i) => {
        const n = at + i;
        const slot = tree === undefined ? { order: n + 1, group: senderAt(n) } : undefined;
        return { op: "put", in: "inbox", key: idAt(n), meta: metaOf(n, self), body, slot } as const;
      }),
    );
  await store.close();
}

interface Figures {
  readonly startMs: number;
  readonly cpuMs: number;
  readonly rssMb: number;
  readonly pagesMs: Readonly<Record<string, number>>;
  readonly rssAfterMb: number;
}

async function timeOf(node: LabNode, path: string, count: number): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < ASKED; i++) {
    const startMs = performance.now();
    const { messages } = await node.json<{ messages: unknown[] }>(path);
    times.push(performance.now() - startMs);
    if (messages.length !== count)
      throw new Error(`${path}: ${messages.length} messages instead of ${count}`);
  }
  return quantile(times, 0.5);
}

async function measure(node: LabNode, messages: number): Promise<Figures> {
  const startedMs = performance.now();
  await node.start(60_000);
  const startMs = performance.now() - startedMs;
  const started = cpuMs(node.pid!);
  await Bun.sleep(SETTLE_MS);
  const { rssMb } = memoryOf(node.pid!);
  const after = (n: number): string => `/messages?box=inbox&limit=${PAGE}&after=${idAt(n)}`;
  const count = Math.min(PAGE, messages);
  const pagesMs: Record<string, number> = {
    first: await timeOf(node, `/messages?box=inbox&limit=${PAGE}`, count),
  };
  if (messages > 2 * PAGE) {
    pagesMs["middle"] = await timeOf(node, after(Math.floor(messages / 2)), PAGE);
    pagesMs["end"] = await timeOf(node, after(PAGE), PAGE);
    pagesMs["one"] = await timeOf(node, `/messages?box=inbox&limit=1&after=${idAt(messages >> 2)}`, 1);
  }
  return { startMs, cpuMs: started, rssMb, pagesMs, rssAfterMb: memoryOf(node.pid!).rssMb };
}

async function run(messages: number, old: string | undefined, runs: number): Promise<Figures[]> {
  const lab = await Lab.create();
  try {
    const extra = '[delivery]\ninbox_messages_max = 10000000\ninbox_bytes_max = "16GiB"';
    const node = await lab.add({ callsign: "BOX-A", extra });
    await node.start();
    const self = await idOf(node);
    await node.kill("SIGTERM");
    if (old !== undefined) await node.destroyStore();
    if (messages > 0) await plant(old, node.stateDir, self, messages);
    const figures: Figures[] = [];
    for (let turn = 0; turn < runs; turn++) {
      figures.push(await measure(node, messages));
      await node.kill("SIGTERM");
    }
    return figures;
  } finally {
    await lab.close();
  }
}

const { values } = parseArgs({
  options: {
    messages: { type: "string", default: "0,100000,1000000" },
    runs: { type: "string", default: "3" },
    old: { type: "string" },
  },
});
console.log(`load ${readFileSync("/proc/loadavg", "utf8").trim()}; ${values.runs} starts each, in turn`);
const text = (value: number): string => String(Number(value.toPrecision(3)));
for (const count of values.messages.split(",").map(Number)) {
  const all = await run(count, values.old, Number(values.runs));
  console.log(`${count} messages`);
  for (const { startMs, cpuMs: cpu, rssMb, rssAfterMb, pagesMs } of all)
    console.log(
      `  start ${text(startMs)} ms, ${cpu} ms of a core; resident ${text(rssMb)} MB, after the pages ${text(rssAfterMb)}; pages of ${PAGE}, ms: ${Object.entries(
        pagesMs,
      )
        .map(([name, ms]) => `${name} ${text(ms)}`)
        .join(", ")}`,
    );
}
