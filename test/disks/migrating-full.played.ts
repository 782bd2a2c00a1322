/**
 * Played by migrating-full.test.ts on a small disk: a store of schema 2 is opened by this release with so much room and no more, which others
 * take to the last block as soon as it is open and at a random moment of its conversion. Says for each size what was seen.
 */
import { Database } from "bun:sqlite";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ManualClock } from "../../runtime/kernel/clock.ts";
import { asGodwitError } from "../../runtime/kernel/errors.ts";
import { silentLog } from "../../runtime/kernel/log.ts";
import { Metrics } from "../../runtime/kernel/metrics.ts";
import { seededRandom } from "../../runtime/kernel/random.ts";
import { Conversions, type Conversion } from "../../runtime/store/conversions.ts";
import { Ballast } from "../../runtime/store/small-disk.ts";
import { openSqliteStore, type SqliteStore } from "../../runtime/store/sqlite.ts";
import { restatement } from "../../runtime/store/sqlite-restate.ts";
import { createSchema } from "../../runtime/store/sqlite-schema.ts";

const ROWS = { inbox: 12_000, outbox: 300, transit: 150 } as const;
const BOXES = ["inbox", "outbox", "transit"] as const;
const bodyOf = (box: keyof typeof ROWS, index: number): Uint8Array =>
  new Uint8Array(box === "inbox" && index % 40 !== 0 ? 9 : (index * 37) % 6_000).fill(index);

/** At least as long as a conversion waits for anything. */
const RETRY_MS = 60_000;

/** About as long as it takes to open a store and bring it here. */
const OPENING_MS = 40;

const folder = process.argv.at(-1)!;
const path = join(folder, "state/godwit.db");
const ballast = new Ballast(folder);
const random = seededRandom(7);

/** As the earlier release leaves it when it stops. */
function madeOfSchemaTwo(): Buffer {
  mkdirSync(join(folder, "state"));
  const db = new Database(path, { create: true, readwrite: true, strict: true });
  for (const pragma of ["auto_vacuum = INCREMENTAL", "journal_mode = WAL"]) db.run(`PRAGMA ${pragma}`);
  createSchema(db, 2);
  for (const box of BOXES) {
    const put = db.prepare(`INSERT INTO ${box} (key, meta, body) VALUES (?, ?, ?)`);
    db.transaction(() => {
      for (let index = 0; index < ROWS[box]; index++) put.run(`k${index}`, "{}", bodyOf(box, index));
    })();
    put.finalize();
  }
  db.run("INSERT INTO setting (key, meta) VALUES ('boot-epoch', '1')");
  db.close();
  return readFileSync(path);
}

const attempt = async (work: Promise<unknown>): Promise<string | undefined> =>
  work.then(
    () => undefined,
    (error: unknown) => {
      const { code, message } = asGodwitError(error);
      return `${code}: ${message}`;
    },
  );

/** A store that is open, and its conversion, which goes on when it is told. */
class Life {
  readonly store: SqliteStore;
  readonly #clock = new ManualClock();
  readonly #conversions: Conversions;
  #last: Promise<void> = Promise.resolve();
  waits = 0;

  private constructor(store: SqliteStore) {
    this.store = store;
    const restating = restatement(store);
    this.#conversions = new Conversions({
      store,
      clock: this.#clock,
      log: { ...silentLog, warn: (text) => void (this.waits += text === "store conversion waits" ? 1 : 0) },
      metrics: new Metrics(),
      olderStays: () => store.olderStays(),
    });
    const step: Conversion["step"] = (after, save) => (this.#last = restating.step(after, save));
    this.#conversions.register({ name: restating.name, step });
  }

  static async open(): Promise<Life> {
    const life = new Life(await openSqliteStore({ path, log: silentLog }));
    await life.#conversions.start();
    return life;
  }

  get isThrough(): boolean {
    return this.#conversions.progress.every(({ isThrough }) => isThrough);
  }

  /** So many slices more, or until all is through, or it waits once more. */
  async convert(slices: number): Promise<void> {
    const waits = this.waits;
    for (let slice = 0; slice < slices && !this.isThrough && this.waits === waits; slice++) {
      await this.#clock.advance(RETRY_MS);
      await this.#last.catch(() => {});
    }
  }

  async close(): Promise<void> {
    await this.#conversions.stop();
    await this.store.close();
  }
}

/** What is not as it was put, of the boxes that nobody took from. */
async function wrong(store: SqliteStore): Promise<string[]> {
  const found: string[] = [];
  if (store.state.damageCount > 0) found.push(`${store.state.damageCount} damaged`);
  for (const box of ["inbox", "outbox"] as const) {
    const rows = await store.load(box);
    if (rows.length !== ROWS[box]) found.push(`${box}: ${rows.length} rows`);
    const { groups } = await store.totals(box);
    const counted = groups.reduce((total, { count }) => total + count, 0);
    if (counted !== ROWS[box]) found.push(`${box}: ${counted} counted`);
    for (let index = 0; index < ROWS[box]; index += 20) {
      const body = await store.body(box, `k${index}`);
      if (Buffer.compare(body ?? new Uint8Array(0), bodyOf(box, index)) !== 0)
        found.push(`${box}: body ${index}`);
    }
  }
  return found;
}

/** The earlier release has the file while its header, at byte 60, says so. */
const schemaOf = (): number => readFileSync(path).readUInt32BE(60);

/** What it said, and whether it starts once so much is free as it said. What others took since it looked is free as well then. */
async function refusedAt(
  said: string,
  isRobbed: boolean,
): Promise<{ said: string; schema: number; life: Life | undefined }> {
  const schema = schemaOf();
  const free = ballast.freeBytes;
  ballast.drain();
  if (!isRobbed) ballast.leave(free + Number(/free (\d+) KiB/.exec(said)?.[1] ?? 0) * 1_024);
  return { said, schema, life: await Life.open().catch(() => undefined) };
}

/** Others take the rest of the room after so many ms; undefined: once the store is open. */
async function seen(base: Buffer, room: number, fullAfterMs?: number): Promise<Record<string, unknown>> {
  for (const name of readdirSync(join(folder, "state")))
    rmSync(join(folder, "state", name), { recursive: true });
  ballast.drain();
  writeFileSync(path, base, { mode: 0o600 });
  ballast.leave(room);
  let life: Life | undefined;
  let refusal: Awaited<ReturnType<typeof refusedAt>> | undefined;
  const callOff = fullAfterMs === undefined ? undefined : ballast.fillAfter(fullAfterMs);
  const said = await attempt(Life.open().then((opened) => (life = opened)));
  await callOff?.();
  if (said !== undefined) life = (refusal = await refusedAt(said, fullAfterMs !== undefined)).life;
  const about = { room, said, schema: refusal?.schema };
  if (life === undefined) return { ...about, stuck: ["it does not start with what it asked for"] };

  await life.convert(random.below(100));
  ballast.fill();
  const stuck: string[] = [];
  const must = async (what: string, work: Promise<unknown>): Promise<void> => {
    const failed = await attempt(work);
    if (failed !== undefined) stuck.push(`${what}: ${failed}`);
    ballast.fill();
  };
  const raise = { op: "put", in: "setting", key: "boot-epoch", meta: "2" } as const;
  await must("a start", life.store.commit([raise]));
  for (let index = 0; index < ROWS.transit; index++)
    await must(`delete ${index}`, life.store.commit([{ op: "delete", in: "transit", key: `k${index}` }]));
  await life.convert(1_000);
  const { waits } = life;
  await must("close", life.close());
  const again = Life.open();
  await must("open", again);
  if (stuck.length > 0) return { ...about, stuck: stuck.slice(0, 5) };
  life = await again;
  await must("another start", life.store.commit([{ ...raise, meta: "3" }]));
  ballast.drain();
  await life.convert(1_000);
  const { isThrough } = life;
  const lost = await wrong(life.store);
  if ((await life.store.load("transit")).length > 0) lost.push("what was deleted is there");
  await life.close();
  return { ...about, stuck, waits, isThrough, lost };
}

const base = madeOfSchemaTwo();
const all: Record<string, unknown>[] = [];
for (const room of [
  0, 4_096, 100_000, 262_144, 400_000, 600_000, 800_000, 1_200_000, 2_000_000, 4_000_000, 6_000_000,
])
  all.push(await seen(base, room));
for (let time = 0; time < 8; time++) all.push(await seen(base, 4_000_000, random.below(OPENING_MS)));
console.log(JSON.stringify({ all }));
// Stores that could not be closed are left to the end of the process.
process.exit(0);
