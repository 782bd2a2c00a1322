/** What stands in the commit log and not in the database yet: nothing of it is lost, whenever the process dies, and nothing of it stays too long. */
import { afterEach, describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ManualClock } from "../../runtime/kernel/clock.ts";
import { silentLog } from "../../runtime/kernel/log.ts";
import { seededRandom } from "../../runtime/kernel/random.ts";
import { StoreThread } from "../../runtime/store/sqlite-thread.ts";
import { openSqliteStore, type SqliteStore, type SqliteStoreOptions } from "../../runtime/store/sqlite.ts";
import { collections, type Collection, type StoreOp } from "../../runtime/store/types.ts";

const directories: string[] = [];
const scratch = (): string => {
  const directory = mkdtempSync(join(tmpdir(), "godwit-logged-"));
  directories.push(directory);
  return directory;
};
afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
});

const SMALL_LOG_BYTES = 40 * 4_096;
const open = (path: string, options: Partial<SqliteStoreOptions> = {}): Promise<SqliteStore> =>
  openSqliteStore({ path, log: silentLog, logBytes: SMALL_LOG_BYTES, ...options });
const bodyOf = (seed: number, length: number): Uint8Array =>
  new Uint8Array(length).map((_, at) => (at * 31 + seed * 17 + (at >> 8)) & 255);
const filesOf = (path: string): string[] =>
  existsSync(`${path}-bodies`) ? readdirSync(`${path}-bodies`) : [];

interface Row {
  readonly meta: string;
  readonly body: Uint8Array | undefined;
}

/** What a store holds, as it ought to be. */
class Model {
  readonly #rows = new Map<string, Row>();

  apply(ops: readonly StoreOp[]): void {
    for (const op of ops) {
      const name = `${op.in}\n${op.key}`;
      if (op.op === "put")
        this.#rows.set(name, { meta: op.meta, body: op.body ?? this.#rows.get(name)?.body });
      else this.#rows.delete(name);
    }
  }

  row(collection: Collection, key: string): Row | undefined {
    return this.#rows.get(`${collection}\n${key}`);
  }

  keys(collection: Collection): string[] {
    const prefix = `${collection}\n`;
    return [...this.#rows.keys()]
      .filter((name) => name.startsWith(prefix))
      .map((name) => name.slice(prefix.length));
  }

  get bytes(): number {
    let bytes = 0;
    for (const { meta, body } of this.#rows.values()) bytes += Buffer.byteLength(meta) + (body?.length ?? 0);
    return bytes;
  }
}

async function expectSame(store: SqliteStore, model: Model): Promise<void> {
  for (const collection of collections) {
    const rows = await store.load(collection);
    expect(rows.map(({ key }) => key)).toEqual(model.keys(collection).sort());
    for (const { key, meta, bodyBytes } of rows) {
      const row = model.row(collection, key)!;
      expect([key, meta, bodyBytes]).toEqual([key, row.meta, row.body?.length ?? 0]);
      const body = await store.body(collection, key);
      expect([key, body === undefined]).toEqual([key, row.body === undefined]);
      if (body !== undefined) expect(Buffer.compare(body, row.body!)).toBe(0);
    }
  }
}

test("whatever is put, kept and deleted, in whatever order and while it is brought to the database: every read says what the last commit said", async () => {
  const random = seededRandom(7);
  const path = join(scratch(), "godwit.db");
  const model = new Model();
  let store = await open(path);
  const some: readonly Collection[] = ["outbox", "inbox", "chunk", "setting"];
  const anyOp = (): StoreOp => {
    const collection = some[random.below(some.length)]!;
    const key = `${random.below(4)}/${random.below(12)}`;
    const kind = random.below(10);
    if (kind < 3) return { op: "delete", in: collection, key };
    const meta = `"${"m".repeat(random.below(900))}"`;
    if (kind < 6) return { op: "put", in: collection, key, meta };
    const bytes = [0, 10, 700, 3_500, 30_000][random.below(5)]!;
    return { op: "put", in: collection, key, meta, body: bodyOf(random.below(256), bytes) };
  };
  for (let round = 0; round < 400; round++) {
    const commits = Array.from({ length: 1 + random.below(6) }, () =>
      Array.from({ length: 1 + random.below(3) }, anyOp),
    );
    const done = commits.map((ops) => store.commit(ops));
    for (const ops of commits) model.apply(ops);
    const collection = some[random.below(some.length)]!;
    expect((await store.load(collection)).map(({ key }) => key)).toEqual(model.keys(collection).sort());
    await Promise.all(done);
    if (round % 40 === 3) {
      // More than the log holds, while it is brought to the database.
      const many = Array.from({ length: 60 }, (_, i): StoreOp => ({
        op: "put",
        in: "inbox",
        key: `many ${i}`,
        meta: String(round),
        body: bodyOf(i, 3_500),
      }));
      for (const op of many) model.apply([op]);
      await Promise.all(many.map((op) => store.commit([op])));
    }
    if (round % 20 === 5) await expectSame(store, model);
    if (round % 50 === 9) expect((await store.usage()).bytes).toBe(model.bytes);
    if (round % 90 !== 11) continue;
    await store.close();
    store = await open(path);
  }
  await expectSame(store, model);
  expect(store.state.damageCount).toBe(0);
  await store.close();
}, 30_000);

test("a body of 16 MiB is written once, outlives a kill, and its file goes with its row; those of a transfer share one", async () => {
  const path = join(scratch(), "godwit.db");
  const source = `
    import { readFileSync } from "node:fs";
    import { openSqliteStore } from ${JSON.stringify(join(import.meta.dir, "../../runtime/store/sqlite.ts"))};
    import { silentLog } from ${JSON.stringify(join(import.meta.dir, "../../runtime/kernel/log.ts"))};
    const written = () => Number(/\\nwrite_bytes: (\\d+)/.exec(readFileSync("/proc/self/io", "utf8"))[1]);
    const store = await openSqliteStore({ path: ${JSON.stringify(path)}, log: silentLog });
    const before = written();
    const body = new Uint8Array(1 << 24).map((_, at) => at * 7 + (at >> 9));
    await store.commit([{ op: "put", in: "outbox", key: "large", meta: "{}", body }]);
    await store.usage();
    const bytes = written() - before;
    for (let i = 0; i < 8; i++) await store.commit([{ op: "put", in: "chunk", key: "id/00000" + i, meta: "{}", body: body.subarray(i, i + 32768) }]);
    console.log(JSON.stringify({ bytes, sum: String(Bun.hash.xxHash3(body)) }));
    process.kill(process.pid, "SIGKILL");
  `;
  const child = Bun.spawn([process.execPath, "-e", source], { stdout: "pipe", stderr: "inherit" });
  const { bytes, sum } = JSON.parse(await new Response(child.stdout).text()) as {
    bytes: number;
    sum: string;
  };
  await child.exited;
  // Nothing is counted where the folder is not on a disk.
  expect(bytes).toBeLessThan(1.1 * 2 ** 24);
  expect(filesOf(path).length).toBe(2);
  const store = await open(path);
  const large = (await store.body("outbox", "large"))!;
  expect(String(Bun.hash.xxHash3(large))).toBe(sum);
  for (let i = 0; i < 8; i++)
    expect(Buffer.compare((await store.body("chunk", `id/00000${i}`))!, large.subarray(i, i + 32_768))).toBe(
      0,
    );
  await store.commit([{ op: "put", in: "outbox", key: "large", meta: '{"now":2}' }]);
  for (let i = 0; i < 7; i++) await store.commit([{ op: "delete", in: "chunk", key: `id/00000${i}` }]);
  await store.usage();
  expect(filesOf(path).length).toBe(2);
  await store.commit([{ op: "delete", in: "outbox", key: "large" }]);
  await store.commit([{ op: "delete", in: "chunk", key: "id/000007" }]);
  expect((await store.usage()).bytes).toBe(0);
  expect(filesOf(path)).toEqual([]);
  await store.close();
}, 20_000);

test("a body that begins with the chunks of a transfer is their file, and is copied where they do not lie one after the other", async () => {
  const path = join(scratch(), "godwit.db");
  let store = await open(path);
  const body = bodyOf(3, 200_001);
  const piece = (id: string, index: number, start: number, end: number): StoreOp => ({
    op: "put",
    in: "chunk",
    key: `${id}/${String(index).padStart(6, "0")}`,
    meta: "",
    body: body.subarray(start, end),
  });
  const ends = (id: string): StoreOp[] => [
    {
      op: "put",
      in: "transit",
      key: id,
      meta: "{}",
      head: { of: id, bytes: 150_000 },
      body: body.subarray(150_000),
    },
    { op: "delete", in: "chunk", key: `${id}/000000` },
    { op: "delete", in: "chunk", key: `${id}/000001` },
  ];
  // Of the second one a piece is written anew, the third is of an earlier life.
  for (const id of ["same", "anew", "early"]) {
    await store.commit([piece(id, 0, 0, 70_001)]);
    if (id === "anew") await store.commit([piece(id, 1, 70_001, 140_000)]);
    await store.commit([piece(id, 1, 70_001, 150_000)]);
  }
  const [same] = filesOf(path).sort();
  await store.commit(ends("same"));
  await store.commit(ends("anew"));
  await store.close();
  store = await open(path);
  await store.commit(ends("early"));
  const isWhole = async (from: SqliteStore) => {
    for (const id of ["same", "anew", "early"]) {
      expect([id, Buffer.compare((await from.body("transit", id))!, body)]).toEqual([id, 0]);
      const part = await from.piece("transit", id, 149_990, 20);
      expect(Buffer.compare(part!, body.subarray(149_990, 150_010))).toBe(0);
      expect((await from.piece("transit", id, 200_000, 20))!.length).toBe(1);
    }
    expect(await from.load("chunk")).toEqual([]);
  };
  await isWhole(store);
  await store.usage();
  const sizes = filesOf(path).map((name) => statSync(join(`${path}-bodies`, name)).size);
  expect(sizes).toEqual([200_001, 200_001, 200_001]);
  expect(filesOf(path)).toContain(same!);
  await store.close();
  const again = await open(path);
  await isWhole(again);
  await again.close();
});

test("a body keeps the file of its first chunk, when the database had that chunk already", async () => {
  for (const box of ["transit", "inbox"] as const) {
    const path = join(scratch(), "godwit.db");
    const store = await open(path);
    const body = bodyOf(5, 90_000);
    // What is to be set aside is none of the log's: all that is in it goes to the database.
    const toDatabase = () => store.commit([{ op: "set-aside", in: "setting", key: "nobody" }]);
    const chunk = body.subarray(0, 70_000);
    await store.commit([{ op: "put", in: "chunk", key: "id/000000", meta: "", body: chunk }]);
    await toDatabase();
    const put = { op: "put", in: box, key: "id", meta: "{}", head: { of: "id", bytes: 70_000 } } as const;
    await store.commit([
      { ...put, body: body.subarray(70_000) },
      { op: "delete", in: "chunk", key: "id/000000" },
    ]);
    await toDatabase();
    expect(filesOf(path).length).toBe(1);
    expect([box, Buffer.compare((await store.body(box, "id"))!, body)]).toEqual([box, 0]);
    await store.commit([{ op: "delete", in: box, key: "id" }]);
    await toDatabase();
    expect(filesOf(path)).toEqual([]);
    await store.close();
  }
});

test("a body whose first chunk is of an earlier life does not take a file for it that is as long by chance: a chunk was written twice", async () => {
  const path = join(scratch(), "godwit.db");
  const body = bodyOf(7, 100_000);
  const piece = (index: number, content: Uint8Array): StoreOp => ({
    op: "put",
    in: "chunk",
    key: `id/00000${index}`,
    meta: "",
    body: content,
  });
  let store = await open(path);
  await store.commit([piece(0, body.subarray(0, 40_000))]);
  await store.close();
  store = await open(path);
  // As after a commit that failed when its bodies were written already.
  for (let round = 0; round < 2; round++) await store.commit([piece(1, body.subarray(40_000, 80_000))]);
  await store.commit([
    {
      op: "put",
      in: "inbox",
      key: "id",
      meta: "{}",
      head: { of: "id", bytes: 80_000 },
      body: body.subarray(80_000),
    },
    { op: "delete", in: "chunk", key: "id/000000" },
    { op: "delete", in: "chunk", key: "id/000001" },
  ]);
  expect(Buffer.compare((await store.body("inbox", "id"))!, body)).toBe(0);
  await store.close();
});

test("a body is its chunks in their order, in whatever order they were written", async () => {
  const store = await open(join(scratch(), "godwit.db"));
  const body = bodyOf(8, 100_000);
  for (const index of [0, 2, 1])
    await store.commit([
      {
        op: "put",
        in: "chunk",
        key: `id/00000${index}`,
        meta: "",
        body: body.subarray(index * 30_000, (index + 1) * 30_000),
      },
    ]);
  await store.commit([
    {
      op: "put",
      in: "transit",
      key: "id",
      meta: "{}",
      head: { of: "id", bytes: 90_000 },
      body: body.subarray(90_000),
    },
    ...[0, 1, 2].map((index): StoreOp => ({ op: "delete", in: "chunk", key: `id/00000${index}` })),
  ]);
  expect(Buffer.compare((await store.body("transit", "id"))!, body)).toBe(0);
  await store.close();
});

test("a body does not take the chunks of another try for its own, which come with the same write", async () => {
  const store = await open(join(scratch(), "godwit.db"));
  const body = bodyOf(6, 100_000);
  const first = (end: number): StoreOp[] => [
    { op: "put", in: "chunk", key: "id/000000", meta: "", body: body.subarray(0, end) },
  ];
  await store.commit(first(70_000));
  const head = { of: "id", bytes: 70_000 };
  const whole: StoreOp = { op: "put", in: "inbox", key: "id", meta: "{}", head, body: body.subarray(70_000) };
  await Promise.allSettled([store.commit(first(50_000)), store.commit([whole])]);
  const held = await store.body("inbox", "id");
  if (held !== undefined) expect(Buffer.compare(held, body)).toBe(0);
  await store.close();
});

test("a large body whose file rotted or went away is shown to nobody, in the log or in the database: the row is named and set aside", async () => {
  for (const isInDatabase of [true, false])
    for (const harm of ["rot", "cut", "remove"]) {
      const path = join(scratch(), "godwit.db");
      const store = await open(path);
      await store.commit([{ op: "put", in: "inbox", key: "k", meta: "{}", body: bodyOf(1, 50_000) }]);
      await store.commit([{ op: "put", in: "inbox", key: "sound", meta: "{}", body: bodyOf(2, 50_000) }]);
      if (isInDatabase) await store.usage();
      const file = join(`${path}-bodies`, filesOf(path).sort()[0]!);
      const bytes = readFileSync(file);
      bytes[40_000]! ^= 1;
      if (harm === "remove") rmSync(file);
      else writeFileSync(file, harm === "cut" ? bytes.subarray(0, 40_000) : bytes);
      expect(await store.body("inbox", "k")).toBeUndefined();
      expect((await store.load("inbox")).map(({ key }) => key)).toEqual(["sound"]);
      expect(await store.body("inbox", "sound")).toEqual(bodyOf(2, 50_000));
      expect(store.state.damage).toEqual([{ in: "inbox", key: "k" }]);
      await store.close();
    }
});

test("a large body whose file cannot be opened just now is not called damaged, by a read or by a salvage, and is read later", async () => {
  for (const isSalvaged of [false, true]) {
    const path = join(scratch(), "godwit.db");
    let store = await open(path);
    await store.commit([{ op: "put", in: "inbox", key: "k", meta: "{}", body: bodyOf(1, 50_000) }]);
    await store.commit([{ op: "put", in: "peer", key: "k", meta: "x".repeat(2_000) }]);
    await store.close();
    if (isSalvaged) {
      const bytes = readFileSync(path);
      const page = Math.floor(bytes.indexOf("x".repeat(99)) / 4_096);
      writeFileSync(path, bytes.fill(0xee, page * 4_096, (page + 1) * 4_096));
    }
    const file = join(`${path}-bodies`, filesOf(path)[0]!);
    renameSync(file, `${path}-away`);
    // As when all of the files that a process may have open are sockets.
    symlinkSync(file, file);
    store = await open(path);
    await store.load("peer");
    expect(store.state.asideFile !== undefined).toBe(isSalvaged);
    for (const read of [store.body("inbox", "k"), store.piece("inbox", "k", 0, 9)])
      expect(await read.catch((error: unknown) => (error as { code: string }).code)).toBe(
        "GODWIT_STORE_FAILED",
      );
    expect(store.state.damage.filter((one) => one.in === "inbox")).toEqual([]);
    renameSync(`${path}-away`, file);
    expect(Buffer.compare((await store.body("inbox", "k"))!, bodyOf(1, 50_000))).toBe(0);
    await store.close();
  }
});

test("a large body that found no room leaves nothing of it on the disk that it filled, and takes no other message with it", async () => {
  const path = join(scratch(), "godwit.db");
  const source = `
    import { openSqliteStore } from ${JSON.stringify(join(import.meta.dir, "../../runtime/store/sqlite.ts"))};
    import { silentLog } from ${JSON.stringify(join(import.meta.dir, "../../runtime/kernel/log.ts"))};
    const store = await openSqliteStore({ path: ${JSON.stringify(path)}, log: silentLog });
    const put = (key, bytes) => store.commit([{ op: "put", in: "outbox", key, meta: "{}", body: new Uint8Array(bytes) }]);
    await put("sound", 100_000);
    const refused = await put("large", 1 << 24).then(() => undefined, (error) => error.code);
    const both = await Promise.all([put("other", 90_000), put("large", 1 << 24)].map((one) => one.then(() => "kept", (error) => error.code)));
    await put("later", 100_000);
    console.log(refused, ...both);
    process.kill(process.pid, "SIGKILL");
  `;
  // No file becomes larger than 10 MiB: what the disk does not give is refused in the middle of a write.
  const limited = 'trap "" XFSZ; ulimit -f 10240; exec "$0" -e "$1"';
  const run = Bun.spawnSync({ cmd: ["bash", "-c", limited, process.execPath, source], stderr: "inherit" });
  expect(run.stdout.toString().trim()).toBe("GODWIT_STORE_FAILED kept GODWIT_STORE_FAILED");
  const sizes = filesOf(path).map((name) => statSync(join(`${path}-bodies`, name)).size);
  expect(sizes.sort((a, b) => a - b)).toEqual([90_000, 100_000, 100_000]);
  const store = await open(path);
  expect((await store.load("outbox")).map(({ key }) => key)).toEqual(["later", "other", "sound"]);
  await store.close();
}, 20_000);

test("files of bodies that no row names any more are gone after a start", async () => {
  const path = join(scratch(), "godwit.db");
  const store = await open(path);
  await store.commit([{ op: "put", in: "inbox", key: "k", meta: "{}", body: bodyOf(1, 50_000) }]);
  await store.close();
  writeFileSync(join(`${path}-bodies`, "0000000000ff"), "written for a commit that never was");
  const again = await open(path);
  expect(filesOf(path).length).toBe(1);
  expect(await again.body("inbox", "k")).toEqual(bodyOf(1, 50_000));
  await again.close();
});

test("a secret that was deleted is gone from both logs and the database within a minute, and one that was replaced from its log", async () => {
  const path = join(scratch(), "godwit.db");
  const clock = new ManualClock();
  const store = await open(path, { clock });
  const holds = (text: string): boolean => readFileSync(`${path}-log`).includes(text);
  const old = '{"secret":"old-secret"}';
  await store.commit([{ op: "put", in: "setting", key: "prekey/0", meta: old }]);
  await store.usage();
  expect(readFileSync(`${path}-wal`).includes("old-secret")).toBe(true);
  await store.commit([{ op: "put", in: "setting", key: "prekey/1", meta: '{"secret":"first-secret"}' }]);
  await store.commit([{ op: "put", in: "setting", key: "prekey/2", meta: '{"secret":"second-secret"}' }]);
  await store.commit([
    { op: "delete", in: "setting", key: "prekey/0" },
    { op: "delete", in: "setting", key: "prekey/1" },
    { op: "put", in: "setting", key: "prekey/2", meta: "{}" },
  ]);
  expect([holds("first-secret"), holds("second-secret")]).toEqual([true, true]);
  await clock.advance(60_000);
  // Behind what the clock began.
  await store.usage();
  expect([holds("first-secret"), holds("second-secret")]).toEqual([false, false]);
  // In a quiet moment of the database.
  const isLeft = (): boolean =>
    ["", "-wal"].some((name) => readFileSync(`${path}${name}`).includes("old-secret"));
  const endMs = performance.now() + 5_000;
  while (isLeft() && performance.now() < endMs) await store.load("peer");
  expect(isLeft()).toBe(false);
  expect((await store.load("setting")).map(({ key }) => key)).toEqual(["prekey/2"]);
  await store.commit([{ op: "put", in: "peer", key: "k", meta: "{}" }]);
  await store.close();
  const again = await open(path);
  expect((await again.load("peer")).length).toBe(1);
  expect(again.state.damageCount).toBe(0);
  await again.close();
});

test("rows that find no room in the database stay in the log: they are read, and are there after a kill", async () => {
  const path = join(scratch(), "godwit.db");
  const { fold } = StoreThread.prototype;
  const store = await open(path);
  await store.commit([{ op: "put", in: "peer", key: "a", meta: '"first"', body: bodyOf(1, 20) }]);
  StoreThread.prototype.fold = async () => ({
    failures: [{ index: 0, isFull: true, message: "no room" }],
    values: new Map(),
    grantBytes: Number.POSITIVE_INFINITY,
  });
  try {
    const refused = () =>
      store.usage().then(
        () => "",
        (error: unknown) => String(error),
      );
    const first = refused();
    await store.commit([{ op: "put", in: "peer", key: "a", meta: '"second"' }]);
    expect(await first).toContain("no room");
    expect(await refused()).toContain("no room");
    await store.commit([{ op: "put", in: "peer", key: "b", meta: "{}" }]);
    const rows = [
      { key: "a", meta: '"second"', bodyBytes: 20 },
      { key: "b", meta: "{}", bodyBytes: 0 },
    ];
    expect(await store.load("peer")).toEqual(rows);
    expect(await store.body("peer", "a")).toEqual(bodyOf(1, 20));
    // Closes without room.
    await store.close();
    StoreThread.prototype.fold = fold;
    const again = await open(path);
    expect(await again.load("peer")).toEqual(rows);
    expect(await again.body("peer", "a")).toEqual(bodyOf(1, 20));
    expect(again.state.damageCount).toBe(0);
    await again.close();
  } finally {
    StoreThread.prototype.fold = fold;
  }
});

test.each(["half", "whole"])(
  "a commit that the medium refuses after %s of it was written was not applied, not even for the start after a kill",
  async (how) => {
    const path = join(scratch(), "godwit.db");
    const child = Bun.spawn([process.execPath, "-e", refusedSource(path, how)], {
      stdout: "pipe",
      stderr: "inherit",
    });
    expect(JSON.parse(await new Response(child.stdout).text())).toEqual({
      code: "GODWIT_STORE_FAILED",
      isFull: true,
      rows: ["before"],
    });
    await child.exited;
    const store = await open(path);
    expect((await store.load("peer")).map(({ key }) => key)).toEqual(["before"]);
    await store.commit([{ op: "put", in: "peer", key: "after", meta: "{}" }]);
    expect(store.state.damageCount).toBe(0);
    await store.close();
  },
);

test("a file system that does not pass by the cache of the kernel holds a log as well", async () => {
  const path = join(scratch(), "godwit.db");
  const source = `
    const fs = require("node:fs");
    const { openSync } = fs;
    let refused = 0;
    fs.openSync = (name, flags, mode) => {
      if (typeof flags === "number" && (flags & fs.constants.O_DIRECT) !== 0 && ++refused > 0)
        throw Object.assign(new Error("invalid argument"), { code: "EINVAL" });
      return openSync(name, flags, mode);
    };
    const { openSqliteStore } = await import(${JSON.stringify(join(import.meta.dir, "../../runtime/store/sqlite.ts"))});
    const { silentLog } = await import(${JSON.stringify(join(import.meta.dir, "../../runtime/kernel/log.ts"))});
    const store = await openSqliteStore({ path: ${JSON.stringify(path)}, log: silentLog });
    for (let i = 0; i < 5; i++) await store.commit([{ op: "put", in: "peer", key: "k" + i, meta: "{}" }]);
    fs.writeSync(1, String(refused));
    process.kill(process.pid, "SIGKILL");
  `;
  const child = Bun.spawn([process.execPath, "-e", source], { stdout: "pipe", stderr: "inherit" });
  expect(await new Response(child.stdout).text()).toBe("1");
  await child.exited;
  const store = await open(path);
  expect((await store.load("peer")).length).toBe(5);
  await store.close();
});

/** Its second commit meets a medium that fails. */
const refusedSource = (path: string, how: string): string => `
  const fs = require("node:fs");
  const { write } = fs;
  let isFailing = false;
  fs.write = (file, bytes, at, length, position, done) => {
    if (!isFailing) return write(file, bytes, at, length, position, done);
    isFailing = false;
    const part = ${how === "half"} ? 2048 : length;
    fs.writeSync(fs.openSync(${JSON.stringify(`${path}-log`)}, "r+"), bytes, at, part, position);
    queueMicrotask(() => done(Object.assign(new Error("no space left on device"), { code: "ENOSPC" }), 0));
  };
  const { openSqliteStore } = await import(${JSON.stringify(join(import.meta.dir, "../../runtime/store/sqlite.ts"))});
  const { silentLog } = await import(${JSON.stringify(join(import.meta.dir, "../../runtime/kernel/log.ts"))});
  const store = await openSqliteStore({ path: ${JSON.stringify(path)}, log: silentLog });
  await store.commit([{ op: "put", in: "peer", key: "before", meta: "{}" }]);
  isFailing = true;
  const refused = await store.commit([{ op: "put", in: "peer", key: "refused", meta: "m".repeat(3000) }]).then(() => undefined, (error) => error);
  const rows = (await store.load("peer")).map(({ key }) => key);
  console.log(JSON.stringify({ code: refused?.code, isFull: refused?.message.includes("disk is full"), rows }));
  process.kill(process.pid, "SIGKILL");
`;

/** Where a process may die; each is passed several times. */
const STEPS = [
  "body:before",
  "body:after",
  "append:before",
  "append:after",
  "fold:before",
  "fold:after",
  "release:before",
  "release:after",
  "sweep:after",
  "close:before",
  "close:after",
] as const;

describe("kill -9", () => {
  test.each(STEPS.flatMap((step) => [1, 2, 7].map((count) => [step, count] as const)))(
    "at %s, time %d: what was acknowledged is there, commits are whole, and nothing that was deleted came back",
    async (step, count) => {
      const path = join(scratch(), "godwit.db");
      const child = Bun.spawn([process.execPath, "-e", writerSource(path, step, count)], {
        stdout: "pipe",
        stderr: "inherit",
      });
      const lines = (await new Response(child.stdout).text())
        .trim()
        .split("\n")
        .filter((line) => line !== "");
      await child.exited;
      expect(child.signalCode).toBe("SIGKILL");
      const acked = lines.map(Number);
      for (const life of [1, 2]) {
        const store = await open(path);
        expect([life, store.state.damageCount]).toEqual([life, 0]);
        const rows = new Map((await store.load("outbox")).map((row) => [row.key, row]));
        const last = Math.max(-1, ...acked);
        // One more may have become durable without anybody knowing.
        const next = rows.has(`a${last + 1}`) ? last + 1 : last;
        for (let i = 0; i <= next; i++) {
          const isGone = i + 3 <= next;
          expect([i, rows.has(`a${i}`), rows.has(`b${i}`)]).toEqual([i, !isGone, true]);
          expect(rows.get(`b${i}`)!.meta).toBe(i + 1 <= next ? '"late"' : '"early"');
          const body = await store.body("outbox", `b${i}`);
          expect(Buffer.compare(body!, bodyOf(i, i % 4 === 0 ? 30_000 : 900))).toBe(0);
        }
        expect(rows.size).toBe(next + 1 + Math.min(3, next + 1));
        expect((await store.load("setting")).length).toBe(next < 0 ? 0 : 1);
        if (life === 2) await store.usage();
        await store.close();
      }
    },
    20_000,
  );
});

/** One commit after the other, each with rows that come, change and go; dies at the step. */
const writerSource = (path: string, step: string, count: number): string => `
  import { writeSync } from "node:fs";
  import { BodyFiles } from ${JSON.stringify(join(import.meta.dir, "../../runtime/store/body-files.ts"))};
  import { CommitLog } from ${JSON.stringify(join(import.meta.dir, "../../runtime/store/commit-log.ts"))};
  import { openSqliteStore } from ${JSON.stringify(join(import.meta.dir, "../../runtime/store/sqlite.ts"))};
  import { StoreThread } from ${JSON.stringify(join(import.meta.dir, "../../runtime/store/sqlite-thread.ts"))};
  import { silentLog } from ${JSON.stringify(join(import.meta.dir, "../../runtime/kernel/log.ts"))};
  let left = ${count};
  let isReady = false;
  const reach = (step) => {
    if (isReady && step === ${JSON.stringify(step)} && --left === 0) process.kill(process.pid, "SIGKILL");
  };
  const wrap = (prototype, method, name) => {
    const real = prototype[method];
    prototype[method] = function (...args) {
      reach(name + ":before");
      const result = real.apply(this, args);
      if (!(result instanceof Promise)) {
        reach(name + ":after");
        return result;
      }
      return result.then((value) => {
        reach(name + ":after");
        return value;
      });
    };
  };
  wrap(BodyFiles.prototype, "write", "body");
  wrap(BodyFiles.prototype, "sweep", "sweep");
  wrap(CommitLog.prototype, "append", "append");
  wrap(CommitLog.prototype, "release", "release");
  wrap(CommitLog.prototype, "close", "close");
  wrap(StoreThread.prototype, "fold", "fold");
  const open = () => openSqliteStore({ path: ${JSON.stringify(path)}, log: silentLog, logBytes: ${SMALL_LOG_BYTES} });
  const bodyOf = ${bodyOf.toString()};
  let store = await open();
  isReady = true;
  for (let i = 0; ; i++) {
    const ops = [
      { op: "put", in: "outbox", key: "a" + i, meta: '"short"', body: bodyOf(i, 5_000) },
      { op: "put", in: "outbox", key: "b" + i, meta: '"early"', body: bodyOf(i, i % 4 === 0 ? 30_000 : 900) },
      { op: "put", in: "setting", key: "last", meta: String(i) },
    ];
    if (i > 0) ops.push({ op: "put", in: "outbox", key: "b" + (i - 1), meta: '"late"' });
    if (i > 2) ops.push({ op: "delete", in: "outbox", key: "a" + (i - 3) });
    await store.commit(ops);
    writeSync(1, i + "\\n");
    if (i % 10 !== 9) continue;
    await store.close();
    store = await open();
  }
`;
