/**
 * Rows that a release without sums wrote, as this one writes them: sums beside meta and body, larger bodies at a place of their own. What a
 * row says stays the same. Runs in the store's worker, inside a transaction that others begin and end. Looks at few rows at a time,
 * whatever is in them.
 */
import type { Database } from "bun:sqlite";
import type { Conversion } from "./conversions.ts";
import type { RestateValue, WireOp } from "./sqlite-messages.ts";
import type { Rows } from "./sqlite-rows.ts";
import { collections, type Collection } from "./types.ts";

/** Of one slice: rows that are looked at, and bytes of those that are written. */
const SLICE_ROWS = 128;
export const RESTATE_BYTES = 256 * 1024;

/** Behind the row number `after`. */
export function restate(db: Database, rows: Rows, collection: Collection, after: number): RestateValue {
  const found = db
    .query(
      `SELECT rowid, meta_sum IS NULL FROM "${collection}" NOT INDEXED WHERE rowid > ? ORDER BY rowid LIMIT ?`,
    )
    .values(after, SLICE_ROWS) as [number, number][];
  const read = db.query(`SELECT key, meta, body FROM "${collection}" WHERE rowid = ?`);
  let bytes = 0;
  let last = after;
  let looked = 0;
  for (const [rowid, isOld] of found) {
    if (isOld === 1) {
      const [key, meta, body] = read.values(rowid)[0] as [string, string, Uint8Array | null];
      const put: WireOp = [collection, key, meta, body === null ? -1 : 0, body?.length ?? 0];
      rows.apply([put], body ?? new Uint8Array(0));
      bytes += key.length + meta.length + (body?.length ?? 0);
    }
    last = rowid;
    looked++;
    if (bytes >= RESTATE_BYTES) break;
  }
  return { after: last, rows: looked, isThrough: looked === found.length && found.length < SLICE_ROWS };
}

/** Damaged rows stay as they were found. */
const RESTATED = collections.filter((name) => name !== "damaged");

/** All collections, one after the other. */
export const restatement = (store: {
  restate(collection: Collection, after: number): Promise<RestateValue>;
}): Conversion => ({
  name: "sums",
  async step(from, save) {
    const [name, number] = from.split(" ");
    const index = Math.max(0, RESTATED.indexOf((name ?? "") as (typeof RESTATED)[number]));
    const { after, rows, isThrough } = await store.restate(RESTATED[index]!, Number(number ?? 0));
    const next = RESTATED[index + 1];
    const place = !isThrough ? `${RESTATED[index]} ${after}` : next === undefined ? undefined : `${next} 0`;
    await save({ ops: [], after: place, rows });
  },
});
