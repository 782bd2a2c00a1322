/**
 * Whether places and groups of mail (sqlite-slots.ts) are what was written. Each group has one sum over its name and all of its places, kept as its
 * count is, so that a place costs nothing for it; one walk along a table of places tells. What is wrong is made anew from the rows: places and
 * sizes are theirs, and whose group cannot be told is of none until its owner gives it one. Must never believe a group that does not fit its sum.
 */
import type { Database } from "bun:sqlite";
import { metaSum } from "./sums.ts";
import type { Slotted } from "./types.ts";

/** Sums are numbers below it, whatever order they were added in. A prime, so that no factor of theirs hides a flipped bit. */
const MODULUS = 2 ** 31 - 1;
const OF_SLOT = 8_191;
const OF_GROUP = 524_287;
const OF_BYTES = 131_071;

/** `placeSum` in SQL. */
const PLACE_SUM = `((slot % ${MODULUS}) * ${OF_SLOT} + (grp % ${MODULUS}) * ${OF_GROUP} + (bytes % ${MODULUS}) * ${OF_BYTES}) % ${MODULUS}`;

/** Of a place of a body, whose number is all that is said of it. */
export const bodyPlaceSum = (id: number): number => placeSum(id, 0, 0);

/** Of one place of mail. */
export const placeSum = (slot: number, group: number, bytes: number): number =>
  ((slot % MODULUS) * OF_SLOT + (group % MODULUS) * OF_GROUP + (bytes % MODULUS) * OF_BYTES) % MODULUS;

/** Of a group without places. */
export const groupSum = (collection: Slotted, name: string, id: number): number =>
  metaSum(`${collection} ${id}`, name) % MODULUS;

/** A place that comes, or goes: then `sum` is negative. */
export const addedSum = (total: number, sum: number): number => (total + sum + MODULUS) % MODULUS;

/** The sum of a group and of all rows of a table of places, in SQL. */
export const sumOfGroup = (collection: Slotted, name: string, id: number): string =>
  `(${groupSum(collection, name, id)} + sum(${PLACE_SUM})) % ${MODULUS}`;

type GroupRow = [id: number, name: string, count: number, bytes: number, sum: number];

const groupsOf = (db: Database, collection: Slotted): GroupRow[] =>
  db
    .query("SELECT id, name, count, bytes, sum FROM slot_group WHERE collection = ?")
    .values(collection) as GroupRow[];

/** What is written holds together, and can be changed without harm to what lies beside it. */
export type Soundness = "sound" | "miscounted" | "broken";

/** One walk along the places: some 140 ms for a million. Throws SQLite's errors. */
export function soundnessOf(db: Database, collection: Slotted): Soundness {
  const isWhole = (table: string): boolean => {
    const said = db.query(`PRAGMA integrity_check("${table}")`).values();
    return said.length === 1 && said[0]![0] === "ok";
  };
  if (!isWhole("slot_group") || !isWhole(`${collection}_slot`)) return "broken";
  const [count, bytes, sum, strange] = db
    .query(
      `SELECT count(*), total(bytes), total(${PLACE_SUM}), total(typeof(grp) <> 'integer' OR typeof(bytes) <> 'integer')
       FROM "${collection}_slot"`,
    )
    .values()[0] as [number, number, number, number];
  // Pages of another table, which are not to be emptied with this one.
  if (strange > 0) return "broken";
  const told = { count: 0, bytes: 0, sum: 0 };
  for (const [id, name, groupCount, groupBytes, ofGroup] of groupsOf(db, collection)) {
    told.count += groupCount;
    told.bytes += groupBytes;
    told.sum = addedSum(told.sum, addedSum(ofGroup, -groupSum(collection, name, id)));
  }
  const isSound = told.count === count && told.bytes === bytes && told.sum === sum % MODULUS;
  return isSound ? "sound" : "miscounted";
}

/** Count, size and sum of the places of each group, by number. */
function placesOf(db: Database, collection: Slotted): Map<number, readonly [number, number, number]> {
  const found = db
    .query(`SELECT grp, count(*), total(bytes), total(${PLACE_SUM}) FROM "${collection}_slot" GROUP BY grp`)
    .values() as [number, number, number, number][];
  return new Map(found.map(([id, count, bytes, sum]) => [id, [count, bytes, sum % MODULUS]]));
}

/** Names of the groups that are what was written, by number. Throws SQLite's errors. */
export function soundGroups(db: Database, collection: Slotted): Map<number, string> {
  const places = placesOf(db, collection);
  const sound = new Map<number, string>();
  for (const [id, name, ...told] of groupsOf(db, collection)) {
    const [count, bytes, sum] = places.get(id) ?? [0, 0, 0];
    const found = [count, bytes, addedSum(groupSum(collection, name, id), sum)];
    if (found.every((value, index) => value === told[index])) sound.set(id, name);
  }
  return sound;
}

/** Of what is miscounted, within a transaction of the caller's. Throws SQLite's errors. */
export function makeSlotsAnew(db: Database, collection: Slotted): void {
  const sound = soundGroups(db, collection);
  const ids = [...sound.keys()].join();
  db.run(`DELETE FROM "${collection}_slot" WHERE grp NOT IN (${ids})`);
  db.run(`DELETE FROM slot_group WHERE collection = ? AND id NOT IN (${ids})`, [collection]);
  const ofNone =
    [...sound].find(([, name]) => name === "")?.[0] ??
    Number(
      db.run("INSERT INTO slot_group (collection, name, count, bytes, sum) VALUES (?, '', 0, 0, 0)", [
        collection,
      ]).lastInsertRowid,
    );
  db.run(
    `INSERT INTO "${collection}_slot" SELECT rowid, ?, coalesce(body_bytes, length(body), 0) FROM "${collection}" NOT INDEXED
     WHERE rowid NOT IN (SELECT slot FROM "${collection}_slot")`,
    [ofNone],
  );
  const [count, bytes, sum] = placesOf(db, collection).get(ofNone) ?? [0, 0, 0];
  db.run("UPDATE slot_group SET count = ?, bytes = ?, sum = ? WHERE id = ?", [
    count,
    bytes,
    addedSum(groupSum(collection, "", ofNone), sum),
    ofNone,
  ]);
  db.run("DELETE FROM slot_group WHERE collection = ? AND count <= 0", [collection]);
}
