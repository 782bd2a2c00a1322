/** An inbox whose groups the disk damaged: it counts what is there, and each message to whom it is of, without a restart. */
import { Database } from "bun:sqlite";
import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { nextTurn } from "../../kernel/clock.ts";
import type { MessageId } from "../../kernel/ids.ts";
import { silentLog } from "../../kernel/log.ts";
import { openSqliteStore } from "../../store/sqlite.ts";
import type { StoreOp } from "../../store/types.ts";
import { testId } from "../testing.ts";
import { groupOf } from "./inbox-shares.ts";
import type { InboxEntry } from "./inbox.ts";
import { openTestInbox } from "./testing.ts";

/** So many that the store does not look at their places before it answers. */
const ROWS = 21_000;
const SENDERS = 6;
const HOUR_MS = 3_600_000;

const directories: string[] = [];
afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
});

const entryAt = (n: number): InboxEntry => ({
  id: n.toString(16).padStart(32, "0") as MessageId,
  from: testId(`sender ${n % SENDERS}`),
  to: "DUN-A",
  subject: "",
  contentType: "text/plain",
  priority: 2,
  size: 0,
  createdAtMs: 1_800_000_000_000,
  deliveredAtMs: 1_800_000_000_000,
  forwardSecret: true,
  isUnconfirmed: false,
  trace: [],
  atRunMs: 1_000,
});

test("groups of the inbox that rotted are counted anew while the node runs, and their messages get them back", async () => {
  const directory = mkdtempSync(join(tmpdir(), "godwit-rotten-places-"));
  directories.push(directory);
  const path = join(directory, "godwit.db");
  const made = await openSqliteStore({ path, log: silentLog });
  for (let at = 0; at < ROWS; at += 1_000)
    await made.commit(
      Array.from({ length: 1_000 }, (_, more): StoreOp => {
        const entry = entryAt(at + more);
        const slot = { order: at + more + 1, group: groupOf(entry) };
        return { op: "put", in: "inbox", key: entry.id, meta: JSON.stringify(entry), slot };
      }),
    );
  await made.close();
  const db = new Database(path);
  db.run("UPDATE slot_group SET count = count + 4096 WHERE name = ?", [groupOf(entryAt(1))]);
  db.run("UPDATE inbox_slot SET grp = grp + 1 WHERE slot = 4");
  db.close();

  const store = await openSqliteStore({ path, log: silentLog });
  const { inbox, clock } = openTestInbox(store, { limits: { inboxMessagesMax: 10 * ROWS } });
  try {
    await inbox.load();
    expect(inbox.count).toBe(ROWS + 4_096);
    const looked = Promise.withResolvers<void>();
    store.onState(() => store.state.recounts > 0 && looked.resolve());
    await store.commit([{ op: "put", in: "peer", key: "k", meta: "{}" }]);
    // The log comes to the database, and a quiet moment after it.
    await store.usage();
    await looked.promise;
    await inbox.page({ order: "newest-first", limit: 1 });
    // The sums are read behind the page.
    await store.totals("inbox");
    expect(inbox.count).toBe(ROWS);
    await clock.advance(HOUR_MS);
    const groups = async (): Promise<[string, number][]> =>
      (await store.totals("inbox")).groups.map(({ group, count }) => [group, count]);
    while ((await groups()).some(([group]) => group === "")) await nextTurn();
    expect(new Map(await groups())).toEqual(
      new Map(Array.from({ length: SENDERS }, (_, n) => [groupOf(entryAt(n)), ROWS / SENDERS])),
    );
    expect(inbox.count).toBe(ROWS);
  } finally {
    inbox.stop();
    await store.close();
  }
}, 60_000);
