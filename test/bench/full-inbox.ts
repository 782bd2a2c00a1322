/**
 * `bun test/bench/full-inbox.ts [--messages N,N] [--runs N] [--tree DIR]... [--older]`: a node of dist/godwit with so many messages in its inbox, planted
 * through the store: from exec to the answering API, resident memory, times of a call of the API for a page at the beginning, in the middle and at the end
 * of the box. Each `DIR` is another Godwit, source and dist/godwit, measured in turns with this one. `--older`: the rows are those of schema 2 (0.2.0), and
 * the first start takes them over.
 */
import { Database } from "bun:sqlite";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { openSqliteStore as OpenSqliteStore } from "../../runtime/store/sqlite.ts";
import { silentLog } from "../../runtime/kernel/log.ts";
import { migrations } from "../../runtime/store/sqlite-schema.ts";
import { Lab, type LabNode } from "../../scripts/lab.ts";
import { root } from "../../scripts/lib.ts";
import { quantile } from "./bench.ts";
import { idOf } from "./probe.ts";
import { cpuMs, memoryOf } from "./process.ts";

const BODY_BYTES = 512;
/** Of 0.2.0. */
const OLD_SCHEMA = 2;
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

/** Rows as deliveries make them. */
async function plant(tree: string, path: string, self: string, messages: number): Promise<void> {
  const { openSqliteStore } = (await import(join(tree, "runtime/store/sqlite.ts"))) as {
    openSqliteStore: typeof OpenSqliteStore;
  };
  const store = await openSqliteStore({ path, log: silentLog });
  const body = crypto.getRandomValues(new Uint8Array(BODY_BYTES));
  for (let at = 0; at < messages; at += COMMIT_OPS)
    await store.commit(
      Array.from({ length: Math.min(COMMIT_OPS, messages - at) }, (_, i) => {
        const n = at + i;
        // A tree that knows no places reads past them.
        const slot = { order: n + 1, group: senderAt(n) };
        return { op: "put", in: "inbox", key: idAt(n), meta: metaOf(n, self), body, slot } as const;
      }),
    );
  await store.close();
}

function plantOlder(path: string, self: string, messages: number): void {
  const db = new Database(path, { create: true });
  db.run("PRAGMA journal_mode = WAL");
  for (const migration of migrations.slice(0, OLD_SCHEMA))
    for (const statement of migration) db.run(statement);
  db.run(`PRAGMA application_id = ${0x47647774}`);
  db.run(`PRAGMA user_version = ${OLD_SCHEMA}`);
  const body = crypto.getRandomValues(new Uint8Array(BODY_BYTES));
  const put = db.prepare("INSERT INTO inbox (key, meta, body) VALUES (?, ?, ?)");
  const insert = db.transaction((from: number, to: number) => {
    for (let n = from; n < to; n++) put.run(idAt(n), metaOf(n, self), body);
  });
  for (let at = 0; at < messages; at += COMMIT_OPS) insert(at, Math.min(at + COMMIT_OPS, messages));
  db.run(
    "UPDATE store_usage SET bytes = (SELECT coalesce(sum(octet_length(meta) + length(body)), 0) FROM inbox)",
  );
  put.finalize();
  db.close(true);
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

async function run(tree: string, messages: number, isOlder: boolean, runs: number): Promise<Figures[]> {
  const lab = await Lab.create();
  try {
    const extra = '[delivery]\ninbox_messages_max = 10000000\ninbox_bytes_max = "16GiB"';
    const node = await lab.add({ callsign: "BOX-A", extra, command: [join(tree, "dist/godwit")] });
    await node.start();
    const self = await idOf(node);
    await node.kill("SIGTERM");
    const path = join(node.stateDir, "godwit.db");
    if (isOlder) {
      await node.destroyStore();
      plantOlder(path, self, messages);
    } else await plant(tree, path, self, messages);
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
    tree: { type: "string", multiple: true, default: [] },
    older: { type: "boolean", default: false },
  },
});
console.log(`load ${readFileSync("/proc/loadavg", "utf8").trim()}; ${values.runs} starts each`);
const text = (value: number): string => String(Number(value.toPrecision(3)));
for (const count of values.messages.split(",").map(Number))
  for (const tree of [root, ...values.tree]) {
    console.log(`${count} messages, ${tree}`);
    for (const figures of await run(tree, count, values.older, Number(values.runs))) {
      const { startMs, cpuMs: cpu, rssMb, rssAfterMb, pagesMs } = figures;
      const pages = Object.entries(pagesMs).map(([name, ms]) => `${name} ${text(ms)}`);
      console.log(
        `  start ${text(startMs)} ms, ${cpu} ms of a core; resident ${text(rssMb)} MB, after the pages ${text(rssAfterMb)}; ms a page of ${PAGE}: ${pages.join(", ")}`,
      );
    }
  }
