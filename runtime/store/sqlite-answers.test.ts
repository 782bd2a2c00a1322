/** What was answered before is answered without a question, and never with what is no more. */
import { afterEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { openSqliteStore, type SqliteStore } from "./sqlite.ts";
import { Answers } from "./sqlite-answers.ts";
import type { WireEntry, WireValue } from "./sqlite-messages.ts";
import type { BatchAnswer } from "./sqlite-thread.ts";
import type { Collection, StoreOp } from "./types.ts";

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

const row = (key: string, order: number): StoreOp => ({
  op: "put",
  in: "inbox",
  key,
  meta: `{"of":"${key}"}`,
  body: new Uint8Array(8),
  slot: { order, group: "g" },
});
const newest = { order: "newest-first", limit: 3 } as const;
const shown = async () => (await store!.page("inbox", newest)).map(({ key }) => key);
const intoDatabase = () => store!.commit([{ op: "set-aside", in: "name", key: "nobody" }]);

test("a page that was shown before has what came since, in the log and in the database, and what was deleted no more", async () => {
  await open();
  expect(await shown()).toEqual([]);
  await store!.commit([row("a", 1), row("b", 2)]);
  expect(await shown()).toEqual(["b", "a"]);
  await intoDatabase();
  expect(await shown()).toEqual(["b", "a"]);
  await store!.commit([row("c", 3), { op: "delete", in: "inbox", key: "b" }]);
  expect(await shown()).toEqual(["c", "a"]);
  expect((await store!.rows("inbox", ["b"])).length).toBe(0);
  await intoDatabase();
  expect(await shown()).toEqual(["c", "a"]);
  expect((await store!.totals("inbox")).groups).toEqual([{ group: "g", count: 2, bytes: 16 }]);
  expect((await store!.rows("inbox", ["b", "c"])).map(({ key, order }) => [key, order])).toEqual([["c", 3]]);
});

test("whoever reads what is known again and again leaves all others their turns", async () => {
  await open();
  await shown();
  const turned = { isOver: false };
  setImmediate(() => (turned.isOver = true));
  for (let reads = 0; reads < 10_000 && !turned.isOver; reads++) await shown();
  expect(turned.isOver).toBe(true);
});

test("a row of the log alone that a database row lies under is shown with the body, the place and the group of that", async () => {
  await open();
  await store!.commit([row("a", 7)]);
  await intoDatabase();
  await store!.commit([{ op: "put", in: "inbox", key: "a", meta: "{}" }]);
  expect(await store!.rows("inbox", ["a"])).toEqual([
    { key: "a", meta: "{}", bodyBytes: 8, order: 7, group: "g" },
  ]);
});

describe("answers that are kept", () => {
  const columns = (keys: string[]) => ({
    keys,
    metas: keys.map(() => "{}"),
    bodyBytes: Float64Array.from(keys, () => 0),
    orders: Float64Array.from(keys, (_, index) => index + 1),
    groups: keys.map(() => ""),
    reached: undefined,
  });
  const page = { kind: "page", in: "inbox", page: newest } as const;
  const written = (collection: Collection): WireEntry => ({
    kind: "commit",
    ops: [[collection, "k", "{}", -1, 0]],
  });

  /** A thread that answers when it is told to. */
  function fakeThread() {
    const asked: { entries: readonly WireEntry[]; answer(...values: WireValue[]): Promise<void> }[] = [];
    const ask = (entries: readonly WireEntry[]) => {
      const { promise, resolve } = Promise.withResolvers<BatchAnswer>();
      asked.push({
        entries,
        async answer(...values) {
          resolve({ failures: [], values: new Map(values.entries()), grantBytes: 0 });
          await promise;
        },
      });
      return promise;
    };
    return { asked, answers: new Answers({ ask }) };
  }
  const turn = () => Promise.resolve().then(() => {});

  test("one that is there is not asked for again, until something is written to its collection", async () => {
    const { asked, answers } = fakeThread();
    const first = answers.answer(page);
    await turn();
    await asked[0]!.answer(columns(["a"]));
    expect(await first).toMatchObject({ keys: ["a"] });
    answers.onWrite([written("outbox")]);
    expect(answers.knows(page)).toBe(true);
    expect(await answers.answer(page)).toMatchObject({ keys: ["a"] });
    expect(asked.length).toBe(1);
    answers.onWrite([written("inbox")]);
    expect(answers.knows(page)).toBe(false);
    const second = answers.answer(page);
    await turn();
    await asked[1]!.answer(columns(["b"]));
    expect(await second).toMatchObject({ keys: ["b"] });
  });

  test("one that is written over, or forgotten, while it is under way is nobody's answer but of who asked for it before", async () => {
    for (const change of ["write", "forget"]) {
      const { asked, answers } = fakeThread();
      const before = answers.answer(page);
      const joined = answers.answer(page);
      await turn();
      if (change === "write") answers.onWrite([written("inbox")]);
      else answers.forget();
      const after = answers.answer(page);
      await turn();
      expect(asked.length).toBe(2);
      await asked[0]!.answer(columns(["old"]));
      await turn();
      expect(await before).toMatchObject({ keys: ["old"] });
      await asked[1]!.answer(columns(["new"]));
      expect(await after).toMatchObject({ keys: ["new"] });
      // It asked again.
      await turn();
      await turn();
      await asked[2]!.answer(columns(["new"]));
      expect(await joined).toMatchObject({ keys: ["new"] });
    }
  });

  test("what is large, what is a secret and what is old is not kept", async () => {
    const { asked, answers } = fakeThread();
    const large = answers.answer(page);
    const secret = answers.answer({ kind: "rows", in: "session", keys: ["k"] });
    await turn();
    // What is asked in one turn is one question.
    expect(asked.map(({ entries }) => entries.length)).toEqual([2]);
    await asked[0]!.answer(
      ...asked[0]!.entries.map(({ kind }) => columns([kind === "page" ? "x".repeat(65_537) : "k"])),
    );
    await Promise.all([large, secret]);
    expect(answers.knows(page)).toBe(false);
    expect(answers.knows({ kind: "rows", in: "session", keys: ["k"] })).toBe(false);
    const one = (index: number) => ({ kind: "rows", in: "inbox", keys: [`${index}`] }) as const;
    for (let index = 0; index < 9; index++) {
      const found = answers.answer(one(index));
      await turn();
      await asked.at(-1)!.answer(columns([`${index}`]));
      await found;
    }
    expect([0, 1, 8].map((index) => answers.knows(one(index)))).toEqual([false, true, true]);
  });

  test("a start asks one question, and each load that is asked for once is let go when it was taken", async () => {
    const { asked, answers } = fakeThread();
    answers.askAhead();
    expect(asked.length).toBe(1);
    const { entries } = asked[0]!;
    const name = (entry: WireEntry) => `${entry.kind} ${"in" in entry ? entry.in : ""}`;
    await asked[0]!.answer(
      ...entries.map((entry) =>
        name(entry) === "load seen"
          ? undefined
          : entry.kind === "totals"
            ? { totals: { groups: [], last: 0 }, rows: columns([]) }
            : columns([]),
      ),
    );
    for (const entry of entries) if (name(entry) !== "load seen") await answers.answer(entry);
    expect(asked.length).toBe(1);
    expect(entries.filter((entry) => answers.knows(entry)).map(name)).toEqual([
      "load setting",
      "load member",
      "load seen",
      "totals inbox",
      "totals outbox",
      "totals transit",
      "page inbox",
      "page outbox",
      "page transit",
    ]);
    // It has more rows than are read ahead.
    void answers.answer({ kind: "load", in: "seen" });
    await turn();
    await turn();
    expect(asked.length).toBe(2);
  });
});
