/** A store that a later release used: this one opens it where the later one says so, and loses nothing of what it does not know. */
import { Database } from "bun:sqlite";
import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "../kernel/log.ts";
import { openLog } from "./commit-log.ts";
import { alignedPages } from "./log-image.ts";
import { encodeFrame, frameBytes, LOG_PAGE_BYTES, pagesOf, type LogCommit } from "./log-frame.ts";
import { openSqliteStore, type SqliteStore } from "./sqlite.ts";
import { SCHEMA_VERSION } from "./sqlite-schema.ts";
import { collections, type StoreOp } from "./types.ts";

const LATER = SCHEMA_VERSION + 1;
const directories: string[] = [];
afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
});
const scratch = (): string => {
  const directory = mkdtempSync(join(tmpdir(), "godwit-later-"));
  directories.push(directory);
  return join(directory, "godwit.db");
};
const open = (path: string): Promise<SqliteStore> => openSqliteStore({ path, log: silentLog });
const put = (key: string, meta = `{"key":"${key}"}`): StoreOp => ({ op: "put", in: "outbox", key, meta });

/** What a later release adds: a column, a collection, an index, a table, and its numbers. */
const laterStatements = (opensFrom: number): string[] => [
  `ALTER TABLE outbox ADD COLUMN place INTEGER DEFAULT 7`,
  `CREATE INDEX outbox_place ON outbox (place)`,
  `CREATE TABLE later (key TEXT NOT NULL PRIMARY KEY, meta TEXT NOT NULL, body BLOB, meta_sum INTEGER, body_sum INTEGER, body_id INTEGER, body_bytes INTEGER)`,
  `INSERT INTO later (key, meta) VALUES ('of the later', 'kept')`,
  `CREATE TABLE later_count (id INTEGER PRIMARY KEY, many INTEGER)`,
  `INSERT INTO later_count VALUES (1, 42)`,
  `INSERT INTO store_collection VALUES (${collections.length}, 'later')`,
  `UPDATE store_usage SET opens_from = ${opensFrom}`,
  `PRAGMA user_version = ${LATER}`,
];

/** A store with a row, as a later release left it. */
async function leftByLater(opensFrom = SCHEMA_VERSION): Promise<string> {
  const path = scratch();
  const store = await open(path);
  await store.commit([put("a"), put("b")]);
  await store.close();
  const db = new Database(path);
  for (const statement of laterStatements(opensFrom)) db.run(statement);
  db.run("UPDATE outbox SET place = 11 WHERE key = 'a'");
  db.close();
  return path;
}

function look(path: string, sql: string): unknown[] {
  const db = new Database(path, { readonly: true });
  try {
    return db.query(sql).values();
  } finally {
    db.close();
  }
}

test("the database names every collection by the number that it has in the log", async () => {
  const path = scratch();
  await (await open(path)).close();
  expect(look(path, "SELECT name FROM store_collection ORDER BY number").flat()).toEqual([...collections]);
  expect(look(path, "SELECT min(number), max(number) FROM store_collection")).toEqual([
    [0, collections.length - 1],
  ]);
});

test("a store of a later schema that may be opened is opened, and what it holds of its own stays", async () => {
  const path = await leftByLater();
  const store = await open(path);
  expect((await store.load("outbox")).map(({ key }) => key)).toEqual(["a", "b"]);
  await store.commit([put("a", `{"key":"a","state":"delivered"}`), put("c")]);
  await store.close();
  expect(look(path, "SELECT key, meta, place FROM outbox ORDER BY key")).toEqual([
    ["a", `{"key":"a","state":"delivered"}`, 11],
    ["b", `{"key":"b"}`, 7],
    ["c", `{"key":"c"}`, 7],
  ]);
  expect(look(path, "SELECT key, meta FROM later")).toEqual([["of the later", "kept"]]);
  expect(look(path, "SELECT many FROM later_count")).toEqual([[42]]);
  expect(look(path, "PRAGMA user_version")).toEqual([[LATER]]);
  // The later release sees that rows may have been written in the older form.
  expect(look(path, "SELECT older_stays FROM store_usage")).toEqual([[1]]);
});

test("a store that may be opened from a later schema on alone is refused, and left as it is to the byte", async () => {
  const path = await leftByLater(LATER);
  const before = readFileSync(path);
  const error = await open(path).then(
    () => undefined,
    (thrown: unknown) => thrown as { code: string; message: string },
  );
  expect(error?.code).toBe("GODWIT_STORE_VERSION");
  expect(error?.message).toContain("godwit store convert");
  expect(readFileSync(path).equals(before)).toBe(true);
});

test("a damaged store of a later schema is taken into a new one with all that the later release added", async () => {
  const path = await leftByLater();
  const before = look(path, "SELECT rootpage FROM sqlite_schema WHERE name = 'token'")[0] as [number];
  const bytes = readFileSync(path);
  // A table without rows whose page is gone: the database is no longer whole, and all else is readable.
  bytes.fill(0xff, (before[0] - 1) * 4_096, before[0] * 4_096);
  writeFileSync(path, bytes);
  const store = await open(path);
  expect(store.state.asideFile).toBeString();
  expect((await store.load("outbox")).map(({ key }) => key)).toEqual(["a", "b"]);
  await store.close();
  expect(look(path, "SELECT key, place FROM outbox ORDER BY key")).toEqual([
    ["a", 11],
    ["b", 7],
  ]);
  expect(look(path, "SELECT key, meta FROM later")).toEqual([["of the later", "kept"]]);
  expect(look(path, "SELECT many FROM later_count")).toEqual([[42]]);
  expect(look(path, "SELECT name FROM sqlite_schema WHERE name = 'outbox_place'")).toEqual([
    ["outbox_place"],
  ]);
  expect(look(path, "PRAGMA user_version")).toEqual([[LATER]]);
  expect(look(path, "SELECT opens_from FROM store_usage")).toEqual([[SCHEMA_VERSION]]);
});

/** A log that the later release was killed with: the second op is of a collection with that number, and of that kind. */
async function killedWith(number: number, kind = 0): Promise<string> {
  const path = await leftByLater();
  const id = 4_711;
  rmSync(`${path}-log`, { force: true });
  const { log } = openLog(`${path}-log`, {
    bytes: 33 * LOG_PAGE_BYTES,
    mark: { id: 0, page: 0 },
    freshId: id,
    laterCollections: [],
  });
  const commits: LogCommit[] = [
    [
      { op: "put", in: "token", key: "logged", meta: "kept as well" },
      { op: "put", in: "outbox", key: "d", meta: "{}" },
    ],
  ];
  const bytes = frameBytes(commits);
  const frame = encodeFrame(alignedPages(pagesOf(bytes)), commits, bytes, log.head, log.id);
  // Behind the head of the frame and that of the commit.
  frame.set([number, kind], 24 + 8);
  const headSum = Bun.hash.xxHash3(frame.subarray(0, 16), BigInt(id));
  frame.writeBigUInt64LE(Bun.hash.xxHash3(frame.subarray(24, bytes), headSum), 16);
  await log.append(frame, false);
  log.close();
  const db = new Database(path);
  db.run(`UPDATE store_usage SET log_id = ${id}, log_page = 0`);
  db.close();
  return path;
}

test("commits of a later collection in the log come to its table", async () => {
  const path = await killedWith(collections.length);
  const store = await open(path);
  expect((await store.load("outbox")).map(({ key }) => key)).toEqual(["a", "b", "d"]);
  await store.close();
  expect(look(path, "SELECT key, meta FROM later ORDER BY key")).toEqual([
    ["logged", "kept as well"],
    ["of the later", "kept"],
  ]);
});

test.each([
  ["a collection that no table is of", collections.length + 1, 0],
  ["a kind of op that is not known", 0, 9],
])("a log with %s is refused and kept", async (_, number, kind) => {
  const path = await killedWith(number, kind);
  const before = readFileSync(`${path}-log`);
  expect(await open(path).catch((thrown: { code: string }) => thrown.code)).toBe("GODWIT_STORE_VERSION");
  expect(readFileSync(`${path}-log`).equals(before)).toBe(true);
});

test("what a damaged store of a later schema lost is counted no more", async () => {
  const path = scratch();
  let store = await open(path);
  for (let index = 1; index <= 30; index++) {
    const row = put(`m${String(index).padStart(3, "0")}`, JSON.stringify("MARK".repeat(200)));
    const slot = { order: index, group: `g${index % 3}` };
    await store.commit([{ ...row, body: new Uint8Array(200), slot } as StoreOp]);
  }
  await store.close();
  const db = new Database(path);
  for (const statement of laterStatements(SCHEMA_VERSION)) db.run(statement);
  db.close();
  const bytes = readFileSync(path);
  const page = Math.floor(bytes.lastIndexOf("MARKMARK") / 4_096);
  writeFileSync(path, bytes.fill(0xee, page * 4_096, (page + 1) * 4_096));
  store = await open(path);
  const left = (await store.load("outbox")).length;
  expect([left < 30, store.state.asideFile === undefined]).toEqual([true, false]);
  const { groups } = await store.totals("outbox");
  expect(groups.reduce((total, { count }) => total + count, 0)).toBe(left);
  expect((await store.page("outbox", { order: "oldest-first", limit: 100 })).length).toBe(left);
  await store.close();
});
