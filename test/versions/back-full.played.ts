/**
 * Played by back-full.test.ts on a small disk: a store with mail in every state, as a kill left it, is converted to an earlier release
 * with so much room and no more, or is robbed of it at a random moment. Says for each what was seen.
 */
import { Database } from "bun:sqlite";
import { cpSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "../../runtime/kernel/clock.ts";
import { asGodwitError } from "../../runtime/kernel/errors.ts";
import { formatBase32, formatNodeId } from "../../runtime/kernel/ids.ts";
import { silentLog } from "../../runtime/kernel/log.ts";
import { seededRandom } from "../../runtime/kernel/random.ts";
import { Ballast } from "../../runtime/store/small-disk.ts";
import { openSqliteStore, type SqliteStore } from "../../runtime/store/sqlite.ts";
import type { StoreOp } from "../../runtime/store/types.ts";
import { encodeBundleHeader, makeBundle, type BundleHeader } from "../../runtime/wire/bundle.ts";
import { convertStore } from "../../runtime/node/going-back.ts";

const ROWS = { inbox: 1_200, outbox: 200, transit: 100 } as const;
/** Of the outbox: sealed here and open. */
const ASIDE = ROWS.outbox / 2;
const BOXES = ["inbox", "outbox", "transit"] as const;
const PLENTY = 12_000_000;
/** About as long as a conversion takes. */
const CONVERTING_MS = 100;

const folder = process.argv.at(-1)!;
const stateDir = join(folder, "state");
const path = join(stateDir, "godwit.db");
const ballast = new Ballast(folder);
const random = seededRandom(11);
const node = formatNodeId(new Uint8Array(32).fill(2));

const idOf = (index: number): string => index.toString(16).padStart(32, "0");
/** One in forty in a file. The others take a page each, which is more than their sizes say. */
const bodyOf = (index: number): Uint8Array => new Uint8Array(index % 40 === 0 ? 30_000 : 2_100).fill(index);
const fixed = { to: "LON-B", subject: "", contentType: "text/plain", priority: 1, createdAtMs: 1 };

function inboxRow(index: number): StoreOp {
  const body = bodyOf(index);
  const told = { forwardSecret: true, isUnconfirmed: false, trace: [], deliveredAtMs: 2, size: body.length };
  const meta = JSON.stringify({ ...fixed, ...told, id: idOf(index), from: node, atRunMs: 3 });
  return { op: "put", in: "inbox", key: idOf(index), meta, body };
}

function outboxRow(index: number): StoreOp {
  const body = bodyOf(index);
  const target = { node, bundle: "c".repeat(32), sealedBytes: 10, key: null };
  const isSealed = index < ASIDE;
  const state = { state: isSealed ? "relayed" : "queued", targets: isSealed ? [target] : [] };
  const rest = { reason: null, deliveredAtMs: null, receipt: null, failover: false, failoverDelayMs: 0 };
  const life = { lifetimeMs: 9_000_000, remainingMs: 9_000_000, atRunMs: 3, atWallMs: 1 };
  const name = { id: idOf(index), epoch: "ffeeddccbbaa0011", counter: index, size: body.length };
  const meta = JSON.stringify({ ...fixed, ...name, ...state, ...rest, ...life });
  return { op: "put", in: "outbox", key: idOf(index), meta, body };
}

function transitRow(index: number): StoreOp {
  const header: BundleHeader = { kind: 0, priority: 1, source: node, destination: node, lifetimeMs: index };
  const { id, sealed } = makeBundle(header, bodyOf(index + 1));
  const text = formatBase32(encodeBundleHeader(header));
  const journey = { from: null, remainingMs: 9, atRunMs: 3, atWallMs: 1, hops: 1, trace: [] };
  return {
    op: "put",
    in: "transit",
    key: id,
    meta: JSON.stringify({ header: text, ...journey }),
    body: sealed,
  };
}

const open = (): Promise<SqliteStore> => openSqliteStore({ path, log: silentLog });

/** What was committed last is in the log alone. */
async function madeAndKilled(): Promise<string> {
  const made = join(folder, "made");
  const store = await open();
  const setting = (key: string, meta: string): StoreOp => ({ op: "put", in: "setting", key, meta });
  await store.commit([setting("store-epoch", "00112233445566aa"), setting("boot-epoch", "5")]);
  const rows = [
    ...Array.from({ length: ROWS.inbox }, (_, index) => inboxRow(index)),
    ...Array.from({ length: ROWS.outbox }, (_, index) => outboxRow(index)),
    ...Array.from({ length: ROWS.transit }, (_, index) => transitRow(index)),
  ];
  for (const row of rows) await store.commit([row]);
  mkdirSync(made);
  cpSync(stateDir, made, { recursive: true });
  await store.close();
  return made;
}

/** What is missing in the store of this release. */
async function missing(store: SqliteStore): Promise<string[]> {
  const found = store.state.damageCount > 0 ? [`${store.state.damageCount} damaged`] : [];
  for (const box of BOXES) {
    const rows = await store.load(box);
    if (rows.length !== ROWS[box]) found.push(`${box}: ${rows.length} rows`);
    for (const { key, bodyBytes } of rows)
      if (((await store.body(box, key))?.length ?? 0) !== bodyBytes) found.push(`${box}: body of ${key}`);
  }
  return found;
}

function earlierRows(): number[] {
  const db = new Database(path);
  try {
    return BOXES.map((box) => Number(db.query(`SELECT count(*) FROM ${box}`).values()[0]![0]));
  } finally {
    db.close();
  }
}

const converted = (): Promise<{ said?: string; aside?: number }> =>
  convertStore({ stateDir, clock: systemClock, log: silentLog }, "0.2", false).then(
    ({ asideCount }) => ({ aside: asideCount }),
    (error: unknown) => {
      const { code, message } = asGodwitError(error);
      return { said: `${code}: ${message}` };
    },
  );

/** Others take the rest of the room after so many ms. */
async function seen(made: string, room: number, fullAfterMs?: number): Promise<Record<string, unknown>> {
  rmSync(stateDir, { recursive: true });
  ballast.drain();
  cpSync(made, stateDir, { recursive: true });
  ballast.leave(room);
  const callOff = fullAfterMs === undefined ? undefined : ballast.fillAfter(fullAfterMs);
  let { said, aside } = await converted();
  await callOff?.();
  const lost: string[] = [];
  if (said !== undefined) {
    const left = readdirSync(stateDir).filter((name) => /\.(back|before|aside)/.test(name));
    lost.push(...left.map((name) => `left: ${name}`));
    // The node that is started instead has its store, and all that it keeps for a disk like this one.
    ballast.fill();
    const store = await open();
    lost.push(...(await missing(store)));
    const beside = { op: "put", in: "setting", key: "boot-epoch", meta: "6" } as const;
    await store.commit([beside]).catch((error: Error) => lost.push(`a start: ${error.message}`));
    await store.close();
    ballast.drain();
    ({ aside } = await converted());
  }
  return { room, fullAfterMs, said, lost, aside, rows: earlierRows() };
}

const made = await madeAndKilled();
const all: Record<string, unknown>[] = [];
for (let room = 0; room <= PLENTY; room = room === 0 ? 200_000 : Math.ceil(room * 1.6))
  all.push(await seen(made, room));
// As much as it asks for by the sizes of the rows, which is not what the pages take.
const asked = Number(/free (\d+) KiB/.exec(String(all[0]!["said"]))?.[1] ?? 0) * 1_024;
for (const more of [0, 300_000, 900_000]) all.push(await seen(made, asked + more));
for (let time = 0; time < 8; time++) all.push(await seen(made, PLENTY, random.below(CONVERTING_MS)));
console.log(JSON.stringify({ all }));
// Stores that could not be closed are left to the end of the process.
process.exit(0);
