/**
 * The store of a stopped node made into one that an earlier release opens. Works beside it, in files whose names begin with its own, and
 * takes its place by one rename when all is durable: until then the store is what it was, and a conversion that was cut off goes on where
 * it stopped. The old store is kept under another name. Must never change a row of the old store, nor run beside a node.
 */
import { Database, type Statement } from "bun:sqlite";
import {
  closeSync,
  copyFileSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import type { Log } from "@godwit/sdk";
import { isoTime } from "../kernel/clock.ts";
import { godwitError } from "../kernel/errors.ts";
import { syncFolder } from "../kernel/whole-file.ts";
import { AsideFile } from "./aside-file.ts";
import { bodyFolder } from "./body-files.ts";
import type { Judged, JudgeRows } from "./earlier.ts";
import { openSqliteStore } from "./sqlite.ts";
import { mediumOf } from "./sqlite-room.ts";
import { Rows } from "./sqlite-rows.ts";
import { createSchema, Damaged, isDiskFull, openDatabase, OpenRefused, textOf } from "./sqlite-schema.ts";
import { collections, type Collection, type StoreRow } from "./types.ts";

/** Rows and bytes that are written before the next commit. */
const BATCH_ROWS = 256;
const BATCH_BYTES = 4 * 1024 * 1024;
/** What an operator is told by name; more are counted. */
export const NAMED_MAX = 10_000;

export interface GoingBack {
  readonly path: string;
  /** Of the release to go back to. */
  readonly schema: number;
  /** Collections that it has. */
  readonly keeps: readonly Collection[];
  readonly isDryRun: boolean;
  readonly wallMs: number;
  readonly log: Log;
  /** What becomes of rows; a collection without a judge is copied as it is. `settings` are judged last. */
  judges(settings: readonly StoreRow[]): Partial<Record<Collection, JudgeRows>>;
}

/** A row that an operator should know of. */
export interface Noted {
  readonly in: Collection;
  readonly key: string;
  readonly why: string;
  readonly isAside: boolean;
}

export interface WentBack {
  /** It was a store of that release, or an earlier one, already. */
  readonly wasEarlier: boolean;
  readonly rows: number;
  readonly noted: readonly Noted[];
  readonly asideCount: number;
  /** Where those are; undefined: there are none. */
  readonly asideFile: string | undefined;
  /** Where the old store is; undefined in a dry run. */
  readonly keptFile: string | undefined;
}

/**
 * Rejects with GODWIT_STATE_UNUSABLE (a node runs on it, or the operating system refuses), GODWIT_STORE_FAILED (no room), and what opening a
 * store throws. The store is as it was then.
 */
export async function goBack(plan: GoingBack): Promise<WentBack> {
  const { path } = plan;
  if (!existsSync(path)) throw godwitError("GODWIT_STATE_UNUSABLE", `there is no store at ${path}`);
  if (versionOf(path) <= plan.schema) {
    if (!plan.isDryRun) removeLeftovers(path);
    return { ...nothing, wasEarlier: true };
  }
  // What is in the commit log alone comes to the database, as at a start and a stop.
  await startAndStop(plan);
  let result: WentBack | undefined;
  try {
    return (result = convert(plan));
  } finally {
    // A store that stays has the room again that it keeps for a start on a full disk.
    if (result?.keptFile === undefined) await startAndStop(plan).catch(() => {});
  }
}

async function startAndStop({ path, log }: GoingBack): Promise<void> {
  const store = await openSqliteStore({ path, log });
  await store.close();
}

const nothing: WentBack = {
  wasEarlier: false,
  rows: 0,
  noted: [],
  asideCount: 0,
  asideFile: undefined,
  keptFile: undefined,
};

function convert(plan: GoingBack): WentBack {
  const { path } = plan;
  let db: Database | undefined;
  let rows: Rows | undefined;
  let part: Part | undefined;
  try {
    db = openDatabase(path);
    rows = new Rows(db, bodyFolder(path));
    if (rows.mark.id !== 0)
      throw new OpenRefused(
        "GODWIT_STATE_UNUSABLE",
        `a node was started on ${path} meanwhile; stop it first`,
      );
    part = plan.isDryRun ? undefined : Part.open(plan, markOf(db, rows));
    const result = new Conversion(plan, rows, part).run();
    if (part === undefined) return result;
    const { stamp } = part;
    part.finish();
    part = undefined;
    rows.close();
    rows = undefined;
    swap(path, db, stamp);
    return {
      ...result,
      asideFile: result.asideCount > 0 ? asidePath(path, stamp) : undefined,
      keptFile: keptPath(path, stamp),
    };
  } catch (error) {
    part?.close();
    throw refusalOf(error, path);
  } finally {
    rows?.close();
    db?.close();
  }
}

/** Another one when a node ran on the store since. */
const markOf = (db: Database, rows: Rows): string => {
  const boots = db.query("SELECT meta FROM setting WHERE key = 'boot-epoch'").values()[0]?.[0];
  return `${String(boots)} ${rows.usageBytes}`;
};

/** One pass over the store: all rows are judged, and what was not written by a try before is. */
class Conversion {
  readonly #plan: GoingBack;
  readonly #rows: Rows;
  readonly #part: Part | undefined;
  readonly #noted: Noted[] = [];
  #asideCount = 0;
  #count = 0;

  constructor(plan: GoingBack, rows: Rows, part: Part | undefined) {
    this.#plan = plan;
    this.#rows = rows;
    this.#part = part;
  }

  run(): WentBack {
    const judges = this.#plan.judges(this.#load("setting"));
    // Settings last: what the others decide about is written there.
    const order = [...collections.filter((name) => name !== "setting"), "setting"] as const;
    for (const collection of order) {
      const rows = this.#load(collection);
      if (!this.#plan.keeps.includes(collection)) this.#leave(collection, rows.length);
      else this.#judge(collection, (judges[collection] ?? asItIs(collection))(rows));
    }
    return {
      ...nothing,
      rows: this.#count,
      noted: this.#noted,
      asideCount: this.#asideCount,
    };
  }

  #load(collection: Collection): StoreRow[] {
    const { keys, metas, bodyBytes } = this.#rows.load(collection);
    return keys.map((key, at) => ({ key, meta: metas[at]!, bodyBytes: bodyBytes[at]! }));
  }

  #leave(collection: Collection, rows: number): void {
    if (rows === 0) return;
    const why = `${rows} rows that the earlier release has no place for; they stay in the store that is kept`;
    this.#note({ in: collection, key: "", why, isAside: false });
  }

  #judge(collection: Collection, judged: Iterable<Judged>): void {
    let index = 0;
    for (const one of judged) {
      this.#count++;
      if (one.isAside) this.#asideCount++;
      if (one.why !== undefined)
        this.#note({ in: collection, key: one.row.key, why: one.why, isAside: one.isAside });
      this.#part?.take(collection, index++, one, () => this.#body(collection, one.row));
    }
    this.#part?.commit();
  }

  /** Throws Damaged for a body that is not what was written: a start would set its row aside. */
  #body(collection: Collection, { key, bodyBytes }: Judged["row"]): Uint8Array | null {
    const body = this.#rows.body(collection, key);
    if (body === undefined && bodyBytes > 0)
      throw new Damaged(
        `the body of ${collection} ${key} is not what was written; start the node once, it sets that aside`,
      );
    return body ?? null;
  }

  #note(noted: Noted): void {
    if (this.#noted.length < NAMED_MAX) this.#noted.push(noted);
  }
}

const asItIs =
  (collection: Collection): JudgeRows =>
  (rows) =>
    rows.map((row) => ({
      row,
      rows: [{ in: collection, key: row.key, meta: row.meta, hasBody: true }],
      isAside: false,
    }));

/** The new store while it is made. What is in it says how far it is. */
class Part {
  readonly #db: Database;
  readonly #path: string;
  readonly #put = new Map<Collection, Statement>();
  readonly #note: Statement<unknown, [string, number]>;
  readonly stamp: string;
  readonly #done: Map<string, number>;
  #aside: AsideFile | undefined;
  #pending: { collection: Collection; index: number } | undefined;
  #rows = 0;
  #bytes = 0;
  #usage: number;
  #isClosed = false;

  static open(plan: GoingBack, mark: string): Part {
    const path = partPath(plan.path);
    if (existsSync(path) && beginningOf(path)?.mark !== mark) removeParts(plan.path);
    if (!existsSync(path)) {
      removeParts(plan.path);
      checkRoom(plan.path, Number(mark.split(" ")[1]));
    }
    return new Part(plan, mark);
  }

  private constructor(plan: GoingBack, mark: string) {
    this.#path = plan.path;
    const isNew = !existsSync(partPath(plan.path));
    if (isNew) closeSync(openSync(partPath(plan.path), "wx", 0o600));
    this.#db = new Database(partPath(plan.path), { readwrite: true, create: false, strict: true });
    const db = this.#db;
    for (const pragma of ["page_size = 4096", "auto_vacuum = INCREMENTAL", "synchronous = FULL"])
      db.run(`PRAGMA ${pragma}`);
    // Its beginning says that the schema is whole: the last thing of the first transaction.
    if (db.query("SELECT name FROM sqlite_schema WHERE name = 'went_back'").values().length === 0) {
      createSchema(db, plan.schema);
      db.transaction(() => {
        db.run("CREATE TABLE went_back (mark TEXT NOT NULL, stamp TEXT NOT NULL)");
        db.run("CREATE TABLE went_back_done (collection TEXT NOT NULL PRIMARY KEY, rows INTEGER NOT NULL)");
        db.run("INSERT INTO went_back VALUES (?, ?)", [mark, stampOf(plan.wallMs)]);
      })();
    }
    this.stamp = beginningOf(partPath(plan.path), db)!.stamp;
    this.#done = new Map(
      db.query("SELECT collection, rows FROM went_back_done").values() as [string, number][],
    );
    this.#usage = Number(db.query("SELECT bytes FROM store_usage").values()[0]![0]);
    this.#note = db.prepare("INSERT OR REPLACE INTO went_back_done VALUES (?, ?)");
  }

  /** Row number `index` of a collection; those that are in it already are passed over. */
  take(collection: Collection, index: number, judged: Judged, body: () => Uint8Array | null): void {
    if (index < (this.#done.get(collection) ?? 0)) return;
    if (this.#pending === undefined) this.#db.run("BEGIN");
    this.#pending = { collection, index };
    const content = judged.isAside || judged.rows.some(({ hasBody }) => hasBody) ? body() : null;
    for (const row of judged.rows) this.#insert(row.in, row.key, row.meta, row.hasBody ? content : null);
    if (judged.isAside) this.#asideFile().put(collection, judged.row.key, judged.row.meta, content);
    if (++this.#rows >= BATCH_ROWS || this.#bytes >= BATCH_BYTES) this.commit();
  }

  /** What is aside first: a repeat puts the same there once more. */
  commit(): void {
    if (this.#pending === undefined) return;
    const { collection, index } = this.#pending;
    this.#aside?.commit();
    this.#note.run(collection, index + 1);
    this.#db.run("UPDATE store_usage SET bytes = ?", [this.#usage]);
    this.#db.run("COMMIT");
    this.#pending = undefined;
    this.#rows = 0;
    this.#bytes = 0;
  }

  /** All of it is durable. */
  finish(): void {
    this.commit();
    this.close();
    for (const file of [partPath(this.#path), asidePartPath(this.#path)])
      if (existsSync(file)) syncFile(file);
    syncFolder(dirname(this.#path));
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#note.finalize();
    for (const statement of this.#put.values()) statement.finalize();
    this.#aside?.close();
    this.#db.close(true);
  }

  #asideFile(): AsideFile {
    this.#aside ??= AsideFile.create(asidePartPath(this.#path));
    return this.#aside;
  }

  #insert(collection: Collection, key: string, meta: string, body: Uint8Array | null): void {
    let put = this.#put.get(collection);
    if (put === undefined)
      this.#put.set(
        collection,
        (put = this.#db.prepare(`INSERT OR REPLACE INTO "${collection}" (key, meta, body) VALUES (?, ?, ?)`)),
      );
    put.run(key, meta, body);
    const bytes = Buffer.byteLength(meta) + (body?.length ?? 0);
    this.#bytes += bytes;
    this.#usage += bytes;
  }
}

/** The new store under the old name, whenever the power goes. `db` is the old one, locked; what it holds is in its file alone afterwards. */
function swap(path: string, db: Database, stamp: string): void {
  // A log of pages that lay beside the new file would be read as its own.
  db.run("PRAGMA wal_checkpoint(TRUNCATE)");
  const mode = db.query("PRAGMA journal_mode = DELETE").values()[0]?.[0];
  if (mode !== "delete" || existsSync(`${path}-wal`))
    throw new OpenRefused(
      "GODWIT_STATE_UNUSABLE",
      `the log of ${path} cannot be emptied; is there any room left?`,
    );
  db.run("BEGIN EXCLUSIVE");
  removeStaleKept(path, stamp);
  const kept = keptPath(path, stamp);
  keepFile(path, kept);
  keepBodies(bodyFolder(path), bodyFolder(kept));
  if (existsSync(asidePartPath(path))) renameSync(asidePartPath(path), asidePath(path, stamp));
  syncFolder(dirname(path));
  renameSync(partPath(path), path);
  syncFolder(dirname(path));
  removeLeftovers(path);
  db.run("ROLLBACK");
}

/** What belongs to the store that is kept, and that the earlier release does not know. Every part of it has another name by now. */
function removeLeftovers(path: string): void {
  if (beginningOf(path) === undefined) return;
  rmSync(`${path}-log`, { force: true });
  rmSync(bodyFolder(path), { recursive: true, force: true });
}

/** Under two names; a copy where the file system has no links. */
function keepFile(path: string, kept: string): void {
  if (existsSync(kept)) return;
  try {
    linkSync(path, kept);
  } catch (error) {
    if (!(
      error instanceof Error &&
      "code" in error &&
      ["EPERM", "ENOTSUP", "EOPNOTSUPP", "EMLINK"].includes(String(error.code))
    ))
      throw error;
    copyFileSync(path, `${kept}.part`);
    syncFile(`${kept}.part`);
    renameSync(`${kept}.part`, kept);
  }
}

function keepBodies(folder: string, kept: string): void {
  if (!existsSync(folder)) return;
  mkdirSync(kept, { recursive: true, mode: 0o700 });
  for (const name of readdirSync(folder)) keepFile(join(folder, name), join(kept, name));
  syncFolder(kept);
}

/** Names of a conversion that was cut off before the rename, when a node ran since: they are second names of files in use. */
function removeStaleKept(path: string, stamp: string): void {
  const { ino } = statSync(path);
  for (const name of readdirSync(dirname(path))) {
    const file = join(dirname(path), name);
    if (!name.startsWith(`${basename(path)}.before-`) || file === keptPath(path, stamp)) continue;
    if (name.endsWith("-bodies") || statSync(file).ino !== ino) continue;
    rmSync(file, { force: true });
    rmSync(bodyFolder(file), { recursive: true, force: true });
  }
}

const partPath = (path: string): string => `${path}.back`;
const asidePartPath = (path: string): string => `${path}.back-aside`;
const asidePath = (path: string, stamp: string): string => `${path}.aside-${stamp}`;
const keptPath = (path: string, stamp: string): string => `${path}.before-${stamp}`;
const stampOf = (wallMs: number): string => isoTime(wallMs).replaceAll(/[-:]|\.\d+/g, "");

function removeParts(path: string): void {
  for (const file of [partPath(path), asidePartPath(path)])
    for (const name of [file, `${file}-journal`]) rmSync(name, { force: true });
}

/** What a store that went back, or is on its way, says of that; undefined for any other. */
function beginningOf(path: string, open?: Database): { mark: string; stamp: string } | undefined {
  let db: Database | undefined = open;
  try {
    db ??= new Database(path, { readwrite: true, create: false, strict: true });
    const [mark, stamp] = db.query("SELECT mark, stamp FROM went_back").values()[0] ?? [];
    return typeof mark === "string" && typeof stamp === "string" ? { mark, stamp } : undefined;
  } catch {
    return undefined;
  } finally {
    if (open === undefined) db?.close();
  }
}

/** As the file says with its log. Throws for a file that another process has. */
function versionOf(path: string): number {
  const db = new Database(path, { readwrite: true, create: false, strict: true });
  try {
    db.run("PRAGMA locking_mode = EXCLUSIVE");
    return Number(db.query("PRAGMA user_version").values()[0]![0]);
  } catch (error) {
    throw refusalOf(error, path);
  } finally {
    db.close();
  }
}

function checkRoom(path: string, bytes: number): void {
  const medium = mediumOf(path);
  const wanted = bytes + bytes / 8 + 1024 * 1024;
  if (medium !== undefined && medium.freeBytes < wanted) throw noRoom(path, wanted - medium.freeBytes);
}

const noRoom = (path: string, missingBytes?: number): Error =>
  godwitError(
    "GODWIT_STORE_FAILED",
    `no room for a second store beside ${path}: free ${missingBytes === undefined ? "some space" : `${Math.ceil(missingBytes / 1024)} KiB`}, and run it again; the store is as it was`,
  );

function refusalOf(error: unknown, path: string): unknown {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  if (isDiskFull(error) || code === "ENOSPC") {
    removeParts(path);
    return noRoom(path);
  }
  if (error instanceof OpenRefused) return godwitError(error.code, error.message);
  if (error instanceof Damaged) return godwitError("GODWIT_STORE_CORRUPT", error.message);
  if (code.startsWith("SQLITE_BUSY"))
    return godwitError("GODWIT_STATE_UNUSABLE", `a node uses ${path}; stop it, and run this again`);
  if (error instanceof Error && "kind" in error) return error;
  return godwitError(
    "GODWIT_STATE_UNUSABLE",
    `${path} cannot be converted: ${textOf(error)}; it is as it was`,
  );
}

function syncFile(path: string): void {
  const handle = openSync(path, "r+");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}
