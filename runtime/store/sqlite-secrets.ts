/**
 * Tables of secret rows, written anew once some were deleted. Rows move from page to page as their neighbours come and go, and what they leave between
 * the list of a page and its rows is overwritten neither then nor when they are deleted, however `secure_delete` is set. Pages that get free are. Runs in
 * the store's worker, in quiet moments.
 */
import type { Database } from "bun:sqlite";
import { secret, type Collection } from "./types.ts";

/** What is larger is left as it is: only what plugins keep can be. */
const BYTES_MAX = 8 * 2 ** 20;
const ROWS_MAX = 2 ** 16;
/** So much may be written of a table for this on average, and how often at most. */
const BYTES_PER_SECOND = 4_096;
const PAUSE_MS_MIN = 1_000;

export class SecretTables {
  /** With when it may be written next, monotonic ms. */
  readonly #tables = new Map(secret.map((name) => [name, { isDue: false, notBeforeMs: 0 }]));

  note(collection: Collection): void {
    const table = this.#tables.get(collection);
    if (table !== undefined) table.isDue = true;
  }

  noteAll(): void {
    for (const table of this.#tables.values()) table.isDue = true;
  }

  /** How long until `rewrite` has something to do, ms; undefined: nothing is known of. */
  dueInMs(nowMs: number): number | undefined {
    const due = [...this.#tables.values()].filter(({ isDue }) => isDue);
    return due.length === 0
      ? undefined
      : Math.max(0, Math.min(...due.map(({ notBeforeMs }) => notBeforeMs)) - nowMs);
  }

  /**
   * Writes anew what may be written now; infinity: whatever is due. `makeRoom` is told of bytes before they are written, and may throw. Throws what
   * SQLite throws; then that table is as it was, and is tried again. True: something was written.
   */
  rewrite(db: Database, nowMs: number, makeRoom: (bytes: number) => void): boolean {
    let isWritten = false;
    for (const [name, table] of this.#tables) {
      if (!table.isDue || table.notBeforeMs > nowMs) continue;
      const bytes = sizeOf(db, name);
      table.notBeforeMs = nowMs + Math.max(PAUSE_MS_MIN, (bytes / BYTES_PER_SECOND) * 1_000);
      if (bytes <= BYTES_MAX) {
        makeRoom(bytes);
        rewriteTable(db, name);
        isWritten = true;
      }
      table.isDue = false;
    }
    return isWritten;
  }
}

/** Of its rows, bytes; infinity where there are too many to look. */
function sizeOf(db: Database, name: Collection): number {
  const count = db.query(`SELECT count(*) FROM (SELECT 1 FROM "${name}" LIMIT ${ROWS_MAX + 1})`).values();
  if (Number(count[0]![0]) > ROWS_MAX) return Number.POSITIVE_INFINITY;
  const sum = `SELECT total(length(key) + length(meta) + coalesce(length(body), 0)) FROM "${name}" NOT INDEXED`;
  return Number(db.query(sum).values()[0]![0]);
}

/** To the same rows under the same numbers. Between the two it is in memory alone. */
function rewriteTable(db: Database, name: Collection): void {
  const columns = (db.query(`SELECT name FROM pragma_table_info('${name}')`).values() as [string][])
    .map(([column]) => `"${column}"`)
    .join(", ");
  db.run("PRAGMA temp_store = MEMORY");
  db.run("PRAGMA secure_delete = ON");
  try {
    db.transaction(() => {
      db.run(`CREATE TEMP TABLE kept AS SELECT rowid AS number, * FROM "${name}" NOT INDEXED`);
      db.run(`DELETE FROM "${name}"`);
      db.run(
        `INSERT INTO "${name}" (rowid, ${columns}) SELECT number, ${columns} FROM temp.kept ORDER BY number`,
      );
      db.run("DROP TABLE temp.kept");
    })();
  } finally {
    db.run("PRAGMA secure_delete = FAST");
  }
}
