/**
 * The real store: a commit is one append to a log of our own (commit-log.ts) and durable with it; rows that are in the log alone stand in
 * memory (overlay.ts) until they are written, many at once and in their last state, to an SQLite database in a worker (sqlite-worker.ts).
 * Owns the order of commits and their grouping: what is called while one write is under way goes with the next. Must never resolve a commit
 * before it is durable, never free a part of the log that the database has not, and never hang when the worker dies.
 * Specified by docs/protocol/delivery.md, "Acknowledge only what is durable".
 */
import type { Clock, Log } from "@godwit/sdk";
import { nextTurn } from "../kernel/clock.ts";
import { asGodwitError, godwitError, type GodwitError } from "../kernel/errors.ts";
import type { Metrics } from "../kernel/metrics.ts";
import { Answers } from "./sqlite-answers.ts";
import { gather } from "./gather.ts";
import { LaterFrame } from "./log-frame.ts";
import { Logged, wholeBody } from "./logged.ts";
import { assertCollection, assertKeys, assertOps, assertPage } from "./ops.ts";
import {
  type LogPlan,
  type RestateValue,
  type StoreNews,
  type UsageValue,
  type WireEntry,
  type WireValue,
} from "./sqlite-messages.ts";
import { Reader } from "./sqlite-reader.ts";
import {
  bodyBytesOf,
  failuresOf,
  hasHead,
  isNoRoom,
  mayFailAlone,
  opsOf,
  packed,
  type ReadRequest,
  type Request,
} from "./sqlite-requests.ts";
import { storeMetrics, type StoreMetrics } from "./store-metrics.ts";
import { StoreThread } from "./sqlite-thread.ts";
import { takeStoreWorker } from "./worker.ts";
import {
  DAMAGE_NAMED_MAX,
  soundState,
  type Collection,
  type Damage,
  type RowPage,
  type Slotted,
  type SlottedRow,
  type Store,
  type StoreOp,
  type StoreRow,
  type StoreState,
  type Totals,
} from "./types.ts";

export interface SqliteStoreOptions {
  /** The database file; its folder is made if missing. One process at a time. */
  readonly path: string;
  readonly log: Log;
  readonly clock?: Clock;
  readonly metrics?: Metrics;
  /** Largest size of the database file; beyond it commits fail as on a full disk. Default: what the disk holds. */
  readonly bytesMax?: number;
  /** Size of the commit log, where there is none yet. Default: a share of what the disk holds. */
  readonly logBytes?: number;
}

/** Ops and bytes after which a batch is not filled further; one commit alone may be larger. */
const BATCH_OPS_MAX = 1_024;
const BATCH_BYTES_MAX = 4 * 1024 * 1024;
const reads: readonly Request["kind"][] = ["body", "piece", "read"];

interface Pending {
  readonly request: Request;
  readonly ops: number;
  /** Of a commit, in the log. */
  readonly bytes: number;
  readonly calledAtMs: number;
  resolve(value: unknown): void;
  reject(error: GodwitError): void;
}

/** What the next step of the store does: reads go with either. */
interface Step {
  readonly how: "log" | "database";
  readonly commits: Pending[];
  readonly bytes: number;
  readonly reads: Pending[];
}

/**
 * Opens the store. Rejects with GODWIT_STATE_UNUSABLE (another node uses it, or it cannot be created),
 * GODWIT_STORE_VERSION (written by a newer Godwit) or GODWIT_STORE_CORRUPT (a database of somebody else); nothing is changed then. Of a
 * damaged one what is readable is taken into a new one: `state` says what was lost.
 */
export async function openSqliteStore(options: SqliteStoreOptions): Promise<SqliteStore> {
  const store = new SqliteStore(takeStoreWorker(), options);
  await store.opened;
  return store;
}

export class SqliteStore implements Store {
  readonly #thread: StoreThread;
  readonly #answers: Answers;
  readonly #reader: Reader;
  readonly #path: string;
  readonly #logBytes: number | undefined;
  readonly #log: Log;
  readonly #clock: Clock | undefined;
  readonly #metrics: StoreMetrics | undefined;
  /** Undefined: there is no room for a log, and each commit is one of the database. */
  #logged: Logged | undefined;
  #waiting: Pending[] = [];
  /** Start of what is still waiting: shifting an array of thousands would be quadratic. */
  #head = 0;
  #pendingOps = 0;
  #pumping: Promise<void> | undefined;
  /** Groups of reads under way. */
  #reading = 0;
  #readsDone = Promise.withResolvers<void>();
  #closing: Promise<void> | undefined;
  #dead: GodwitError | undefined;
  #state: StoreState = soundState;
  #changed: (found: readonly Damage[]) => void = () => {};
  readonly #opened: Promise<void>;

  constructor(worker: Worker, options: SqliteStoreOptions) {
    this.#path = options.path;
    this.#logBytes = options.logBytes;
    this.#log = options.log;
    this.#clock = options.clock;
    options.metrics?.observedGauge("godwit_store_log_bytes", () => this.#logged?.loggedBytes ?? 0);
    if (options.metrics !== undefined)
      this.#metrics = storeMetrics(options.metrics, options.clock !== undefined);
    this.#thread = new StoreThread(worker, {
      onNews: (news) => this.#onNews(news),
      onWrite: (entries) => this.#answers.onWrite(entries),
      onEnd: (error, reason) => this.#onEnd(error, reason),
    });
    this.#answers = new Answers(this.#thread);
    this.#reader = new Reader(this.#answers, () => this.#logged?.overlay);
    this.#opened = this.#thread
      .open(options.path, options.bytesMax)
      .then((plan) => this.#openLog(plan))
      .then(() => this.#answers.askAhead());
    // Only `openSqliteStore` looks at it.
    this.#opened.catch(() => {});
  }

  get state(): StoreState {
    return this.#state;
  }

  onState(changed: (found: readonly Damage[]) => void): void {
    this.#changed = changed;
  }

  /** Settles once: whether the file could be opened. */
  get opened(): Promise<void> {
    return this.#opened;
  }

  /** Ops of commits that have not settled. */
  get pendingOps(): number {
    return this.#pendingOps;
  }

  async load(collection: Collection): Promise<StoreRow[]> {
    assertCollection(collection);
    return (await this.#enqueue({
      kind: "read",
      isKnown: (reader) => reader.knowsLoad(collection),
      read: (reader) => reader.load(collection),
    })) as StoreRow[];
  }

  async body(collection: Collection, key: string): Promise<Uint8Array | undefined> {
    assertCollection(collection);
    return (await this.#enqueue({ kind: "body", in: collection, key })) as Uint8Array | undefined;
  }

  async rows(collection: Collection, keys: readonly string[]): Promise<SlottedRow[]> {
    assertKeys(collection, keys);
    return (await this.#enqueue({
      kind: "read",
      isKnown: (reader) => reader.knowsRows(collection, keys),
      read: (reader) => reader.rows(collection, keys),
    })) as SlottedRow[];
  }

  async page(collection: Slotted, page: RowPage): Promise<SlottedRow[]> {
    assertPage(collection, page);
    return (await this.#enqueue({
      kind: "read",
      isKnown: (reader) => reader.knowsPage(collection, page),
      read: (reader) => reader.page(collection, page),
    })) as SlottedRow[];
  }

  async totals(collection: Slotted): Promise<Totals> {
    assertCollection(collection);
    return (await this.#enqueue({
      kind: "read",
      isKnown: (reader) => reader.knowsTotals(collection),
      read: (reader) => reader.totals(collection),
    })) as Totals;
  }

  async piece(
    collection: Collection,
    key: string,
    offset: number,
    length: number,
  ): Promise<Uint8Array | undefined> {
    assertCollection(collection);
    return (await this.#enqueue({ kind: "piece", in: collection, key, offset, length })) as
      Uint8Array | undefined;
  }

  async usage(): Promise<{ readonly bytes: number; readonly freeBytes: number | undefined }> {
    return (await this.#enqueue({ kind: "usage" })) as UsageValue;
  }

  async commit(ops: readonly StoreOp[]): Promise<void> {
    assertOps(ops);
    await this.#enqueue({ kind: "commit", ops });
  }

  /** See sqlite-restate.ts. */
  async restate(collection: Collection, after: number): Promise<RestateValue> {
    return (await this.#ask({ kind: "restate", in: collection, after })) as RestateValue;
  }

  /** How often a release older than the schema opened this store. */
  async olderStays(): Promise<number> {
    return (await this.#ask({ kind: "stays" })) as number;
  }

  /** What the database alone knows. */
  async #ask(entry: WireEntry): Promise<WireValue> {
    const { failures, values } = await this.#thread.ask([entry]);
    if (failures.length > 0) throw godwitError("GODWIT_STORE_FAILED", failures[0]!.message);
    return values.get(0);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #openLog(plan: LogPlan | undefined): Promise<void> {
    if (plan === undefined) return;
    const deps = { path: this.#path, thread: this.#thread, clock: this.#clock };
    try {
      this.#takeUp(await Logged.open(deps, { ...plan, bytes: this.#logBytes ?? plan.bytes }));
    } catch (error) {
      // Without a log of an earlier life nothing is missing: each commit is one of the database then.
      if (isNoRoom(error) && plan.mark.id === 0) return;
      await this.#thread.close();
      if (error instanceof LaterFrame)
        throw godwitError(
          "GODWIT_STORE_VERSION",
          `${this.#path}-log: ${error.message}; run the newer version`,
        );
      const reason = error instanceof Error ? error.message : String(error);
      throw godwitError("GODWIT_STATE_UNUSABLE", `cannot open ${this.#path}-log: ${reason}`);
    }
  }

  #takeUp({ logged, lost }: Awaited<ReturnType<typeof Logged.open>>): void {
    this.#logged = logged;
    if (lost.length > 0) this.#onNews({ ...this.#state, kind: "news", found: lost, foundCount: lost.length });
  }

  async #close(): Promise<void> {
    await this.#opened.catch(() => {});
    while (this.#pumping !== undefined) await this.#pumping;
    while (this.#reading > 0) await this.#readsDone.promise;
    await this.#logged?.close();
    await this.#thread.close();
  }

  #enqueue(request: Request): Promise<unknown> {
    if (this.#dead !== undefined) return Promise.reject(this.#dead);
    if (this.#closing !== undefined)
      return Promise.reject(godwitError("GODWIT_STOPPED", "the store is closed; start the node again"));
    return new Promise((resolve, reject) => {
      const isCommit = request.kind === "commit";
      const ops = isCommit ? request.ops.length : 0;
      const bytes = isCommit ? (this.#logged?.bytesOf(request.ops) ?? bodyBytesOf(request)) : 0;
      const pending = { request, ops, bytes, calledAtMs: this.#nowMs(), resolve, reject };
      // No commit waits that it had to see.
      if (request.kind === "read" && this.#pumping === undefined && request.isKnown(this.#reader))
        return void this.#read([pending], nextTurn());
      this.#waiting.push(pending);
      this.#pendingOps += ops;
      this.#pumping ??= this.#pump();
    });
  }

  /** One step after the other, until nothing waits. */
  async #pump(): Promise<void> {
    // At the end of this turn, so that all that is called in it goes together.
    await Promise.resolve();
    await this.#opened.catch(() => {});
    const waiting = () => this.#waiting.length - this.#head;
    while (this.#dead === undefined && waiting() > 0) {
      await gather(waiting, BATCH_OPS_MAX, () => this.#nowMs());
      const step = this.#nextStep();
      if (step.how === "log") await this.#toLog(step.commits, step.bytes);
      else await this.#toDatabase(step.commits);
      if (step.reads.length > 0) void this.#read(step.reads);
    }
    this.#pumping = undefined;
  }

  /** `before`: bytes of the commits in front of it. */
  #howOf({ request, bytes }: Pending, before: number): "log" | "database" {
    if (request.kind !== "commit") return "database";
    return this.#logged?.takes(request.ops, bytes, before) === true ? "log" : "database";
  }

  #nextStep(): Step {
    const commits: Pending[] = [];
    const read: Pending[] = [];
    let how: Step["how"] | undefined;
    let ops = 0;
    let bytes = 0;
    const bytesMax = Math.min(BATCH_BYTES_MAX, this.#logged?.frameBytesMax ?? BATCH_BYTES_MAX);
    for (; this.#head < this.#waiting.length && ops < BATCH_OPS_MAX; this.#head++) {
      const pending = this.#waiting[this.#head]!;
      // A read counts too, so that a flood of them is cut into batches as well.
      if (reads.includes(pending.request.kind)) read.push(pending);
      else {
        const wanted = this.#howOf(pending, bytes);
        if ((how ??= wanted) !== wanted) break;
        if (commits.length > 0 && bytes + pending.bytes > bytesMax) break;
        commits.push(pending);
        bytes += pending.bytes;
      }
      ops += Math.max(1, pending.ops);
    }
    if (this.#head === this.#waiting.length) {
      this.#waiting = [];
      this.#head = 0;
    } else if (this.#head > 1_024 && this.#head * 2 > this.#waiting.length) {
      this.#waiting = this.#waiting.slice(this.#head);
      this.#head = 0;
    }
    return { how: how ?? "log", commits, bytes, reads: read };
  }

  async #toLog(pending: readonly Pending[], bytes: number): Promise<void> {
    if (pending.length === 0) return;
    try {
      const startMs = this.#nowMs();
      await this.#logged!.append(pending.map(opsOf), bytes);
      this.#metrics?.writes?.observe((this.#nowMs() - startMs) / 1000);
      this.#settle(pending, new Map());
    } catch (error) {
      if (mayFailAlone(pending, true)) for (const one of pending) await this.#toLog([one], one.bytes);
      else this.#settle(pending, failuresOf(pending, error));
    }
  }

  /** Once all that is in the log is in the database as well. */
  async #toDatabase(pending: readonly Pending[]): Promise<void> {
    try {
      await this.#logged?.foldAll();
      const { entries, pack } = packed(await Promise.all(pending.map((one) => this.#withWholeBodies(one))));
      const { failures, values, grantBytes } = await this.#thread.ask(entries, pack);
      if (this.#logged !== undefined) this.#logged.grantBytes = grantBytes;
      this.#settle(pending, new Map(failures.map(({ index, message }) => [index, message])), values);
    } catch (error) {
      if (mayFailAlone(pending, false)) for (const one of pending) await this.#toDatabase([one]);
      else this.#settle(pending, failuresOf(pending, error));
    }
  }

  /** In the database a body is one value, whatever it begins with. */
  async #withWholeBodies(pending: Pending): Promise<Pending> {
    const { request } = pending;
    if (request.kind !== "commit" || !hasHead(pending)) return pending;
    const chunk = async (key: string) => {
      const { values } = await this.#thread.ask([{ kind: "body", in: "chunk", key }]);
      return values.get(0) as Uint8Array | undefined;
    };
    const ops: StoreOp[] = [];
    for (const op of request.ops) {
      if (op.op !== "put" || op.head === undefined) ops.push(op);
      else {
        const { head, body = new Uint8Array(0), ...rest } = op;
        ops.push({ ...rest, body: await wholeBody(head, body, chunk) });
      }
    }
    return { ...pending, request: { kind: "commit", ops } };
  }

  /** Not before `turn`: whoever reads again and again must not keep all others from their turns. */
  async #read(pending: readonly Pending[], turn?: Promise<void>): Promise<void> {
    this.#reading++;
    await turn;
    try {
      const several = pending
        .filter(({ request }) => request.kind === "read")
        .map((one) => this.#readOne(one));
      pending = pending.filter(({ request }) => request.kind !== "read");
      const held = await Promise.all(
        pending.map(async ({ request }) => {
          if (request.kind === "body") return this.#logged?.body(request.in, request.key);
          if (request.kind !== "piece") return undefined;
          return this.#logged?.piece(request.in, request.key, request.offset, request.length);
        }),
      );
      for (const [index, found] of held.entries())
        if (found !== undefined) pending[index]!.resolve(found.body);
      await this.#readDatabase(pending.filter((_, index) => held[index] === undefined));
      await Promise.all(several);
    } catch (error) {
      // Those that were answered do not hear it.
      for (const { reject } of pending) reject(asGodwitError(error));
    } finally {
      if (--this.#reading === 0) {
        this.#readsDone.resolve();
        this.#readsDone = Promise.withResolvers();
      }
    }
  }

  /** Never rejects. */
  async #readOne({ request, resolve, reject }: Pending): Promise<void> {
    try {
      resolve(await (request as ReadRequest).read(this.#reader));
    } catch (error) {
      reject(asGodwitError(error));
    }
  }

  async #readDatabase(pending: readonly Pending[]): Promise<void> {
    await Promise.all(
      pending.map(({ request, resolve, reject }) =>
        this.#answers
          .ask(request as WireEntry)
          .then(resolve, (error: unknown) => reject(asGodwitError(error))),
      ),
    );
  }

  #onNews({ missingBytes, found, foundCount, asideFile, recounts }: StoreNews): void {
    const before = this.#state;
    if (found.length > 0 || asideFile !== undefined || recounts !== before.recounts) this.#answers.forget();
    const damage = [...before.damage, ...found].slice(0, DAMAGE_NAMED_MAX);
    const damageCount = before.damageCount + foundCount;
    asideFile = asideFile === undefined ? before.asideFile : asideFile;
    this.#state = { missingBytes, damage, damageCount, asideFile, recounts };
    this.#changed(found);
    // What is deleted by now makes room once the database knows.
    if (missingBytes > 0) this.#logged?.foldSoon();
  }

  #settle(
    batch: readonly Pending[],
    failed: ReadonlyMap<number, string>,
    values: ReadonlyMap<number, WireValue> = new Map(),
  ): void {
    const nowMs = this.#nowMs();
    let commits = 0;
    for (const [index, pending] of batch.entries()) {
      this.#pendingOps -= pending.ops;
      const problem = failed.get(index);
      if (problem !== undefined) pending.reject(this.#dead ?? godwitError("GODWIT_STORE_FAILED", problem));
      else pending.resolve(values.get(index));
      if (pending.request.kind !== "commit") continue;
      commits++;
      this.#metrics?.latency?.observe((nowMs - pending.calledAtMs) / 1000);
    }
    if (commits > 0) this.#metrics?.batches.add();
    this.#metrics?.commits.add(commits - failed.size, { result: "durable" });
    if (failed.size === 0) return;
    this.#metrics?.commits.add(failed.size, { result: "failed" });
    if (this.#dead === undefined)
      this.#log.error("store commits failed", { failed: failed.size, reason: [...failed.values()][0]! });
  }

  #onEnd(error: GodwitError, reason: string): void {
    this.#dead = error;
    if (error.code === "GODWIT_STORE_FAILED")
      this.#log.error("store worker ended", { path: this.#path, reason });
    const lost = this.#waiting.slice(this.#head);
    this.#waiting = [];
    this.#head = 0;
    for (const pending of lost) {
      this.#pendingOps -= pending.ops;
      pending.reject(error);
    }
  }

  #nowMs(): number {
    return this.#clock?.monotonicMs() ?? 0;
  }
}
