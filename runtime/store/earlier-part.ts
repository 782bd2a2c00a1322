/**
 * The store of an earlier release while it is made, beside the one that it is made of. What is in it says how far it is, so that whoever was
 * cut off goes on where it stopped. Owns the files whose names end in `.back` and `.back-aside`, and the names of those that are left at the end. Must never touch the store itself.
 */
import { Database, type Statement } from "bun:sqlite";
import { closeSync, existsSync, fsyncSync, openSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { isoTime } from "../kernel/clock.ts";
import { godwitError } from "../kernel/errors.ts";
import { syncFolder } from "../kernel/whole-file.ts";
import { AsideFile } from "./aside-file.ts";
import { bodyFolder } from "./body-files.ts";
import type { Judged } from "./earlier.ts";
import { mediumOf } from "./sqlite-room.ts";
import { createSchema } from "./sqlite-schema.ts";
import type { Collection } from "./types.ts";

/** Rows and bytes that are written before the next commit. */
const BATCH_ROWS = 256;
const BATCH_BYTES = 4 * 1024 * 1024;

export interface PartPlan {
  /** Of the store. */
  readonly path: string;
  readonly schema: number;
  readonly wallMs: number;
}

/** The new store while it is made. What is in it says how far it is. */
export class EarlierPart {
  readonly #db: Database;
  readonly #path: string;
  readonly #puts = new Map<Collection, Statement>();
  readonly #note: Statement<unknown, [string, number]>;
  readonly stamp: string;
  readonly #done: Map<string, number>;
  #aside: AsideFile | undefined;
  #pending: { collection: Collection; index: number } | undefined;
  #rows = 0;
  #bytes = 0;
  #usage: number;
  #isClosed = false;

  /** Of the same `mark` as a try before: that one goes on. Throws SQLite's errors, and GODWIT_STORE_FAILED where the room is not there. */
  static open(plan: PartPlan, mark: string): EarlierPart {
    const path = partPath(plan.path);
    if (existsSync(path) && beginningOf(path)?.mark !== mark) removeParts(plan.path);
    if (!existsSync(path)) {
      removeParts(plan.path);
      checkRoom(plan.path, Number(mark.split(" ")[1]));
    }
    return new EarlierPart(plan, mark);
  }

  private constructor(plan: PartPlan, mark: string) {
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
        db.run("CREATE TABLE went_back_damaged (collection TEXT, key TEXT, PRIMARY KEY (collection, key))");
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
  async take(
    collection: Collection,
    index: number,
    judged: Judged,
    body: () => Promise<Uint8Array | null | undefined>,
  ): Promise<void> {
    if (index < (this.#done.get(collection) ?? 0)) return;
    if (this.#pending === undefined) this.#db.run("BEGIN");
    this.#pending = { collection, index };
    const needsBody = judged.isAside || judged.rows.some(({ hasBody }) => hasBody);
    const content = needsBody ? await body() : null;
    if (content === undefined)
      this.#db.run("INSERT OR REPLACE INTO went_back_damaged VALUES (?, ?)", [collection, judged.row.key]);
    else this.#put(collection, judged, content);
    if (++this.#rows >= BATCH_ROWS || this.#bytes >= BATCH_BYTES) this.commit();
  }

  #put(collection: Collection, judged: Judged, content: Uint8Array | null): void {
    for (const row of judged.rows) this.#insert(row.in, row.key, row.meta, row.hasBody ? content : null);
    if (judged.isAside) this.#asideFile().put(collection, judged.row.key, judged.row.meta, content);
  }

  /** Rows whose bodies were not what was written, in this try and those before. */
  get damaged(): { readonly in: Collection; readonly key: string }[] {
    const rows = this.#db.query("SELECT collection, key FROM went_back_damaged").values();
    return rows.map(([collection, key]) => ({ in: collection as Collection, key: String(key) }));
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
    for (const statement of this.#puts.values()) statement.finalize();
    this.#aside?.close();
    this.#db.close(true);
  }

  #asideFile(): AsideFile {
    this.#aside ??= AsideFile.create(asidePartPath(this.#path));
    return this.#aside;
  }

  #insert(collection: Collection, key: string, meta: string, body: Uint8Array | null): void {
    let put = this.#puts.get(collection);
    if (put === undefined)
      this.#puts.set(
        collection,
        (put = this.#db.prepare(`INSERT OR REPLACE INTO "${collection}" (key, meta, body) VALUES (?, ?, ?)`)),
      );
    put.run(key, meta, body);
    const bytes = Buffer.byteLength(meta) + (body?.length ?? 0);
    this.#bytes += bytes;
    this.#usage += bytes;
  }
}

export const partPath = (path: string): string => `${path}.back`;
export const asidePartPath = (path: string): string => `${path}.back-aside`;
export const asidePath = (path: string, stamp: string): string => `${path}.aside-${stamp}`;
export const keptPath = (path: string, stamp: string): string => `${path}.before-${stamp}`;
const stampOf = (wallMs: number): string => isoTime(wallMs).replaceAll(/[-:]|\.\d+/g, "");

/** A conversion that is given up: what was made for it, and the second names that it gave to files in use. */
export function removeParts(path: string): void {
  const stamp = existsSync(partPath(path)) ? beginningOf(partPath(path))?.stamp : undefined;
  if (stamp !== undefined) {
    const kept = keptPath(path, stamp);
    for (const name of [asidePath(path, stamp), kept, bodyFolder(kept)])
      rmSync(name, { recursive: true, force: true });
  }
  for (const file of [partPath(path), asidePartPath(path)])
    for (const name of [`${file}-journal`, file]) rmSync(name, { force: true });
}

/** What a store that went back, or is on its way, says of that; undefined for any other. */
export function beginningOf(path: string, open?: Database): { mark: string; stamp: string } | undefined {
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

function checkRoom(path: string, bytes: number): void {
  const medium = mediumOf(path);
  const wanted = bytes + bytes / 8 + 1024 * 1024;
  if (medium !== undefined && medium.freeBytes < wanted) throw noRoom(path, wanted - medium.freeBytes);
}

export const noRoom = (path: string, missingBytes?: number): Error =>
  godwitError(
    "GODWIT_STORE_FAILED",
    `no room for a second store beside ${path}: free ${missingBytes === undefined ? "some space" : `${Math.ceil(missingBytes / 1024)} KiB`}, and run it again; the store is as it was`,
  );

/** Its content is durable. */
export function syncFile(path: string): void {
  const handle = openSync(path, "r+");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}
