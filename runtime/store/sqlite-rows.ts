/**
 * The rows of the database: read, written, and checked. Each meta and each body lies beside a sum that is made when it is written, so
 * that a flipped bit is found before anybody sees it; what does not fit its sum is set aside. Runs in the store's worker, inside
 * transactions that others begin and end. Rows of before the sums have none until they are written again, and are believed.
 */
import type { Database, Statement } from "bun:sqlite";
import { isoTime, systemClock } from "../kernel/clock.ts";
import { type LoadColumns, SET_ASIDE, type WireOp } from "./sqlite-messages.ts";
import { DAMAGED_BYTES_MAX, DAMAGED_ROWS_MAX, type Collection, type Damage } from "./types.ts";

/** Of the sum: what a JavaScript number holds without loss. */
const SUM_BITS = 52;

/** Finds rot, no forgery: whoever can write the file can write sums as well. */
const sumOf = (content: string | Uint8Array): number =>
  Number(BigInt.asUintN(SUM_BITS, Bun.hash.xxHash3(content)));
/** With the key, so that two rows do not change places. */
export const metaSum = (key: string, meta: string): number => sumOf(`${key}\n${meta}`);
export const bodySum = (body: Uint8Array): number => sumOf(body);

type LoadRow = [key: string, meta: string, bodyBytes: number | null, sum: number | null];

interface Statements {
  readonly size: Statement<unknown, [string]>;
  readonly put: Statement<unknown, [string, string, number]>;
  readonly putBody: Statement<unknown, [string, string, number, Uint8Array, number]>;
  readonly remove: Statement<unknown, [string]>;
  readonly load: Statement<unknown, []>;
  readonly body: Statement<unknown, [string]>;
  readonly copyAside: Statement<unknown, [string, string]>;
}

export class Rows {
  readonly #db: Database;
  readonly #prepared: Statement[] = [];
  readonly #statements = new Map<Collection, Statements>();
  readonly #begin: Statement;
  readonly #commit: Statement;
  readonly #setUsage: Statement<unknown, [number]>;
  /** Found by reading, and for want of room perhaps still where they were: nobody is shown them. */
  readonly #condemned = new Map<Collection, Set<string>>();
  #found: Damage[] = [];
  /** Size of all metas and bodies. */
  usageBytes: number;
  #usageStored: number;

  constructor(db: Database) {
    this.#db = db;
    this.#begin = this.prepare("BEGIN");
    this.#commit = this.prepare("COMMIT");
    this.#setUsage = this.prepare("UPDATE store_usage SET bytes = ?");
    this.usageBytes = Number(db.query("SELECT bytes FROM store_usage").values()[0]![0]);
    this.#usageStored = this.usageBytes;
  }

  /** Finalized by `close`. */
  prepare(sql: string): Statement<unknown, never[]> {
    const statement = this.#db.prepare<unknown, never[]>(sql);
    this.#prepared.push(statement);
    return statement;
  }

  /** An unfinished statement would keep the file open and locked until a garbage collection. */
  close(): void {
    for (const statement of this.#prepared) statement.finalize();
  }

  /** Runs `work` as one transaction. Throws what it throws, and then nothing of it was applied. */
  transaction(work: () => void): void {
    const usageBefore = this.usageBytes;
    this.#begin.run();
    try {
      work();
      if (this.usageBytes !== this.#usageStored) this.#setUsage.run(this.usageBytes);
      this.#commit.run();
      this.#usageStored = this.usageBytes;
    } catch (error) {
      // A full disk makes SQLite roll the whole transaction back by itself.
      if (this.#db.inTransaction) this.#db.run("ROLLBACK");
      this.usageBytes = usageBefore;
      throw error;
    }
  }

  apply(ops: readonly WireOp[], pack: Uint8Array): void {
    for (const [collection, key, meta, offset, length] of ops) {
      const statements = this.#of(collection);
      if (offset === SET_ASIDE) {
        this.#moveAside(collection, key);
        continue;
      }
      this.#condemned.get(collection)?.delete(key);
      const held = statements.size.values(key)[0] as [number, number] | undefined;
      if (held !== undefined) this.usageBytes -= held[0] + (offset < 0 && meta !== null ? 0 : held[1]);
      if (meta === null) statements.remove.run(key);
      else {
        this.usageBytes += Buffer.byteLength(meta);
        if (offset < 0) statements.put.run(key, meta, metaSum(key, meta));
        else {
          const body = pack.subarray(offset, offset + length);
          statements.putBody.run(key, meta, metaSum(key, meta), body, bodySum(body));
          this.usageBytes += length;
        }
      }
    }
  }

  load(collection: Collection): LoadColumns {
    const rows = this.#of(collection).load.values() as LoadRow[];
    const keys: string[] = [];
    const metas: string[] = [];
    const bodyBytes: number[] = [];
    for (const [key, meta, length, sum] of rows) {
      if (this.#condemned.get(collection)?.has(key) === true) continue;
      if (sum !== null && sum !== metaSum(key, meta)) {
        this.#condemn(collection, key);
        continue;
      }
      keys.push(key);
      metas.push(meta);
      bodyBytes.push(length ?? 0);
    }
    return { keys, metas, bodyBytes: Float64Array.from(bodyBytes) };
  }

  body(collection: Collection, key: string): Uint8Array | undefined {
    if (this.#condemned.get(collection)?.has(key) === true) return undefined;
    const row = this.#of(collection).body.values(key)[0] as
      [body: Uint8Array | null, sum: number | null] | undefined;
    const body = row?.[0] ?? undefined;
    if (body === undefined || row![1] === null || row![1] === bodySum(body)) return body;
    this.#condemn(collection, key);
    return undefined;
  }

  /** What reading found since the last call: told once, and moved to `damaged` by `moveFound`. */
  takeFound(): readonly Damage[] {
    const found = this.#found;
    this.#found = [];
    return found;
  }

  moveFound(found: readonly Damage[]): void {
    for (const { in: collection, key } of found) this.#moveAside(collection, key);
  }

  #condemn(collection: Collection, key: string): void {
    const keys = this.#condemned.get(collection) ?? new Set();
    if (keys.has(key)) return;
    this.#condemned.set(collection, keys.add(key));
    this.#found.push({ in: collection, key });
  }

  #moveAside(collection: Collection, key: string): void {
    const { size, copyAside, remove } = this.#of(collection);
    if (collection === "damaged" || size.values(key).length === 0) return;
    copyAside.run(`${isoTime(systemClock.wallMs())}/${collection}/${key}`, key);
    remove.run(key);
    this.#boundAside();
  }

  #boundAside(): void {
    const rows = this.#db
      .query(`SELECT key, octet_length(meta) + coalesce(length(body), 0) FROM damaged ORDER BY key DESC`)
      .values() as [string, number][];
    let bytes = 0;
    for (const [index, [key, size]] of rows.entries()) {
      bytes += size;
      // The newest stays whatever its size.
      if (index === 0 || (index < DAMAGED_ROWS_MAX && bytes <= DAMAGED_BYTES_MAX)) continue;
      this.#of("damaged").remove.run(key);
      this.usageBytes -= size;
    }
  }

  #of(collection: Collection): Statements {
    let statements = this.#statements.get(collection);
    if (statements === undefined) {
      const upsert = (columns: string[]): string =>
        `INSERT INTO "${collection}" (key, ${columns.join(", ")}) VALUES (?${", ?".repeat(columns.length)})
         ON CONFLICT (key) DO UPDATE SET ${columns.map((column) => `${column} = excluded.${column}`).join(", ")}`;
      statements = {
        size: this.prepare(
          `SELECT octet_length(meta), coalesce(length(body), 0) FROM "${collection}" WHERE key = ?`,
        ),
        put: this.prepare(upsert(["meta", "meta_sum"])),
        putBody: this.prepare(upsert(["meta", "meta_sum", "body", "body_sum"])),
        remove: this.prepare(`DELETE FROM "${collection}" WHERE key = ?`),
        // The plus keeps SQLite from walking the index, which would read the table's pages in random order.
        load: this.prepare(`SELECT key, meta, length(body), meta_sum FROM "${collection}" ORDER BY +key`),
        body: this.prepare(`SELECT body, body_sum FROM "${collection}" WHERE key = ?`),
        copyAside: this.prepare(
          `INSERT OR REPLACE INTO damaged (key, meta, body) SELECT ?, meta, body FROM "${collection}" WHERE key = ?`,
        ),
      };
      this.#statements.set(collection, statements);
    }
    return statements;
  }
}
