/**
 * What can still be read of a damaged database, row by row, into a new one; the damaged file is kept aside under a name with the date.
 * Damage costs the rows it touches, never the node: nobody may be on site. Owns the files beside the database whose names begin with
 * its own and `.damaged-`, and the new file until it takes the old one's place. Runs in the store's worker, on a database that nobody
 * has open. Loses nothing that is readable, but for the room it needs: the file aside goes first then.
 */
import { Database, type Statement } from "bun:sqlite";
import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { isoTime, systemClock } from "../kernel/clock.ts";
import { syncFolder } from "../kernel/whole-file.ts";
import { bodyFolder, NO_SUM, readPlace, type BodyPlace } from "./body-files.ts";
import type { LogMark } from "./commit-log.ts";
import { mediumOf, startBytes } from "./sqlite-room.ts";
import { SET_ASIDE, type WireOp } from "./sqlite-messages.ts";
import { adoptLaterSchema, copyLater, laterColumns } from "./sqlite-later.ts";
import { leafRows } from "./sqlite-pages.ts";
import { rebuildSchema, writePages } from "./sqlite-rebuild.ts";
import { Rows } from "./sqlite-rows.ts";
import { createSchema, textOf } from "./sqlite-schema.ts";
import { soundGroups } from "./sqlite-slot-sums.ts";
import { bodySum, metaSum } from "./sums.ts";
import { collections, isSlotted, type Collection, type Damage, type Slotted } from "./types.ts";

/** Damaged files that are kept, the newest. */
const ASIDE_MAX = 2;
/** A new database that the medium has no room for beside the old one is made in memory, up to this size of the old one. */
const MEMORY_BYTES_MAX = 256 * 1024 * 1024;
/** Rows that are lost and named; more are counted. */
const NAMED_MAX = 4_096;

export interface Salvage {
  /** Rows that could not be read, or do not fit their sums. Of a lost page only the keys that an index still names. */
  readonly lost: readonly Damage[];
  readonly lostCount: number;
  /** Where the damaged file is; null: there was no room to keep it. */
  readonly asideFile: string | null;
}

interface Row {
  readonly collection: Collection;
  readonly rowid: number;
  readonly key: string;
  readonly meta: string;
  readonly isMetaSound: boolean;
  /** Null: it has none, or it lies elsewhere. */
  readonly inline: Uint8Array | null;
  readonly bodyId: number | null;
  readonly bodySum: number | null;
  readonly bodyBytes: number | null;
}

/**
 * Replaces the database at `path`, which could not be used because of `cause`. Throws what the operating system says when not even that
 * can be written, and `cause` when the medium gives back nothing at all: then it may be a cable, and no file is to be replaced.
 */
export function salvageDatabase(path: string, cause: unknown): Salvage {
  const oldBytes = sizeOf(path) + sizeOf(`${path}-wal`);
  const part = `${path}.part`;
  rmSync(part, { force: true });
  boundAside(path, ASIDE_MAX - 1);
  if (!hasRoomFor(path, oldBytes)) boundAside(path, 0);
  const isRoomy = hasRoomFor(path, oldBytes) || oldBytes > MEMORY_BYTES_MAX;
  const into = new Database(isRoomy ? part : ":memory:", { create: true, readwrite: true, strict: true });
  const report = new Report();
  try {
    for (const pragma of [
      "page_size = 4096",
      "auto_vacuum = INCREMENTAL",
      "journal_mode = OFF",
      "synchronous = OFF",
    ])
      into.run(`PRAGMA ${pragma}`);
    createSchema(into);
    copyReadable(path, into, report, cause);
    if (isRoomy) {
      into.close(true);
      complete(path);
      return { ...report.told, asideFile: swap(path) };
    }
    // No room for both. Should the power go between these lines, all is lost: the disk was full and damaged.
    const image = into.serialize();
    for (const file of [path, `${path}-wal`]) rmSync(file, { force: true });
    writeFileSync(part, image, { mode: 0o600 });
    complete(path);
    swap(path);
    return { ...report.told, asideFile: null };
  } finally {
    into.close(true);
  }
}

/** What a salvage that was cut off has still to do. Before the database is opened. */
export function finishSalvage(path: string): void {
  if (existsSync(`${path}.new`)) swap(path);
}

class Report {
  readonly #lost: Damage[] = [];
  #count = 0;

  get told(): { lost: readonly Damage[]; lostCount: number } {
    return { lost: this.#lost, lostCount: this.#count };
  }

  note(collection: Collection, key: string): void {
    this.#count++;
    if (this.#lost.length < NAMED_MAX) this.#lost.push({ in: collection, key });
  }
}

function copyReadable(path: string, into: Database, report: Report, cause: unknown): void {
  let from = openDamaged(path);
  const schemaPages = from === undefined ? rebuildSchema(path) : undefined;
  if (schemaPages !== undefined) from = openDamaged(path);
  try {
    if (from === undefined && isReadError(cause)) throw cause;
    // Not even that: its size says that something was there.
    if (from === undefined) {
      into.run("UPDATE store_usage SET log_id = NULL");
      return report.note("setting", "");
    }
    const later = laterColumns(from, into);
    adoptLaterSchema(from, into);
    const rows = new Rows(into, bodyFolder(path));
    const salvager = new Salvager(from, rows, report, bodyFolder(path));
    rows.transaction(() => rows.setMark(markOf(from)));
    for (const collection of collections) rows.transaction(() => salvager.copy(collection));
    rows.transaction(() => salvager.searchPages(path));
    const known = from;
    rows.transaction(() => copyLater(known, into, later));
    salvager.close();
    rows.close();
  } finally {
    from?.close();
    // As it was found, for whoever looks at it.
    if (schemaPages !== undefined) writePages(path, schemaPages);
  }
}

/** Undefined when its tables cannot be found. */
function openDamaged(path: string): Database | undefined {
  let db: Database | undefined;
  try {
    db = new Database(path, { readwrite: true, create: false, strict: true });
    db.run("PRAGMA locking_mode = EXCLUSIVE");
    db.run("PRAGMA trusted_schema = OFF");
    db.run("PRAGMA cell_size_check = ON");
    // Nothing of it is changed by looking.
    db.run("PRAGMA wal_autocheckpoint = 0");
    const tables = db.query("SELECT name FROM sqlite_schema WHERE type = 'table'").values().flat();
    if (collections.some((name) => tables.includes(name))) return db;
  } catch {
    // Told by the caller.
  }
  db?.close();
  return undefined;
}

/** Copies what is sound, and notes and keeps aside what is not. */
class Salvager {
  readonly #folder: string;
  readonly #from: Database;
  readonly #into: Rows;
  readonly #report: Report;
  readonly #prepared: Statement[] = [];
  readonly #content: Statement | undefined;
  /** Names of what is sound, by number. */
  readonly #groups = new Map<Slotted, ReadonlyMap<number, string>>();
  readonly #slots = new Map<Slotted, Statement | undefined>();
  /** Named by an index, by key, number and collection: their pages could not be reached. */
  readonly #unreached = new Map<string, { readonly rowid: number; readonly collection: Collection }[]>();
  /** Rows whose bodies could not be reached, by the number of the body. */
  readonly #bodiless = new Map<number, Row>();

  constructor(from: Database, into: Rows, report: Report, folder: string) {
    this.#folder = folder;
    this.#from = from;
    this.#into = into;
    this.#report = report;
    this.#content = this.#prepare("SELECT content FROM body WHERE id = ?");
  }

  close(): void {
    for (const statement of this.#prepared) statement.finalize();
  }

  copy(collection: Collection): void {
    const columns = this.#columnsOf(collection);
    const read =
      columns === undefined
        ? undefined
        : this.#prepare(`SELECT key, meta, body, ${columns} FROM "${collection}" WHERE rowid = ?`);
    if (read === undefined) return;
    const { found, isAll } = rowidsOf(this.#from, collection);
    // Without keys: whoever reads that something was lost must not take the named ones for all.
    if (!isAll) this.#report.note(collection, "");
    for (const [rowid, indexed] of found) {
      const row = tryTo(() => rowOf(collection, rowid, read.values(rowid)[0]));
      if (row !== undefined) this.#take(row);
      else if (indexed === undefined) this.#report.note(collection, "");
      else this.#unreached.set(indexed, [...(this.#unreached.get(indexed) ?? []), { rowid, collection }]);
    }
  }

  /** What the trees do not lead to may still lie in its page. */
  searchPages(path: string): void {
    if (this.#unreached.size > 0)
      for (const { rowid, values } of leafRows(path)) {
        const wanted = this.#unreached.get(String(values[0]));
        const found = wanted?.find((one) => one.rowid === rowid);
        const row = found === undefined ? undefined : rowOf(found.collection, rowid, values);
        if (row?.isMetaSound !== true) continue;
        this.#unreached.set(
          row.key,
          wanted!.filter((one) => one !== found),
        );
        this.#take(row);
      }
    if (this.#bodiless.size > 0)
      for (const { rowid, values } of leafRows(path)) {
        const row = this.#bodiless.get(rowid);
        const [none, content] = values;
        if (row === undefined || values.length !== 2 || none !== null) continue;
        if (!(content instanceof Uint8Array) || bodySum(content) !== row.bodySum) continue;
        this.#bodiless.delete(rowid);
        this.#put(row, content, true);
      }
    for (const row of this.#bodiless.values()) this.#put(row, null, false);
    for (const [key, lost] of this.#unreached)
      for (const { collection } of lost) this.#report.note(collection, key);
  }

  #take(row: Row): void {
    const { inline, bodyId, bodySum: sum } = row;
    if (bodyId === null)
      return this.#put(row, inline, inline === null || sum === null || sum === bodySum(inline));
    if (bodyId < 0)
      return this.#takePlace(row, { id: -bodyId, bytes: row.bodyBytes ?? 0, sum: sum ?? NO_SUM });
    const content = tryTo(() => this.#content?.values(bodyId)[0]?.[0]);
    if (content instanceof Uint8Array && sum === bodySum(content)) this.#put(row, content, true);
    else this.#bodiless.set(bodyId, row);
  }

  /**
   * The body stays where it is. One without a sum is judged by who put it (types.ts): that it is there says all that can be said here. One that
   * cannot be read now is judged by whoever reads it later.
   */
  #takePlace(row: Row, place: BodyPlace): void {
    const { collection, key, meta, isMetaSound } = row;
    const read = tryTo(() => ({ body: readPlace(this.#folder, place.id, place.bytes) }));
    const isBodySound = read === undefined || isAtPlace(read.body, place);
    const isSound = isMetaSound && isBodySound;
    if (!isSound) this.#report.note(collection, key);
    if (!isSound && collection === "damaged") return;
    const put: WireOp = [collection, key, meta, -1, 0, place, ...this.#slotOf(row)];
    const aside: WireOp = [collection, key, null, SET_ASIDE, 0];
    this.#into.apply(isSound ? [put] : [put, aside], new Uint8Array(0));
  }

  #put(row: Row, body: Uint8Array | null, isBodySound: boolean): void {
    const { collection, key, meta, isMetaSound } = row;
    const isSound = isMetaSound && isBodySound;
    if (!isSound) this.#report.note(collection, key);
    if (!isSound && collection === "damaged") return;
    const [offset, length] = body === null ? [-1, 0] : [0, body.length];
    const put: WireOp = [collection, key, meta, offset, length, undefined, ...this.#slotOf(row)];
    const aside: WireOp = [collection, key, null, SET_ASIDE, 0];
    this.#into.apply(isSound ? [put] : [put, aside], body ?? new Uint8Array(0));
  }

  /** Mail keeps its place; its group as well, where the file still says it: else its owner gives it anew. */
  #slotOf({ collection, rowid }: Row): [order: number, group: string] | [] {
    if (!isSlotted(collection) || rowid < 1) return [];
    let groups = this.#groups.get(collection);
    if (groups === undefined) {
      groups = tryTo(() => soundGroups(this.#from, collection)) ?? new Map<number, string>();
      this.#groups.set(collection, groups);
      this.#slots.set(collection, this.#prepare(`SELECT grp FROM "${collection}_slot" WHERE slot = ?`));
    }
    const group = tryTo(() => this.#slots.get(collection)?.values(rowid)[0]?.[0]);
    const name = typeof group === "number" ? groups.get(group) : undefined;
    return [rowid, name?.isWellFormed() === true ? name : ""];
  }

  /** Sums and places, where the file has them; undefined when it has no such table. */
  #columnsOf(collection: Collection): string | undefined {
    const names = tryTo(() =>
      this.#from.query(`SELECT name FROM pragma_table_info('${collection}')`).values().flat(),
    );
    if (names === undefined || names.length === 0) return undefined;
    return names.includes("body_id") ? "meta_sum, body_sum, body_id, body_bytes" : "NULL, NULL, NULL, NULL";
  }

  /** Undefined when there is no such table. */
  #prepare(sql: string): Statement | undefined {
    const statement = tryTo(() => this.#from.prepare(sql));
    if (statement !== undefined) this.#prepared.push(statement);
    return statement;
  }
}

/** Which log goes with it; where that is gone, the log itself is asked. */
function markOf(from: Database): LogMark {
  const values = tryTo(() => from.query("SELECT log_id, log_page FROM store_usage").values()[0]);
  const [id, page] = values ?? [];
  return typeof id === "number" && typeof page === "number" ? { id, page } : { id: null, page: 0 };
}

const isReadError = (cause: unknown): boolean => textOf(cause).includes("SQLITE_IOERR");

const isAtPlace = (body: Uint8Array | undefined, { sum }: BodyPlace): boolean =>
  body !== undefined && (sum === NO_SUM || bodySum(body) === sum);

/** Undefined for what cannot be read. */
function tryTo<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

function rowOf(
  collection: Collection,
  rowid: number,
  values: readonly unknown[] | undefined,
): Row | undefined {
  const [key, meta, inline, sumOfMeta, sumOfBody, id, bytes] = values ?? [];
  if (typeof key !== "string" || typeof meta !== "string") return undefined;
  if (!key.isWellFormed() || !meta.isWellFormed()) return undefined;
  const number = (value: unknown): number | null => (typeof value === "number" ? value : null);
  const sum = number(sumOfMeta);
  return {
    collection,
    rowid,
    key,
    meta,
    isMetaSound: sum === null || sum === metaSum(key, meta),
    inline: inline instanceof Uint8Array ? inline : null,
    bodyId: number(id),
    bodySum: number(sumOfBody),
    bodyBytes: number(bytes),
  };
}

/**
 * Every row that the table or its index still names, from both ends; with the key where the index has it. `isAll`: the table or its index could
 * be walked from end to end. Where neither could, nobody knows which rows there were.
 */
function rowidsOf(
  from: Database,
  collection: Collection,
): { found: Map<number, string | undefined>; isAll: boolean } {
  const found = new Map<number, string | undefined>();
  const walk = (sql: string): boolean => {
    const statement = from.prepare(sql);
    try {
      for (const row of statement.iterate() as Iterable<{ rowid: number; key?: unknown }>) {
        const key = typeof row.key === "string" ? row.key : found.get(row.rowid);
        found.set(row.rowid, key);
      }
      return true;
    } catch {
      // As far as it goes.
      return false;
    } finally {
      statement.finalize();
    }
  };
  let isAll = false;
  for (const order of ["", " DESC"]) {
    // Only the index is read for these two, only the table for the others.
    const isWalked = [
      walk(`SELECT rowid, key FROM "${collection}" ORDER BY key${order}`),
      walk(`SELECT rowid FROM "${collection}" NOT INDEXED ORDER BY rowid${order}`),
    ].includes(true);
    isAll ||= isWalked;
  }
  return { found, isAll };
}

/** The new database is whole from here on. */
function complete(path: string): void {
  const handle = openSync(`${path}.part`, "r+");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
  renameSync(`${path}.part`, `${path}.new`);
  syncFolder(dirname(path));
}

/** The new file under the old name, whenever the power goes: see `finishSalvage`. */
function swap(path: string): string {
  const aside = `${path}.damaged-${isoTime(systemClock.wallMs()).replaceAll(/[-:]|\.\d+/g, "")}`;
  if (existsSync(`${path}-wal`)) renameSync(`${path}-wal`, `${aside}-wal`);
  if (existsSync(path)) renameSync(path, aside);
  renameSync(`${path}.new`, path);
  syncFolder(dirname(path));
  return aside;
}

/** Newest first. */
function asideFiles(path: string): string[] {
  const prefix = `${basename(path)}.damaged-`;
  return readdirSync(dirname(path))
    .filter((name) => name.startsWith(prefix) && !name.endsWith("-wal"))
    .toSorted()
    .toReversed()
    .map((name) => join(dirname(path), name));
}

function boundAside(path: string, max: number): void {
  for (const file of asideFiles(path).slice(max))
    for (const name of [file, `${file}-wal`]) rmSync(name, { force: true });
}

function hasRoomFor(path: string, bytes: number): boolean {
  const medium = mediumOf(path);
  return medium === undefined || medium.freeBytes >= bytes + startBytes(medium.totalBytes);
}

const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;
