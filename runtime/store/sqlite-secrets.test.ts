import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { type Random, seededRandom } from "../kernel/random.ts";
import { SecretTables } from "./sqlite-secrets.ts";
import { openSqliteStore } from "./sqlite.ts";
import type { Collection, StoreOp } from "./types.ts";

/** Different in each run, and short enough that a page holds a dozen. */
const secretOf = (number: number): string => `SECRET${String(number).padStart(4, "0")}${"a".repeat(56)}`;

const QUIET_MS_MAX = 20_000;

test.each(["setting", "token", "plugin"] as const)(
  "what was deleted of %s is in no page of the database, however its neighbours came and went",
  async (collection: Collection) => {
    const folder = mkdtempSync(join(tmpdir(), "godwit-secrets-"));
    try {
      const store = await openSqliteStore({
        path: join(folder, "godwit.db"),
        log: silentLog,
        clock: systemClock,
      });
      const put = (key: string, meta: string): StoreOp => ({ op: "put", in: collection, key, meta });
      const drop = (key: string): StoreOp => ({ op: "delete", in: collection, key });
      // Brought to the database now and then, and not all at once.
      const flush = () => store.usage();
      const key = (kind: string) => `${kind}/${crypto.randomUUID()}`;
      const secrets: string[] = [];
      const others: string[] = [];
      for (let round = 0; round < 12; round++) {
        for (let i = 0; i < 20; i++) {
          const [one, other] = [key("prekey"), key("granted")];
          await store.commit([put(one, secretOf(secrets.length)), put(other, "x".repeat(52))]);
          secrets.push(one);
          others.push(other);
        }
        await flush();
        const gone = others.splice(0, 10).map(drop);
        await store.commit(gone);
        await flush();
      }
      for (const one of secrets) await store.commit([drop(one)]);
      await flush();
      const left = () =>
        readdirSync(folder).filter((name) => /SECRET\d{4}/.test(readFileSync(join(folder, name), "latin1")));
      // Of the file that takes what is written first as well, in the next quiet moment.
      const deadlineMs = performance.now() + QUIET_MS_MAX;
      while (left().length > 0 && performance.now() < deadlineMs)
        await new Promise((resolve) => setImmediate(resolve));
      expect(left()).toEqual([]);
      await store.close();
      expect(left()).toEqual([]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
  40_000,
);

const keyFrom = (random: Random): string => Buffer.from(random.bytes(18)).toString("hex");

/** Rows of secrets and rows that stay, many of them, and the secrets deleted. */
function wear(db: Database, seed: number): void {
  db.run("PRAGMA secure_delete = ON");
  const random = seededRandom(seed);
  const put = db.prepare<unknown, [string, string]>('INSERT INTO "token" (key, meta) VALUES (?, ?)');
  const drop = db.prepare<unknown, [string]>('DELETE FROM "token" WHERE key = ?');
  const [secrets, others]: [string[], string[]] = [[], []];
  const add = (to: string[], meta: string) => {
    const key = keyFrom(random);
    to.push(key);
    put.run(key, meta + "x".repeat(20 + random.below(60)));
  };
  for (let n = 0; n < 400; n++) {
    add(secrets, "SECRET".repeat(6));
    add(others, "");
    if (random.below(3) === 0) drop.run(others.splice(random.below(others.length), 1)[0]!);
  }
  for (const key of secrets) drop.run(key);
  put.finalize();
  drop.finalize();
}

const piecesIn = (bytes: Uint8Array): number =>
  Buffer.from(bytes)
    .toString("latin1")
    .match(/SECRET/g)?.length ?? 0;

/** Pieces of some are between the list of a page and its rows. */
function worn(): { db: Database; pieces: () => number; rows: () => unknown[] } {
  // Not each table comes to that.
  for (let seed = 1; ; seed++) {
    const db = new Database(":memory:");
    for (const name of ["setting", "token", "plugin", "session"])
      db.run(
        `CREATE TABLE "${name}" (key TEXT NOT NULL PRIMARY KEY, meta TEXT NOT NULL, body BLOB, extra INTEGER DEFAULT 7)`,
      );
    wear(db, seed);
    const pieces = () => piecesIn(db.serialize());
    if (pieces() > 0 || seed > 200)
      return { db, pieces, rows: () => db.query('SELECT rowid, * FROM "token" ORDER BY rowid').values() };
  }
}

test("pieces of deleted secrets in pages that stay in use go when the table is written anew, and no row changes", () => {
  const { db, pieces, rows } = worn();
  const before = rows();
  expect(pieces()).toBeGreaterThan(0);
  const tables = new SecretTables();
  const room: number[] = [];
  tables.note("token");
  expect(tables.rewrite(db, 0, (bytes) => void room.push(bytes))).toBe(true);
  expect([pieces(), room.length]).toEqual([0, 1]);
  expect(rows()).toEqual(before);
  expect(db.query('SELECT count(*) FROM "token" WHERE key > ?').values("")).toEqual([
    [(before as []).length],
  ]);
  expect(db.query("PRAGMA integrity_check").values()).toEqual([["ok"]]);
});

test("a table is written anew no more often than its size allows, and again where there was no room", () => {
  const { db, pieces } = worn();
  const tables = new SecretTables();
  expect(tables.dueInMs(0)).toBeUndefined();
  tables.note("token");
  const full = () => {
    throw new Error("full");
  };
  expect(() => tables.rewrite(db, 0, full)).toThrow("full");
  expect(pieces()).toBeGreaterThan(0);
  const pauseMs = tables.dueInMs(0)!;
  expect(pauseMs).toBeGreaterThan(1_000);
  expect(pauseMs).toBeLessThan(60_000);
  expect(tables.rewrite(db, pauseMs - 1, () => {})).toBe(false);
  expect(tables.rewrite(db, pauseMs, () => {})).toBe(true);
  expect([pieces(), tables.dueInMs(pauseMs)]).toEqual([0, undefined]);
});

test("a store that is closed right after a secret was deleted leaves no piece of any", async () => {
  const folder = mkdtempSync(join(tmpdir(), "godwit-secrets-"));
  try {
    const path = join(folder, "godwit.db");
    const open = () => openSqliteStore({ path, log: silentLog, clock: systemClock });
    await (await open()).close();
    const pieces = () => piecesIn(readFileSync(path));
    for (let seed = 1; seed < 200 && pieces() === 0; seed++) {
      const db = new Database(path);
      db.run('DELETE FROM "token"');
      wear(db, seed);
      db.run("PRAGMA wal_checkpoint(TRUNCATE)");
      db.close();
    }
    expect(pieces()).toBeGreaterThan(0);
    const store = await open();
    await store.commit([{ op: "put", in: "token", key: "one", meta: "{}" }]);
    await store.commit([{ op: "delete", in: "token", key: "one" }]);
    await store.close();
    expect(pieces()).toBe(0);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
