/**
 * The real store: bun:sqlite in a worker (sqlite-worker.ts), WAL, synchronous=FULL. Owns the order of commits and their
 * grouping: what is called while a batch is being written goes with the next one, so that many commits share one
 * fsync. Must never resolve a commit before the worker said that it is durable, and never hang when the worker dies.
 * Bounds: a batch in ops and bytes, the batches under way; what waits behind them is bounded by the callers, who can
 * look at `pendingOps`. Specified by docs/protocol/delivery.md, "Acknowledge only what is durable".
 */
import type { Clock, Log } from "@godwit/sdk";
import { isCompiled } from "../kernel/compiled.ts";
import { assert, asGodwitError, godwitError, type GodwitError } from "../kernel/errors.ts";
import type { CounterMetric, HistogramMetric, Metrics } from "../kernel/metrics.ts";
import type {
  FromWorker,
  LoadColumns,
  StoreNews,
  ToWorker,
  UsageValue,
  WireEntry,
  WireOp,
  WireValue,
} from "./sqlite-messages.ts";
import { assertCollection, assertOps } from "./ops.ts";
import { SET_ASIDE } from "./sqlite-messages.ts";
import {
  DAMAGE_NAMED_MAX,
  soundState,
  type Collection,
  type Damage,
  type Store,
  type StoreOp,
  type StoreRow,
  type StoreState,
} from "./types.ts";

export interface SqliteStoreOptions {
  /** The database file; its folder is made if missing. One process at a time. */
  readonly path: string;
  readonly log: Log;
  readonly clock?: Clock;
  readonly metrics?: Metrics;
  /** Largest size of the database file; beyond it commits fail as on a full disk. Default: what the disk holds. */
  readonly bytesMax?: number;
}

/** Ops and body bytes after which a batch is not filled further; one commit alone may be larger. */
const BATCH_OPS_MAX = 256;
const BATCH_BYTES_MAX = 4 * 1024 * 1024;
/** While the worker writes one batch the next one already lies in its inbox. */
const BATCHES_UNDER_WAY_MAX = 2;

const workerUrl = isCompiled
  ? "file:///$bunfs/root/store/sqlite-worker.js"
  : new URL("./sqlite-worker.ts", import.meta.url).href;

interface Pending {
  readonly request: Request;
  readonly ops: number;
  readonly calledAtMs: number;
  resolve(value: WireValue): void;
  reject(error: GodwitError): void;
}

type Request =
  { readonly kind: "commit"; readonly ops: readonly StoreOp[] } | Exclude<WireEntry, { kind: "commit" }>;

/**
 * Opens the store. Rejects with GODWIT_STATE_UNUSABLE (another node uses it, or it cannot be created),
 * GODWIT_STORE_VERSION (written by a newer Godwit) or GODWIT_STORE_CORRUPT (a database of somebody else); nothing is changed then. Of a
 * damaged one what is readable is taken into a new one: `state` says what was lost.
 */
export async function openSqliteStore(options: SqliteStoreOptions): Promise<SqliteStore> {
  const worker = new Worker(workerUrl);
  const store = new SqliteStore(worker, options);
  await store.opened;
  return store;
}

export class SqliteStore implements Store {
  readonly #worker: Worker;
  readonly #path: string;
  readonly #log: Log;
  readonly #nowMs: () => number;
  readonly #metrics: StoreMetrics | undefined;
  #waiting: Pending[] = [];
  /** Start of what is still waiting: shifting an array of thousands would be quadratic. */
  #head = 0;
  #underWay: Pending[][] = [];
  #pendingOps = 0;
  #isFlushing = false;
  #closing: Promise<void> | undefined;
  #dead: GodwitError | undefined;
  #state: StoreState = soundState;
  #changed: (found: readonly Damage[]) => void = () => {};
  readonly #opened = Promise.withResolvers<void>();
  readonly #closed = Promise.withResolvers<void>();

  constructor(worker: Worker, options: SqliteStoreOptions) {
    this.#worker = worker;
    this.#path = options.path;
    this.#log = options.log;
    const { clock } = options;
    this.#nowMs = clock === undefined ? () => 0 : () => clock.monotonicMs();
    if (options.metrics !== undefined) this.#metrics = storeMetrics(options.metrics, clock !== undefined);
    worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#onMessage(data);
    worker.onerror = (event) => this.#die(event.message);
    worker.addEventListener("close", () => this.#die("its thread ended"));
    this.#post({ kind: "open", path: options.path, bytesMax: options.bytesMax });
  }

  get state(): StoreState {
    return this.#state;
  }

  onState(changed: (found: readonly Damage[]) => void): void {
    this.#changed = changed;
  }

  /** Settles once: whether the file could be opened. */
  get opened(): Promise<void> {
    return this.#opened.promise;
  }

  /** Ops of commits that have not settled. */
  get pendingOps(): number {
    return this.#pendingOps;
  }

  async load(collection: Collection): Promise<StoreRow[]> {
    assertCollection(collection);
    const columns = (await this.#enqueue({ kind: "load", in: collection }, 0)) as LoadColumns;
    return columns.keys.map((key, index) => ({
      key,
      meta: columns.metas[index]!,
      bodyBytes: columns.bodyBytes[index]!,
    }));
  }

  async body(collection: Collection, key: string): Promise<Uint8Array | undefined> {
    assertCollection(collection);
    return (await this.#enqueue({ kind: "body", in: collection, key }, 0)) as Uint8Array | undefined;
  }

  async usage(): Promise<{ readonly bytes: number; readonly freeBytes: number | undefined }> {
    return (await this.#enqueue({ kind: "usage" }, 0)) as UsageValue;
  }

  async commit(ops: readonly StoreOp[]): Promise<void> {
    assertOps(ops);
    await this.#enqueue({ kind: "commit", ops }, ops.length);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#flush();
    if (this.#isIdle) this.#post({ kind: "close" });
    await this.#closed.promise;
    this.#worker.terminate();
  }

  get #isIdle(): boolean {
    return this.#underWay.length === 0 && this.#head === this.#waiting.length;
  }

  #enqueue(request: Request, ops: number): Promise<WireValue> {
    if (this.#dead !== undefined) return Promise.reject(this.#dead);
    if (this.#closing !== undefined)
      return Promise.reject(godwitError("GODWIT_STOPPED", "the store is closed; start the node again"));
    return new Promise((resolve, reject) => {
      this.#waiting.push({ request, ops, calledAtMs: this.#nowMs(), resolve, reject });
      this.#pendingOps += ops;
      if (this.#isFlushing) return;
      // At the end of this turn, so that all that is called in it goes together.
      this.#isFlushing = true;
      queueMicrotask(() => {
        this.#isFlushing = false;
        this.#flush();
      });
    });
  }

  #flush(): void {
    while (
      this.#dead === undefined &&
      this.#underWay.length < BATCHES_UNDER_WAY_MAX &&
      this.#head < this.#waiting.length
    )
      this.#sendBatch();
  }

  #sendBatch(): void {
    const batch: Pending[] = [];
    let ops = 0;
    let bytes = 0;
    while (this.#head < this.#waiting.length && ops < BATCH_OPS_MAX && bytes < BATCH_BYTES_MAX) {
      const pending = this.#waiting[this.#head]!;
      const size = bodyBytesOf(pending.request);
      if (batch.length > 0 && bytes + size > BATCH_BYTES_MAX) break;
      batch.push(pending);
      // A read counts too, so that a flood of them is cut into batches as well.
      ops += Math.max(1, pending.ops);
      bytes += size;
      this.#head++;
    }
    if (this.#head === this.#waiting.length) {
      this.#waiting = [];
      this.#head = 0;
    } else if (this.#head > 1_024 && this.#head * 2 > this.#waiting.length) {
      this.#waiting = this.#waiting.slice(this.#head);
      this.#head = 0;
    }
    // One copy of each body, which is what frees the caller's buffer; the pack itself moves to the worker uncopied.
    const pack = new Uint8Array(bytes);
    let at = 0;
    const entries = batch.map(({ request }): WireEntry => {
      if (request.kind !== "commit") return request;
      return {
        kind: "commit",
        ops: request.ops.map((op): WireOp => {
          if (op.op === "delete") return [op.in, op.key, null, -1, 0];
          if (op.op === "set-aside") return [op.in, op.key, null, SET_ASIDE, 0];
          if (op.body === undefined) return [op.in, op.key, op.meta, -1, 0];
          const offset = at;
          pack.set(op.body, offset);
          at += op.body.length;
          return [op.in, op.key, op.meta, offset, op.body.length];
        }),
      };
    });
    this.#underWay.push(batch);
    this.#post({ kind: "batch", entries, pack }, [pack.buffer]);
  }

  #onMessage(message: FromWorker): void {
    switch (message.kind) {
      case "opened":
        return this.#opened.resolve();
      case "refused":
        return this.#die(message.message, godwitError(message.code, message.message));
      case "news":
        return this.#onNews(message);
      case "batch":
        return this.#settle(message);
      case "closed":
        this.#dead = godwitError("GODWIT_STOPPED", "the store is closed; start the node again");
        return this.#closed.resolve();
    }
  }

  #onNews({ missingBytes, found, foundCount, asideFile }: StoreNews): void {
    const { damage, damageCount } = this.#state;
    this.#state = {
      missingBytes,
      damage: [...damage, ...found].slice(0, DAMAGE_NAMED_MAX),
      damageCount: damageCount + foundCount,
      asideFile: asideFile === undefined ? this.#state.asideFile : asideFile,
    };
    this.#changed(found);
  }

  #settle({ failures, values }: Extract<FromWorker, { kind: "batch" }>): void {
    const batch = this.#underWay.shift();
    assert(batch !== undefined, "the store's worker answered a batch that was not sent");
    const failed = new Map(failures.map(({ index, message }) => [index, message]));
    const value = new Map(values);
    const nowMs = this.#nowMs();
    let commits = 0;
    for (const [index, pending] of batch.entries()) {
      this.#pendingOps -= pending.ops;
      const problem = failed.get(index);
      if (problem !== undefined) pending.reject(godwitError("GODWIT_STORE_FAILED", problem));
      else pending.resolve(value.get(index));
      if (pending.request.kind !== "commit") continue;
      commits++;
      this.#metrics?.latency?.observe((nowMs - pending.calledAtMs) / 1000);
    }
    if (commits > 0) this.#metrics?.batches.add();
    this.#metrics?.commits.add(commits - failed.size, { result: "durable" });
    if (failed.size > 0) {
      this.#metrics?.commits.add(failed.size, { result: "failed" });
      this.#log.error("store commits failed", { failed: failed.size, reason: failures[0]!.message });
    }
    this.#flush();
    if (this.#closing !== undefined && this.#isIdle) this.#post({ kind: "close" });
  }

  /** The end of the worker, whatever its cause. Whether commits under way became durable is unknown. */
  #die(
    reason: string,
    error = godwitError(
      "GODWIT_STORE_FAILED",
      `the store's worker ended (${reason}); nothing can be kept until the node restarts`,
    ),
  ): void {
    if (this.#dead !== undefined) return;
    this.#dead = error;
    if (error.code === "GODWIT_STORE_FAILED")
      this.#log.error("store worker ended", { path: this.#path, reason });
    const lost = [...this.#underWay.flat(), ...this.#waiting.slice(this.#head)];
    this.#underWay = [];
    this.#waiting = [];
    this.#head = 0;
    this.#pendingOps = 0;
    this.#worker.terminate();
    this.#opened.reject(error);
    // Only `openSqliteStore` looks at it, and it may have looked already.
    this.#opened.promise.catch(() => {});
    this.#closed.resolve();
    for (const pending of lost) pending.reject(error);
  }

  #post(message: ToWorker, transfer: ArrayBuffer[] = []): void {
    try {
      this.#worker.postMessage(message, transfer);
    } catch (error) {
      this.#die(asGodwitError(error).message);
    }
  }
}

const bodyBytesOf = (request: Request): number =>
  request.kind === "commit"
    ? request.ops.reduce((total, op) => total + (op.op === "put" ? (op.body?.length ?? 0) : 0), 0)
    : 0;

interface StoreMetrics {
  readonly commits: CounterMetric;
  readonly batches: CounterMetric;
  readonly latency: HistogramMetric | undefined;
}

const storeMetrics = (metrics: Metrics, hasClock: boolean): StoreMetrics => ({
  commits: metrics.counter("godwit_store_commits_total"),
  batches: metrics.counter("godwit_store_batches_total"),
  latency: hasClock ? metrics.histogram("godwit_store_commit_seconds") : undefined,
});
