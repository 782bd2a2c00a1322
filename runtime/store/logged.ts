/**
 * What is durable in the commit log and not yet in the database: takes commits in, keeps their rows in memory (overlay.ts) and writes them to
 * the database many at once, after which that part of the log is free. Bounded by the log. Must never free a part of the log that the
 * database has not, and never take in what is not sure to find room in it.
 */
import type { Clock, Timer } from "@godwit/sdk";
import { isoTime } from "../kernel/clock.ts";
import { asGodwitError, godwitError } from "../kernel/errors.ts";
import { BodyFiles, FILE_BODY_BYTES, fileOf, type BodyPlace, type NewBody } from "./body-files.ts";
import { openLog, type CommitLog, type LogMark } from "./commit-log.ts";
import { alignedPages } from "./log-image.ts";
import {
  commitBytes,
  encodeFrame,
  FRAME_HEAD_BYTES,
  frameBytes,
  LOG_PAGE_BYTES,
  pagesOf,
  type LogCommit,
  type LogOp,
} from "./log-frame.ts";
import { Overlay } from "./overlay.ts";
import type { LogPlan, WireOp } from "./sqlite-messages.ts";
import { mediumOf } from "./sqlite-room.ts";
import type { StoreThread } from "./sqlite-thread.ts";
import { type BodyHead, type Collection, type Damage, isSecret, type StoreOp } from "./types.ts";

type PutOp = Extract<StoreOp, { op: "put" }>;

/** A frame takes this part of the log at most; a larger commit is one of the database. */
const FRAME_SHARE = 1 / 4;
/** The log is written to the database once this part of it is used. */
const FOLD_SHARE = 1 / 2;
/** What goes to the database in one transaction: it is short enough for a read to wait for. */
const SLICE_OPS_MAX = 1_024;
/** How long what is durable stays in the log alone, ms. */
const FOLD_AGE_MS = 600_000;
/** With rows in it that have to be gone soon once they are deleted. */
const FOLD_SECRET_AGE_MS = 60_000;
/** With so much in it that it is worth the pages, and with rows that may have left files of bodies behind. */
const FOLD_WORTH_SHARE = 1 / 8;
const FOLD_SOON_AGE_MS = 10_000;
/** On a medium that has not plenty of room. */
const FOLD_TIGHT_AGE_MS = 1_000;

export interface LoggedDeps {
  readonly path: string;
  readonly thread: StoreThread;
  readonly clock: Clock | undefined;
}

const noBytes = (): Uint8Array => new Uint8Array(0);
const isLarge = (op: StoreOp): boolean =>
  op.op === "put" && (op.head !== undefined || (op.body?.length ?? 0) > FILE_BODY_BYTES || isChunk(op));
/** Whatever its size: the chunks of a transfer are to lie one after the other. */
const isChunk = (op: StoreOp): boolean => op.op === "put" && op.in === "chunk" && (op.body?.length ?? 0) > 0;

/** A deleted row, and one that gives up its body. */
const mayFreeFile = (op: LogOp): boolean =>
  op.op === "delete" || (op.op === "put" && op.body !== undefined && op.body.length === 0);

export class Logged {
  readonly #deps: LoggedDeps;
  readonly #log: CommitLog;
  readonly #files: BodyFiles;
  readonly #overlay = new Overlay();
  readonly #sliceBytes: number;
  readonly #reserveBytes: number;
  /** Bytes of commits in the log, and how many of them there may be: see `FromWorker`. */
  #loggedBytes = 0;
  #grantBytes: number;
  /** Where frames are made, one after the other. */
  #frame = alignedPages(16);
  #folding: Promise<void> | undefined;
  #isDueAgain = false;
  #timer: Timer | undefined;
  #dueMs = Number.POSITIVE_INFINITY;

  private constructor(deps: LoggedDeps, plan: LogPlan, log: CommitLog) {
    this.#deps = deps;
    this.#log = log;
    this.#files = new BodyFiles(deps.path);
    this.#sliceBytes = plan.sliceBytes;
    this.#reserveBytes = plan.reserveBytes;
    this.#grantBytes = plan.grantBytes;
  }

  /** Takes up what the log of an earlier life holds. Rejects with GODWIT_STORE_FAILED, and throws what the operating system says. */
  static async open(deps: LoggedDeps, plan: LogPlan): Promise<{ logged: Logged; lost: readonly Damage[] }> {
    const { mark } = plan;
    const { log, commits, rotten, lost } = openLog(`${deps.path}-log`, plan);
    const logged = new Logged(deps, plan, log);
    for (const commit of commits) {
      logged.#overlay.apply(commit);
      logged.#loggedBytes += commitBytes(commit);
    }
    if (log.id !== mark.id) await logged.#write([], noBytes(), { id: log.id, page: log.tail });
    for (const pages of rotten) await logged.#keepRotten(pages);
    await logged.#sweep();
    // What was told is not to be found again by the next start; without room for that, it is.
    if (lost.length > 0) await logged.foldAll().catch(() => {});
    if (log.used > 0) logged.#plan(FOLD_SECRET_AGE_MS);
    return { logged, lost };
  }

  /** For an operator to look at; without room for it, it is named all the same. */
  async #keepRotten(body: Uint8Array): Promise<void> {
    const when = isoTime(this.#deps.clock?.wallMs() ?? 0);
    const put: WireOp = ["damaged", `${when}/log`, `{"bytes":${body.length}}`, 0, body.length];
    await this.#deps.thread.ask([{ kind: "commit", ops: [put] }], body);
  }

  set grantBytes(bytes: number) {
    this.#grantBytes = bytes;
  }

  /** The medium has not plenty of room. */
  get #isTight(): boolean {
    return this.#grantBytes !== Number.POSITIVE_INFINITY;
  }

  /** Of commits in the log that the database has not. */
  get loggedBytes(): number {
    return this.#loggedBytes;
  }

  /** What a frame holds at most, in bytes of commits. */
  get frameBytesMax(): number {
    return Math.floor(this.#log.capacity * FRAME_SHARE) * LOG_PAGE_BYTES;
  }

  /** Bytes of a commit in the log. */
  bytesOf(ops: readonly StoreOp[]): number {
    let bytes = commitBytes(ops);
    for (const op of ops) if (op.op === "put" && isLarge(op)) bytes -= op.body?.length ?? 0;
    return bytes;
  }

  /** Whether the log is the place for this commit, with `before` bytes of others in front of it. */
  takes(ops: readonly StoreOp[], bytes: number, before: number): boolean {
    if (bytes > this.frameBytesMax) return false;
    // Needs no room in the database, and makes some for what the log holds already.
    const isDelete = ops.every(({ op }) => op === "delete");
    if (isDelete && this.#log.used + pagesOf(FRAME_HEAD_BYTES + before + bytes) <= this.#log.capacity)
      return true;
    if (this.#loggedBytes + before + bytes > this.#grantBytes) return false;
    if (ops.some((op) => op.op === "set-aside")) return false;
    if (!this.#isTight) return true;
    // The database knows to the page what still fits.
    if (ops.some(isLarge)) return false;
    const hasBody = ops.some((op) => op.op === "put" && (op.body?.length ?? 0) > 0);
    return !hasBody || (mediumOf(this.#deps.path)?.freeBytes ?? 0) >= this.#reserveBytes;
  }

  /**
   * Makes commits durable that `takes` admitted, all or none; `commitsBytes`: what `bytesOf` said of them together. One call at a time.
   * Rejects with GODWIT_STORE_FAILED.
   */
  async append(commits: readonly (readonly StoreOp[])[], commitsBytes: number): Promise<void> {
    const places: BodyPlace[] = [];
    try {
      const placed = await this.#place(commits, places);
      const bytes = places.length > 0 ? frameBytes(placed) : FRAME_HEAD_BYTES + commitsBytes;
      const pages = pagesOf(bytes);
      while (this.#log.used + pages > this.#log.capacity) await this.fold();
      if (this.#frame.length < bytes) this.#frame = alignedPages(2 * pages);
      const hasSecret = placed.some((ops) => ops.some((op) => isSecret(op.in)));
      await this.#log.append(
        encodeFrame(this.#frame, placed, bytes, this.#log.head, this.#log.id),
        hasSecret,
      );
      this.#loggedBytes += bytes;
      for (const ops of placed) this.#overlay.apply(ops);
      const used = this.#log.used / this.#log.capacity;
      const mayFree = !this.#files.isEmpty && placed.some((ops) => ops.some(mayFreeFile));
      if (used > FOLD_SHARE) this.foldSoon();
      else if (used > FOLD_WORTH_SHARE || mayFree) this.#plan(FOLD_SOON_AGE_MS);
      else this.#plan(hasSecret ? FOLD_SECRET_AGE_MS : FOLD_AGE_MS);
    } catch (error) {
      throw asGodwitError(error).code === "GODWIT_STORE_FAILED" ? error : failed(error, this.#deps.path);
    } finally {
      this.#files.kept(places);
    }
  }

  /** `undefined`: the database has it, if it is anywhere. Bytes owned by the caller. */
  async body(
    collection: Collection,
    key: string,
  ): Promise<{ readonly body: Uint8Array | undefined } | undefined> {
    const held = this.#overlay.body(collection, key);
    if (held === undefined) return undefined;
    if (held === null) return { body: undefined };
    if (held instanceof Uint8Array) return { body: held.slice() };
    const body = await this.#files.read(held);
    if (body !== undefined) return { body };
    // It rotted, or was brought to the database meanwhile: the database says which.
    await this.#folding?.catch(() => {});
    await this.fold();
    return undefined;
  }

  /** As `body`, of a part that is not judged. */
  async piece(
    collection: Collection,
    key: string,
    offset: number,
    length: number,
  ): Promise<{ readonly body: Uint8Array | undefined } | undefined> {
    const held = this.#overlay.body(collection, key);
    if (held === undefined) return undefined;
    if (held === null) return { body: undefined };
    if (held instanceof Uint8Array) return { body: held.slice(offset, offset + length) };
    const bytes = Math.max(0, Math.min(length, held.bytes - offset));
    const body = await this.#files.readPart(held.id + offset, bytes);
    if (body !== undefined) return { body };
    await this.#folding?.catch(() => {});
    await this.fold();
    return undefined;
  }

  /** What is held here and not in the database. */
  get overlay(): Overlay {
    return this.#overlay;
  }

  /** Nobody waits for it: what fails is tried again with a later commit, and told to those who find no room in the log. */
  foldSoon(): void {
    this.#timer?.cancel();
    this.#dueMs = Number.POSITIVE_INFINITY;
    // On a medium that is short, what came since one began waits for nothing else.
    if (this.#folding !== undefined) this.#isDueAgain ||= this.#isTight;
    else if (this.#log.used > 0) this.fold().catch(() => {});
  }

  /** All of it goes to the database. Rejects with GODWIT_STORE_FAILED. */
  async foldAll(): Promise<void> {
    // One that is under way may fail for want of room that was made since it began.
    await this.#folding?.catch(() => {});
    while (this.#folding !== undefined || this.#log.used > 0) await this.fold();
  }

  /** Writes to the database what is in the log now, and frees that part of the log. Rejects with GODWIT_STORE_FAILED. */
  fold(): Promise<void> {
    this.#folding ??= this.#foldOnce().finally(() => this.#onFolded());
    return this.#folding;
  }

  #onFolded(): void {
    this.#folding = undefined;
    if (!this.#isDueAgain) return;
    this.#isDueAgain = false;
    this.foldSoon();
  }

  /**
   * A database that has it all names no log any more, so that none is ever played over a copy of it. What could not be written to it stays in
   * the log, and is found there by the next start.
   */
  async close(): Promise<void> {
    this.#timer?.cancel();
    try {
      await this.foldAll();
      await this.#write([], noBytes(), { id: 0, page: 0 });
    } catch {
      // Told by whoever waited for it.
    }
    this.#log.close();
  }

  /** Larger bodies to their places. */
  async #place(commits: readonly (readonly StoreOp[])[], places: BodyPlace[]): Promise<LogCommit[]> {
    const large = commits.flatMap((ops) => ops.filter(isLarge)) as PutOp[];
    if (large.length === 0) return commits as LogCommit[];
    const bodies: NewBody[] = [];
    for (const op of large) bodies.push(await this.#newBody(op));
    places.push(...(await this.#files.write(bodies)));
    const placeOf = new Map<StoreOp, BodyPlace>(large.map((op, index) => [op, places[index]!]));
    return commits.map((ops) =>
      ops.map((op): LogOp => {
        const place = placeOf.get(op);
        if (place === undefined) return op as LogOp;
        const { in: collection, key, meta, slot } = op as Extract<StoreOp, { op: "put" }>;
        return { op: "put-place", in: collection, key, meta, place, slot };
      }),
    );
  }

  async #newBody(op: PutOp): Promise<NewBody> {
    const { head, body = noBytes() } = op;
    if (head === undefined) return op.in === "chunk" ? chunkBody(op.key, body) : { body };
    if (this.#files.hasHead(head)) return { body, head };
    // Its chunks are of an earlier life.
    return { body: await wholeBody(head, body, (key) => this.#chunk(key)) };
  }

  async #chunk(key: string): Promise<Uint8Array | undefined> {
    const held = await this.body("chunk", key);
    if (held !== undefined) return held.body;
    const { values } = await this.#deps.thread.ask([{ kind: "body", in: "chunk", key }]);
    return values.get(0) as Uint8Array | undefined;
  }

  /** At the latest in so long; soon where space is short, as what is deleted is given back by the database. */
  #plan(ageMs: number): void {
    const { clock } = this.#deps;
    const isTight = this.#isTight;
    if (isTight) ageMs = FOLD_TIGHT_AGE_MS;
    if (clock === undefined) return isTight ? this.foldSoon() : undefined;
    const dueMs = clock.monotonicMs() + ageMs;
    if (dueMs >= this.#dueMs) return;
    this.#timer?.cancel();
    this.#dueMs = dueMs;
    this.#timer = clock.after(ageMs, () => this.foldSoon());
  }

  async #foldOnce(): Promise<void> {
    const mark = { id: this.#log.id, page: this.#log.head };
    const loggedBytes = this.#loggedBytes;
    this.#overlay.seal();
    try {
      for (const { ops, pack, isLast } of this.#overlay.slices(
        SLICE_OPS_MAX,
        this.#sliceBytes,
        this.#isTight,
      ))
        await this.#write(ops, pack, isLast ? mark : undefined);
    } catch (error) {
      this.#overlay.unseal();
      throw error;
    }
    this.#overlay.drop();
    this.#loggedBytes -= loggedBytes;
    await this.#log.release(mark.page);
    await this.#sweep();
  }

  async #write(ops: readonly WireOp[], pack: Uint8Array, mark: LogMark | undefined): Promise<void> {
    const { failures, grantBytes } = await this.#deps.thread.fold(ops, pack, mark);
    this.#grantBytes = grantBytes;
    if (failures.length > 0) throw godwitError("GODWIT_STORE_FAILED", failures[0]!.message);
  }

  /** Files that no row names a place in any more. */
  async #sweep(): Promise<void> {
    if (this.#files.isEmpty) return;
    const { failures, values } = await this.#deps.thread.ask([{ kind: "places" }]);
    if (failures.length > 0) return;
    const live = new Set([...(values.get(0) as Float64Array), ...this.#overlay.places()].map(fileOf));
    this.#files.sweep(live);
  }
}

/** The chunks of a transfer share a file. */
function chunkBody(key: string, body: Uint8Array): NewBody {
  const [group, index] = key.split("/");
  return { body, group, index: Number(index) };
}

/** For where chunks do not lie one after the other. Rejects with GODWIT_STORE_FAILED. */
export async function wholeBody(
  { of, bytes }: BodyHead,
  rest: Uint8Array,
  chunk: (key: string) => Promise<Uint8Array | undefined>,
): Promise<Uint8Array> {
  const whole = new Uint8Array(bytes + rest.length);
  let at = 0;
  for (let index = 0; at < bytes; index++) {
    const part = await chunk(`${of}/${String(index).padStart(6, "0")}`);
    if (part === undefined || at + part.length > bytes)
      throw godwitError("GODWIT_STORE_FAILED", "the chunks of the body cannot be read");
    whole.set(part, at);
    at += part.length;
  }
  whole.set(rest, bytes);
  return whole;
}

function failed(error: unknown, path: string): Error {
  const isFull = error instanceof Error && "code" in error && error.code === "ENOSPC";
  const reason = isFull
    ? `no room for the commit: the disk is full; free some space beside ${path}, or delete messages`
    : `the store failed: ${error instanceof Error ? error.message : String(error)}`;
  return godwitError("GODWIT_STORE_FAILED", reason);
}
