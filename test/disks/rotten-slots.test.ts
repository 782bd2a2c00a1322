/** Places and groups of mail that the disk damaged: they are made anew from the rows, which nobody loses and nobody sees twice. */
import { Database } from "bun:sqlite";
import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "../../runtime/kernel/log.ts";
import { seededRandom } from "../../runtime/kernel/random.ts";
import { openSqliteStore, type SqliteStore } from "../../runtime/store/sqlite.ts";
import { type Slotted, type StoreOp } from "../../runtime/store/types.ts";

const PAGE_BYTES = 4_096;
/** More places than one page holds. */
const ROWS = 700;
const GROUPS = 7;
const TRIES = 64;
const directories: string[] = [];
afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
});

const open = (path: string): Promise<SqliteStore> => openSqliteStore({ path, log: silentLog });
const keyOf = (index: number): string => `k${String(index).padStart(4, "0")}`;
const bytesOf = (index: number): number => (index * 37) % 300;
const rowOf = (box: Slotted, index: number): StoreOp => ({
  op: "put",
  in: box,
  key: keyOf(index),
  meta: `{"index":${index}}`,
  body: new Uint8Array(bytesOf(index)),
  slot: { order: index + 1, group: `group ${index % GROUPS}` },
});

async function filled(): Promise<{ path: string; pristine: Buffer }> {
  const directory = mkdtempSync(join(tmpdir(), "godwit-rotten-slots-"));
  directories.push(directory);
  const path = join(directory, "godwit.db");
  const store = await open(path);
  for (const box of ["inbox", "outbox"] as const)
    for (let index = 0; index < ROWS; index += 50)
      await store.commit(Array.from({ length: 50 }, (_, more) => rowOf(box, index + more)));
  await store.close();
  return { path, pristine: readFileSync(path) };
}

/** All pages of the trees of places and groups. The file format's "B-tree Pages". */
function slotPages(path: string, file: Buffer): number[] {
  const db = new Database(path);
  const sql = `SELECT rootpage FROM sqlite_schema WHERE tbl_name IN ('inbox_slot', 'outbox_slot', 'slot_group')`;
  const roots = db.query(sql).values().flat() as number[];
  db.close();
  const pages: number[] = [];
  for (const page of roots) {
    pages.push(page);
    const at = (page - 1) * PAGE_BYTES;
    const isInner = file[at] === 0x05 || file[at] === 0x02;
    if (!isInner) continue;
    roots.push(file.readUInt32BE(at + 8));
    for (let cell = 0; cell < file.readUInt16BE(at + 3); cell++)
      roots.push(file.readUInt32BE(at + file.readUInt16BE(at + 12 + 2 * cell)));
  }
  return pages;
}

/** What a store says of a box, by every way to ask for it. */
async function asked(store: SqliteStore, box: Slotted): Promise<string[]> {
  const wrong: string[] = [];
  const all = await store.page(box, { order: "oldest-first", limit: 1_000 });
  const expected = new Map(all.map((row) => [row.key, row]));
  if (all.length !== expected.size) wrong.push("a row twice");
  const { groups, last } = await store.totals(box);
  if (last !== (all.at(-1)?.order ?? 0)) wrong.push("last");
  const shown: string[] = [];
  for (const { group, count, bytes } of groups) {
    const rows = await store.page(box, { order: "oldest-first", limit: 1_000, group });
    shown.push(...rows.map(({ key }) => key));
    if (rows.some((row) => row.group !== group)) wrong.push(`another group in ${group}`);
    const sum = rows.reduce((total, row) => total + row.bodyBytes, 0);
    if (rows.length !== count || sum !== bytes)
      wrong.push(`${group}: ${count} of ${bytes} and not ${rows.length} of ${sum}`);
    // Its owner gives it a group anew where it is in none.
    if (group !== "" && rows.some(({ key }) => group !== `group ${Number(key.slice(1)) % GROUPS}`))
      wrong.push(`a stranger in ${group}`);
  }
  if (shown.toSorted().join() !== [...expected.keys()].toSorted().join()) wrong.push("not all in groups");
  return wrong;
}

/** Rows that are there whatever rotted, and all that is said of them, before and after changes. */
async function wrongIn(path: string): Promise<string[]> {
  const store = await open(path);
  const wrong: string[] = [];
  try {
    for (const box of ["inbox", "outbox"] as const) {
      const first = await asked(store, box);
      wrong.push(...first.map((what) => `${box}: ${what}`));
      const keys = (await store.page(box, { order: "oldest-first", limit: 1_000 })).map(({ key }) => key);
      if (keys.join() !== Array.from({ length: ROWS }, (_, index) => keyOf(index)).join())
        wrong.push(`${box}: ${keys.length} rows`);
      const fresh = { ...rowOf(box, ROWS), body: new Uint8Array(9) } as StoreOp;
      await store.commit([fresh, { op: "delete", in: box, key: keyOf(3) }]);
      await store.usage();
      wrong.push(...(await asked(store, box)).map((what) => `${box}, changed: ${what}`));
    }
    if (store.state.damageCount > 0) wrong.push("rows lost");
  } finally {
    await store.close();
  }
  return wrong;
}

test("a flipped byte in what tells places and groups hides no mail, shows none twice and miscounts nothing", async () => {
  const { path, pristine } = await filled();
  const pages = slotPages(path, pristine);
  expect(pages.length).toBeGreaterThan(6);
  const random = seededRandom(3);
  const failed: unknown[] = [];
  for (let attempt = 0; attempt < TRIES; attempt++) {
    for (const name of readdirSync(join(path, ".."))) rmSync(join(path, "..", name), { recursive: true });
    const bytes = Buffer.from(pristine);
    const at = (pages[attempt % pages.length]! - 1) * PAGE_BYTES + random.below(PAGE_BYTES);
    bytes[at]! ^= 1 << random.below(8);
    writeFileSync(path, bytes);
    const wrong = await wrongIn(path).catch((error: Error) => [String(error)]);
    if (wrong.length > 0) failed.push([at, wrong.slice(0, 4)]);
  }
  expect(failed).toEqual([]);
}, 120_000);

test("a large box is read at once, its groups are right when they are asked for, and its totals once there was a quiet moment", async () => {
  const directory = mkdtempSync(join(tmpdir(), "godwit-rotten-slots-"));
  directories.push(directory);
  const path = join(directory, "godwit.db");
  const many = 21_000;
  const made = await open(path);
  for (const box of ["inbox", "outbox"] as const)
    for (let at = 0; at < many; at += 1_000)
      await made.commit(
        Array.from({ length: 1_000 }, (_, more) => ({ ...rowOf(box, at + more), body: new Uint8Array(0) })),
      );
  await made.close();
  const db = new Database(path);
  // As a flipped bit leaves it: the place is in another group, and one is in none that there is.
  for (const box of ["inbox", "outbox"])
    db.run(
      `UPDATE ${box}_slot SET grp = CASE slot WHEN 1 THEN (SELECT max(grp) FROM ${box}_slot) ELSE 999 END WHERE slot IN (1, 2)`,
    );
  db.run("UPDATE slot_group SET count = count + 5 WHERE collection = 'inbox' AND name = 'group 3'");
  db.close();

  const store = await open(path);
  const countsOf = async (box: Slotted): Promise<Map<string, number>> =>
    new Map((await store.totals(box)).groups.map(({ group, count }) => [group, count]));
  expect((await countsOf("inbox")).get("group 3")).toBe(many / GROUPS + 5);
  expect(store.state.recounts).toBe(0);
  const none = await store.page("outbox", { order: "oldest-first", limit: 9, group: "" });
  expect(none.slice(0, 2).map(({ key }) => key)).toEqual([keyOf(0), keyOf(1)]);
  const quiet = Promise.withResolvers<void>();
  store.onState(() => store.state.recounts === 2 && quiet.resolve());
  await store.commit([{ op: "put", in: "peer", key: "k", meta: "{}" }]);
  // The log comes to the database, and a quiet moment after it.
  await store.usage();
  await quiet.promise;
  const counts = await countsOf("inbox");
  expect([...counts.values()].reduce((total, count) => total + count)).toBe(many);
  expect(store.state.damageCount).toBe(0);
  await store.close();
}, 60_000);
