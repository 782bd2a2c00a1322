/**
 * Where rows of mail stand in the database, and what their groups come to: beside each such table a narrow one, `<name>_slot`, with the
 * place of each row (its rowid), the number of its group and the size of its body, so that orders and totals are read without the rows.
 * Kept within the transactions of sqlite-rows.ts. Must never let a total say what the rows do not.
 */
import type { Database, Statement } from "bun:sqlite";
import { Damaged } from "./sqlite-schema.ts";
import { addedSum, groupSum, makeSlotsAnew, placeSum, soundnessOf } from "./sqlite-slot-sums.ts";
import type { GroupTotal, RowPage, Slotted } from "./types.ts";

/** Places of a box that are looked at before its first answer: some 3 ms. */
const BELIEVED_AT_ONCE = 20_000;

type SlotRow = [group: number, bytes: number];
type GroupRow = [id: number, count: number, bytes: number, sum: number];
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
  /** See sqlite-slot-sums.ts. */
  sum: number;
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
  readonly #setGroup: Statement<unknown, [number, number, number, number]>;
  readonly #dropGroup: Statement<unknown, [number]>;
  /** What the transaction has touched so far, by number. */
  readonly #touched = new Map<number, Group>();
  /** The same, by collection and name. */
  readonly #touchedNames = new Map<string, Group>();
  /** Whose places and groups are what was written, or were made anew; and those of the transaction. */
  readonly #believed = new Set<Slotted>();
  readonly #madeAnew = new Set<Slotted>();
  readonly #waiting = new Set<Slotted>();
  /** The latest places, as far as they were asked for. */
  readonly #last = new Map<Slotted, number>();

  /** Statements are finalized by whoever prepares them. */
  constructor(db: Database, prepare: (sql: string) => Statement<unknown, never[]>) {
    this.#db = db;
    this.#prepare = prepare;
    this.#named = prepare("SELECT id, count, bytes, sum FROM slot_group WHERE collection = ? AND name = ?");
    this.#byNumber = prepare("SELECT id, count, bytes, sum FROM slot_group WHERE id = ?");
    this.#addGroup = prepare(
      "INSERT INTO slot_group (collection, name, count, bytes, sum) VALUES (?, ?, 0, 0, 0)",
    );
    this.#setGroup = prepare("UPDATE slot_group SET count = ?, bytes = ?, sum = ? WHERE id = ?");
    this.#dropGroup = prepare("DELETE FROM slot_group WHERE id = ?");
  }

  /** A new row stands at this place, with a body of so many bytes. */
  add(collection: Slotted, order: number, group: string, bytes: number): void {
    const now = this.#groupNamed(collection, group);
    this.#come(now, order, bytes);
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
    if (before !== undefined) this.#go(before, order);
    this.#come(now, order, bytes);
    put.run(order, now.id, bytes);
  }

  remove(collection: Slotted, order: number): void {
    const before = this.#of(collection).remove.values(order)[0] as SlotRow | undefined;
    if (before !== undefined) this.#go(before, order);
    this.#last.delete(collection);
  }

  move(collection: Slotted, from: number, to: number): void {
    const slot = this.#of(collection).move.values(to, from)[0] as SlotRow | undefined;
    if (slot !== undefined) {
      this.#go(slot, from);
      this.#come(this.#group(slot[0]), to, slot[1]);
    }
    this.#last.delete(collection);
  }

  /** Before the transaction is committed. */
  flush(): void {
    for (const { id, count, bytes, sum, isChanged } of this.#touched.values())
      if (count <= 0) this.#dropGroup.run(id);
      else if (isChanged) this.#setGroup.run(count, bytes, sum, id);
    this.#forget();
  }

  /** The transaction did not happen. */
  reset(): void {
    this.#forget();
    this.#last.clear();
    for (const collection of this.#madeAnew) this.#believed.delete(collection);
    this.#madeAnew.clear();
  }

  /** Read, and not looked at yet. */
  get unbelieved(): Slotted[] {
    return [...this.#waiting];
  }

  /** For what is hidden from nobody should a place be wrong: a large box is looked at in a quiet moment, because a start does not wait for it. */
  believeSmall(collection: Slotted): void {
    if (this.#believed.has(collection) || this.#waiting.has(collection)) return;
    const sql = "SELECT total(count) FROM slot_group WHERE collection = ?";
    const count = Number(this.#db.query(sql).values(collection)[0]![0]);
    if (count > BELIEVED_AT_ONCE) this.#waiting.add(collection);
    else this.believe(collection);
  }

  /**
   * Before a box is read by its groups, within a transaction: what rotted is made anew. Throws Damaged for what only a new database mends, and
   * SQLite's errors: should there be no room, the next call takes what is there, because a start has to get through.
   */
  believe(collection: Slotted): void {
    if (this.#believed.has(collection)) return;
    this.flush();
    const soundness = soundnessOf(this.#db, collection);
    if (soundness === "broken") throw new Damaged(`places of the ${collection} are not what was written`);
    this.#believed.add(collection);
    this.#waiting.delete(collection);
    if (soundness === "sound") return;
    makeSlotsAnew(this.#db, collection);
    this.#madeAnew.add(collection);
  }

  /** The transaction is durable. Answers of how many boxes it made places anew. */
  committed(): number {
    const made = this.#madeAnew.size;
    this.#madeAnew.clear();
    return made;
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

  /** A place of a group, with a body of so many bytes. */
  #come(group: Group, order: number, bytes: number): void {
    group.count++;
    group.bytes += bytes;
    group.sum = addedSum(group.sum, placeSum(order, group.id, bytes));
    group.isChanged = true;
  }

  #go([id, bytes]: SlotRow, order: number): void {
    const group = this.#group(id);
    group.count--;
    group.bytes -= bytes;
    group.sum = addedSum(group.sum, -placeSum(order, id, bytes));
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
    const row = found ?? [id, 0, 0, groupSum(collection, name, id)];
    const group = this.#touched.get(id) ?? this.#touch(id, row);
    this.#touchedNames.set(key, group);
    return group;
  }

  #touch(id: number, row: GroupRow | undefined): Group {
    const group = { id, count: row?.[1] ?? 0, bytes: row?.[2] ?? 0, sum: row?.[3] ?? 0, isChanged: false };
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
        move: this.#prepare(`UPDATE ${table} SET slot = ? WHERE slot = ? RETURNING grp, bytes`),
      };
      this.#statements.set(collection, statements);
    }
    return statements;
  }
}
