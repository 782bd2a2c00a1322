/** How the database is open while a node runs, read back from it: what a setting promises is worth what SQLite says of it. */
import { Database } from "bun:sqlite";
import { afterEach, expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { openDatabase, OpenRefused } from "./sqlite-schema.ts";
import { directories, scratch } from "./testing-sqlite.ts";

afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
});

/** The settings that somebody relies on, as SQLite gives them back; both of a new file and of one that was there. */
const settings: readonly [what: string, pragma: string, value: string | number][] = [
  ["a commit is on the disk before anybody is told", "synchronous", 2],
  ["a commit goes to a log that a power cut leaves readable", "journal_mode", "wal"],
  [
    "the log is folded in when there is room for it, never in the middle of a commit",
    "wal_autocheckpoint",
    0,
  ],
  ["a database that somebody made runs nothing of its own", "trusted_schema", 0],
  ["a damaged page is found when it is read", "cell_size_check", 1],
  ["what is deleted is overwritten where that costs no write", "secure_delete", 2],
  ["no other process opens it beside the node", "locking_mode", "exclusive"],
  ["what is deleted gives its room back", "auto_vacuum", 2],
  ["what is sorted is never written to a folder that others read", "temp_store", 2],
];

test.each(settings)("%s", (_what, pragma, value) => {
  const path = join(scratch(), "godwit.db");
  for (const _start of ["new", "again"]) {
    const db = openDatabase(path);
    try {
      expect(db.query(`PRAGMA ${pragma}`).values()).toEqual([[value]]);
    } finally {
      db.close();
    }
  }
});

test("the database of another program is left alone, to the byte", async () => {
  const path = join(scratch(), "godwit.db");
  const other = new Database(path, { create: true });
  other.run("CREATE TABLE theirs (a)");
  other.close();
  const before = await Bun.file(path).bytes();
  expect(() => openDatabase(path)).toThrow(OpenRefused);
  expect(await Bun.file(path).bytes()).toEqual(before);
});
