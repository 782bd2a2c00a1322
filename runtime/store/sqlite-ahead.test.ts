/** Loads of a start are answered from what was read ahead, and never with what is no more. */
import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { openSqliteStore, type SqliteStore } from "./sqlite.ts";
import type { StoreOp } from "./types.ts";

const folder = mkdtempSync(join(tmpdir(), "godwit-ahead-"));
let store: SqliteStore | undefined;
afterEach(async () => {
  await store?.close();
  store = undefined;
  rmSync(folder, { recursive: true, force: true });
});

const open = async () =>
  (store = await openSqliteStore({
    path: join(folder, "godwit.db"),
    log: silentLog,
    clock: systemClock,
  }));
const put = (key: string, meta: string): StoreOp => ({ op: "put", in: "setting", key, meta });
const settings = async () => (await store!.load("setting")).map(({ key, meta }) => `${key}=${meta}`);

test("what was committed since the start stands in a load, whether it went to the log or to the database", async () => {
  await open();
  await store!.commit([put("a", "1"), put("b", "1")]);
  await store!.close();
  await open();
  expect(await settings()).toEqual(["a=1", "b=1"]);
  await store!.commit([put("b", "2"), put("c", "2")]);
  expect(await settings()).toEqual(["a=1", "b=2", "c=2"]);
  // Rows go aside by the database, which takes all that is in the log with it.
  await store!.commit([{ op: "delete", in: "setting", key: "a" }]);
  await store!.commit([{ op: "set-aside", in: "setting", key: "c" }]);
  await store!.commit([put("d", "3")]);
  expect(await settings()).toEqual(["b=2", "d=3"]);
});

test("a load behind a commit that nobody waited for has it, and one of a closing store is refused", async () => {
  await open();
  expect(await settings()).toEqual([]);
  const committed = store!.commit([put("a", "1")]);
  expect(await settings()).toEqual(["a=1"]);
  await committed;
  const closing = store!.close();
  expect(await store!.load("name").catch((error: unknown) => error)).toMatchObject({
    code: "GODWIT_STOPPED",
  });
  await closing;
});
