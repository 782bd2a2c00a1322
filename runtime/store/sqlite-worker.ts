/**
 * The thread that owns the database of one store, so that an fsync never stalls the event loop of the node. Executes
 * batches in the order they come: one transaction and one fsync each, every commit in it atomic for itself. Must never
 * answer a batch before it is durable, and never let one failing commit take others with it. An entry point of its own
 * in the compiled binary: imports nothing that it does not need. Specified by docs/protocol/delivery.md, "Acknowledge only what is durable".
 */
import type { Database } from "bun:sqlite";
import type {
  FromWorker,
  LogPlan,
  StoreNews,
  ToWorker,
  WireEntry,
  WireFailure,
  WireOp,
  WireValue,
} from "./sqlite-messages.ts";
import { systemClock, type Timer } from "../kernel/clock.ts";
import { systemRandom } from "../kernel/random.ts";
import { compileAfterStart } from "../kernel/start-code.ts";
import { bodyFolder } from "./body-files.ts";
import type { LogMark } from "./commit-log.ts";
import { isLogOrphaned, isLogRotten } from "./sqlite-log.ts";
import { mediumOf, Room } from "./sqlite-room.ts";
import { restate, RESTATE_BYTES } from "./sqlite-restate.ts";
import { Rows } from "./sqlite-rows.ts";
import { finishSalvage, salvageDatabase } from "./sqlite-salvage.ts";
import { SecretTables } from "./sqlite-secrets.ts";
import { clearLog, disownLog, isLogInUse } from "./sqlite-wal.ts";
import {
  Damaged,
  failureText,
  isDamage,
  isDiskFull,
  isRefusal,
  laterCollections,
  olderStays,
  OpenRefused,
  openDatabase,
  textOf,
} from "./sqlite-schema.ts";
import { DAMAGE_NAMED_MAX, type Damage, isSecret } from "./types.ts";

declare const self: Worker;

const QUIET_MS = 100;
/** Between two steps of giving space back, so that a commit need not wait long. */
const VACUUM_PAUSE_MS = 10;
/** How often the medium is looked at when nothing is committed: while room is missing, and else. */
const LOOK_SHORT_MS = 1_000;
const LOOK_MS = 15_000;
/** A medium on which files are damaged again and again is not to be written to for ever. */
const SALVAGES_MAX = 3;

type Batch = Extract<ToWorker, { kind: "batch" }>;

class StoreFile {
  readonly #path: string;
  readonly #bytesMax: number | undefined;
  #db: Database;
  #rows: Rows;
  #room: Room;
  #salvages = 0;
  #found: Damage[] = [];
  #foundCount = 0;
  #missingBytes = 0;
  #asideFile: string | null | undefined;
  /** By this file, and by those of before a salvage. */
  #recounts = 0;
  #hasNews = false;
  #grantedBytes = 0;
  #hasSecrets = false;
  readonly #secrets = new SecretTables();

  constructor(path: string, bytesMax: number | undefined) {
    this.#path = path;
    this.#bytesMax = bytesMax;
    // What was deleted last before a crash may not have been seen to.
    if (isLogInUse(path)) this.#secrets.noteAll();
    finishSalvage(path);
    if (isLogOrphaned(path)) this.#tell([{ in: "setting", key: "the whole database" }]);
    // Which rows it was is not known: what the log said last, of any collection.
    if (isLogRotten(path)) this.#tell([{ in: "setting", key: "last commits" }]);
    [this.#db, this.#rows, this.#room] = this.#open();
  }

  #open(): [Database, Rows, Room] {
    try {
      return this.#openOnce();
    } catch (error) {
      if (!(error instanceof Damaged)) throw error;
      this.#salvage(error);
      return this.#openOnce();
    }
  }

  #openOnce(): [Database, Rows, Room] {
    const db = openDatabase(this.#path);
    try {
      return [db, new Rows(db, bodyFolder(this.#path)), new Room(db, this.#path, this.#bytesMax)];
    } catch (error) {
      db.close();
      throw isDamage(error) ? new Damaged(textOf(error)) : error;
    }
  }

  #salvage(cause: unknown): void {
    if (this.#salvages++ >= SALVAGES_MAX) throw cause;
    const { lost, lostCount, asideFile } = salvageDatabase(this.#path, cause);
    this.#tell(lost, lostCount);
    this.#asideFile = asideFile;
    this.#recounts++;
  }

  #tell(found: readonly Damage[], count = found.length): void {
    this.#found.push(...found.slice(0, DAMAGE_NAMED_MAX - this.#found.length));
    this.#foundCount += count;
    this.#hasNews = true;
  }

  /**
   * Runs a batch; what failed is told, what did not is durable. Any failure rolls the whole transaction back (a full
   * disk makes SQLite do that anyway) and the entries run again one by one, so savepoints would buy nothing.
   */
  run({ entries, pack, mark, isFold }: Batch): { failures: WireFailure[]; values: Map<number, WireValue> } {
    const failures: WireFailure[] = [];
    const values = new Map<number, WireValue>();
    try {
      const restated = entries.some(({ kind }) => kind === "restate") ? RESTATE_BYTES : 0;
      if (entries.some(isWrite)) this.#makeRoom(isFold, pack.length + restated);
      this.#rows.transaction(() => {
        for (const [index, entry] of entries.entries()) {
          if (entry.kind !== "commit") values.set(index, this.#read(entry));
          else this.#rows.apply(entry.ops, pack);
        }
        if (mark !== undefined) this.#rows.setMark(mark);
      });
    } catch {
      // Reads too, since they saw what was now rolled back.
      for (const [index, entry] of entries.entries()) {
        try {
          this.#mended(() => {
            if (entry.kind !== "commit") this.#readAlone(entry, (value) => values.set(index, value));
            else if (isFold) this.#fold(entry.ops, pack, mark);
            else this.#alone(entry.ops, pack, false, mark);
          });
        } catch (error) {
          failures.push({ index, isFull: isDiskFull(error), message: failureText(error, this.#path) });
        }
      }
    }
    this.#moveFound();
    this.#noteRecounts();
    return { failures, values };
  }

  #noteRecounts(): void {
    const recounts = this.#rows.takeRecounts();
    this.#recounts += recounts;
    this.#hasNews ||= recounts > 0;
  }

  /** What was read without looking whether its places are sound is looked at now, one box at a time. True: there are more. */
  #believeMore(): boolean {
    const [next, ...others] = this.#rows.unbelieved;
    if (next === undefined) return false;
    this.#mended(() => this.#rows.transaction(() => this.#rows.believe(next)));
    this.#noteRecounts();
    return others.length > 0;
  }

  /** A page that turns out to be damaged costs its rows, and the work is done on what is left. */
  #mended(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (!isDamage(error)) throw error;
      this.#rows.close();
      this.#db.close(true);
      try {
        this.#salvage(error);
      } finally {
        [this.#db, this.#rows, this.#room] = this.#open();
      }
      work();
    }
  }

  #moveFound(): void {
    const { found, moved } = this.#rows.takeFound();
    if (found.length + moved.length > 0) this.#tell([...moved, ...found]);
    if (found.length === 0) return;
    // Without room they stay where they are, and are shown to nobody either.
    quietly(() => this.#rows.transaction(() => this.#rows.moveFound(found)));
  }

  /** What changed since the last call; undefined: nothing. */
  takeNews(): StoreNews | undefined {
    const { missingBytes } = this.#room;
    if (!this.#hasNews && missingBytes === this.#missingBytes) return undefined;
    const news: StoreNews = {
      kind: "news",
      missingBytes,
      found: this.#found,
      foundCount: this.#foundCount,
      asideFile: this.#asideFile,
      recounts: this.#recounts,
    };
    this.#hasNews = false;
    this.#missingBytes = missingBytes;
    this.#found = [];
    this.#foundCount = 0;
    return news;
  }

  get logPlan(): LogPlan {
    const { logBytes: bytes, sliceBytes, reserveBytes } = this.#room;
    const { mark } = this.#rows;
    const later = laterCollections(this.#db);
    const { grantBytes } = this;
    return {
      mark,
      bytes,
      sliceBytes,
      reserveBytes,
      grantBytes,
      freshId: freshLogId(),
      laterCollections: later,
    };
  }

  /** See `FromWorker`. */
  get grantBytes(): number {
    return (this.#grantedBytes = this.#room.grantBytes());
  }

  /** What was told last. */
  get grantedBytes(): number {
    return this.#grantedBytes;
  }

  get hasNews(): boolean {
    return this.#hasNews;
  }

  get isShort(): boolean {
    return this.#missingBytes > 0;
  }

  emptyLogIfBusy(): void {
    if (this.#room.walPages >= this.#room.walBusyPages) this.#room.checkpoint("PASSIVE");
  }

  /** Gives some free pages back, and looks after places of mail and pages of secrets. In how long there is more to do, ms; undefined: nothing. */
  rest(): number | undefined {
    this.#overwriteSecrets(systemClock.monotonicMs());
    const hasMore = this.#room.vacuumStep();
    const isDue = hasMore || this.#room.isOwed || this.#room.walPages >= this.#room.walQuietPages;
    if (isDue || this.#hasSecrets) {
      this.#checkpoint();
    }
    return this.#believeMore() || hasMore
      ? VACUUM_PAUSE_MS
      : this.#secrets.dueInMs(systemClock.monotonicMs());
  }

  /** True: all of the log is in the database. */
  #checkpoint(): boolean {
    const [, logged, checkpointed] = this.#room.checkpoint("PASSIVE");
    if (logged !== checkpointed) return false;
    if (this.#hasSecrets) clearLog(this.#path);
    this.#hasSecrets = false;
    return true;
  }

  /** Without room it is tried again in the next quiet moment. */
  #overwriteSecrets(nowMs: number): void {
    quietly(() => {
      if (this.#secrets.rewrite(this.#db, nowMs, (bytes) => this.#room.makeForRest(bytes)))
        this.#hasSecrets = true;
    });
  }

  /** Pages of before a secret was deleted are still in the log, and parts of it may be in pages of its table. */
  noteDeleted(entries: readonly WireEntry[]): void {
    for (const entry of entries) {
      if (entry.kind !== "commit") continue;
      for (const [collection, , meta] of entry.ops) {
        if (meta !== null || !isSecret(collection)) continue;
        this.#hasSecrets = true;
        this.#secrets.note(collection);
      }
    }
  }

  close(): void {
    let isEmptied = false;
    this.#overwriteSecrets(Number.POSITIVE_INFINITY);
    quietly(() => {
      isEmptied = this.#checkpoint();
      this.#room.keepLog();
    });
    this.#rows.close();
    this.#db.close(true);
    // Else it is read at the next opening.
    if (isEmptied) quietly(() => disownLog(this.#path));
  }

  /** Rows that were accepted long ago: one that the database refuses for what it is must not hold up the others for ever. */
  #fold(ops: readonly WireOp[], pack: Uint8Array, mark: LogMark | undefined): void {
    try {
      this.#alone(ops, pack, true, mark);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      for (const op of ops) {
        try {
          this.#alone([op], pack, true, undefined);
        } catch (cause) {
          if (!isRefusal(cause)) throw cause;
          this.#tell([{ in: op[0], key: op[1] }]);
        }
      }
      this.#alone([], pack, true, mark);
    }
  }

  #makeRoom(isFold: boolean, bodyBytes: number): void {
    if (isFold) this.#room.makeForFold();
    else this.#room.make(bodyBytes);
  }

  #alone(ops: readonly WireOp[], pack: Uint8Array, isFold: boolean, mark: LogMark | undefined): void {
    const bodyBytes = ops.reduce((total, op) => total + op[4], 0);
    const attempt = () => {
      this.#makeRoom(isFold, bodyBytes);
      this.#rows.transaction(() => {
        this.#rows.apply(ops, pack);
        if (mark !== undefined) this.#rows.setMark(mark);
      });
    };
    try {
      attempt();
    } catch (error) {
      if (!isDiskFull(error)) throw error;
      // A checkpoint lets the WAL start over within the room that it has.
      try {
        this.#room.checkpoint("PASSIVE");
      } catch {
        throw error;
      }
      attempt();
    }
  }

  #readAlone(entry: Exclude<WireEntry, { kind: "commit" }>, take: (value: WireValue) => void): void {
    if (entry.kind === "restate") this.#makeRoom(false, RESTATE_BYTES);
    this.#rows.transaction(() => take(this.#read(entry)));
  }

  #read(entry: Exclude<WireEntry, { kind: "commit" }>): WireValue {
    switch (entry.kind) {
      case "load":
        if (entry.rowsMax !== undefined && this.#rows.hasMore(entry.in, entry.rowsMax)) return undefined;
        return this.#rows.load(entry.in);
      case "body":
        return this.#rows.body(entry.in, entry.key);
      case "rows":
        return this.#rows.rows(entry.in, entry.keys);
      case "page":
        return this.#rows.page(entry.in, entry.page);
      case "totals":
        return { totals: this.#rows.totals(entry.in), rows: this.#rows.rows(entry.in, entry.keys) };
      case "piece":
        return this.#rows.piece(entry.in, entry.key, entry.offset, entry.length);
      case "places":
        return this.#rows.places;
      case "restate":
        return restate(this.#db, this.#rows, entry.in, entry.after);
      case "stays":
        return olderStays(this.#db);
      case "usage":
        return { bytes: this.#rows.usageBytes, freeBytes: mediumOf(this.#path)?.freeBytes };
    }
  }
}

/** 48 bits, never 0, which stands for none. */
const freshLogId = (): number => Buffer.from(systemRandom.bytes(6)).readUIntLE(0, 6) || 1;

let file: StoreFile | undefined;
/** An entry point of its own takes its clock from where compositions do; housekeeping is all that depends on it. */
let quietTimer: Timer | undefined;
let lookTimer: Timer | undefined;

const answer = (message: FromWorker, transfer: ArrayBuffer[] = []): void =>
  self.postMessage(message, transfer);

function handleOpen(path: string, bytesMax: number | undefined): void {
  try {
    file = new StoreFile(path, bytesMax);
    look(file);
    answer({ kind: "opened", log: file.logPlan });
  } catch (error) {
    if (error instanceof OpenRefused)
      return answer({ kind: "refused", code: error.code, message: error.message });
    if (!(error instanceof Damaged) && !isSystemError(error)) throw error;
    const message = `${path} is damaged, and what is left of it could not be saved: ${textOf(error)}; free some space, or move it away`;
    answer({ kind: "refused", code: "GODWIT_STORE_CORRUPT", message });
  }
}

const isSystemError = (error: unknown): boolean => error instanceof Error && "code" in error;

/** Tells what changed, and comes back later: room goes and comes without this node's doing. */
function look(open: StoreFile): void {
  quietly(() => {
    const news = open.takeNews();
    if (news !== undefined) answer(news);
  });
  lookTimer?.cancel();
  lookTimer = systemClock.after(open.isShort ? LOOK_SHORT_MS : LOOK_MS, () => {
    if (open.isShort) useQuietMoment(open);
    look(open);
  });
}

const isWrite = ({ kind }: WireEntry): boolean => kind === "commit" || kind === "restate";

function handleBatch(open: StoreFile, batch: Batch): void {
  const { failures, values } = open.run(batch);
  const hasWritten = batch.entries.some(isWrite);
  // What was read changed nothing about the room, for which the medium would be asked three times.
  if (hasWritten || open.hasNews) look(open);
  const transfer = [...values.values()].flatMap((value) =>
    value instanceof Uint8Array && value.length > 0 ? [value.buffer as ArrayBuffer] : [],
  );
  const grantBytes = hasWritten ? open.grantBytes : open.grantedBytes;
  answer({ kind: "batch", failures, values: [...values], grantBytes }, transfer);
  if (!hasWritten) return;
  open.noteDeleted(batch.entries);
  // After the answer, because nobody needs to wait for it.
  quietly(() => open.emptyLogIfBusy());
  quietTimer?.cancel();
  quietTimer = systemClock.after(QUIET_MS, () => useQuietMoment(open));
}

function useQuietMoment(open: StoreFile): void {
  quietTimer = undefined;
  quietly(() => {
    const againMs = open.rest();
    look(open);
    if (againMs !== undefined) quietTimer = systemClock.after(againMs, () => useQuietMoment(open));
  });
}

/** Housekeeping may fail (disk full): then the next round tries again, and commits tell their own callers. */
function quietly(work: () => void): void {
  try {
    work();
  } catch {}
}

compileAfterStart(systemClock);
self.addEventListener("message", ({ data }: MessageEvent<ToWorker>) => {
  switch (data.kind) {
    case "open":
      return handleOpen(data.path, data.bytesMax);
    case "batch":
      return handleBatch(file!, data);
    case "close":
      quietTimer?.cancel();
      lookTimer?.cancel();
      file?.close();
      file = undefined;
      return answer({ kind: "closed" });
  }
});
