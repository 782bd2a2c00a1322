/**
 * The store of a stopped node made into one that an earlier release opens. Works beside it, in files whose names begin with its own, and
 * takes its place by one rename when all is durable: until then the store is what it was, and a conversion that was cut off goes on where
 * it stopped. The old store is kept under another name. Must never change a row of the old store, nor run beside a node.
 */
import { Database } from "bun:sqlite";
import { existsSync } from "node:fs";
import type { Log } from "@godwit/sdk";
import { godwitError } from "../kernel/errors.ts";
import { bodyFolder } from "./body-files.ts";
import type { Judged, JudgeRows } from "./earlier.ts";
import { asidePath, EarlierPart, keptPath, noRoom, removeParts } from "./earlier-part.ts";
import { openSqliteStore } from "./sqlite.ts";
import { leaveRoom } from "./sqlite-room.ts";
import { Rows } from "./sqlite-rows.ts";
import { collectionsOf, Damaged, isDiskFull, openDatabase, OpenRefused, textOf } from "./sqlite-schema.ts";
import { removeLeftovers, takePlace } from "./take-place.ts";
import { collections, type Collection, type StoreRow } from "./types.ts";

/** What an operator is told by name; more are counted. */
export const NAMED_MAX = 10_000;

const DAMAGED = "this disk damaged it: what is left of it stays in the store that is kept";

export interface GoingBack {
  readonly path: string;
  /** Of the release to go back to. */
  readonly schema: number;
  /** Collections that it has and that are of no use to it. */
  readonly leaves: readonly Collection[];
  readonly isDryRun: boolean;
  readonly wallMs: number;
  readonly log: Log;
  /** What becomes of rows; a collection without a judge is copied as it is. Settings are judged last. `load` answers all rows of a collection. */
  judges(load: (collection: Collection) => StoreRow[]): Partial<Record<Collection, JudgeRows>>;
}

/** A row that an operator should know of. */
export interface Noted {
  readonly in: Collection;
  readonly key: string;
  readonly why: string;
  readonly isAside: boolean;
}

export interface WentBack {
  /** It was a store of that release, or an earlier one, already. */
  readonly wasEarlier: boolean;
  readonly rows: number;
  readonly noted: readonly Noted[];
  readonly asideCount: number;
  /** Where those are; undefined: there are none. */
  readonly asideFile: string | undefined;
  /** Where the old store is; undefined in a dry run. */
  readonly keptFile: string | undefined;
}

/**
 * Rejects with GODWIT_STATE_UNUSABLE (a node runs on it, or the operating system refuses), GODWIT_STORE_FAILED (no room), and what opening a
 * store throws. The store is as it was then.
 */
export async function goBack(plan: GoingBack): Promise<WentBack> {
  const { path } = plan;
  if (!existsSync(path)) throw godwitError("GODWIT_STATE_UNUSABLE", `there is no store at ${path}`);
  if (versionOf(path) <= plan.schema) {
    if (!plan.isDryRun) removeLeftovers(path);
    return { ...nothing, wasEarlier: true };
  }
  // What is in the commit log alone comes to the database, as at a start and a stop.
  const isShort = await startAndStop(plan);
  let result: WentBack | undefined;
  try {
    return (result = await convert(plan, isShort));
  } finally {
    // A store that stays has the room again that it keeps for a start on a full disk.
    if (result?.keptFile === undefined) await startAndStop(plan).catch(() => {});
  }
}

/** Whether there was too little room. */
async function startAndStop({ path, log }: GoingBack): Promise<boolean> {
  const store = await openSqliteStore({ path, log });
  const isShort = store.state.missingBytes > 0;
  await store.close();
  return isShort;
}

const nothing: WentBack = {
  wasEarlier: false,
  rows: 0,
  noted: [],
  asideCount: 0,
  asideFile: undefined,
  keptFile: undefined,
};

async function convert(plan: GoingBack, isShort: boolean): Promise<WentBack> {
  const { path } = plan;
  let db: Database | undefined;
  let rows: Rows | undefined;
  let part: EarlierPart | undefined;
  try {
    db = openDatabase(path);
    rows = new Rows(db, bodyFolder(path));
    // The commit log is not empty.
    if (rows.mark.id !== 0 && isShort) throw noRoom(path);
    if (rows.mark.id !== 0)
      throw new OpenRefused(
        "GODWIT_STATE_UNUSABLE",
        `a node was started on ${path} meanwhile; stop it first`,
      );
    part = plan.isDryRun ? undefined : EarlierPart.open(plan, markOf(db, rows));
    const result = await new Conversion(plan, rows, part).run();
    if (part === undefined) return result;
    const { stamp } = part;
    part.finish();
    part = undefined;
    rows.close();
    rows = undefined;
    takePlace(path, db, stamp);
    return {
      ...result,
      asideFile: result.asideCount > 0 ? asidePath(path, stamp) : undefined,
      keptFile: keptPath(path, stamp),
    };
  } catch (error) {
    part?.close();
    throw refusalOf(error, path);
  } finally {
    rows?.close();
    db?.close();
  }
}

/** Another one when a node ran on the store since. */
const markOf = (db: Database, rows: Rows): string => {
  const boots = db.query("SELECT meta FROM setting WHERE key = 'boot-epoch'").values()[0]?.[0];
  return `${String(boots)} ${rows.usageBytes}`;
};

/** One pass over the store: all rows are judged, and what was not written by a try before is. */
class Conversion {
  readonly #plan: GoingBack;
  readonly #rows: Rows;
  readonly #part: EarlierPart | undefined;
  readonly #noted: Noted[] = [];
  #asideCount = 0;
  #count = 0;

  constructor(plan: GoingBack, rows: Rows, part: EarlierPart | undefined) {
    this.#plan = plan;
    this.#rows = rows;
    this.#part = part;
  }

  async run(): Promise<WentBack> {
    const judges = this.#plan.judges((collection) => this.#load(collection));
    const keeps = collectionsOf(this.#plan.schema).filter((name) => !this.#plan.leaves.includes(name));
    // Settings last: what the others decide about is written there.
    const order = [...collections.filter((name) => name !== "setting"), "setting"] as const;
    for (const collection of order) {
      const rows = this.#load(collection);
      const judge = judges[collection];
      if (judge === undefined && !keeps.includes(collection)) this.#leave(collection, rows.length);
      else await this.#judge(collection, (judge ?? asItIs(collection))(rows));
    }
    for (const { in: collection, key } of this.#part?.damaged ?? [])
      this.#note({ in: collection, key, why: DAMAGED, isAside: false });
    return {
      ...nothing,
      rows: this.#count,
      noted: this.#noted,
      asideCount: this.#asideCount,
    };
  }

  #load(collection: Collection): StoreRow[] {
    this.#rows.takeFound();
    const { keys, metas, bodyBytes } = this.#rows.load(collection);
    for (const { key } of this.#rows.takeFound().found)
      this.#note({ in: collection, key, why: DAMAGED, isAside: false });
    return keys.map((key, at) => ({ key, meta: metas[at]!, bodyBytes: bodyBytes[at]! }));
  }

  #leave(collection: Collection, rows: number): void {
    if (rows === 0) return;
    const why = `${rows} rows that the earlier release has no place for; they stay in the store that is kept`;
    this.#note({ in: collection, key: "", why, isAside: false });
  }

  async #judge(collection: Collection, judged: Iterable<Judged>): Promise<void> {
    let index = 0;
    for (const one of judged) {
      this.#count++;
      if (one.isAside) this.#asideCount++;
      if (one.why !== undefined)
        this.#note({ in: collection, key: one.row.key, why: one.why, isAside: one.isAside });
      await this.#part?.take(collection, index++, one, () => this.#body(collection, one));
    }
    this.#part?.commit();
  }

  /** Null: it has none. Undefined: it is not what was written, or not what the row says. */
  async #body(
    collection: Collection,
    { row, body: earlierBody }: Judged,
  ): Promise<Uint8Array | null | undefined> {
    const stored = this.#rows.body(collection, row.key);
    if (stored === undefined) return row.bodyBytes > 0 ? undefined : null;
    return earlierBody === undefined ? stored : earlierBody(stored);
  }

  #note(noted: Noted): void {
    if (this.#noted.length < NAMED_MAX) this.#noted.push(noted);
  }
}

const asItIs =
  (collection: Collection): JudgeRows =>
  (rows) =>
    rows.map((row) => ({
      row,
      rows: [{ in: collection, key: row.key, meta: row.meta, hasBody: true }],
      isAside: false,
    }));

/** As the file says with its log. Throws for a file that another process has. */
function versionOf(path: string): number {
  const db = new Database(path, { readwrite: true, create: false, strict: true });
  try {
    db.run("PRAGMA locking_mode = EXCLUSIVE");
    leaveRoom(db, path);
    return Number(db.query("PRAGMA user_version").values()[0]![0]);
  } catch (error) {
    throw refusalOf(error, path);
  } finally {
    db.close();
  }
}

function refusalOf(error: unknown, path: string): unknown {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  if (isDiskFull(error) || code === "ENOSPC") {
    removeParts(path);
    return noRoom(path);
  }
  if (error instanceof OpenRefused) return godwitError(error.code, error.message);
  if (error instanceof Damaged) return godwitError("GODWIT_STORE_CORRUPT", error.message);
  if (code.startsWith("SQLITE_BUSY"))
    return godwitError("GODWIT_STATE_UNUSABLE", `a node uses ${path}; stop it, and run this again`);
  if (error instanceof Error && "kind" in error) return error;
  return godwitError(
    "GODWIT_STATE_UNUSABLE",
    `${path} cannot be converted: ${textOf(error)}; it is as it was`,
  );
}
