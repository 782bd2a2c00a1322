/**
 * Room for the store's two files: on a full disk a delete and a start must always get through, whoever filled it. So what they need is
 * kept inside the files, where nobody else can take it: a log of a fixed size that is reused and never handed back, and a database that
 * is grown on the medium before anything is logged that needs it, so that the log can always be emptied. Runs in the store's worker.
 * Never deletes a row and never waits. docs/protocol/delivery.md "Full and damaged disks".
 */
import type { Database } from "bun:sqlite";
import { statfsSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { systemClock } from "../kernel/clock.ts";
import { fillLog, keepWal, walPath } from "./sqlite-wal.ts";

const PAGE_BYTES = 4_096;
/** Of SQLite (`SQLITE_FCNTL_...`). */
const SIZE_HINT = 5;
const CHUNK_SIZE = 6;
/** The database grows and shrinks in steps of this. */
const CHUNK_BYTES = 64 * PAGE_BYTES;
/** Of SQLite: a signed number of 32 bits. */
const CHUNK_BYTES_MAX = 2 ** 31 - 1;
/** Size of the log at rest, as a part of the medium. One commit of deletes has to fit. */
const WAL_KEPT = { share: 1 / 16, min: 256 * 1024, max: 2 * 1024 * 1024 };
/** A log that grew beyond that keeps this much: to grow it anew each time would cost an fsync more. */
const WAL_GROWN = { ...WAL_KEPT, max: 16 * 1024 * 1024 };
/** Pages in the log after which it is emptied, at once and in a quiet moment. A read of an older row waits for that: half of it costs 5 % more bytes in a crowd. */
const WAL_BUSY_PAGES = { share: 1 / 64 / PAGE_BYTES, min: 64, max: 1_024 };
const WAL_QUIET_PAGES_MAX = 256;
/** Of the commit log (commit-log.ts): what it holds is in memory as well. */
const LOG = { share: 1 / 64, min: 256 * 1024, max: 4 * 1024 * 1024 };
/** What a byte of the commit log takes in the database at most: a row of half a page takes a whole one, and leaves of trees are half empty. */
const FOLDED_PER_LOGGED = 3;
/** Free pages inside the database that stay there for the next messages. */
const FREE_PAGES_KEPT = { share: 1 / 64 / PAGE_BYTES, min: 32, max: 1_024 };
/** Free pages given back to the file system in one step: each moves a few others, and all of them pass through the log. */
const VACUUM_PAGES = 512;
const PAGES_MOVED_PER_FREED = 4;
/** Kept free on the medium by what brings bodies: for all that a node writes beside the store. */
const RESERVE = { share: 0.05, min: 0, max: 32 * 1024 * 1024 };
/** Kept free inside the database by what brings bodies: for receipts, marks of what was delivered, states. */
const SLACK_PAGES = 16;
/** With this much left nobody needs to look closer. */
const AMPLE_BYTES = 512 * 1024 * 1024;
/** What a quiet moment may write into the reserve. */
const REST_BYTES = 64 * 1024;
/** A store that has no room for a message of this size is short. */
const LEAST = { share: 1 / 64, min: 16 * 1024, max: 1024 * 1024 };
/** So long a message that found no room counts for what is missing. */
const REFUSED_MS = 60_000;

/** The medium has no room for another body, although SQLite itself would still find some. */
export class DiskFull extends Error {
  readonly missingBytes: number;
  constructor(missingBytes: number) {
    super(`${missingBytes} bytes are missing`);
    this.missingBytes = missingBytes;
  }
}

interface Medium {
  readonly freeBytes: number;
  readonly totalBytes: number;
}

const within = (bounds: { share: number; min: number; max: number }, totalBytes: number): number =>
  Math.floor(Math.min(bounds.max, Math.max(bounds.min, totalBytes * bounds.share)));

/** Undefined where the file system does not say. */
export function mediumOf(path: string): Medium | undefined {
  try {
    const { bavail, blocks, bsize } = statfsSync(dirname(path));
    return blocks > 0 ? { freeBytes: bavail * bsize, totalBytes: blocks * bsize } : undefined;
  } catch {
    return undefined;
  }
}

/** What a start beside a fresh store needs of the medium. */
export const startBytes = (totalBytes: number): number => within(WAL_KEPT, totalBytes) + 4 * CHUNK_BYTES;

export class Room {
  readonly #db: Database;
  readonly #path: string;
  readonly #bytesMax: number;
  readonly #totalBytes: number;
  readonly #walKeptBytes: number;
  #isCapped = true;
  #isGranting = false;
  #refused: { readonly bytes: number; readonly atMs: number } | undefined;

  /** Takes what room it keeps, as far as the medium has it. */
  constructor(db: Database, path: string, bytesMax: number | undefined) {
    this.#db = db;
    this.#path = path;
    this.#bytesMax = bytesMax ?? Number.MAX_SAFE_INTEGER;
    this.#totalBytes = mediumOf(path)?.totalBytes ?? Number.MAX_SAFE_INTEGER;
    this.#walKeptBytes = within(WAL_KEPT, this.#totalBytes);
    db.fileControl(CHUNK_SIZE, CHUNK_BYTES);
    db.run(`PRAGMA journal_size_limit = ${within(WAL_GROWN, this.#totalBytes)}`);
    fillLog(path, this.#walKeptBytes);
    this.make(0);
  }

  /** The database is about to be closed: its log stays, as room for the next start. */
  keepLog(): void {
    this.#db.run("PRAGMA journal_size_limit = -1");
  }

  /** Size of the commit log. */
  get logBytes(): number {
    return within(LOG, this.#totalBytes);
  }

  /** What others shall find on the medium: see `RESERVE`. */
  get reserveBytes(): number {
    return within(RESERVE, this.#totalBytes);
  }

  get sliceBytes(): number {
    return Math.floor(this.#walKeptBytes / 4);
  }

  /**
   * How many bytes of commits may be in the commit log without being in the database: so many as are sure to find room in it, which is
   * made here as far as the medium gives it beyond the reserve. Infinity while there is plenty.
   */
  grantBytes(): number {
    const medium = mediumOf(this.#path);
    const isBounded = this.#bytesMax !== Number.MAX_SAFE_INTEGER;
    this.#isGranting =
      isBounded || (medium !== undefined && medium.freeBytes - 2 * this.logBytes <= AMPLE_BYTES);
    if (!this.#isGranting) return Number.POSITIVE_INFINITY;
    // Who is told that there is no room is told so by the database, which knows to the page what still fits.
    if (this.missingBytes > 0) return 0;
    const wantedPages = this.#grantedPages;
    const held = this.#pragma("page_count") * PAGE_BYTES;
    const missing = wantedPages - this.#pragma("freelist_count") - (sizeOf(this.#path) - held) / PAGE_BYTES;
    const spendable = (medium?.freeBytes ?? 0) - within(RESERVE, this.#totalBytes) - CHUNK_BYTES;
    if (missing > 0 && spendable > 0)
      this.#grow(
        wantedPages -
          this.#pragma("freelist_count") -
          Math.max(0, Math.ceil(missing - spendable / PAGE_BYTES)),
      );
    const fileBytes = Math.min(sizeOf(this.#path), this.#bytesMax);
    const spare = fileBytes - held + this.#pragma("freelist_count") * PAGE_BYTES;
    return Math.max(0, Math.floor((spare - 2 * SLACK_PAGES * PAGE_BYTES) / FOLDED_PER_LOGGED));
  }

  /** For rows that are in the commit log, within what `grantBytes` promised: as little as possible of it through the WAL at once. */
  makeForFold(): void {
    const medium = mediumOf(this.#path);
    if (medium === undefined || medium.freeBytes > AMPLE_BYTES) return this.#cap(undefined);
    if (this.walPages > 0) this.checkpoint("PASSIVE");
    this.#cap(sizeOf(this.#path));
  }

  get walBusyPages(): number {
    return within(WAL_BUSY_PAGES, this.#totalBytes);
  }

  get walQuietPages(): number {
    return Math.min(WAL_QUIET_PAGES_MAX, this.walBusyPages);
  }

  /** Pages in the log that are not in the database yet. */
  get walPages(): number {
    const [, logged, checkpointed] = this.checkpoint("NOOP");
    return Math.max(0, logged! - checkpointed!);
  }

  /** Part of what was committed lies beyond the end of the database's file: emptying the log will need room for it. */
  get isOwed(): boolean {
    return this.#pragma("page_count") * PAGE_BYTES > sizeOf(this.#path);
  }

  checkpoint(mode: "NOOP" | "PASSIVE"): number[] {
    const keptBytes = mode === "PASSIVE" ? this.#keptBytes : 0;
    // An emptied log cuts the file to what the database needs, in steps of the chunk: one step up to here.
    if (keptBytes > 0) this.#db.fileControl(CHUNK_SIZE, keptBytes);
    try {
      return this.#db.query(`PRAGMA wal_checkpoint(${mode})`).values()[0] as number[];
    } finally {
      if (keptBytes > 0) this.#db.fileControl(CHUNK_SIZE, CHUNK_BYTES);
    }
  }

  /** Up to where the file stays as large as it is, for what is in the commit log; 0 where there is plenty of room. */
  get #keptBytes(): number {
    if (!this.#isGranting) return 0;
    const fileBytes = sizeOf(this.#path);
    const held = this.#pragma("page_count") * PAGE_BYTES;
    const wanted = held + this.#grantedPages * PAGE_BYTES - this.#pragma("freelist_count") * PAGE_BYTES;
    const kept = Math.min(fileBytes, Math.ceil(Math.max(held, wanted) / CHUNK_BYTES) * CHUNK_BYTES);
    return held <= kept && kept <= CHUNK_BYTES_MAX ? kept : 0;
  }

  /** What the database keeps for a commit log that is full. */
  get #grantedPages(): number {
    return Math.ceil((this.logBytes * FOLDED_PER_LOGGED) / PAGE_BYTES) + 2 * SLACK_PAGES;
  }

  /** Gives some free pages back; true when there are more to give. */
  vacuumStep(): boolean {
    const spare = this.#pragma("freelist_count") - within(FREE_PAGES_KEPT, this.#totalBytes);
    if (spare <= 0) return false;
    const step = Math.min(VACUUM_PAGES, Math.floor(this.#walKeptBytes / PAGE_BYTES / PAGES_MOVED_PER_FREED));
    this.#db.run(`PRAGMA incremental_vacuum(${Math.min(spare, step)})`);
    return spare > step;
  }

  /**
   * Makes room for a transaction with this many bytes of bodies, 0 for one without. Throws DiskFull when bodies would use up the reserve;
   * a transaction without bodies may use it, and has to do with what is there.
   */
  make(bodyBytes: number): void {
    const medium = mediumOf(this.#path);
    if (medium === undefined || medium.freeBytes - 2 * bodyBytes > AMPLE_BYTES) return this.#cap(undefined);
    if (bodyBytes === 0) {
      const isTight = this.#pragma("freelist_count") < SLACK_PAGES;
      if (isTight && medium.freeBytes > 2 * CHUNK_BYTES) this.#grow(SLACK_PAGES);
      return this.#cap(sizeOf(this.#path));
    }
    // Once all of it is in the database, the log starts over and its file is reused.
    if (bodyBytes > this.#logFree() && this.walPages > 0) this.checkpoint("PASSIVE");
    const missingBytes = this.#missing(bodyBytes, medium);
    if (missingBytes === 0 && this.#grow(this.#pagesBeyond(bodyBytes))) return this.#cap(sizeOf(this.#path));
    if (bodyBytes >= (this.#refused?.bytes ?? 0))
      this.#refused = { bytes: bodyBytes, atMs: systemClock.monotonicMs() };
    throw new DiskFull(Math.max(missingBytes, PAGE_BYTES));
  }

  /** As `make`, for what may wait: throws DiskFull, and nothing is said to be missing. */
  makeForRest(bytes: number): void {
    const medium = mediumOf(this.#path);
    const spare = (medium?.freeBytes ?? 0) - within(RESERVE, this.#totalBytes);
    if (bytes > REST_BYTES && medium !== undefined && spare < 2 * bytes)
      throw new DiskFull(2 * bytes - spare);
    this.make(0);
  }

  /** Bytes that have to become free before the next message is taken; 0: there is room. */
  get missingBytes(): number {
    const medium = mediumOf(this.#path);
    if (this.#refused !== undefined && systemClock.monotonicMs() - this.#refused.atMs > REFUSED_MS)
      this.#refused = undefined;
    const bodyBytes = Math.max(within(LEAST, this.#totalBytes), this.#refused?.bytes ?? 0);
    const isAmple = medium === undefined || medium.freeBytes - 2 * bodyBytes > AMPLE_BYTES;
    if (isAmple && this.#bytesMax === Number.MAX_SAFE_INTEGER) return 0;
    const beyondMax = this.#pragma("page_count") * PAGE_BYTES + this.#pagesBeyond(bodyBytes) * PAGE_BYTES;
    const overBytes = Math.max(0, beyondMax - this.#bytesMax);
    if (isAmple) return overBytes;
    const missingBytes = Math.max(overBytes, this.#missing(bodyBytes, medium));
    if (missingBytes === 0) this.#refused = undefined;
    return missingBytes;
  }

  #missing(bodyBytes: number, medium: Medium): number {
    const owed = Math.max(0, this.#pragma("page_count") * PAGE_BYTES - sizeOf(this.#path));
    const growth =
      owed + Math.max(0, logBytes(bodyBytes) - this.#logFree()) + this.#pagesBeyond(bodyBytes) * PAGE_BYTES;
    const reserve = within(RESERVE, this.#totalBytes);
    return growth === 0 ? 0 : Math.max(0, growth + reserve - medium.freeBytes);
  }

  /** Pages by which the database outgrows its free ones. */
  #pagesBeyond(bodyBytes: number): number {
    return Math.max(
      0,
      Math.ceil(logBytes(bodyBytes) / PAGE_BYTES) + SLACK_PAGES - this.#pragma("freelist_count"),
    );
  }

  #logFree(): number {
    const [, logged, checkpointed] = this.checkpoint("NOOP");
    const used = logged === checkpointed ? 0 : logged! * PAGE_BYTES;
    return Math.max(0, sizeOf(walPath(this.#path)) - used);
  }

  /** Makes the file larger than the database: false when the medium does not give it. */
  #grow(pages: number): boolean {
    if (pages === 0) return true;
    const wanted = (this.#pragma("page_count") + pages) * PAGE_BYTES;
    return growFile(this.#db, this.#path, wanted);
  }

  /** The database never becomes larger than its file, or its log could not be emptied on a full medium. */
  #cap(fileBytes: number | undefined): void {
    if (fileBytes === undefined && !this.#isCapped) return;
    this.#isCapped = fileBytes !== undefined;
    const pages = Math.floor(Math.min(this.#bytesMax, fileBytes ?? Number.MAX_SAFE_INTEGER) / PAGE_BYTES);
    this.#db.run(`PRAGMA max_page_count = ${Math.min(0xffff_fffe, Math.max(1, pages))}`);
  }

  #pragma(name: string): number {
    return pragma(this.#db, name);
  }
}

/** What a transaction that adds so many pages, and all that comes after it, need of both files; undefined where there is plenty. */
function neededFor(
  db: Database,
  path: string,
  pages: number,
): { readonly fileBytes: number; readonly walBytes: number; missingBytes(): number } | undefined {
  const medium = mediumOf(path);
  const bytes = pages * PAGE_BYTES;
  if (medium === undefined || medium.freeBytes - 2 * bytes > AMPLE_BYTES) return undefined;
  const fileBytes = (pragma(db, "page_count") + pages + SLACK_PAGES) * PAGE_BYTES;
  const walBytes = within(WAL_KEPT, medium.totalBytes) + bytes;
  const missingOf = (name: string, wanted: number): number => Math.max(0, wanted - sizeOf(name));
  return {
    fileBytes,
    walBytes,
    missingBytes: () => missingOf(path, fileBytes) + missingOf(walPath(path), walBytes),
  };
}

/** Throws DiskFull for a medium that has no room for `takeRoom`. Changes nothing. */
export function checkRoom(db: Database, path: string, pages: number): void {
  const missingBytes = neededFor(db, path, pages)?.missingBytes() ?? 0;
  const spareBytes = mediumOf(path)?.freeBytes ?? 0;
  // The database grows by whole chunks.
  if (missingBytes > 0 && missingBytes + CHUNK_BYTES > spareBytes)
    throw new DiskFull(missingBytes + CHUNK_BYTES - spareBytes);
}

/**
 * Takes room for a transaction that adds so many pages in both files before it begins: on a medium that others fill meanwhile the database
 * could neither be emptied nor started, and no release before would have it any more. Throws DiskFull; what was taken until then stays for the next try.
 */
export function takeRoom(db: Database, path: string, pages: number): void {
  const needed = neededFor(db, path, pages);
  if (needed === undefined) return;
  db.fileControl(CHUNK_SIZE, CHUNK_BYTES);
  growFile(db, path, needed.fileBytes);
  // What an earlier life left in the log goes to the database, so that the log begins anew. That cuts the file.
  db.query("PRAGMA wal_checkpoint(PASSIVE)").values();
  growFile(db, path, needed.fileBytes);
  fillLog(path, needed.walBytes);
  const missingBytes = needed.missingBytes();
  if (missingBytes === 0) return;
  leaveRoom(db, path);
  throw new DiskFull(missingBytes + CHUNK_BYTES);
}

/** For a connection that only looks: what is closed with it leaves both files as large as they are, because that is room that somebody keeps. */
export function leaveRoom(db: Database, path: string): void {
  keepWal(db, true);
  const bytes = sizeOf(path);
  if (bytes > 0 && bytes <= CHUNK_BYTES_MAX) db.fileControl(CHUNK_SIZE, bytes);
}

const pragma = (db: Database, name: string): number => Number(db.query(`PRAGMA ${name}`).values()[0]![0]);
const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;

/** Makes a database's file at least so large: false when the medium does not give it. */
function growFile(db: Database, path: string, bytes: number): boolean {
  if (sizeOf(path) >= bytes) return true;
  db.fileControl(SIZE_HINT, new BigInt64Array([BigInt(bytes)]));
  return sizeOf(path) >= bytes;
}

/** With what a page holds beside a body, and the pages of the trees. */
const logBytes = (bodyBytes: number): number =>
  bodyBytes === 0 ? 0 : Math.ceil(bodyBytes * 1.02) + 8 * PAGE_BYTES;
