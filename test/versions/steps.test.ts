/**
 * `kill -9` before each call by which a conversion back changes names in `state_dir`: whatever is run next, the conversion again or a node, has
 * a whole store, and the conversion comes to the same end.
 */
import { Database } from "bun:sqlite";
import { afterAll, expect, test } from "bun:test";
import { cpSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "../../runtime/kernel/log.ts";
import { openSqliteStore } from "../../runtime/store/sqlite.ts";
import type { StoreOp } from "../../runtime/store/types.ts";
import { root } from "../../scripts/lib.ts";

const LARGE_BYTES = 60_000;
const dir = mkdtempSync(join(tmpdir(), "godwit-steps-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const put = (
  collection: "setting" | "inbox" | "outbox",
  key: string,
  meta: string,
  body?: Uint8Array,
): StoreOp => ({
  op: "put",
  in: collection,
  key,
  meta,
  ...(body === undefined ? {} : { body }),
});
const idOf = (index: number): string => index.toString(16).padStart(32, "0");
const inboxRow = (index: number, bytes: number): StoreOp => {
  const fixed = { subject: "", contentType: "text/plain", priority: 1, createdAtMs: 1, deliveredAtMs: 2 };
  const meta = {
    ...fixed,
    id: idOf(index),
    from: "a",
    to: "b",
    size: bytes,
    forwardSecret: true,
    isUnconfirmed: false,
    trace: [],
  };
  return put("inbox", idOf(index), JSON.stringify(meta), new Uint8Array(bytes).fill(index));
};

/** With bodies in files, and mail that has to stay aside. */
async function makeStore(folder: string): Promise<void> {
  const store = await openSqliteStore({ path: join(folder, "godwit.db"), log: silentLog });
  const target = { node: "n", bundle: "c", sealedBytes: 1, key: null };
  const sealed = {
    ...{
      id: idOf(9),
      to: "LON-B",
      epoch: "ffeeddccbbaa0011",
      counter: 1,
      subject: "",
      contentType: "text/plain",
    },
    ...{
      priority: 1,
      size: 4,
      createdAtMs: 1,
      lifetimeMs: 1,
      failover: false,
      failoverDelayMs: 0,
      state: "relayed",
    },
    ...{ reason: null, deliveredAtMs: null, receipt: null, targets: [target], remainingMs: 1, atWallMs: 1 },
  };
  await store.commit([
    put("setting", "store-epoch", "00112233445566aa"),
    put("setting", "boot-epoch", "7"),
    inboxRow(1, 10),
    inboxRow(2, LARGE_BYTES),
    inboxRow(3, LARGE_BYTES),
    put("outbox", idOf(9), JSON.stringify(sealed), Buffer.from("mail")),
  ]);
  await store.close();
}

function stateOf(folder: string): { schema: number; inbox: unknown[]; aside: number } {
  const db = new Database(join(folder, "godwit.db"));
  try {
    const schema = db.query("PRAGMA user_version").values()[0]![0] as number;
    const inbox = schema > 2 ? [] : db.query("SELECT key, length(body) FROM inbox ORDER BY key").values();
    const aside = readdirSync(folder).filter((name) => name.startsWith("godwit.db.aside-")).length;
    return { schema, inbox, aside };
  } finally {
    db.close();
  }
}

const whole = [
  [idOf(1), 10],
  [idOf(2), LARGE_BYTES],
  [idOf(3), LARGE_BYTES],
];

/** Answers whether it was killed. */
async function convert(folder: string, killAt: string): Promise<boolean> {
  const config = join(folder, "..", `${folder.split("/").at(-1)}.toml`);
  writeFileSync(config, `[node]\nstate_dir = ${JSON.stringify(folder)}\n`);
  const preload = join(import.meta.dir, "steps-preload.ts");
  const main = join(root, "runtime/main.ts");
  const child = Bun.spawn(
    [process.execPath, "--preload", preload, main, "store", "convert", "--to", "0.2", "--config", config],
    { stdout: "ignore", stderr: "pipe", env: { PATH: process.env["PATH"] ?? "", KILL_AT: killAt } },
  );
  const said = await new Response(child.stderr).text();
  const code = await child.exited;
  if (child.signalCode === "SIGKILL") return true;
  expect([killAt, code, said]).toEqual([killAt, 0, ""]);
  return false;
}

/** What a node of this release finds: all of it, in the form of either. */
async function expectWhole(folder: string): Promise<void> {
  const store = await openSqliteStore({ path: join(folder, "godwit.db"), log: silentLog });
  expect(store.state.damageCount).toBe(0);
  const rows = await store.load("inbox");
  expect(rows.map(({ key, bodyBytes }) => [key, bodyBytes])).toEqual(whole);
  for (const { key, bodyBytes } of rows) expect((await store.body("inbox", key))?.length).toBe(bodyBytes);
  // As a start does.
  await store.commit([put("setting", "boot-epoch", "8")]);
  await store.close();
}

/** False: the conversion has not so many. */
async function killedBefore(made: string, number: number): Promise<boolean> {
  const again = join(dir, `again-${number}`);
  const node = join(dir, `node-${number}`);
  cpSync(made, again, { recursive: true });
  if (!(await convert(again, String(number)))) return false;
  cpSync(again, node, { recursive: true });
  // The other way to go on: a node of this release, and only then the conversion.
  const goOn = async (): Promise<void> => {
    await expectWhole(node);
    await convert(node, "0");
  };
  await Promise.all([convert(again, "0"), goOn()]);
  for (const folder of [again, node]) {
    expect([number, stateOf(folder)]).toEqual([number, { schema: 2, inbox: whole, aside: 1 }]);
    const left = readdirSync(folder).filter((name) => !/^godwit\.db(\.(aside|before)-.*)?$/.test(name));
    expect([number, left]).toEqual([number, []]);
    rmSync(folder, { recursive: true });
  }
  return true;
}

test("killed before each change of a name, the conversion goes on, and a node in between has its store", async () => {
  const made = join(dir, "made");
  await makeStore(made);
  let number = 1;
  while (await killedBefore(made, number)) number++;
  expect(number).toBeGreaterThan(12);
}, 120_000);
