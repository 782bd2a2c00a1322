/**
 * What a start reads of the commit log: its file piece by piece, never as a whole, because it is large and mostly of the past. Finds the pages
 * at which a frame says that it begins; what is said there is for commit-log.ts to believe or not. Never writes.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { ptr } from "bun:ffi";
import { FRAME_MAGIC, FRAME_HEAD_BYTES, LOG_PAGE_BYTES, type FrameHead } from "./log-frame.ts";

/** Read at once when all pages are looked at: each reading waits for the medium, and a start waits for all of them. */
export const STRIDE_PAGES = 256;
const PAGE_WORDS = LOG_PAGE_BYTES / 4;

export class LogImage {
  readonly #file: number;
  /** Of the file. */
  readonly bytes: number;

  /** Throws the operating system's error. With O_DIRECT in `flags` it passes by the cache, which has nothing of what was written past it. */
  constructor(path: string, flags = 0) {
    this.#file = openSync(path, constants.O_RDONLY | flags);
    this.bytes = fstatSync(this.#file).size;
  }

  /** Pages of frames: the first of the file is the log's own. Not whole, or less than one: this is no log. */
  get pages(): number {
    return this.bytes / LOG_PAGE_BYTES - 1;
  }

  /** The log's own page; shorter where the file is. */
  header(): Buffer {
    const page = alignedPages(1);
    return page.subarray(0, this.#fill(page, 0, Math.min(LOG_PAGE_BYTES, this.bytes)));
  }

  /** `count` pages from page number `page` on, the ring's end passed over. The caller's own. */
  content(page: number, count: number): Buffer {
    const at = page % this.pages;
    const first = Math.min(count, this.pages - at);
    const bytes = alignedPages(count);
    this.#fill(bytes.subarray(0, first * LOG_PAGE_BYTES), (1 + at) * LOG_PAGE_BYTES);
    this.#fill(bytes.subarray(first * LOG_PAGE_BYTES), LOG_PAGE_BYTES);
    return bytes;
  }

  /** Of the pages that a frame may lie on, numbered from `start` on: the heads of those that say that one begins there, in order. */
  heads(start: number): FrameHead[] {
    const { pages } = this;
    const found: FrameHead[] = [];
    // Every machine that Godwit runs on has the order of bytes that frames have.
    const buffer = alignedPages(STRIDE_PAGES);
    const words = new Uint32Array(buffer.buffer, buffer.byteOffset, STRIDE_PAGES * PAGE_WORDS);
    for (let from = 0; from < pages; from += STRIDE_PAGES) {
      const here = Math.min(STRIDE_PAGES, pages - from);
      this.#fill(buffer.subarray(0, here * LOG_PAGE_BYTES), (1 + from) * LOG_PAGE_BYTES);
      for (let word = 0; word < here * PAGE_WORDS; word += PAGE_WORDS) {
        if (words[word] !== FRAME_MAGIC) continue;
        const place = from + word / PAGE_WORDS;
        const page = start + ((place - (start % pages) + pages) % pages);
        if (words[word + 2]! + words[word + 3]! * 2 ** 32 === page)
          found.push({ page, bytes: FRAME_HEAD_BYTES + words[word + 1]! });
      }
    }
    return found.sort((a, b) => a.page - b.page);
  }

  close(): void {
    closeSync(this.#file);
  }

  /** Answers how much is there: all, or `least` bytes. */
  #fill(bytes: Buffer, at: number, least = bytes.length): number {
    let filled = 0;
    while (filled < least) {
      const count = readSync(this.#file, bytes, filled, bytes.length - filled, at + filled);
      if (count === 0) throw new Error("the log became shorter while it was read");
      filled += count;
    }
    return filled;
  }
}

/** Memory that may pass by the cache: it begins where a page does. */
export function alignedPages(pages: number): Buffer {
  const bytes = Buffer.allocUnsafeSlow((pages + 1) * LOG_PAGE_BYTES);
  const offset = -Number(ptr(bytes)) & (LOG_PAGE_BYTES - 1);
  return bytes.subarray(offset, offset + pages * LOG_PAGE_BYTES).fill(0);
}
