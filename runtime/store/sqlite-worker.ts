/**
 * The thread that owns the database of one store, so that an fsync never stalls the event loop of the node. Executes
 * batches in the order they come: one transaction and one fsync each, every commit in it atomic for itself. Must never
 * answer a batch before it is durable, and never let one failing commit take others with it. An entry point of its own
 * in the compiled binary: imports nothing that it does not need. Specified by docs/protocol/delivery.md, "Acknowledge only what is durable".
 */
import type { Database, Statement } from "bun:sqlite";
import { statfsSync, statSync } from "node:fs";
import { dirname } from "node:path";
import type {
  FromWorker,
  LoadColumns,
  ToWorker,
  UsageValue,
  WireEntry,
  WireFailure,
  WireOp,
  WireValue,
} from "./sqlite-messages.ts";
import { systemClock, type Timer } from "../kernel/clock.ts";
import { DiskFull, failureText, isDiskFull, OpenRefused, openDatabase } from "./sqlite-schema.ts";
import type { Collection } from "./types.ts";

declare const self: Worker;

/** WAL pages after which a checkpoint cannot wait for a quiet moment, and after which a quiet moment is used. */
const WAL_PAGES_BUSY_MAX = 2_048;
const WAL_PAGES_QUIET_MAX = 256;
const QUIET_MS = 100;
/** Between two steps of giving space back, so that a commit need not wait long. */
const VACUUM_PAUSE_MS = 10;
/** Free pages given back to the file system in one quiet moment, and how many stay for the next messages. */
const VACUUM_PAGES = 512;
const FREE_PAGES_KEPT = 1_024;
const PAGE_BYTES = 4_096;
/** Kept free on the medium for deletes, receipts and checkpoints: this share of it, at most so much. */
const RESERVE_SHARE = 0.05;
const RESERVE_BYTES_MAX = 32 * 1024 * 1024;
/** With this much left nobody needs to look closer. */
const AMPLE_BYTES = 512 * 1024 * 1024;

type Row = [string, string, number | null];

interface Statements {
  readonly size: Statement<unknown, [string]>;
  readonly put: Statement<unknown, [string, string]>;
  readonly putBody: Statement<unknown, [string, string, Uint8Array]>;
  readonly remove: Statement<unknown, [string]>;
  readonly load: Statement<unknown, []>;
  readonly body: Statement<unknown, [string]>;
}

class StoreFile {
  readonly #db: Database;
  readonly #path: string;
  readonly #prepared: Statement[] = [];
  readonly #statements = new Map<Collection, Statements>();
  readonly #begin: Statement;
  readonly #commit: Statement;
  readonly #setUsage: Statement<unknown, [number]>;
  #usageBytes: number;
  #usageStored: number;

  constructor(path: string, bytesMax: number | undefined) {
    this.#path = path;
    this.#db = openDatabase(path, bytesMax);
    this.#begin = this.#prepare("BEGIN");
    this.#commit = this.#prepare("COMMIT");
    this.#setUsage = this.#prepare("UPDATE store_usage SET bytes = ?");
    this.#usageBytes = Number(this.#db.query("SELECT bytes FROM store_usage").values()[0]![0]);
    this.#usageStored = this.#usageBytes;
  }

  /**
   * Runs a batch; what failed is told, what did not is durable. Any failure rolls the whole transaction back (a full
   * disk makes SQLite do that anyway) and the entries run again one by one, so savepoints would buy nothing.
   */
  run(
    entries: readonly WireEntry[],
    pack: Uint8Array,
  ): { failures: WireFailure[]; values: Map<number, WireValue> } {
    const failures: WireFailure[] = [];
    const values = new Map<number, WireValue>();
    try {
      this.#assertRoom(pack.length);
      this.#transaction(() => {
        for (const [index, entry] of entries.entries()) {
          if (entry.kind !== "commit") values.set(index, this.#read(entry));
          else this.#apply(entry.ops, pack);
        }
      });
    } catch {
      // Reads too, since they saw what was now rolled back.
      for (const [index, entry] of entries.entries()) {
        try {
          if (entry.kind !== "commit") values.set(index, this.#read(entry));
          else this.#alone(entry.ops, pack);
        } catch (error) {
          failures.push({ index, message: failureText(error, this.#path) });
        }
      }
    }
    return { failures, values };
  }

  /** Pages in the WAL that are not in the database yet. */
  get walPages(): number {
    const [, logged, checkpointed] = this.#checkpoint("NOOP");
    return Math.max(0, logged! - checkpointed!);
  }

  checkpoint(): void {
    this.#checkpoint("PASSIVE");
  }

  /** Gives some free pages back; true when there are more to give. */
  vacuumStep(): boolean {
    const spare = Number(this.#db.query("PRAGMA freelist_count").values()[0]![0]) - FREE_PAGES_KEPT;
    if (spare <= 0) return false;
    this.#db.run(`PRAGMA incremental_vacuum(${Math.min(spare, VACUUM_PAGES)})`);
    return spare > VACUUM_PAGES;
  }

  close(): void {
    try {
      this.#checkpoint("TRUNCATE");
    } catch {
      // The WAL stays beside the database and is read at the next opening.
    }
    // An unfinished statement would keep the file open and locked until a garbage collection.
    for (const statement of this.#prepared) statement.finalize();
    this.#db.close(true);
  }

  #transaction(work: () => void): void {
    const usageBefore = this.#usageBytes;
    this.#begin.run();
    try {
      work();
      if (this.#usageBytes !== this.#usageStored) this.#setUsage.run(this.#usageBytes);
      this.#commit.run();
      this.#usageStored = this.#usageBytes;
    } catch (error) {
      // A full disk makes SQLite roll the whole transaction back by itself.
      if (this.#db.inTransaction) this.#db.run("ROLLBACK");
      this.#usageBytes = usageBefore;
      throw error;
    }
  }

  #alone(ops: readonly WireOp[], pack: Uint8Array): void {
    const bodyBytes = ops.reduce((total, op) => total + op[4], 0);
    const attempt = () => {
      this.#assertRoom(bodyBytes);
      this.#transaction(() => this.#apply(ops, pack));
    };
    try {
      attempt();
    } catch (error) {
      if (!isDiskFull(error)) throw error;
      // A checkpoint lets the WAL start over within the room that it has.
      try {
        this.checkpoint();
      } catch {
        throw error;
      }
      attempt();
    }
  }

  /**
   * Throws DiskFull when bodies would use up the reserve. On a disk full to the last block neither a delete nor a
   * checkpoint gets through, so what is full could never be emptied; commits without bodies may use the reserve.
   */
  #assertRoom(bodyBytes: number): void {
    if (bodyBytes === 0) return;
    const medium = this.#medium();
    if (medium === undefined) return;
    const reserve = Math.min(RESERVE_BYTES_MAX, medium.totalBytes * RESERVE_SHARE);
    if (medium.freeBytes - 2 * bodyBytes > AMPLE_BYTES) return;
    const growth = this.#growth(bodyBytes);
    if (growth > 0 && medium.freeBytes - growth < reserve) throw new DiskFull();
  }

  /** By how much the two files grow until these bodies are in the database. */
  #growth(bodyBytes: number): number {
    const pages = (name: string) => Number(this.#db.query(`PRAGMA ${name}`).values()[0]![0]) * PAGE_BYTES;
    const fileBytes = (path: string) => statSync(path, { throwIfNoEntry: false })?.size ?? 0;
    const [, logged, checkpointed] = this.#checkpoint("NOOP");
    // Once all of it is in the database, the WAL starts over and its file is reused.
    const walUsed = logged === checkpointed ? 0 : logged! * PAGE_BYTES;
    const walFree = Math.max(0, fileBytes(`${this.#path}-wal`) - walUsed);
    const owed = Math.max(0, pages("page_count") - fileBytes(this.#path));
    return owed + Math.max(0, bodyBytes - walFree) + Math.max(0, bodyBytes - pages("freelist_count"));
  }

  #medium(): { freeBytes: number; totalBytes: number } | undefined {
    try {
      const { bavail, blocks, bsize } = statfsSync(dirname(this.#path));
      // Some file systems do not say.
      return blocks > 0 ? { freeBytes: bavail * bsize, totalBytes: blocks * bsize } : undefined;
    } catch {
      return undefined;
    }
  }

  #apply(ops: readonly WireOp[], pack: Uint8Array): void {
    for (const [collection, key, meta, offset, length] of ops) {
      const statements = this.#of(collection);
      const held = statements.size.values(key)[0] as [number, number] | undefined;
      if (held !== undefined) this.#usageBytes -= held[0] + (offset < 0 && meta !== null ? 0 : held[1]);
      if (meta === null) statements.remove.run(key);
      else {
        this.#usageBytes += Buffer.byteLength(meta);
        if (offset < 0) statements.put.run(key, meta);
        else {
          statements.putBody.run(key, meta, pack.subarray(offset, offset + length));
          this.#usageBytes += length;
        }
      }
    }
  }

  #read(entry: Exclude<WireEntry, { kind: "commit" }>): WireValue {
    switch (entry.kind) {
      case "load":
        return this.#load(entry.in);
      case "body":
        return (
          (this.#of(entry.in).body.values(entry.key)[0]?.[0] as Uint8Array | null | undefined) ?? undefined
        );
      case "usage":
        return this.#usage();
    }
  }

  #load(collection: Collection): LoadColumns {
    const rows = this.#of(collection).load.values() as Row[];
    const keys: string[] = [];
    const metas: string[] = [];
    const bodyBytes = new Float64Array(rows.length);
    for (const [index, [key, meta, length]] of rows.entries()) {
      keys.push(key);
      metas.push(meta);
      bodyBytes[index] = length ?? 0;
    }
    return { keys, metas, bodyBytes };
  }

  #usage(): UsageValue {
    return { bytes: this.#usageBytes, freeBytes: this.#medium()?.freeBytes };
  }

  #of(collection: Collection): Statements {
    let statements = this.#statements.get(collection);
    if (statements === undefined) {
      const upsert = (columns: string, values: string, updates: string): string =>
        `INSERT INTO "${collection}" (${columns}) VALUES (${values}) ON CONFLICT (key) DO UPDATE SET ${updates}`;
      statements = {
        size: this.#prepare(
          `SELECT octet_length(meta), coalesce(length(body), 0) FROM "${collection}" WHERE key = ?`,
        ),
        put: this.#prepare(upsert("key, meta", "?, ?", "meta = excluded.meta")),
        putBody: this.#prepare(
          upsert("key, meta, body", "?, ?, ?", "meta = excluded.meta, body = excluded.body"),
        ),
        remove: this.#prepare(`DELETE FROM "${collection}" WHERE key = ?`),
        // The plus keeps SQLite from walking the index, which would read the table's pages in random order.
        load: this.#prepare(`SELECT key, meta, length(body) FROM "${collection}" ORDER BY +key`),
        body: this.#prepare(`SELECT body FROM "${collection}" WHERE key = ?`),
      };
      this.#statements.set(collection, statements);
    }
    return statements;
  }

  #prepare(sql: string): Statement<unknown, never[]> {
    const statement = this.#db.prepare<unknown, never[]>(sql);
    this.#prepared.push(statement);
    return statement;
  }

  #checkpoint(mode: "NOOP" | "PASSIVE" | "TRUNCATE"): number[] {
    return this.#db.query(`PRAGMA wal_checkpoint(${mode})`).values()[0] as number[];
  }
}

let file: StoreFile | undefined;
/** An entry point of its own takes its clock from where compositions do; housekeeping is all that depends on it. */
let quietTimer: Timer | undefined;

const answer = (message: FromWorker, transfer: ArrayBuffer[] = []): void =>
  self.postMessage(message, transfer);

function handleOpen(path: string, bytesMax: number | undefined): void {
  try {
    file = new StoreFile(path, bytesMax);
    answer({ kind: "opened" });
  } catch (error) {
    if (!(error instanceof OpenRefused)) throw error;
    answer({ kind: "refused", code: error.code, message: error.message });
  }
}

function handleBatch(open: StoreFile, entries: readonly WireEntry[], pack: Uint8Array): void {
  const { failures, values } = open.run(entries, pack);
  const transfer = [...values.values()].flatMap((value) =>
    value instanceof Uint8Array && value.length > 0 ? [value.buffer as ArrayBuffer] : [],
  );
  answer({ kind: "batch", failures, values: [...values] }, transfer);
  if (entries.every((entry) => entry.kind !== "commit")) return;
  // After the answer, because nobody needs to wait for it.
  if (open.walPages >= WAL_PAGES_BUSY_MAX) quietly(() => open.checkpoint());
  quietTimer?.cancel();
  quietTimer = systemClock.after(QUIET_MS, () => useQuietMoment(open));
}

function useQuietMoment(open: StoreFile): void {
  quietTimer = undefined;
  quietly(() => {
    const hasMore = open.vacuumStep();
    if (hasMore || open.walPages >= WAL_PAGES_QUIET_MAX) open.checkpoint();
    if (hasMore) quietTimer = systemClock.after(VACUUM_PAUSE_MS, () => useQuietMoment(open));
  });
}

/** Housekeeping may fail (disk full): then the next round tries again, and commits tell their own callers. */
function quietly(work: () => void): void {
  try {
    work();
  } catch {}
}

self.addEventListener("message", ({ data }: MessageEvent<ToWorker>) => {
  switch (data.kind) {
    case "open":
      return handleOpen(data.path, data.bytesMax);
    case "batch":
      return handleBatch(file!, data.entries, data.pack);
    case "close":
      quietTimer?.cancel();
      file?.close();
      file = undefined;
      return answer({ kind: "closed" });
  }
});
