/**
 * Places of bodies in files (body-files.ts) that rows name, and a sum over them: a file in which no place stands is removed, so a list that is not what
 * was written must never be believed. Kept within the transactions of sqlite-rows.ts, in the worker of the store.
 */
import type { Database, Statement } from "bun:sqlite";
import { Damaged } from "./sqlite-schema.ts";
import { addedSum, bodyPlaceSum } from "./sqlite-slot-sums.ts";

export class BodyPlaces {
  readonly #db: Database;
  readonly #put: Statement<unknown, [number]>;
  readonly #remove: Statement<unknown, [number]>;
  readonly #setSum: Statement<unknown, [number]>;
  #sum: number;
  #storedSum: number;

  /** Statements are finalized by whoever prepares them. */
  constructor(db: Database, prepare: (sql: string) => Statement<unknown, never[]>) {
    this.#db = db;
    this.#put = prepare("INSERT OR IGNORE INTO body_place (id) VALUES (?)");
    this.#remove = prepare("DELETE FROM body_place WHERE id = ?");
    this.#setSum = prepare("UPDATE store_usage SET place_sum = ?");
    this.#sum = this.#storedSum = Number(db.query("SELECT place_sum FROM store_usage").values()[0]![0]);
  }

  put(id: number): void {
    if (this.#put.run(id).changes > 0) this.#sum = addedSum(this.#sum, bodyPlaceSum(id));
  }

  remove(id: number): void {
    if (this.#remove.run(id).changes > 0) this.#sum = addedSum(this.#sum, -bodyPlaceSum(id));
  }

  /** Throws Damaged where they are not what was written, and SQLite's errors. */
  get all(): Float64Array {
    const ids = this.#db.query("SELECT id FROM body_place").values().flat() as number[];
    const sum = ids.reduce((total, id) => addedSum(total, bodyPlaceSum(id)), 0);
    if (sum !== this.#sum) throw new Damaged("places of bodies are not what was written");
    return Float64Array.from(ids);
  }

  /** Before the transaction is committed. */
  flush(): void {
    if (this.#sum !== this.#storedSum) this.#setSum.run(this.#sum);
  }

  /** The transaction is durable. */
  committed(): void {
    this.#storedSum = this.#sum;
  }

  /** The transaction did not happen. */
  reset(): void {
    this.#sum = this.#storedSum;
  }
}
