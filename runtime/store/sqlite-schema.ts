/**
 * The database file of a store: its schema, how older ones are brought forward, and what makes a file unusable. Runs in
 * the store's worker. Must never delete, truncate or rename a file it did not create: what becomes of a damaged one is sqlite-salvage.ts.
 */
import { Database, SQLiteError } from "bun:sqlite";
import { chmodSync, closeSync, existsSync, fsyncSync, mkdirSync, openSync, statSync } from "node:fs";
import { dirname } from "node:path";
import type { OpenFailureCode } from "./sqlite-messages.ts";
import { checkRoom, DiskFull, takeRoom } from "./sqlite-room.ts";
import { sumOfGroup } from "./sqlite-slot-sums.ts";
import { keepWal } from "./sqlite-wal.ts";
import { collections, slotted, type Collection } from "./types.ts";

/** "Gdwt": a database of somebody else is refused instead of being filled with our tables. */
const APPLICATION_ID = 0x47647774;
/** How long an earlier process may take to let go of the file, ms: a supervisor restarts faster than the kernel cleans up. */
const LOCK_WAIT_MS = 500;
/** What a start needs that finds none of what an earlier one kept for it. */
const START_ROOM = "1 MiB";
/** Page cache, KiB. */
const CACHE_KIB = 4_096;

const rowTable = (name: string): string =>
  `CREATE TABLE "${name}" (key TEXT NOT NULL PRIMARY KEY, meta TEXT NOT NULL, body BLOB)`;

const firstTables = [
  "setting",
  "outbox",
  "transit",
  "partial",
  "chunk",
  "inbox",
  "seen",
  "receipt",
  "idempotency",
  "peer",
  "name",
  "record",
  "token",
  "plugin",
];

/**
 * Migration n brings a database of version n to n + 1, in one transaction. Append-only: a released line never
 * changes. A new collection is a new migration, and a line of `store_collection`. Expansions alone, so that the release before still
 * opens it: docs/decisions/0019. One that nothing before may open raises `store_usage.opens_from`.
 */
export const migrations: readonly (readonly string[])[] = [
  [
    ...firstTables.map(rowTable),
    // Size of all metas and bodies, kept by the writer within each transaction: summing up 100,000 rows would stall it.
    `CREATE TABLE "store_usage" (id INTEGER PRIMARY KEY CHECK (id = 1), bytes INTEGER NOT NULL)`,
    `INSERT INTO "store_usage" VALUES (1, 0)`,
  ],
  [rowTable("member")],
  [
    rowTable("damaged"),
    rowTable("proof"),
    // The commit log that belongs to this database, and its first page that is not in it (commit-log.ts). 0: none; null: it is not known.
    `ALTER TABLE "store_usage" ADD COLUMN log_id INTEGER DEFAULT 0`,
    `ALTER TABLE "store_usage" ADD COLUMN log_page INTEGER NOT NULL DEFAULT 0`,
    // The oldest schema whose release may open this database; and how often a release older than its schema did.
    `ALTER TABLE "store_usage" ADD COLUMN opens_from INTEGER NOT NULL DEFAULT 3`,
    `ALTER TABLE "store_usage" ADD COLUMN older_stays INTEGER NOT NULL DEFAULT 0`,
    // By the numbers that they have in the commit log, for a release that does not know the last of them.
    `CREATE TABLE "store_collection" (number INTEGER PRIMARY KEY, name TEXT NOT NULL)`,
    ...[...firstTables, "member", "damaged", "proof"].map(
      (name, number) => `INSERT INTO "store_collection" VALUES (${number}, '${name}')`,
    ),
    // Larger bodies, each once: to change what is said of one must not write it again, least of all on a full disk.
    `CREATE TABLE "body" (id INTEGER PRIMARY KEY, content BLOB NOT NULL)`,
    // Places of bodies in files (body-files.ts): those that a row names, by `-body_id`; and a sum over them, because what is missing there is removed.
    `CREATE TABLE "body_place" (id INTEGER PRIMARY KEY)`,
    `ALTER TABLE "store_usage" ADD COLUMN place_sum INTEGER NOT NULL DEFAULT 0`,
    // Sums of what a row holds (sums.ts), null in rows of before; its body's place and size, null where it lies in the row.
    ...[...firstTables, "member", "damaged", "proof"].flatMap((name) =>
      ["meta_sum", "body_sum", "body_id", "body_bytes"].map(
        (column) => `ALTER TABLE "${name}" ADD COLUMN ${column} INTEGER`,
      ),
    ),
    // Places and groups of mail (sqlite-slots.ts). Rows of before keep the order in which they came, which is that of their numbers, and
    // are of no group until their owners give them one.
    `CREATE TABLE "slot_group" (id INTEGER PRIMARY KEY, collection TEXT NOT NULL, name TEXT NOT NULL,
       count INTEGER NOT NULL, bytes INTEGER NOT NULL, sum INTEGER NOT NULL, UNIQUE (collection, name))`,
    ...(["inbox", "outbox", "transit"] as const).flatMap((name, index) => [
      `CREATE TABLE "${name}_slot" (slot INTEGER PRIMARY KEY, grp INTEGER NOT NULL, bytes INTEGER NOT NULL)`,
      `INSERT INTO "${name}_slot" SELECT rowid, ${index + 1}, coalesce(length(body), 0) FROM "${name}" NOT INDEXED`,
      `INSERT INTO "slot_group" SELECT ${index + 1}, '${name}', '', count(*), sum(bytes), ${sumOfGroup(name, "", index + 1)} FROM "${name}_slot" HAVING count(*) > 0`,
    ]),
  ],
  [
    rowTable("session"),
    ...["meta_sum", "body_sum", "body_id", "body_bytes"].map(
      (column) => `ALTER TABLE "session" ADD COLUMN ${column} INTEGER`,
    ),
    `INSERT INTO "store_collection" VALUES (17, 'session')`,
  ],
];
export const SCHEMA_VERSION = migrations.length;
/** Pages of new tables and their indexes, and of what is said of them in the schema. */
const TABLES_PAGES = 64;
/** The first schema with places of mail, and how many of them a page holds at least, with what the tree above them takes. */
const SLOTS_SINCE = 3;
const SLOTS_PER_PAGE = 220;

/** Why a store does not open, in words for the operator. */
export class OpenRefused extends Error {
  readonly code: OpenFailureCode;
  constructor(code: OpenFailureCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** Opens and locks the file, creating and migrating it as needed. Throws OpenRefused, and Damaged with nothing changed. */
export function openDatabase(path: string): Database {
  createFile(path);
  let db: Database | undefined;
  try {
    db = new Database(path, { readwrite: true, create: false, strict: true });
    prepare(db, path);
    return db;
  } catch (error) {
    db?.close();
    if (isDamage(error)) throw new Damaged(textOf(error));
    throw error instanceof OpenRefused ? error : refusalOf(error, path);
  }
}

/** The mode is right from the first moment; SQLite gives its WAL the same. */
function createFile(path: string): void {
  const directory = dirname(path);
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    if (existsSync(path)) {
      // By path: opening and closing the file here would drop the lock of a store open in this process (POSIX locks).
      if ((statSync(path).mode & 0o077) !== 0) chmodSync(path, 0o600);
      return;
    }
    closeSync(openSync(path, "wx", 0o600));
    const handle = openSync(directory, "r");
    fsyncSync(handle);
    closeSync(handle);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EEXIST" && existsSync(path)) return;
    throw new OpenRefused("GODWIT_STATE_UNUSABLE", `cannot create ${path}: ${textOf(error)}`);
  }
}

function prepare(db: Database, path: string): void {
  const pragma = (text: string): unknown => db.query(`PRAGMA ${text}`).values()[0]?.[0];
  pragma(`busy_timeout = ${LOCK_WAIT_MS}`);
  keepWal(db, true);
  // Held from the first access to the end of the process, `kill -9` included; and no shared memory file is needed.
  pragma("locking_mode = EXCLUSIVE");
  pragma("trusted_schema = OFF");
  pragma("cell_size_check = ON");
  pragma(`cache_size = -${CACHE_KIB}`);
  pragma("temp_store = MEMORY");
  // Before anything that writes: what is refused stays as it is to the byte.
  const found = checkOrigin(db, path);
  touchEveryTable(db);
  const pages = found > 0 && found < SCHEMA_VERSION ? newPages(db, found) : 0;
  if (pages > 0) checkRoom(db, path, pages);
  // Takes effect only before the first table, so a restart in the middle of creation has it too.
  pragma("auto_vacuum = INCREMENTAL");
  const mode = pragma("journal_mode = WAL");
  if (mode !== "wal")
    throw new OpenRefused(
      "GODWIT_STATE_UNUSABLE",
      `${path}: this file system cannot hold a WAL (${String(mode)})`,
    );
  pragma("synchronous = FULL");
  pragma("wal_autocheckpoint = 0");
  // Overwrites deleted rows where that costs no extra write; Rows does more where they were secret.
  pragma("secure_delete = FAST");
  db.run("BEGIN IMMEDIATE");
  db.run("COMMIT");
  if (pages > 0) takeRoom(db, path, pages);
  migrate(db, found);
  if (found > SCHEMA_VERSION) noteStay(db);
}

/** On a full disk it is not noted: then rows in the form of this release stay until they are written again. */
function noteStay(db: Database): void {
  try {
    db.run("UPDATE store_usage SET older_stays = older_stays + 1");
  } catch (error) {
    if (!isDiskFull(error)) throw error;
  }
}

/** The schema version of the file, 0 for a new one. */
function checkOrigin(db: Database, path: string): number {
  const pragma = (name: string): number => Number(db.query(`PRAGMA ${name}`).values()[0]![0]);
  const found = pragma("user_version");
  const tables = db.query("SELECT name FROM sqlite_schema").values().flat();
  if (pragma("application_id") !== APPLICATION_ID && (tables.length > 0 || found !== 0))
    throw new OpenRefused(
      "GODWIT_STORE_CORRUPT",
      `${path} is a database, but not one of Godwit; move it away or choose another state_dir`,
    );
  if (found > SCHEMA_VERSION && opensFrom(db, tables) > SCHEMA_VERSION)
    throw new OpenRefused(
      "GODWIT_STORE_VERSION",
      `${path} has schema ${found}, this Godwit knows up to ${SCHEMA_VERSION}; run the newer version, let it go back with godwit store convert, or restore a backup`,
    );
  return found;
}

/** The oldest schema whose release may open a database of a later one than this; without end for one that does not say. */
function opensFrom(db: Database, tables: readonly unknown[]): number {
  if (!tables.includes("store_usage")) return Number.POSITIVE_INFINITY;
  const columns = db.query("SELECT name FROM pragma_table_info('store_usage')").values().flat();
  if (!columns.includes("opens_from")) return Number.POSITIVE_INFINITY;
  const value = db.query("SELECT opens_from FROM store_usage").values()[0]?.[0];
  return typeof value === "number" ? value : Number.POSITIVE_INFINITY;
}

/** Collections of a later release, by the numbers that they have in the log. */
export const laterCollections = (db: Database): string[] =>
  db
    .query("SELECT name FROM store_collection WHERE number >= ? ORDER BY number")
    .values(collections.length)
    .map(([name]) => String(name));

/** How often a release that is older than the schema opened the database: it wrote rows in the form that it knows. */
export const olderStays = (db: Database): number =>
  Number(db.query("SELECT older_stays FROM store_usage").values()[0]?.[0] ?? 0);

/** Makes the tables of a new database, of an earlier schema if one is named. */
export const createSchema = (db: Database, schema = SCHEMA_VERSION): void => migrate(db, 0, schema);

/** What a store of that schema has tables for. */
export function collectionsOf(schema: number): Collection[] {
  const db = new Database(":memory:", { strict: true });
  try {
    createSchema(db, schema);
    const tables = db.query("SELECT name FROM sqlite_schema WHERE type = 'table'").values().flat();
    return collections.filter((name) => tables.includes(name));
  } finally {
    db.close();
  }
}

function migrate(db: Database, found: number, wanted = SCHEMA_VERSION): void {
  for (let version = found; version < wanted; version++) {
    db.run("BEGIN IMMEDIATE");
    for (const statement of migrations[version]!) db.run(statement);
    db.run(`PRAGMA application_id = ${APPLICATION_ID}`);
    db.run(`PRAGMA user_version = ${version + 1}`);
    db.run("COMMIT");
  }
}

/** Pages by which a migration from that schema makes a database larger, at most. */
function newPages(db: Database, found: number): number {
  if (found >= SLOTS_SINCE) return TABLES_PAGES;
  const rows = slotted.reduce(
    (total, name) => total + Number(db.query(`SELECT count(*) FROM "${name}"`).values()[0]![0]),
    0,
  );
  return TABLES_PAGES + Math.ceil(rows / SLOTS_PER_PAGE);
}

/** Reads one leaf at either end of each table, so that a truncated file is refused now and not at the first message. */
function touchEveryTable(db: Database): void {
  const names = db.query("SELECT name FROM sqlite_schema WHERE type = 'table'").values();
  for (const [name] of names) {
    db.query(`SELECT rowid FROM "${String(name)}" ORDER BY rowid LIMIT 1`).values();
    db.query(`SELECT rowid FROM "${String(name)}" ORDER BY rowid DESC LIMIT 1`).values();
  }
}

/** A sector that cannot be read is damage as well as one that reads wrong. */
const damageCodes = ["SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR_READ", "SQLITE_IOERR_SHORT_READ"];

/** The file of a store is not what SQLite wrote, or the medium does not give it back. */
export class Damaged extends Error {}

export const isDamage = (error: unknown): boolean =>
  error instanceof Damaged ||
  (error instanceof SQLiteError && damageCodes.some((code) => error.code?.startsWith(code) === true));

function refusalOf(error: unknown, path: string): OpenRefused {
  const code = error instanceof SQLiteError ? error.code : undefined;
  if (code?.startsWith("SQLITE_BUSY") === true || code?.startsWith("SQLITE_LOCKED") === true)
    return new OpenRefused(
      "GODWIT_STATE_UNUSABLE",
      `another node uses ${path}; stop it, or give this one its own state_dir`,
    );
  if (isDiskFull(error)) {
    const room = error instanceof DiskFull ? kibOf(error.missingBytes) : START_ROOM;
    return new OpenRefused(
      "GODWIT_STORE_FAILED",
      `no room to open ${path}: the disk is full; free ${room}, and the node starts`,
    );
  }
  return new OpenRefused("GODWIT_STATE_UNUSABLE", `cannot open ${path}: ${textOf(error)}`);
}

const kibOf = (bytes: number): string => `${Math.ceil(bytes / 1024)} KiB`;

/** Says what became of one commit or read, in words for the operator. */
export function failureText(error: unknown, path: string): string {
  if (error instanceof DiskFull)
    return `no room for the commit: the disk is full; free ${kibOf(error.missingBytes)} beside ${path}, or delete messages`;
  if (isDiskFull(error))
    return `no room for the commit: the disk is full; free some space beside ${path}, or delete messages`;
  if (isDamage(error)) return `${path} is damaged (${textOf(error)})`;
  return `the store failed: ${textOf(error)}`;
}

export const isDiskFull = (error: unknown): boolean =>
  error instanceof DiskFull ||
  (error instanceof SQLiteError && (error.code === "SQLITE_FULL" || error.code === "SQLITE_IOERR_WRITE"));

/** The row itself is what cannot be written, today and tomorrow. */
export const isRefusal = (error: unknown): boolean =>
  error instanceof SQLiteError && /^SQLITE_(CONSTRAINT|TOOBIG|MISMATCH)/.test(error.code ?? "");

export function textOf(error: unknown): string {
  if (error instanceof SQLiteError) return `${error.code ?? "SQLite"}: ${error.message}`;
  return error instanceof Error ? error.message : String(error);
}
