import { Database } from "bun:sqlite";
import { describe, afterEach, expect, test } from "bun:test";
import { chmodSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Clock, nextTurn, systemClock } from "../kernel/clock.ts";
import { GodwitError } from "../kernel/errors.ts";
import { silentLog } from "../kernel/log.ts";
import { Metrics } from "../kernel/metrics.ts";
import { SqliteStore } from "./sqlite.ts";
import { storeSuite } from "./suite.ts";
import type { StoreOp } from "./types.ts";
import { put, directories, scratch, open, moduleHead } from "./testing-sqlite.ts";

/** Of a closed store: one byte of a row on the medium. */
function flip(path: string, collection: string, key: string): void {
  const db = new Database(path, { readonly: true });
  const [meta, inline, id] = db
    .query(`SELECT meta, body, body_id FROM "${collection}" WHERE key = ?`)
    .values(key)[0] as [string, Uint8Array | null, number | null];
  const content = id === null ? inline : db.query("SELECT content FROM body WHERE id = ?").values(id)[0]![0];
  db.close();
  const bytes = readFileSync(path);
  const what =
    content === null ? Buffer.from(key + meta) : Buffer.from(content as Uint8Array).subarray(0, 300);
  // A page that was rearranged holds what is left of earlier copies.
  let found = 0;
  for (let at = bytes.indexOf(what); at >= 0; at = bytes.indexOf(what, at + 1), found++) {
    const where = at + what.length - 2;
    bytes[where] = content === null ? "7".charCodeAt(0) : bytes[where]! ^ 1;
  }
  expect(found).toBeGreaterThan(0);
  writeFileSync(path, bytes);
}

afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
});

async function failure(promise: Promise<unknown>): Promise<GodwitError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof GodwitError) return error;
    throw error;
  }
  throw new Error("it did not fail");
}

const canMount =
  Bun.which("unshare") !== null &&
  Bun.spawnSync(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], { stderr: "ignore" }).exitCode ===
    0;

storeSuite("sqlite", async () => {
  const path = join(scratch(), "state", "godwit.db");
  return {
    open: () => open(path, { bytesMax: 40 * 1024 * 1024 }),
    settle: (promise) => promise,
    full: () => ({ ops: [put("ballast", 48 * 1024 * 1024)], end() {} }),
    rot: async (collection, key) => flip(path, collection, key),
    dispose: async () => {},
  };
});

describe("the sqlite store", () => {
  test("file and folder are the owner's alone, whatever the mode of an older file was", async () => {
    const folder = join(scratch(), "deep", "state");
    const path = join(folder, "godwit.db");
    const store = await open(path);
    await store.commit([put("k", 100)]);
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    for (const file of [path, `${path}-wal`]) expect(statSync(file).mode & 0o777).toBe(0o600);
    await store.close();
    // The log stays, as room for a start on a full disk; but nothing is in it that could be played over another file.
    const log = readFileSync(`${path}-wal`);
    expect([log.length > 0, log.subarray(0, 32).every((byte) => byte === 0)]).toEqual([true, true]);
    chmodSync(path, 0o644);
    const again = await open(path);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    await again.close();
  });

  test("one commit that finds no room fails alone, among others of its batch", async () => {
    const store = await open(join(scratch(), "a.db"), { bytesMax: 1024 * 1024 });
    const commits = [put("a", 10), put("big", 2 * 1024 * 1024), put("b", 10)].map((op) => store.commit([op]));
    const row = store.body("outbox", "a");
    const results = await Promise.allSettled(commits);
    expect(results.map((result) => result.status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect((await row)?.length).toBe(10);
    expect((await failure(commits[1]!)).message).toContain("disk is full");
    expect((await store.load("outbox")).map((found) => found.key)).toEqual(["a", "b"]);
    expect(store.pendingOps).toBe(0);
    await store.close();
  });

  test("an error that is not a full disk fails its commit alone as well, and one found behind the log is told and holds up nothing", async () => {
    const path = join(scratch(), "a.db");
    await (await open(path)).close();
    const db = new Database(path);
    db.run(
      `CREATE TRIGGER refuse BEFORE INSERT ON outbox WHEN new.key = 'bad' BEGIN SELECT RAISE(ABORT, 'refused'); END`,
    );
    db.close();
    const store = await open(path);
    // No commit of the log, as it sets a row aside.
    const aside: StoreOp = { op: "set-aside", in: "outbox", key: "none" };
    const groups = [[put("a")], [aside, put("x", 5), put("bad"), put("y")], [put("b")]];
    const results = await Promise.allSettled(groups.map((ops) => store.commit(ops)));
    expect(results.map((result) => result.status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect((await store.load("outbox")).map((row) => row.key)).toEqual(["a", "b"]);
    expect((await store.usage()).bytes).toBe(4);
    await store.commit([put("c"), put("bad"), put("d")]);
    expect((await store.usage()).bytes).toBe(8);
    expect((await store.load("outbox")).map((row) => row.key)).toEqual(["a", "b", "c", "d"]);
    expect(store.state.damage).toEqual([{ in: "outbox", key: "bad" }]);
    await store.close();
  });

  test.skipIf(!canMount)(
    `a disk that is really full refuses, reads, deletes and takes again${canMount ? "" : " [skipped: this user may not mount a tmpfs]"}`,
    async () => {
      const folder = scratch();
      const child = Bun.spawn(
        [
          "unshare",
          "-rm",
          "sh",
          "-c",
          `mount -t tmpfs -o size=12m none "$1" && exec "$2" -e "$3"`,
          "sh",
        ].concat(folder, process.execPath, fillerSource(join(folder, "state", "a.db"))),
        { stdout: "pipe", stderr: "inherit" },
      );
      const seen = JSON.parse(await new Response(child.stdout).text()) as Record<string, unknown>;
      expect(await child.exited).toBe(0);
      expect(seen).toMatchObject({ refused: true, readable: true, deleted: 40, stuck: true, freed: true });
      expect(seen["held"]).toBeGreaterThan(40);
      expect(seen["again"]).toBeGreaterThan(20);
    },
  );

  test("a database filled to the brim still deletes, and takes messages again afterwards", async () => {
    const store = await open(join(scratch(), "a.db"), { bytesMax: 2 * 1024 * 1024 });
    let held = 0;
    const fits = (key: string) =>
      store.commit([put(key, 100_000)]).then(
        () => true,
        () => false,
      );
    while (held < 100 && (await fits(`k${held}`))) held++;
    expect(held).toBeGreaterThan(10);
    expect(held).toBeLessThan(25);
    await store.commit([{ op: "delete", in: "outbox", key: "k0" }]);
    await store.commit([put("again", 90_000)]);
    await store.close();
  });

  test("another process that holds the file is named, and its end frees it", async () => {
    const path = join(scratch(), "a.db");
    const child = Bun.spawn([process.execPath, "-e", holderSource(path)], {
      stdout: "pipe",
      stderr: "inherit",
    });
    try {
      await firstLine(child.stdout);
      const refused = await failure(open(path));
      expect(refused.code).toBe("GODWIT_STATE_UNUSABLE");
      expect(refused.message).toContain("another node uses");
    } finally {
      child.kill("SIGKILL");
      await child.exited;
    }
    const store = await open(path);
    expect((await store.load("outbox")).map((row) => row.key)).toEqual(["held"]);
    await store.close();
  });

  test("somebody else's database is refused, with advice, and stays as it is", async () => {
    const path = join(scratch(), "foreign.db");
    const db = new Database(path);
    db.run("CREATE TABLE theirs (x)");
    db.close();
    const before = readFileSync(path);
    const refused = await failure(open(path));
    expect(refused.code).toBe("GODWIT_STORE_CORRUPT");
    expect(refused.message).toContain("move");
    expect(readFileSync(path).equals(before)).toBe(true);
  });

  test("a folder that cannot be made is named", async () => {
    const file = join(scratch(), "file");
    writeFileSync(file, "");
    const refused = await failure(open(join(file, "state", "a.db")));
    expect(refused.code).toBe("GODWIT_STATE_UNUSABLE");
    expect(refused.message).toContain(file);
  });

  test("a worker that ends rejects all that is pending and all that comes, and close returns", async () => {
    const url = URL.createObjectURL(
      new Blob([
        `self.onmessage = ({ data }) => data.kind === "open" ? postMessage({ kind: "opened" }) : process.exit(1);`,
      ]),
    );
    const store = new SqliteStore(new Worker(url), { path: "nowhere", log: silentLog });
    await store.opened;
    const pending = Array.from({ length: 1_000 }, (_, i) => store.commit([put(String(i))]));
    const results = await Promise.allSettled([...pending, store.load("inbox")]);
    expect(results.every((result) => result.status === "rejected")).toBe(true);
    expect((await failure(store.commit([]))).code).toBe("GODWIT_STORE_FAILED");
    expect(store.pendingOps).toBe(0);
    await store.close();
    URL.revokeObjectURL(url);
  });

  test("metrics count commits by result and batches", async () => {
    const metrics = new Metrics();
    const store = await open(join(scratch(), "a.db"), { metrics, clock: systemClock, bytesMax: 1024 * 1024 });
    await Promise.all(Array.from({ length: 500 }, (_, i) => store.commit([put(String(i))])));
    await store.commit([put("big", 2 * 1024 * 1024)]).catch(() => {});
    const text = await metrics.render();
    expect(text).toContain('godwit_store_commits_total{result="durable"} 500');
    expect(text).toContain('godwit_store_commits_total{result="failed"} 1');
    expect(text).toContain("godwit_store_commit_seconds_count 501");
    expect(Number(/godwit_store_batches_total (\d+)/.exec(text)![1])).toBeLessThan(20);
    await store.close();
  });

  test("metrics time each write to the log, however many commits are in it", async () => {
    const metrics = new Metrics();
    const store = await open(join(scratch(), "a.db"), { metrics, clock: systemClock });
    const counts: (string | undefined)[] = [];
    for (const count of [1, 1, 50]) {
      await Promise.all(
        Array.from({ length: count }, (_, i) => store.commit([put(`${counts.length} ${i}`)])),
      );
      counts.push(/godwit_store_write_seconds_count (\d+)/.exec(await metrics.render())?.[1]);
    }
    expect(counts).toEqual(["1", "2", "3"]);
    await store.close();
  });

  test("commits of turns that follow each other go in one write", async () => {
    const metrics = new Metrics();
    // Its time stands, so that a crowd is waited for, however slow this machine is.
    const clock: Clock = { ...systemClock, monotonicMs: () => 0 };
    const store = await open(join(scratch(), "a.db"), { metrics, clock });
    const commits: Promise<void>[] = [];
    for (let i = 0; i < 20; i++) {
      commits.push(store.commit([put(`k${i}`)]));
      await nextTurn();
    }
    await Promise.all(commits);
    expect(await metrics.render()).toContain("godwit_store_write_seconds_count 1\n");
    await store.close();
  });
});

/** Fills a tiny disk with messages, empties some of it, then lets somebody else fill it to the last block. */
const fillerSource = (path: string): string => `${moduleHead}
  import { unlinkSync, writeFileSync } from "node:fs";
  const path = ${JSON.stringify(path)};
  let store = await openSqliteStore({ path, log: silentLog });
  const body = new Uint8Array(50_000).fill(1);
  const works = (ops) => store.commit(ops).then(() => true, (error) => {
    if (error.code !== "GODWIT_STORE_FAILED") throw error;
    return false;
  });
  const put = (key) => works([{ op: "put", in: "outbox", key, meta: "{}", body }]);
  let held = 0;
  while (held < 500 && (await put("k" + held))) held++;
  const refused = !(await put("more"));
  const readable = (await store.load("outbox")).length === held && (await store.body("outbox", "k0"))?.length === 50_000;
  let deleted = 0;
  while (deleted < 40 && (await works([{ op: "delete", in: "outbox", key: "k" + deleted }]))) deleted++;
  let again = 0;
  while (again < 500 && (await put("n" + again))) again++;
  const ballast = path + ".ballast";
  try { writeFileSync(ballast, new Uint8Array(64 << 20)); } catch {}
  const stuck = !(await put("z"));
  unlinkSync(ballast);
  await works([{ op: "delete", in: "outbox", key: "n0" }]);
  const rows = (await store.load("outbox")).length;
  await store.close();
  store = await openSqliteStore({ path, log: silentLog });
  const freed = rows === held - deleted + again - 1 && (await store.load("outbox")).length === rows;
  await store.close();
  console.log(JSON.stringify({ held, refused, readable, deleted, again, stuck, freed }));
`;
const holderSource = (path: string): string => `${moduleHead}
  const store = await openSqliteStore({ path: ${JSON.stringify(path)}, log: silentLog });
  await store.commit([{ op: "put", in: "outbox", key: "held", meta: "{}" }]);
  console.log("ready");
`;

async function firstLine(stream: ReadableStream<Uint8Array>): Promise<void> {
  const reader = stream.getReader();
  await reader.read();
  reader.releaseLock();
}
