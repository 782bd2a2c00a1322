/**
 * What a later release keeps in a database and this one does not know: tables, columns, and the numbers that say who may open it. Runs in
 * the store's worker, while a damaged database is taken into a new one. Must never judge such a row: it has no sums that are known here.
 */
import type { Database } from "bun:sqlite";
import { SCHEMA_VERSION } from "./sqlite-schema.ts";
import { collections, slotted } from "./types.ts";

interface Column {
  readonly name: string;
  readonly type: string;
  readonly isNotNull: boolean;
  readonly fallback: string | null;
}

/** Tables and columns of a later release, empty, before rows come in. None where the database is of this release or an earlier one. */
export function adoptLaterSchema(from: Database, into: Database): void {
  if (versionOf(from) <= SCHEMA_VERSION) return;
  const known = new Set(tablesOf(into).map(([name]) => name));
  for (const [name, sql] of tablesOf(from)) if (!known.has(name)) into.run(sql);
  for (const table of [...collections, "store_usage"])
    for (const { name, type, isNotNull, fallback } of newColumns(from, into, table))
      into.run(
        `ALTER TABLE "${table}" ADD COLUMN "${name}" ${type}${fallback === null ? "" : ` DEFAULT ${fallback}`}${isNotNull && fallback !== null ? " NOT NULL" : ""}`,
      );
}

/** What stands in them, as far as it can be read, once the known part of each row is there. Then whatever is made of it: indexes, triggers. */
export function copyLater(
  from: Database,
  into: Database,
  extra: ReadonlyMap<string, readonly string[]>,
): void {
  if (versionOf(from) <= SCHEMA_VERSION) return;
  for (const [table, columns] of extra) {
    const list = columns.map((name) => `"${name}"`).join(", ");
    const set = into.prepare(
      `UPDATE "${table}" SET ${columns.map((name) => `"${name}" = ?`).join(", ")} WHERE key = ?`,
    );
    eachRow(from, `SELECT ${list}, key FROM "${table}"`, (values) => set.run(...values));
    set.finalize();
  }
  const known = new Set<string>([...collections, ...OWN_TABLES]);
  for (const [name] of tablesOf(from).filter(([table]) => !known.has(table))) {
    const width = from.query(`SELECT count(*) FROM pragma_table_info('${name}')`).values()[0]![0] as number;
    const put = into.prepare(
      `INSERT OR REPLACE INTO "${name}" VALUES (${Array.from({ length: width }, () => "?").join(", ")})`,
    );
    eachRow(from, `SELECT * FROM "${name}"`, (values) => put.run(...values));
    put.finalize();
  }
  eachRow(from, `SELECT number, name FROM store_collection`, (values) =>
    into.query("INSERT OR IGNORE INTO store_collection VALUES (?, ?)").run(...values),
  );
  eachRow(from, "SELECT opens_from, older_stays FROM store_usage", (values) =>
    into.query("UPDATE store_usage SET opens_from = ?, older_stays = ?").run(...values),
  );
  for (const [sql] of from
    .query("SELECT sql FROM sqlite_schema WHERE type IN ('index', 'trigger') AND sql IS NOT NULL")
    .values())
    into.run(String(sql));
  into.run(`PRAGMA user_version = ${versionOf(from)}`);
}

/** Columns of known tables that this release does not know, before `adoptLaterSchema` made them. */
export function laterColumns(from: Database, into: Database): Map<string, readonly string[]> {
  const found = new Map<string, readonly string[]>();
  if (versionOf(from) <= SCHEMA_VERSION) return found;
  for (const table of collections) {
    const names = newColumns(from, into, table).map(({ name }) => name);
    if (names.length > 0) found.set(table, names);
  }
  return found;
}

/** Tables of this release that are no collections: what they hold is made anew. */
const OWN_TABLES = [
  "store_usage",
  "store_collection",
  "body",
  "body_place",
  "slot_group",
  ...slotted.map((name) => `${name}_slot`),
];

type Value = string | number | bigint | Uint8Array | null;

/** As far as it goes: what lies behind a damaged page stays there. */
function eachRow(from: Database, sql: string, take: (values: Value[]) => void): void {
  const statement = from.prepare(sql);
  try {
    for (const row of statement.iterate() as Iterable<Record<string, Value>>) take(Object.values(row));
  } catch {
    // Told by whoever found the damage.
  } finally {
    statement.finalize();
  }
}

const versionOf = (db: Database): number => Number(db.query("PRAGMA user_version").values()[0]?.[0] ?? 0);

const tablesOf = (db: Database): [name: string, sql: string][] =>
  db
    .query("SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    .values() as [string, string][];

function newColumns(from: Database, into: Database, table: string): Column[] {
  const columns = (db: Database): Column[] =>
    (
      db.query(`SELECT name, type, "notnull", dflt_value FROM pragma_table_info('${table}')`).values() as [
        string,
        string,
        number,
        string | null,
      ][]
    ).map(([name, type, notNull, fallback]) => ({ name, type, isNotNull: notNull === 1, fallback }));
  const known = new Set(columns(into).map(({ name }) => name));
  return columns(from).filter(({ name }) => !known.has(name));
}
