/**
 * The rows of the database: read, written, and checked. Each meta and each body lies beside a sum that is made when it is written, so
 * that a flipped bit is found before anybody sees it; what does not fit its sum is set aside. Runs in the store's worker, inside
 * transactions that others begin and end. Rows of before the sums have none until they are written again, and are believed.
 */
import type { Database, Statement } from "bun:sqlite";
import { isoTime, systemClock } from "../kernel/clock.ts";
import { NO_SUM, readPlace, type BodyPlace } from "./body-files.ts";
import type { LogMark } from "./commit-log.ts";
import {
  type LoadColumns,
  type PageColumns,
  type RowColumns,
  SET_ASIDE,
  type WireOp,
} from "./sqlite-messages.ts";
import { BodyPlaces } from "./sqlite-body-places.ts";
import { Slots } from "./sqlite-slots.ts";
import { metaSum, bodySum } from "./sums.ts";
import {
  DAMAGED_BYTES_MAX,
  DAMAGED_ROWS_MAX,
  isSecret,
  isSlotted,
  type Collection,
  type Damage,
  type RowPage,
  type Slot,
  type Slotted,
  type Totals,
} from "./types.ts";

/** A body up to this size lies in its row: another row for it would cost more. */
const INLINE_BYTES_MAX = 3_000;

type HeldRow = [
  metaBytes: number,
  bodyBytes: number,
  bodyId: number | null,
  inline: number | null,
  rowid: number,
  /** What it says, and its sum. */
  isSame: number,
];
type BodyRow = [inline: Uint8Array | null, id: number | null, bytes: number | null, sum: number | null];
type LoadRow = [key: string, meta: string, bodyBytes: number | null, sum: number | null];
type KeyedRow = [meta: string, bodyBytes: number | null, sum: number | null, rowid: number];

interface Statements {
  held: Statement<unknown, [string, number, string]>;
  put: Statement<unknown, [number | null, string, string, number]>;
  putBody: Statement<
    unknown,
    [number | null, string, string, number, Uint8Array | null, number | null, number | null, number]
  >;
  remove: Statement<unknown, [string]>;
  move: Statement<unknown, [number, string]>;
  isTaken: Statement<unknown, [number]>;
  load: Statement<unknown, []>;
  nth: Statement<unknown, [number]>;
  row: Statement<unknown, [string]>;
  body: Statement<unknown, [string]>;
  copyAside: Statement<unknown, [string, string]>;
}

export class Rows {
  readonly #db: Database;
  readonly #prepared: Statement[] = [];
  readonly #statements = new Map<Collection, Partial<Statements>>();
  readonly #begin: Statement;
  readonly #commit: Statement;
  readonly #setUsage: Statement<unknown, [number]>;
  readonly #setMark: Statement<unknown, [number | null, number]>;
  readonly #content: Statement<unknown, [number]>;
  readonly #putContent: Statement<unknown, [Uint8Array]>;
  readonly #removeContent: Statement<unknown, [number]>;
  readonly #bodyFolder: string;
  readonly #slots: Slots;
  readonly #places: BodyPlaces;
  /** Found by reading, and for want of room perhaps still where they were: nobody is shown them. */
  readonly #condemned = new Map<Collection, Set<string>>();
  #found: Damage[] = [];
  #moved: Damage[] = [];
  #recounts = 0;
  #isOverwriting = false;
  /** Size of all metas and bodies. */
  usageBytes: number;
  #usageStored: number;

  /** `bodyFolder`: see body-files.ts. */
  constructor(db: Database, bodyFolder: string) {
    this.#db = db;
    this.#bodyFolder = bodyFolder;
    this.#begin = this.prepare("BEGIN");
    this.#commit = this.prepare("COMMIT");
    this.#content = this.prepare("SELECT content FROM body WHERE id = ?");
    this.#putContent = this.prepare("INSERT INTO body (content) VALUES (?)");
    this.#removeContent = this.prepare("DELETE FROM body WHERE id = ?");
    this.#slots = new Slots(db, (sql) => this.prepare(sql));
    this.#places = new BodyPlaces(db, (sql) => this.prepare(sql));
    this.#setUsage = this.prepare("UPDATE store_usage SET bytes = ?");
    this.#setMark = this.prepare("UPDATE store_usage SET log_id = ?, log_page = ?");
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

  /**
   * Rows that move from page to page leave copies in pages that get free, which are written once more then: until the end of a transaction
   * that has such rows, as all others would pay for it.
   */
  #overwriteFreed(isNeeded: boolean): void {
    if (isNeeded === this.#isOverwriting) return;
    this.#db.run(`PRAGMA secure_delete = ${isNeeded ? "ON" : "FAST"}`);
    this.#isOverwriting = isNeeded;
  }

  /** Runs `work` as one transaction. Throws what it throws, and then nothing of it was applied. */
  transaction(work: () => void): void {
    const usageBefore = this.usageBytes;
    this.#begin.run();
    try {
      work();
      this.#slots.flush();
      this.#places.flush();
      if (this.usageBytes !== this.#usageStored) this.#setUsage.run(this.usageBytes);
      this.#commit.run();
      this.#recounts += this.#slots.committed();
      this.#usageStored = this.usageBytes;
      this.#places.committed();
    } catch (error) {
      // A full disk makes SQLite roll the whole transaction back by itself.
      if (this.#db.inTransaction) this.#db.run("ROLLBACK");
      this.usageBytes = usageBefore;
      this.#places.reset();
      this.#slots.reset();
      throw error;
    } finally {
      this.#overwriteFreed(false);
    }
  }

  get mark(): LogMark {
    const [id, page] = this.#db.query("SELECT log_id, log_page FROM store_usage").values()[0]!;
    return { id: id === null ? null : Number(id), page: Number(page) };
  }

  setMark({ id, page }: LogMark): void {
    this.#setMark.run(id, page);
  }

  apply(ops: readonly WireOp[], pack: Uint8Array): void {
    if (ops.some(([collection]) => isSecret(collection))) this.#overwriteFreed(true);
    for (const [collection, key, meta, offset, length, place, order, group] of ops) {
      const slot = order === undefined ? undefined : { order, group: group ?? "" };
      if (offset === SET_ASIDE) {
        if (this.#moveAside(collection, key)) this.#moved.push({ in: collection, key });
      } else if (meta === null) this.#remove(collection, key);
      else if (place !== undefined) this.#putAtPlace(collection, key, meta, place, slot);
      else {
        const body = offset < 0 ? undefined : pack.subarray(offset, offset + length);
        this.#put(collection, key, meta, body, slot);
      }
    }
  }

  #put(
    collection: Collection,
    key: string,
    meta: string,
    body: Uint8Array | undefined,
    slot: Slot | undefined,
  ): void {
    const { row, order } = this.#hold(collection, key, meta, slot);
    let rowid = row?.[4];
    let bytes = row?.[1] ?? 0;
    if (body !== undefined) {
      rowid = this.#putBody(collection, key, meta, body, row, order);
      bytes = body.length;
    } else if (row?.[2] === null && (row[3] ?? 0) > INLINE_BYTES_MAX) {
      // Of before bodies had a place of their own: once it is written anew.
      this.#putBody(collection, key, meta, this.#bodyRow(collection, key)!.body, row, order);
    } else if (row?.[5] !== 1) {
      const { lastInsertRowid } = this.#of(collection, "put").run(order, key, meta, metaSum(key, meta));
      rowid ??= Number(lastInsertRowid);
    }
    this.#slotOf(collection, rowid!, row, slot, bytes);
  }

  #putBody(
    collection: Collection,
    key: string,
    meta: string,
    body: Uint8Array,
    row: HeldRow | undefined,
    order: number | null,
  ): number {
    this.usageBytes += body.length - (row?.[1] ?? 0);
    this.#dropContent(row);
    const isInline = body.length <= INLINE_BYTES_MAX;
    const id = isInline ? null : Number(this.#putContent.run(body).lastInsertRowid);
    const inline = isInline ? body : null;
    const sums = [metaSum(key, meta), bodySum(body)] as const;
    const putBody = this.#of(collection, "putBody");
    const put = putBody.run(order, key, meta, sums[0], inline, sums[1], id, body.length);
    return row?.[4] ?? Number(put.lastInsertRowid);
  }

  #remove(collection: Collection, key: string): void {
    this.#condemned.get(collection)?.delete(key);
    const row = this.#of(collection, "held").values("", 0, key)[0] as HeldRow | undefined;
    if (row === undefined) return;
    this.usageBytes -= row[0] + row[1];
    this.#dropContent(row);
    if (isSlotted(collection)) this.#slots.remove(collection, row[4]);
    this.#of(collection, "remove").run(key);
  }

  /** Places count down from -1, so that they are no numbers of bodies in the database. */
  #putAtPlace(
    collection: Collection,
    key: string,
    meta: string,
    { id, bytes, sum }: BodyPlace,
    slot: Slot | undefined,
  ): void {
    const { row, order } = this.#hold(collection, key, meta, slot);
    this.usageBytes += bytes - (row?.[1] ?? 0);
    this.#dropContent(row);
    this.#places.put(id);
    const putBody = this.#of(collection, "putBody");
    const kept = sum === NO_SUM ? null : sum;
    const put = putBody.run(order, key, meta, metaSum(key, meta), null, kept, -id, bytes);
    this.#slotOf(collection, row?.[4] ?? Number(put.lastInsertRowid), row, slot, bytes);
  }

  /** The row as it is, at the place that it is to have. `order`: where a new one goes; null: behind all others, or it is there. Counts the meta. */
  #hold(
    collection: Collection,
    key: string,
    meta: string,
    slot: Slot | undefined,
  ): { row: HeldRow | undefined; order: number | null } {
    this.#condemned.get(collection)?.delete(key);
    const row = this.#of(collection, "held").values(meta, metaSum(key, meta), key)[0] as HeldRow | undefined;
    this.usageBytes += Buffer.byteLength(meta) - (row?.[0] ?? 0);
    if (slot === undefined || slot.order === row?.[4] || !isSlotted(collection)) return { row, order: null };
    // No two rows at one place, and no row is lost for that, whatever its owner says.
    const last = this.#slots.last(collection);
    const isFree = slot.order > last || this.#of(collection, "isTaken").values(slot.order).length === 0;
    const order = isFree ? slot.order : last + 1;
    if (row === undefined) return { row, order };
    this.#of(collection, "move").run(order, key);
    this.#slots.move(collection, row[4], order);
    row[4] = order;
    return { row, order: null };
  }

  /** What the row counts to. One that is not new, has no slot given and the body that it had counts as before. */
  #slotOf(
    collection: Collection,
    rowid: number,
    row: HeldRow | undefined,
    slot: Slot | undefined,
    bytes: number,
  ): void {
    if (!isSlotted(collection)) return;
    if (row === undefined) this.#slots.add(collection, rowid, slot?.group ?? "", bytes);
    else if (slot !== undefined || bytes !== row[1]) this.#slots.set(collection, rowid, slot?.group, bytes);
  }

  #dropContent(row: HeldRow | undefined): void {
    const id = row?.[2] ?? null;
    if (id === null) return;
    if (id < 0) this.#places.remove(-id);
    else this.#removeContent.run(id);
  }

  /** Every place in files that a row names. Throws Damaged. */
  get places(): Float64Array {
    return this.#places.all;
  }

  /** Than so many rows, damaged ones among them. */
  hasMore(collection: Collection, rows: number): boolean {
    return this.#of(collection, "nth").values(rows).length > 0;
  }

  load(collection: Collection): LoadColumns {
    const rows = this.#of(collection, "load").values() as LoadRow[];
    const keys: string[] = [];
    const metas: string[] = [];
    const bodyBytes: number[] = [];
    for (const [key, meta, length, sum] of rows) {
      if (!this.#isSound(collection, key, meta, sum)) continue;
      keys.push(key);
      metas.push(meta);
      bodyBytes.push(length ?? 0);
    }
    return { keys, metas, bodyBytes: Float64Array.from(bodyBytes) };
  }

  /** Those that there are. */
  rows(collection: Collection, wanted: readonly string[]): RowColumns {
    if (isSlotted(collection)) this.#slots.believeSmall(collection);
    const row = this.#of(collection, "row");
    const keys: string[] = [];
    const metas: string[] = [];
    const bodyBytes: number[] = [];
    const orders: number[] = [];
    const groups: string[] = [];
    for (const key of wanted) {
      const [meta, length, sum, order] = (row.values(key)[0] as KeyedRow | undefined) ?? [];
      if (meta === undefined || !this.#isSound(collection, key, meta, sum ?? null)) continue;
      keys.push(key);
      metas.push(meta);
      bodyBytes.push(length ?? 0);
      orders.push(isSlotted(collection) ? order! : 0);
      groups.push(isSlotted(collection) ? this.#slots.groupOf(collection, order!) : "");
    }
    return {
      keys,
      metas,
      bodyBytes: Float64Array.from(bodyBytes),
      orders: Float64Array.from(orders),
      groups,
    };
  }

  page(collection: Slotted, page: RowPage): PageColumns {
    if (page.group === undefined) this.#slots.believeSmall(collection);
    else this.#slots.believe(collection);
    const rows = this.#slots.page(collection, page);
    const sound = rows.filter(([, key, meta, , sum]) => this.#isSound(collection, key, meta, sum));
    return {
      keys: sound.map(([, key]) => key),
      metas: sound.map(([, , meta]) => meta),
      bodyBytes: Float64Array.from(sound, ([, , , bytes]) => bytes ?? 0),
      orders: Float64Array.from(sound, ([order]) => order),
      groups: sound.map(([order]) => this.#slots.groupOf(collection, order)),
      reached: rows.length < page.limit ? undefined : rows.at(-1)![0],
    };
  }

  totals(collection: Slotted): Totals {
    this.#slots.believeSmall(collection);
    return { groups: this.#slots.groups(collection), last: this.#slots.last(collection) };
  }

  /** See `Slots`. */
  believe(collection: Slotted): void {
    this.#slots.believe(collection);
  }

  get unbelieved(): Slotted[] {
    return this.#slots.unbelieved;
  }

  /** How often places were made anew since the last call. */
  takeRecounts(): number {
    const recounts = this.#recounts;
    this.#recounts = 0;
    return recounts;
  }

  #isSound(collection: Collection, key: string, meta: string, sum: number | null): boolean {
    if (this.#condemned.get(collection)?.has(key) === true) return false;
    if (sum === null || sum === metaSum(key, meta)) return true;
    this.#condemn(collection, key);
    return false;
  }

  body(collection: Collection, key: string): Uint8Array | undefined {
    if (this.#condemned.get(collection)?.has(key) === true) return undefined;
    const row = this.#bodyRow(collection, key);
    if (row === undefined || row.isSound) return row?.body;
    this.#condemn(collection, key);
    return undefined;
  }

  /** Not judged by the sum. */
  piece(collection: Collection, key: string, offset: number, length: number): Uint8Array | undefined {
    if (this.#condemned.get(collection)?.has(key) === true) return undefined;
    const row = this.#of(collection, "body").values(key)[0] as BodyRow | undefined;
    const id = row?.[1] ?? null;
    if (id !== null && id < 0) {
      const bytes = Math.max(0, Math.min(length, (row![2] ?? 0) - offset));
      return readPlace(this.#bodyFolder, offset - id, bytes);
    }
    return this.#bodyRow(collection, key)?.body.slice(offset, offset + length);
  }

  #bodyRow(collection: Collection, key: string): { body: Uint8Array; isSound: boolean } | undefined {
    const row = this.#of(collection, "body").values(key)[0] as BodyRow | undefined;
    if (row === undefined) return undefined;
    const [inline, id, bytes, sum] = row;
    const content = id === null ? inline : this.#contentOf(id, bytes ?? 0);
    // A body whose place is empty was lost; a row without any never had one.
    const body = content ?? (id === null ? undefined : new Uint8Array(0));
    if (body === undefined) return undefined;
    const isSound = (sum === null || sum === bodySum(body)) && (bytes === null || bytes === body.length);
    return { body, isSound };
  }

  #contentOf(id: number, bytes: number): Uint8Array | undefined {
    if (id < 0) return readPlace(this.#bodyFolder, -id, bytes);
    return this.#content.values(id)[0]?.[0] as Uint8Array | undefined;
  }

  /** What reading found since the last call, to be told and moved by `moveFound`; and what owners found, to be told. */
  takeFound(): { found: readonly Damage[]; moved: readonly Damage[] } {
    const [found, moved] = [this.#found, this.#moved];
    this.#found = [];
    this.#moved = [];
    return { found, moved };
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

  /** False when there is no such row. */
  #moveAside(collection: Collection, key: string): boolean {
    const row = this.#of(collection, "held").values("", 0, key)[0] as HeldRow | undefined;
    if (collection === "damaged" || row === undefined) return false;
    this.#of(collection, "copyAside").run(`${isoTime(systemClock.wallMs())}/${collection}/${key}`, key);
    if (isSlotted(collection)) this.#slots.remove(collection, row[4]);
    this.#of(collection, "remove").run(key);
    this.#boundAside();
    return true;
  }

  #boundAside(): void {
    const rows = this.#db
      .query(
        `SELECT key, octet_length(meta) + coalesce(body_bytes, length(body), 0) FROM damaged ORDER BY key DESC`,
      )
      .values() as [string, number][];
    let bytes = 0;
    for (const [index, [key, size]] of rows.entries()) {
      bytes += size;
      // The newest stays whatever its size.
      if (index === 0 || (index < DAMAGED_ROWS_MAX && bytes <= DAMAGED_BYTES_MAX)) continue;
      this.#remove("damaged", key);
    }
  }

  /** Made when it is first run: a start runs few of them, and each costs as much as reading a page. */
  #of<Name extends keyof Statements>(collection: Collection, name: Name): Statements[Name] {
    let statements = this.#statements.get(collection);
    if (statements === undefined) this.#statements.set(collection, (statements = {}));
    statements[name] ??= this.prepare(sqlOf[name](collection)) as Statements[Name];
    return statements[name] as Statements[Name];
  }
}

const upsert = (table: string, columns: readonly string[]): string =>
  `INSERT INTO "${table}" (rowid, key, ${columns.join(", ")}) VALUES (?, ?${", ?".repeat(columns.length)})
   ON CONFLICT (key) DO UPDATE SET ${columns.map((column) => `${column} = excluded.${column}`).join(", ")}`;

const sqlOf: Record<keyof Statements, (table: Collection) => string> = {
  held: (table) =>
    `SELECT octet_length(meta), coalesce(body_bytes, length(body), 0), body_id, length(body), rowid,
       meta = ? AND meta_sum IS ?
     FROM "${table}" WHERE key = ?`,
  put: (table) => upsert(table, ["meta", "meta_sum"]),
  putBody: (table) => upsert(table, ["meta", "meta_sum", "body", "body_sum", "body_id", "body_bytes"]),
  remove: (table) => `DELETE FROM "${table}" WHERE key = ?`,
  move: (table) => `UPDATE "${table}" SET rowid = ? WHERE key = ?`,
  isTaken: (table) => `SELECT 1 FROM "${table}" WHERE rowid = ?`,
  row: (table) =>
    `SELECT meta, coalesce(body_bytes, length(body)), meta_sum, rowid FROM "${table}" WHERE key = ?`,
  nth: (table) => `SELECT 1 FROM "${table}" LIMIT 1 OFFSET ?`,
  // The plus keeps SQLite from walking the index, which would read the table's pages in random order.
  load: (table) =>
    `SELECT key, meta, coalesce(body_bytes, length(body)), meta_sum FROM "${table}" ORDER BY +key`,
  body: (table) => `SELECT body, body_id, body_bytes, body_sum FROM "${table}" WHERE key = ?`,
  // The body stays where it is, so that this needs little room.
  copyAside: (table) =>
    `INSERT OR REPLACE INTO damaged (key, meta, body, body_sum, body_id, body_bytes)
     SELECT ?, meta, body, body_sum, body_id, body_bytes FROM "${table}" WHERE key = ?`,
};
