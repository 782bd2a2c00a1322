/** Rows of an earlier release come to the form of today while the store is in use: in small slices, once, and from where a killed node stopped. */
import { Database } from "bun:sqlite";
import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ManualClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { Metrics } from "../kernel/metrics.ts";
import { type Conversion, CONVERSIONS_MAX, Conversions } from "./conversions.ts";
import { openSqliteStore, type SqliteStore } from "./sqlite.ts";
import { restatement } from "./sqlite-restate.ts";
import { createSchema } from "./sqlite-schema.ts";

const directories: string[] = [];
afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
});

/** A store as a release of schema 2 left it: bodies of every size in their rows, no sums. */
function schemaTwo(rows: number): string {
  const directory = mkdtempSync(join(tmpdir(), "godwit-conversions-"));
  directories.push(directory);
  const path = join(directory, "godwit.db");
  const db = new Database(path, { create: true, readwrite: true, strict: true });
  createSchema(db, 2);
  const put = db.prepare("INSERT INTO inbox (key, meta, body) VALUES (?, ?, ?)");
  db.transaction(() => {
    for (let index = 0; index < rows; index++) put.run(`k${index}`, `{"index":${index}}`, bodyOf(index));
  })();
  put.finalize();
  const bytes = db
    .query("SELECT sum(octet_length(meta) + length(body)) FROM inbox")
    .values()[0]![0] as number;
  db.run("UPDATE store_usage SET bytes = ?", [bytes]);
  db.run("INSERT INTO setting (key, meta) VALUES ('s', 'x')");
  db.close();
  return path;
}
const bodyOf = (index: number): Uint8Array => new Uint8Array((index * 37) % 5_000).fill(index);

interface Life {
  readonly store: SqliteStore;
  readonly clock: ManualClock;
  readonly conversions: Conversions;
  /** Slices so far. */
  readonly slices: () => number;
  readonly settled: () => Promise<void>;
  end(): Promise<void>;
}

async function live(path: string, more: Conversion[] = []): Promise<Life> {
  const store = await openSqliteStore({ path, log: silentLog });
  const clock = new ManualClock();
  const conversions = new Conversions({
    store,
    clock,
    log: silentLog,
    metrics: new Metrics(),
    olderStays: () => store.olderStays(),
  });
  let slices = 0;
  let last: Promise<void> = Promise.resolve();
  for (const { name, step } of [restatement(store), ...more])
    conversions.register({
      name,
      step: (after, save) => {
        slices++;
        return (last = step(after, save));
      },
    });
  await conversions.start();
  const end = async (): Promise<void> => {
    await conversions.stop();
    await store.close();
  };
  return { store, clock, conversions, slices: () => slices, settled: () => last.catch(() => {}), end };
}

/** So many slices more, or until all is through. */
async function run({ clock, conversions, slices, settled }: Life, wanted = 10_000): Promise<void> {
  const target = slices() + wanted;
  while (slices() < target && !conversions.progress.every(({ isThrough }) => isThrough)) {
    await clock.advance(60_000);
    await settled();
  }
}

function look(path: string, sql: string): unknown[][] {
  const db = new Database(path);
  try {
    return db.query(sql).values();
  } finally {
    db.close();
  }
}

test("rows get their sums and bodies their place, and stay what they were", async () => {
  const path = schemaTwo(1_000);
  const life = await live(path);
  const { bytes } = await life.store.usage();
  await life.store.commit([{ op: "put", in: "inbox", key: "k999", meta: `{"new":1}` }]);
  await run(life);
  expect(life.conversions.progress).toMatchObject([{ name: "sums", isThrough: true }]);
  expect(life.slices()).toBeGreaterThan(1_000 / 128);
  for (const index of [0, 1, 135, 500, 998])
    expect(await life.store.body("inbox", `k${index}`)).toEqual(bodyOf(index));
  const grown = `{"new":1}`.length - `{"index":999}`.length;
  const marks = (await life.store.load("setting")).filter(({ key }) => key.startsWith("converted/"));
  const markBytes = marks.reduce((total, { meta }) => total + meta.length, 0);
  expect((await life.store.usage()).bytes).toBe(bytes + grown + markBytes);
  await life.end();
  expect(look(path, "SELECT count(*) FROM inbox WHERE meta_sum IS NULL OR body_sum IS NULL")).toEqual([[0]]);
  expect(look(path, "SELECT count(*) FROM inbox WHERE length(body) > 3000")).toEqual([[0]]);
  // Rows without bodies as well.
  expect(look(path, "SELECT meta_sum IS NOT NULL FROM setting WHERE key = 's'")).toEqual([[1]]);
  expect(look(path, "SELECT meta FROM inbox WHERE key = 'k999'")).toEqual([[`{"new":1}`]]);
});

test("a node that ends in the middle goes on there, and one that is through looks at nothing", async () => {
  const path = schemaTwo(2_000);
  const first = await live(path);
  await run(first, 7);
  const { rows } = first.conversions.progress[0]!;
  expect(rows).toBeGreaterThan(200);
  expect(rows).toBeLessThan(1_500);
  await first.end();
  const second = await live(path);
  expect(second.conversions.progress[0]!.rows).toBe(rows);
  await run(second);
  expect(second.conversions.progress[0]!.isThrough).toBe(true);
  await second.end();
  const third = await live(path);
  await third.clock.advance(3_600_000);
  expect(third.slices()).toBe(0);
  await third.end();
});

test("after a stay of an older release all is looked at again", async () => {
  const path = schemaTwo(10);
  const first = await live(path);
  await run(first);
  await first.end();
  const db = new Database(path);
  db.run("UPDATE store_usage SET older_stays = older_stays + 1");
  db.run("INSERT INTO inbox (key, meta, body) VALUES ('late', '{}', x'00')");
  db.close();
  const second = await live(path);
  await run(second);
  await second.end();
  expect(look(path, "SELECT count(*) FROM inbox WHERE meta_sum IS NULL")).toEqual([[0]]);
});

test("one that fails waits, and is tried again; the pause is longer than the slice was", async () => {
  const path = schemaTwo(1);
  let tries = 0;
  const life = await live(path, [
    {
      name: "of an owner",
      step: async (after, save) => {
        tries++;
        if (tries === 1) throw new Error("the disk is full");
        expect(after).toBe("");
        await save({
          ops: [{ op: "put", in: "setting", key: "converted by its owner", meta: "x" }],
          after: undefined,
          rows: 3,
        });
      },
    },
  ]);
  await run(life);
  expect(tries).toBe(2);
  expect(life.conversions.progress[1]).toEqual({ name: "of an owner", rows: 3, isThrough: true });
  expect((await life.store.load("setting")).map(({ key }) => key)).toContain("converted by its owner");
  await life.end();
});

test("what is converted, and told of it, is bounded in number", () => {
  const conversions = new Conversions({
    store: undefined as never,
    clock: new ManualClock(),
    log: silentLog,
    metrics: new Metrics(),
    olderStays: async () => 0,
  });
  for (let n = 0; n < CONVERSIONS_MAX + 8; n++)
    conversions.register({ name: `c${n}`, step: async () => ({ isThrough: true, rows: 0 }) } as never);
  expect(conversions.progress).toHaveLength(CONVERSIONS_MAX);
});
