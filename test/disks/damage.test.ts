/** Databases that the disk damaged: what is left of them is kept, what is lost is named, and the node has a store in any case. */
import { Database } from "bun:sqlite";
import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "../../runtime/kernel/log.ts";
import { openSqliteStore, type SqliteStore } from "../../runtime/store/sqlite.ts";
import type { StoreOp } from "../../runtime/store/types.ts";

const PAGE_BYTES = 4_096;
const ROWS = 60;
const directories: string[] = [];
const scratch = (): string => {
  const directory = mkdtempSync(join(tmpdir(), "godwit-damage-"));
  directories.push(directory);
  return directory;
};
afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
});

const open = (path: string) => openSqliteStore({ path, log: silentLog });
const bodyOf = (index: number, length: number): Uint8Array =>
  new Uint8Array(length).map((_, at) => (at * 7 + index * 13) & 255);
const rowOf = (index: number): StoreOp => ({
  op: "put",
  in: index % 2 === 0 ? "inbox" : "outbox",
  key: `message ${String(index).padStart(3, "0")}`,
  meta: JSON.stringify({ index, subject: "s".repeat(400) }),
  body: bodyOf(index, index % 3 === 0 ? 9_000 : 200),
  slot: { order: ROWS - index, group: `g${index % 3}` },
});

/** A closed store with `ROWS` messages and a setting. */
async function filled(): Promise<{ path: string; pristine: Buffer }> {
  const path = join(scratch(), "godwit.db");
  const store = await open(path);
  await store.commit([{ op: "put", in: "setting", key: "store-epoch", meta: "0011223344556677" }]);
  for (let index = 0; index < ROWS; index++) await store.commit([rowOf(index)]);
  await store.close();
  return { path, pristine: readFileSync(path) };
}

/** Opens what is there and reads all of it; every row shown is what was written. */
async function readAll(path: string) {
  const store = await open(path);
  try {
    const keys: string[] = [];
    for (const collection of ["inbox", "outbox"] as const) {
      for (const { key, meta } of await store.load(collection)) {
        const index = Number(key.slice(-3));
        const body = await store.body(collection, key);
        expect(meta).toBe((rowOf(index) as { meta: string }).meta);
        if (body === undefined) continue;
        expect(Buffer.compare(body, (rowOf(index) as { body: Uint8Array }).body)).toBe(0);
        keys.push(key);
      }
    }
    await store.load("setting");
    await store.commit([{ op: "put", in: "peer", key: "new", meta: "{}", body: bodyOf(1, 9_000) }]);
    for (const collection of ["inbox", "outbox"] as const) await checkOrder(store, collection);
    return { keys, state: store.state };
  } finally {
    await store.close();
  }
}

/** What is left has its place, and the totals say what the rows do. */
async function checkOrder(store: SqliteStore, collection: "inbox" | "outbox"): Promise<void> {
  const rows = await store.page(collection, { order: "newest-first", limit: 1_000 });
  expect(rows.map(({ key }) => key)).toEqual((await store.load(collection)).map(({ key }) => key));
  for (const { key, order } of rows) expect(order).toBe(ROWS - Number(key.slice(-3)));
  const { groups } = await store.totals(collection);
  const sums = { count: 0, bytes: 0 };
  for (const { count, bytes } of groups) {
    sums.count += count;
    sums.bytes += bytes;
  }
  const bytes = rows.reduce((total, row) => total + row.bodyBytes, 0);
  expect(sums).toEqual({ count: rows.length, bytes });
}

const asideOf = (path: string): string[] =>
  readdirSync(join(path, "..")).filter((name) => /^godwit\.db\.damaged-\d{8}T\d{6}Z$/.test(name));

test("one bad page, whichever it is: the store opens, most rows are there, what is not is counted, and the file is kept", async () => {
  const { path, pristine } = await filled();
  const pages = pristine.length / PAGE_BYTES;
  expect(pages).toBeGreaterThan(60);
  let salvages = 0;
  let worst = ROWS;
  for (let page = 0; page < pages; page += page < 28 ? 1 : 5) {
    for (const name of readdirSync(join(path, ".."))) rmSync(join(path, "..", name));
    const bytes = Buffer.from(pristine);
    bytes.fill(0xee, page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
    writeFileSync(path, bytes);
    const { keys, state } = await readAll(path);
    worst = Math.min(worst, keys.length);
    if (keys.length < ROWS) expect([page, state.damageCount > 0]).toEqual([page, true]);
    if (state.asideFile !== undefined) {
      salvages++;
      expect(asideOf(path).length).toBe(1);
      expect(
        readFileSync(join(path, "..", asideOf(path)[0]!)).subarray(
          page * PAGE_BYTES,
          (page + 1) * PAGE_BYTES,
        ),
      ).toEqual(bytes.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES));
    }
    // What was mended stays mended.
    expect((await readAll(path)).keys.length).toBe(keys.length);
  }
  expect(salvages).toBeGreaterThan(20);
  // A page of mail holds up to a dozen of these; one that only leads to others costs none.
  expect(worst).toBeGreaterThan(ROWS - 15);
}, 120_000);

test("a page that goes bad while the store is open costs its rows and not the store", async () => {
  const { path } = await filled();
  const store = await open(path);
  // Behind the back of the page cache: the middle of the file, which was not read yet.
  const bytes = readFileSync(path);
  bytes.fill(0, PAGE_BYTES * 25, PAGE_BYTES * 60);
  writeFileSync(path, bytes);
  const loaded = [...(await store.load("inbox")), ...(await store.load("outbox"))];
  await store.commit([{ op: "put", in: "peer", key: "new", meta: "{}" }]);
  expect(loaded.length).toBeLessThan(ROWS);
  expect(store.state.damageCount).toBeGreaterThan(0);
  expect(asideOf(path).length).toBe(1);
  await store.close();
});

test("a message that came in chunks is still there after a page elsewhere went bad: it has no sum, and none was wrong", async () => {
  const path = join(scratch(), "godwit.db");
  const body = bodyOf(3, 150_000);
  let store = await open(path);
  await store.commit([{ op: "put", in: "chunk", key: "id/000000", meta: "", body: body.slice(0, 140_000) }]);
  await store.commit([
    {
      op: "put",
      in: "inbox",
      key: "large",
      meta: "{}",
      head: { of: "id", bytes: 140_000 },
      body: body.slice(140_000),
      slot: { order: 1, group: "g" },
    },
    { op: "delete", in: "chunk", key: "id/000000" },
  ]);
  for (let index = 0; index < 9; index++)
    await store.commit([{ op: "put", in: "peer", key: `p${index}`, meta: "x".repeat(2_000) }]);
  await store.close();
  const bytes = readFileSync(path);
  const bad = Math.floor(bytes.indexOf("x".repeat(99)) / PAGE_BYTES);
  bytes.fill(0xee, bad * PAGE_BYTES, (bad + 1) * PAGE_BYTES);
  writeFileSync(path, bytes);
  store = await open(path);
  await store.load("peer");
  expect(store.state.asideFile).toBeDefined();
  expect(store.state.damage.filter((one) => one.in !== "peer")).toEqual([]);
  expect((await store.load("inbox")).map(({ key, bodyBytes }) => [key, bodyBytes])).toEqual([
    ["large", 150_000],
  ]);
  expect(Buffer.compare((await store.body("inbox", "large"))!, body)).toBe(0);
  await store.close();
});

test("garbage and a file that was cut short are set aside, and the node has a store", async () => {
  const { path } = await filled();
  truncateSync(path, PAGE_BYTES * 30);
  const cut = await readAll(path);
  expect([cut.state.asideFile === undefined, cut.state.damageCount > 0]).toEqual([false, true]);
  writeFileSync(path, "this is not a database at all, but it is long enough to have a header".repeat(2_000));
  const garbage = await readAll(path);
  expect([garbage.keys, garbage.state.damageCount]).toEqual([[], 1]);
  expect(asideOf(path).length).toBeGreaterThan(0);
}, 20_000);

test("rows that nobody can name any more are still told: nothing is called whole of which a part is missing", async () => {
  const { path, pristine } = await filled();
  const damages = [
    Buffer.alloc(pristine.length),
    ...[8, 12, 20, 30, 45].map((pages) => pristine.subarray(0, pages * PAGE_BYTES)),
  ];
  for (const bytes of damages) {
    for (const name of readdirSync(join(path, ".."))) rmSync(join(path, "..", name));
    writeFileSync(path, bytes);
    const { keys, state } = await readAll(path);
    expect(keys.length).toBeLessThan(ROWS);
    expect([bytes.length, state.damageCount > 0]).toEqual([bytes.length, true]);
  }
}, 20_000);

test("a flipped bit in the list of places of bodies costs no body its file", async () => {
  const { path } = await filled();
  const large = (key: string): StoreOp => ({
    op: "put",
    in: "plugin",
    key,
    meta: "{}",
    body: bodyOf(key.length, 50_000),
  });
  const made = await open(path);
  for (const key of ["a", "bb", "ccc"]) await made.commit([large(key)]);
  await made.close();
  const db = new Database(path);
  db.run(
    "UPDATE body_place SET id = id + 1073741824 WHERE id = (SELECT -body_id FROM plugin WHERE key = 'a')",
  );
  db.close();
  for (let life = 0; life < 2; life++) {
    const store = await open(path);
    await store.commit([{ op: "delete", in: "plugin", key: life === 0 ? "ccc" : "bb" }]);
    // What nobody names is removed once that is in the database.
    await store.usage();
    await store.close();
  }
  const store = await open(path);
  expect(Buffer.compare((await store.body("plugin", "a"))!, bodyOf(1, 50_000))).toBe(0);
  expect([store.state.damageCount, readdirSync(`${path}-bodies`).length]).toEqual([0, 1]);
  await store.close();
});

test("a database that lost all its bytes is told, for its log is still there", async () => {
  const { path } = await filled();
  truncateSync(path, 0);
  expect((await readAll(path)).state.damage).toEqual([{ in: "setting", key: "the whole database" }]);
  expect((await readAll(path)).state.damageCount).toBe(0);
  rmSync(path);
  expect((await readAll(path)).state.damageCount).toBe(1);
  for (const name of [path, `${path}-wal`]) rmSync(name);
  expect((await readAll(path)).state.damageCount).toBe(0);
});

test("a salvage that was cut off by a power cut is finished at the next start", async () => {
  const { path, pristine } = await filled();
  for (const isMoved of [true, false]) {
    for (const name of readdirSync(join(path, ".."))) rmSync(join(path, "..", name));
    const fresh = `${path}.new`;
    writeFileSync(fresh, pristine);
    // The one moment: the damaged file has its new name already, or not yet.
    if (!isMoved) writeFileSync(path, Buffer.alloc(pristine.length, 0xee));
    expect((await readAll(path)).keys.length).toBe(ROWS);
    expect(asideOf(path).length).toBe(isMoved ? 0 : 1);
  }
});

test("files set aside are bounded: the newest two stay", async () => {
  const { path, pristine } = await filled();
  for (const second of ["01", "02", "03"]) writeFileSync(`${path}.damaged-20260101T0000${second}Z`, "older");
  writeFileSync(path, Buffer.from(pristine).fill(0xee, 0, PAGE_BYTES));
  await readAll(path);
  expect(asideOf(path).length).toBe(2);
  expect(asideOf(path)).toContain("godwit.db.damaged-20260101T000003Z");
});

test("a log that a closed store left behind is not played over an older copy of the database", async () => {
  const { path, pristine } = await filled();
  const store = await open(path);
  await store.commit([{ op: "delete", in: "inbox", key: "message 000" }]);
  await store.close();
  writeFileSync(path, pristine);
  expect((await readAll(path)).keys.length).toBe(ROWS);
});

/** Opens the store in a process that is killed after `work`. */
async function killedAfter(path: string, work: string): Promise<void> {
  const source = `
    import { openSqliteStore } from ${JSON.stringify(join(import.meta.dir, "../../runtime/store/sqlite.ts"))};
    import { silentLog } from ${JSON.stringify(join(import.meta.dir, "../../runtime/kernel/log.ts"))};
    const store = await openSqliteStore({ path: ${JSON.stringify(path)}, log: silentLog });
    ${work}
    process.kill(process.pid, "SIGKILL");
  `;
  await Bun.spawn([process.execPath, "-e", source], { stderr: "inherit" }).exited;
}

/** A store that was killed after eight commits, each alone; `after` runs behind each. `put` gives its files back, but for one. */
async function killed(after = ""): Promise<{ path: string; put: (name: string, bytes: Buffer) => void }> {
  const path = join(scratch(), "godwit.db");
  await (await open(path)).close();
  const rows = `for (let i = 0; i < 8; i++) {
    await store.commit([{ op: "put", in: "peer", key: "k" + i, meta: "{}", body: new Uint8Array(2000).fill(i) }]);
    ${after}
  }`;
  await killedAfter(path, rows);
  const files = ["", "-wal", "-log"].map(
    (name) => [`${path}${name}`, readFileSync(`${path}${name}`)] as const,
  );
  const put = (name: string, bytes: Buffer): void => {
    for (const [file, content] of files) writeFileSync(file, content);
    writeFileSync(`${path}${name}`, bytes);
  };
  return { path, put };
}

const look = async (path: string) => {
  const store = await open(path);
  const rows = (await store.load("peer")).map(({ key }) => key);
  const { damage, damageCount } = store.state;
  const aside = (await store.load("damaged")).length;
  await store.close();
  return { rows: rows.length, lost: damage.map((row) => `${row.in} ${row.key}`), damageCount, aside };
};

test("a log that rotted in the middle lost a commit that is named, and nothing else; one that was torn at its end lost nothing", async () => {
  const { path, put } = await killed();
  const log = readFileSync(`${path}-log`);
  const tell = async (damage: (bytes: Buffer) => void) => {
    const bytes = Buffer.from(log);
    damage(bytes);
    put("-log", bytes);
    return look(path);
  };
  expect(await tell(() => {})).toEqual({ rows: 8, lost: [], damageCount: 0, aside: 0 });
  // The last frame did not reach the medium, or not all of it: it was never acknowledged.
  const torn = { rows: 7, lost: [], damageCount: 0, aside: 0 };
  expect(await tell((bytes) => bytes.fill(0xee, PAGE_BYTES * 8, PAGE_BYTES * 9))).toEqual(torn);
  expect(await tell((bytes) => bytes.fill(0, PAGE_BYTES * 8 + 512, PAGE_BYTES * 9))).toEqual(torn);
  expect(await tell((bytes) => bytes.fill(0, PAGE_BYTES * 8, PAGE_BYTES * 9))).toEqual(torn);
  const named = { rows: 7, lost: ["peer k3"], damageCount: 1, aside: 1 };
  expect(await tell((bytes) => (bytes[PAGE_BYTES * 4 + 600]! ^= 1))).toEqual(named);
  // It is told once, also by a node that is killed again.
  put("-log", Buffer.from(log).fill(0xee, PAGE_BYTES * 4, PAGE_BYTES * 5));
  await killedAfter(path, "");
  expect(await look(path)).toEqual({ rows: 7, lost: [], damageCount: 0, aside: 1 });
  // Its commit is what was written.
  const head = { rows: 8, lost: ["setting last commits"], damageCount: 1, aside: 1 };
  expect(await tell((bytes) => (bytes[PAGE_BYTES * 4 + 17]! ^= 1))).toEqual(head);
  const gone = { rows: 6, lost: ["setting last commits"], damageCount: 1, aside: 1 };
  expect(await tell((bytes) => bytes.fill(0xee, PAGE_BYTES * 3, PAGE_BYTES * 5))).toEqual(gone);
  // The header says nothing that the database does not know.
  expect(await tell((bytes) => bytes.fill(0xee, 0, PAGE_BYTES))).toEqual({ ...torn, rows: 8 });
}, 20_000);

test("a log that is gone, or that is not of this database, is told and not played", async () => {
  const { path, put } = await killed();
  const other = await killed();
  put("-log", Buffer.alloc(0));
  expect(await look(path)).toEqual({ rows: 0, lost: ["setting last commits"], damageCount: 1, aside: 0 });
  put("-log", readFileSync(`${other.path}-log`));
  expect(await look(path)).toEqual({ rows: 0, lost: ["setting last commits"], damageCount: 1, aside: 0 });
  expect(await look(path)).toEqual({ rows: 0, lost: [], damageCount: 0, aside: 0 });
});

test("a database of which nothing is left gives up nothing of what stands in the commit log alone, not even when it is killed again", async () => {
  const { path, put } = await killed();
  const database = readFileSync(path);
  const damages = [
    Buffer.alloc(300, 0xee),
    Buffer.alloc(database.length, 0xee),
    Buffer.from(database).fill(0xee, 0, PAGE_BYTES),
  ];
  for (const bytes of damages) {
    put("", bytes);
    await killedAfter(path, "");
    expect(await look(path)).toMatchObject({ rows: 8, damageCount: 0 });
    expect(asideOf(path).length).toBeGreaterThan(0);
  }
}, 20_000);

test("a database that was put back from a copy plays what its log still has, and is told what it has no more", async () => {
  const older = await killed();
  const database = ["", "-wal"].map((name) => [name, readFileSync(`${older.path}${name}`)] as const);
  await killedAfter(older.path, "await store.usage();");
  for (const [name, bytes] of database) writeFileSync(`${older.path}${name}`, bytes);
  expect(await look(older.path)).toMatchObject({ rows: 8, damageCount: 0 });
  older.put("", database[0]![1]);
  await killedAfter(older.path, "await store.usage();");
  for (const [name, bytes] of database) writeFileSync(`${older.path}${name}`, bytes);
  const log = readFileSync(`${older.path}-log`);
  writeFileSync(`${older.path}-log`, log.fill(0, PAGE_BYTES));
  expect(await look(older.path)).toMatchObject({ rows: 0, lost: ["setting last commits"] });
}, 20_000);

test("what the database lost of its own log is still in the commit log", async () => {
  // Each commit is brought to the database, and stands in its log.
  const { path, put } = await killed("await store.usage();");
  const log = readFileSync(`${path}-wal`);
  const salts = log.subarray(16, 24);
  let frames = 0;
  while (log.subarray(32 + frames * 4_120 + 8, 32 + frames * 4_120 + 16).equals(salts)) frames++;
  const tell = async (at: number) => {
    const bytes = Buffer.from(log);
    bytes[at]! ^= 1;
    put("-wal", bytes);
    return look(path);
  };
  expect((await look(path)).rows).toBe(8);
  expect(await tell(32 + (frames - 1) * 4_120 + 100)).toMatchObject({ rows: 8, damageCount: 0 });
  expect(await tell(32 + (frames - 12) * 4_120 + 99)).toMatchObject({
    rows: 8,
    lost: ["setting last commits"],
  });
}, 20_000);

test("rows of before the sums are read as they are, and large bodies get a place of their own once they change", async () => {
  const { path } = await filled();
  const db = new Database(path);
  db.run("UPDATE inbox SET body = (SELECT content FROM body WHERE id = body_id) WHERE body_id IS NOT NULL");
  db.run("DELETE FROM body");
  db.run("UPDATE inbox SET meta_sum = NULL, body_sum = NULL, body_id = NULL, body_bytes = NULL");
  db.run("DELETE FROM outbox");
  db.close();
  const store = await open(path);
  const used = (await store.usage()).bytes;
  const { key, meta } = rowOf(0) as { key: string; meta: string };
  expect((await store.load("inbox"))[0]).toEqual({ key, meta, bodyBytes: 9_000 });
  await store.commit([{ op: "put", in: "inbox", key, meta: `${meta} ` }]);
  expect(await store.body("inbox", key)).toEqual(bodyOf(0, 9_000));
  expect((await store.usage()).bytes).toBe(used + 1);
  await store.close();
  const again = new Database(path, { readonly: true });
  expect(again.query("SELECT body, body_bytes FROM inbox WHERE key = ?").values(key)).toEqual([
    [null, 9_000],
  ]);
  again.close();
});
