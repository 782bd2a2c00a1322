/** An inbox that an earlier release filled: its rows have neither places nor groups, and get them while the process is killed again and again. */
import { Database } from "bun:sqlite";
import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "../../kernel/log.ts";
import type { MessageId } from "../../kernel/ids.ts";
import { openSqliteStore } from "../../store/sqlite.ts";
import { migrations } from "../../store/sqlite-schema.ts";
import { testId } from "../testing.ts";
import { groupOf } from "./inbox-shares.ts";
import { openTestInbox } from "./testing.ts";
import type { InboxEntry } from "./inbox.ts";

/** Of the last release whose rows have no places. */
const OLD_SCHEMA = 2;
const ROWS = 4_000;
const KILLS = 6;

const directories: string[] = [];
afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
});

/** In no order of keys. */
const idAt = (n: number): MessageId =>
  new Bun.CryptoHasher("sha256").update(String(n)).digest("hex").slice(0, 32) as MessageId;
const bodyAt = (n: number): Uint8Array => new Uint8Array(20 + (n % 50) * 100).fill(n);

function entryAt(n: number): InboxEntry {
  return {
    id: idAt(n),
    from: testId(`sender ${n % 7}`),
    to: "DUN-A",
    subject: "",
    contentType: "text/plain",
    priority: 2,
    size: bodyAt(n).length,
    createdAtMs: 1_800_000_000_000,
    // A clock that went backwards all the time.
    deliveredAtMs: 1_800_000_000_000 - n,
    forwardSecret: true,
    isUnconfirmed: false,
    trace: [],
    ...(n % 3 === 0 ? {} : { atRunMs: 1_000 + n }),
    ...(n % 2 === 0 ? {} : { via: "192.0.2.1" }),
  };
}

function fillOldStore(path: string): void {
  const db = new Database(path, { create: true });
  for (const migration of migrations.slice(0, OLD_SCHEMA))
    for (const statement of migration) db.run(statement);
  db.run(`PRAGMA application_id = ${0x47647774}`);
  db.run(`PRAGMA user_version = ${OLD_SCHEMA}`);
  const put = db.prepare("INSERT INTO inbox (key, meta, body) VALUES (?, ?, ?)");
  db.transaction(() => {
    for (let n = 0; n < ROWS; n++) put.run(idAt(n), JSON.stringify(entryAt(n)), bodyAt(n));
    // One that nobody can read costs itself alone.
    put.run("torn", "{", null);
  })();
  db.run(
    "UPDATE store_usage SET bytes = (SELECT sum(octet_length(meta) + coalesce(length(body), 0)) FROM inbox)",
  );
  put.finalize();
  db.close(true);
}

const adopterSource = (path: string): string => `
  import { openTestInbox } from ${JSON.stringify(join(import.meta.dir, "testing.ts"))};
  import { openSqliteStore } from ${JSON.stringify(join(import.meta.dir, "../../store/sqlite.ts"))};
  import { silentLog } from ${JSON.stringify(join(import.meta.dir, "../../kernel/log.ts"))};
  const store = await openSqliteStore({ path: ${JSON.stringify(path)}, log: silentLog });
  const { inbox } = openTestInbox(store);
  await inbox.load();
  console.log(inbox.count);
  for (;;) {
    const { groups } = await store.totals("inbox");
    console.log(groups.find(({ group }) => group === "")?.count ?? 0);
  }
`;

/** Lets a process take rows over until it has done `wanted` of them, and kills it; answers how many are left. */
async function adoptSome(path: string, wanted: number): Promise<number> {
  const child = Bun.spawn([process.execPath, "-e", adopterSource(path)], {
    stdout: "pipe",
    stderr: "inherit",
  });
  let [rest, left] = ["", Number.NaN];
  for await (const chunk of child.stdout) {
    const lines = (rest + new TextDecoder().decode(chunk)).split("\n");
    rest = lines.pop()!;
    if (lines.length > 0) left = Number(lines.at(-1));
    if (left <= wanted) child.kill("SIGKILL");
  }
  await child.exited;
  return left;
}

test("rows of an earlier release keep the order in which they came, and count to whom they are of, whenever the process is killed meanwhile", async () => {
  const directory = mkdtempSync(join(tmpdir(), "godwit-older-"));
  directories.push(directory);
  const path = join(directory, "godwit.db");
  fillOldStore(path);
  const left: number[] = [];
  for (let kill = 1; kill <= KILLS; kill++)
    left.push(await adoptSome(path, Math.max(0, ROWS - (kill * ROWS) / KILLS)));
  expect(left.filter((rows) => rows > 0 && rows < ROWS).length).toBeGreaterThan(1);
  expect(left.at(-1)).toBe(0);
  const store = await openSqliteStore({ path, log: silentLog });
  const { inbox } = openTestInbox(store);
  try {
    await inbox.load();
    expect([inbox.count, inbox.bytes]).toEqual([
      ROWS,
      Array.from({ length: ROWS }, (_, n) => bodyAt(n).length).reduce((a, b) => a + b),
    ]);
    const page = await inbox.page({ order: "oldest-first", limit: ROWS + 1 });
    expect(page.map(({ id }) => id)).toEqual(Array.from({ length: ROWS }, (_, n) => idAt(n)));
    expect(page.every(({ atRunMs }) => atRunMs !== undefined)).toBe(true);
    const { groups, last } = await store.totals("inbox");
    const wanted = new Map<string, number>();
    for (let n = 0; n < ROWS; n++)
      wanted.set(groupOf(entryAt(n)), (wanted.get(groupOf(entryAt(n))) ?? 0) + 1);
    expect(new Map(groups.map(({ group, count }) => [group, count]))).toEqual(wanted);
    expect(last).toBe(ROWS);
    for (let n = 0; n < ROWS; n += 97) expect(Buffer.compare(await inbox.body(idAt(n)), bodyAt(n))).toBe(0);
    expect((await store.load("damaged")).map(({ key }) => key.split("/").at(-1))).toEqual(["torn"]);
    // New mail comes behind it.
    await store.commit([inbox.add({ ...entryAt(ROWS), atRunMs: 1 }, bodyAt(ROWS))]);
    expect((await inbox.page({ order: "newest-first", limit: 2 })).map(({ id }) => id)).toEqual([
      idAt(ROWS),
      idAt(ROWS - 1),
    ]);
  } finally {
    inbox.stop();
    await store.close();
  }
}, 60_000);
