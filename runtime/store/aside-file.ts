/**
 * Rows that an earlier release could not have read alike, in a file beside its store, as they were: until a release takes them in again
 * that can. A database of one table. Must never be read as a store.
 */
import { Database, type Statement } from "bun:sqlite";
import { closeSync, existsSync, openSync, readdirSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { godwitError } from "../kernel/errors.ts";
import { bodySum, metaSum } from "./sums.ts";
import { collections, type Collection } from "./types.ts";

/** "GdwA". */
const APPLICATION_ID = 0x47647741;

export interface AsideRow {
  readonly in: Collection;
  readonly key: string;
  readonly meta: string;
  readonly body: Uint8Array | undefined;
}

type Held = [
  collection: string,
  key: string,
  meta: string,
  body: Uint8Array | null,
  metaSum: number,
  bodySum: number | null,
];

export class AsideFile {
  readonly #db: Database;
  readonly #put: Statement<unknown, Held>;
  #isOpen = false;

  /** A new one, or one that a try before began. Throws SQLite's error. */
  static create(path: string): AsideFile {
    if (!existsSync(path)) closeSync(openSync(path, "wx", 0o600));
    const db = new Database(path, { readwrite: true, create: false, strict: true });
    db.run(`PRAGMA application_id = ${APPLICATION_ID}`);
    db.run(
      `CREATE TABLE IF NOT EXISTS aside (collection TEXT NOT NULL, key TEXT NOT NULL, meta TEXT NOT NULL, body BLOB,
        meta_sum INTEGER NOT NULL, body_sum INTEGER, PRIMARY KEY (collection, key))`,
    );
    return new AsideFile(db);
  }

  private constructor(db: Database) {
    this.#db = db;
    this.#put = db.prepare("INSERT OR REPLACE INTO aside VALUES (?, ?, ?, ?, ?, ?)");
  }

  put(collection: Collection, key: string, meta: string, body: Uint8Array | null): void {
    if (!this.#isOpen) this.#db.run("BEGIN");
    this.#isOpen = true;
    this.#put.run(collection, key, meta, body, metaSum(key, meta), body === null ? null : bodySum(body));
  }

  commit(): void {
    if (this.#isOpen) this.#db.run("COMMIT");
    this.#isOpen = false;
  }

  close(): void {
    this.#put.finalize();
    this.#db.close(true);
  }
}

/** Beside the store at `path`: mail of the node that is in no box until it is taken in again. */
export function asideFiles(path: string): string[] {
  const prefix = `${basename(path)}.aside-`;
  return readdirSync(dirname(path))
    .filter((name) => name.startsWith(prefix))
    .toSorted()
    .map((name) => join(dirname(path), name));
}

/** All rows of such a file. Throws GODWIT_STORE_CORRUPT for one that is none, or not what was written. */
export function* readAside(path: string): Generator<AsideRow, void> {
  if (!existsSync(path)) throw godwitError("GODWIT_STORE_CORRUPT", `there is no file ${path}`);
  const db = new Database(path, { readonly: true, strict: true });
  const corrupt = (why: string): Error => godwitError("GODWIT_STORE_CORRUPT", `${path}: ${why}`);
  try {
    if (db.query("PRAGMA application_id").values()[0]?.[0] !== APPLICATION_ID)
      throw corrupt("this is no file of messages that were kept aside");
    const keys = db
      .query("SELECT collection, key FROM aside ORDER BY collection, key")
      .values() as string[][];
    const read = db.prepare("SELECT * FROM aside WHERE collection = ? AND key = ?");
    try {
      for (const [collection, key] of keys) {
        const [, , meta, body, sum, sumOfBody] = read.values(collection!, key!)[0] as Held;
        if (sum !== metaSum(key!, meta) || (body !== null && sumOfBody !== bodySum(body)))
          throw corrupt(`${collection} ${key} is not what was written`);
        if (!collections.includes(collection as Collection)) throw corrupt(`${collection} is not known here`);
        yield { in: collection as Collection, key: key!, meta, body: body ?? undefined };
      }
    } finally {
      read.finalize();
    }
  } finally {
    db.close();
  }
}
