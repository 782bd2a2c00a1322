/**
 * The log that makes commits durable: one file beside the database, of a fixed size and written over in a ring, so that a commit is one
 * write in place that changes nothing about the file. Frames (log-frame.ts) carry the number of their first page, which only ever grows:
 * from `tail` on they are not in the database yet. Must never write over a frame that the database has not, and never touch the database.
 */
import { closeSync, constants, fsyncSync, ftruncateSync, openSync, write, writeSync } from "node:fs";
import { dirname } from "node:path";
import { assert } from "../kernel/errors.ts";
import { syncFolder } from "../kernel/whole-file.ts";
import { decodeFrame, isSound, LOG_PAGE_BYTES, salvageFrame, type LogCommit } from "./log-frame.ts";
import { alignedPages, LogImage } from "./log-image.ts";
import type { Damage } from "./types.ts";

/** "Gdwtlog1", then pages, id, first page that is not in the database, sum. */
const MAGIC = 0x31676f6c74776447n;
const HEADER_SUM_AT = 32;
/** Written at once when a log is made. */
const ZERO_PAGES = 256;

/** What the database says of its log. */
export interface LogMark {
  /** Null: it lost its mark, and the log is believed. */
  readonly id: number | null;
  /** The first page that is not in the database. */
  readonly page: number;
}

export interface OpenedLog {
  readonly log: CommitLog;
  /** What the database has not, in the order of its commits. */
  readonly commits: readonly LogCommit[];
  /** Pages that are not what was written, with sound ones behind them. */
  readonly rotten: readonly Uint8Array[];
  /** Rows that were lost with them, as far as they can be named. */
  readonly lost: readonly Damage[];
}

/** Which rows it was nobody knows. */
const lastCommits: Damage = { in: "setting", key: "last commits" };

interface Header {
  readonly pages: number;
  readonly id: number;
  readonly page: number;
}

/** What a log is opened with. */
export interface OpenPlan {
  readonly mark: LogMark;
  readonly bytes: number;
  readonly freshId: number;
  /** Of a later release, in the order of their numbers, which follow those of `collections`. */
  readonly laterCollections: readonly string[];
}

/**
 * Opens the log at `path`, making one of `bytes` where there is none or where it holds nothing. `freshId` names it from now on if it is not that of
 * the database: then the database has to take on the log's `mark` before the first append. Throws the operating system's error, and LaterFrame.
 */
export function openLog(path: string, plan: OpenPlan): OpenedLog {
  try {
    return openWith(constants.O_DIRECT, path, plan);
  } catch {
    // File systems that do not pass by the kernel's cache say so in several ways; then a commit is written through it.
    return openWith(0, path, plan);
  }
}

/**
 * What is written is durable once it is written. With O_DIRECT in `flags` it passes by the cache of the kernel, which would write whole runs of
 * pages for one.
 */
function openWith(flags: number, path: string, plan: OpenPlan): OpenedLog {
  const file = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_DSYNC | flags, 0o600);
  try {
    const image = new LogImage(path, flags);
    try {
      return takeUp({ file, flags, path, image }, plan);
    } finally {
      image.close();
    }
  } catch (error) {
    closeSync(file);
    throw error;
  }
}

interface LogFile {
  readonly file: number;
  readonly flags: number;
  readonly path: string;
  readonly image: LogImage;
}

function takeUp(
  { file, flags, path, image }: LogFile,
  { bytes, mark, freshId, laterCollections }: OpenPlan,
): OpenedLog {
  const header = headerOf(image, mark);
  if (header !== undefined && (mark.id === null || header.id === mark.id)) {
    const start = mark.id === null ? header.page : mark.page;
    const { commits, rotten, lost, end } = scan(image, header.id, start, laterCollections);
    // A database that was put back from a copy, or lost its end, is older than its log, which may still have what it lacks.
    if (end < header.page) lost.push(lastCommits);
    const log = new CommitLog(file, { ...header, page: start }, end);
    log.writeHeader(header.id, start);
    return { log, commits, rotten, lost };
  }
  // What a log of another database holds was acknowledged, and is not in this one; nor is what a log held that is gone.
  const isForeign =
    header !== undefined && scan(image, header.id, header.page, laterCollections).commits.length > 0;
  const isGone = mark.id !== 0 && mark.id !== null;
  const fresh: Header = { pages: Math.floor(bytes / LOG_PAGE_BYTES) - 1, id: freshId, page: 0 };
  if (image.pages !== fresh.pages) makeRoom(path, flags, fresh.pages);
  const log = new CommitLog(file, fresh, 0);
  log.writeHeader(freshId, 0);
  return { log, commits: [], rotten: [], lost: isForeign || isGone ? [lastCommits] : [] };
}

export class CommitLog {
  readonly #file: number;
  readonly #pages: number;
  readonly #id: number;
  #head: number;
  #tail: number;
  /** Frames in use that hold what has to be gone once it is deleted: first page and pages. */
  #secret: [page: number, pages: number][] = [];

  constructor(file: number, { pages, id, page }: Header, head: number) {
    this.#file = file;
    this.#pages = pages;
    this.#id = id;
    this.#head = head;
    this.#tail = page;
  }

  get id(): number {
    return this.#id;
  }

  /** Number of the next frame's first page. */
  get head(): number {
    return this.#head;
  }

  /** The first page that is not in the database. */
  get tail(): number {
    return this.#tail;
  }

  get capacity(): number {
    return this.#pages;
  }

  get used(): number {
    return this.#head - this.#tail;
  }

  /**
   * Makes a frame durable that begins with page `head` and fits what is free. One at a time. Rejects with the operating system's error; then
   * the frame is none, and the next takes its place.
   */
  async append(frame: Buffer, isSecret: boolean): Promise<void> {
    const pages = frame.length / LOG_PAGE_BYTES;
    assert(this.used + pages <= this.#pages, "a frame would take the place of one that the database has not");
    try {
      await this.#write(frame, this.#head);
    } catch (error) {
      // What of it is on the medium must not be found by the next start.
      await this.#write(alignedPages(1), this.#head).catch(() => {});
      throw error;
    }
    if (isSecret) this.#secret.push([this.#head, pages]);
    this.#head += pages;
  }

  /** The database has, durably, all that is before `page`. */
  async release(page: number): Promise<void> {
    const isFreed = ([first]: readonly [page: number, pages: number]): boolean => first < page;
    for (const [first, pages] of this.#secret.filter(isFreed)) await this.#write(alignedPages(pages), first);
    this.#secret = this.#secret.filter((frame) => !isFreed(frame));
    await writeAll(this.#file, this.#header(this.#id, page), 0);
    this.#tail = page;
  }

  /** Names the log, before the database takes on its name. */
  writeHeader(id: number, page: number): void {
    const header = this.#header(id, page);
    writeSync(this.#file, header, 0, header.length, 0);
  }

  #header(id: number, page: number): Buffer {
    const header = alignedPages(1);
    header.writeBigUInt64LE(MAGIC, 0);
    header.writeUInt32LE(this.#pages, 8);
    header.writeBigUInt64LE(BigInt(id), 16);
    header.writeBigUInt64LE(BigInt(page), 24);
    header.writeBigUInt64LE(Bun.hash.xxHash3(header.subarray(0, HEADER_SUM_AT)), HEADER_SUM_AT);
    return header;
  }

  close(): void {
    closeSync(this.#file);
  }

  async #write(frame: Buffer, page: number): Promise<void> {
    const at = page % this.#pages;
    const first = Math.min(frame.length, (this.#pages - at) * LOG_PAGE_BYTES);
    await writeAll(this.#file, frame.subarray(0, first), (at + 1) * LOG_PAGE_BYTES);
    if (first < frame.length) await writeAll(this.#file, frame.subarray(first), LOG_PAGE_BYTES);
  }
}

/** Durable when it resolves: the file is open with O_DSYNC. */
function writeAll(file: number, bytes: Buffer, position: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const more = (at: number): void =>
      write(file, bytes, at, bytes.length - at, position + at, (error, written) => {
        if (error !== null) reject(error);
        else if (at + written < bytes.length) more(at + written);
        else resolve();
      });
    more(0);
  });
}

/** A header that rotted is made up from what the database says. */
function headerOf(image: LogImage, mark: LogMark): Header | undefined {
  const { pages } = image;
  if (pages < 1 || !Number.isInteger(pages)) return undefined;
  const header = image.header();
  const isSoundHeader =
    header.readBigUInt64LE(0) === MAGIC &&
    header.readBigUInt64LE(HEADER_SUM_AT) === Bun.hash.xxHash3(header.subarray(0, HEADER_SUM_AT)) &&
    header.readUInt32LE(8) === pages;
  if (isSoundHeader)
    return { pages, id: Number(header.readBigUInt64LE(16)), page: Number(header.readBigUInt64LE(24)) };
  return mark.id === null || mark.id === 0 ? undefined : { pages, id: mark.id, page: mark.page };
}

/**
 * Zeros, so that no later write changes anything about the file; past the cache of the kernel where `flags` say so, which costs a third of the
 * processor time. Throws the operating system's error, and takes no room then.
 */
function makeRoom(path: string, flags: number, pages: number): void {
  const bytes = (pages + 1) * LOG_PAGE_BYTES;
  const zeros = alignedPages(ZERO_PAGES);
  const plain = openSync(path, constants.O_RDWR | flags);
  try {
    ftruncateSync(plain, 0);
    for (let at = 0; at < bytes;) at += writeSync(plain, zeros, 0, Math.min(zeros.length, bytes - at), at);
    fsyncSync(plain);
  } catch (error) {
    ftruncateSync(plain, 0);
    throw error;
  } finally {
    closeSync(plain);
  }
  syncFolder(dirname(path));
}

/**
 * The frames from page `start` on. The first that is not sound ends them: it was torn, and nobody was told that it is durable. Unless
 * there are sound ones behind it: each was begun when the one before was durable, so that one rotted.
 */
function scan(
  image: LogImage,
  id: number,
  start: number,
  later: readonly string[],
): { commits: LogCommit[]; rotten: Uint8Array[]; lost: Damage[]; end: number } {
  const commits: LogCommit[] = [];
  const rotten: Uint8Array[] = [];
  const lost: Damage[] = [];
  let end = start;
  /** Where others say that they begin, since the last sound one. */
  let doubtful: number[] = [];
  for (const head of image.heads(start)) {
    if (head.page < end) continue;
    const count = Math.ceil(head.bytes / LOG_PAGE_BYTES);
    const content = count > image.pages ? undefined : image.content(head.page, count);
    if (content === undefined || !isSound(content, head, id)) {
      doubtful.push(head.page);
      continue;
    }
    for (const to of [...doubtful, head.page]) {
      if (to === end) continue;
      const damaged = image.content(end, to - end);
      const left = salvageFrame(damaged, end, id, later);
      rotten.push(new Uint8Array(damaged));
      commits.push(...left.commits);
      lost.push(...left.lost);
      end = to;
    }
    doubtful = [];
    commits.push(...decodeFrame(content, head, later));
    end = head.page + count;
  }
  return { commits, rotten, lost, end };
}
