/**
 * Where rows of mail stand in the database, and what their groups come to: beside each such table a narrow one, `<name>_slot`, with the
 * place of each row (its rowid), the number of its group and the size of its body, so that orders and totals are read without the rows.
 * Kept within the transactions of sqlite-rows.ts. Must never let a total say what the rows do not.
 */
import type { Database, Statement } from "bun:sqlite";
import type { GroupTotal, RowPage, Slotted } from "./types.ts";

type SlotRow = [group: number, bytes: number];
type GroupRow = [id: number, count: number, bytes: number];
export type PageRow = [
  order: number,
  key: string,
  meta: string,
  bodyBytes: number | null,
  sum: number | null,
];

interface Group {
  readonly id: number;
  count: number;
  bytes: number;
  isChanged: boolean;
}

interface Statements {
  readonly slot: Statement<unknown, [number]>;
  readonly put: Statement<unknown, [number, number, number]>;
  readonly remove: Statement<unknown, [number]>;
  readonly move: Statement<unknown, [number, number]>;
}

export class Slots {
  readonly #db: Database;
  readonly #prepare: (sql: string) => Statement<unknown, never[]>;
  readonly #statements = new Map<Slotted, Statements>();
  readonly #pages = new Map<string, Statement<unknown, (number | string)[]>>();
  readonly #named: Statement<unknown, [string, string]>;
  readonly #byNumber: Statement<unknown, [number]>;
  readonly #addGroup: Statement<unknown, [string, string]>;
  readonly #setGroup: Statement<unknown, [number, number, number]>;
  readonly #dropGroup: Statement<unknown, [number]>;
  /** What the transaction has touched so far, by number. */
  readonly #touched = new Map<number, Group>();
  /** The same, by collection and name. */
  readonly #touchedNames = new Map<string, Group>();
  /** The latest places, as far as they were asked for. */
  readonly #last = new Map<Slotted, number>();

  /** Statements are finalized by whoever prepares them. */
  constructor(db: Database, prepare: (sql: string) => Statement<unknown, never[]>) {
    this.#db = db;
    this.#prepare = prepare;
    this.#named = prepare("SELECT id, count, bytes FROM slot_group WHERE collection = ? AND name = ?");
    this.#byNumber = prepare("SELECT id, count, bytes FROM slot_group WHERE id = ?");
    this.#addGroup = prepare("INSERT INTO slot_group (collection, name, count, bytes) VALUES (?, ?, 0, 0)");
    this.#setGroup = prepare("UPDATE slot_group SET count = ?, bytes = ? WHERE id = ?");
    this.#dropGroup = prepare("DELETE FROM slot_group WHERE id = ?");
  }

  /** A new row stands at this place, with a body of so many bytes. */
  add(collection: Slotted, order: number, group: string, bytes: number): void {
    const now = this.#groupNamed(collection, group);
    this.#count(now, 1, bytes);
    this.#of(collection).put.run(order, now.id, bytes);
    if (order > this.last(collection)) this.#last.set(collection, order);
  }

  /** The row at this place has a body of so many bytes. `group` undefined: that of before. */
  set(collection: Slotted, order: number, group: string | undefined, bytes: number): void {
    const { slot, put } = this.#of(collection);
    const before = slot.values(order)[0] as SlotRow | undefined;
    const now =
      group === undefined && before !== undefined
        ? this.#group(before[0])
        : this.#groupNamed(collection, group ?? "");
    if (before !== undefined && before[0] === now.id && before[1] === bytes) return;
    if (before !== undefined) this.#count(this.#group(before[0]), -1, -before[1]);
    this.#count(now, 1, bytes);
    put.run(order, now.id, bytes);
  }

  remove(collection: Slotted, order: number): void {
    const before = this.#of(collection).remove.values(order)[0] as SlotRow | undefined;
    if (before !== undefined) this.#count(this.#group(before[0]), -1, -before[1]);
    this.#last.delete(collection);
  }

  move(collection: Slotted, from: number, to: number): void {
    this.#of(collection).move.run(to, from);
    this.#last.delete(collection);
  }

  /** Before the transaction is committed. */
  flush(): void {
    for (const { id, count, bytes, isChanged } of this.#touched.values())
      if (count <= 0) this.#dropGroup.run(id);
      else if (isChanged) this.#setGroup.run(count, bytes, id);
    this.#forget();
  }

  /** The transaction did not happen. */
  reset(): void {
    this.#forget();
    this.#last.clear();
  }

  #forget(): void {
    this.#touched.clear();
    this.#touchedNames.clear();
  }

  page(collection: Slotted, { order, limit, after, group }: RowPage): PageRow[] {
    const isNewestFirst = order === "newest-first";
    const start = after ?? (isNewestFirst ? Number.MAX_SAFE_INTEGER : 0);
    const columns = "m.rowid, m.key, m.meta, coalesce(m.body_bytes, length(m.body)), m.meta_sum";
    const [sign, way] = isNewestFirst ? ["<", "DESC"] : [">", "ASC"];
    if (group === undefined) {
      const sql = `SELECT ${columns} FROM "${collection}" m WHERE m.rowid ${sign} ? ORDER BY m.rowid ${way} LIMIT ?`;
      return this.#paged(sql).values(start, limit) as PageRow[];
    }
    const sql = `SELECT ${columns} FROM "${collection}_slot" s CROSS JOIN "${collection}" m ON m.rowid = s.slot
      WHERE s.grp = (SELECT id FROM slot_group WHERE collection = ? AND name = ?) AND s.slot ${sign} ? ORDER BY s.slot ${way} LIMIT ?`;
    return this.#paged(sql).values(collection, group, start, limit) as PageRow[];
  }

  groups(collection: Slotted): GroupTotal[] {
    return this.#db
      .query("SELECT name, count, bytes FROM slot_group WHERE collection = ?")
      .values(collection)
      .map((row) => {
        const [group, count, bytes] = row as [string, number, number];
        return { group, count, bytes };
      });
  }

  last(collection: Slotted): number {
    let last = this.#last.get(collection);
    if (last === undefined) {
      last = Number(this.#paged(`SELECT max(rowid) FROM "${collection}"`).values()[0]?.[0] ?? 0);
      this.#last.set(collection, last);
    }
    return last;
  }

  /** Of the row at this place. */
  groupOf(collection: Slotted, order: number): string {
    const sql = `SELECT g.name FROM "${collection}_slot" s JOIN slot_group g ON g.id = s.grp WHERE s.slot = ?`;
    return String(this.#paged(sql).values(order)[0]?.[0] ?? "");
  }

  #count(group: Group, count: number, bytes: number): void {
    group.count += count;
    group.bytes += bytes;
    group.isChanged = true;
  }

  #group(id: number): Group {
    return this.#touched.get(id) ?? this.#touch(id, this.#byNumber.values(id)[0] as GroupRow | undefined);
  }

  #groupNamed(collection: Slotted, name: string): Group {
    const key = `${collection} ${name}`;
    const touched = this.#touchedNames.get(key);
    if (touched !== undefined) return touched;
    const found = this.#named.values(collection, name)[0] as GroupRow | undefined;
    const id = found?.[0] ?? Number(this.#addGroup.run(collection, name).lastInsertRowid);
    const group = this.#touched.get(id) ?? this.#touch(id, found);
    this.#touchedNames.set(key, group);
    return group;
  }

  #touch(id: number, row: GroupRow | undefined): Group {
    const group = { id, count: row?.[1] ?? 0, bytes: row?.[2] ?? 0, isChanged: false };
    this.#touched.set(id, group);
    return group;
  }

  #paged(sql: string): Statement<unknown, (number | string)[]> {
    let statement = this.#pages.get(sql);
    if (statement === undefined) this.#pages.set(sql, (statement = this.#prepare(sql)));
    return statement;
  }

  #of(collection: Slotted): Statements {
    let statements = this.#statements.get(collection);
    if (statements === undefined) {
      const table = `"${collection}_slot"`;
      statements = {
        slot: this.#prepare(`SELECT grp, bytes FROM ${table} WHERE slot = ?`),
        put: this.#prepare(`INSERT OR REPLACE INTO ${table} (slot, grp, bytes) VALUES (?, ?, ?)`),
        remove: this.#prepare(`DELETE FROM ${table} WHERE slot = ? RETURNING grp, bytes`),
        move: this.#prepare(`UPDATE ${table} SET slot = ? WHERE slot = ?`),
      };
      this.#statements.set(collection, statements);
    }
    return statements;
  }
}
