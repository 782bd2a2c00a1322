/** The log's file read piece by piece is the same as read as a whole. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { encodeFrame, frameBytes, LOG_PAGE_BYTES, type LogCommit } from "./log-frame.ts";
import { LogImage, STRIDE_PAGES } from "./log-image.ts";

const folder = mkdtempSync(join(tmpdir(), "godwit-image-"));
const path = join(folder, "log");
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** More than are read at once, and no multiple of that. */
const PAGES = STRIDE_PAGES + 86;
const START = 3 * PAGES + 40;
const commit: LogCommit = [{ op: "put", in: "seen", key: "k", meta: "[]" }];

/** A file with a frame that says `page` in the place of page number `at`. */
function fileWith(frames: readonly { readonly at: number; readonly page: number }[]): Buffer {
  const file = Buffer.alloc((PAGES + 1) * LOG_PAGE_BYTES);
  for (const { at, page } of frames) {
    const frame = encodeFrame(Buffer.alloc(LOG_PAGE_BYTES), [commit], frameBytes([commit]), page, 7);
    frame.copy(file, (1 + (at % PAGES)) * LOG_PAGE_BYTES);
  }
  return file;
}

test("every page from the start on is looked at, once round, and in the order of its number", () => {
  const pages = Array.from({ length: PAGES }, (_, index) => START + index);
  writeFileSync(path, fileWith(pages.map((page) => ({ at: page, page }))));
  const image = new LogImage(path);
  const bytes = frameBytes([commit]);
  expect(image.heads(START)).toEqual(pages.map((page) => ({ page, bytes })));
  image.close();
});

test("a frame of another round, or in another's place, begins nowhere", () => {
  writeFileSync(
    path,
    fileWith([
      { at: START + 1, page: START + 1 - PAGES },
      { at: START + 2, page: START + 2 + PAGES },
      { at: START + 3, page: START + 4 },
      { at: START + 4, page: START + 4 + 2 ** 32 },
      { at: START - 1, page: START - 1 },
      { at: START + 5, page: START + 5 },
    ]),
  );
  const image = new LogImage(path);
  expect(image.heads(START).map(({ page }) => page)).toEqual([START + 5]);
  image.close();
});

test("pages on both sides of the ring's end are one content", () => {
  const file = Buffer.alloc((PAGES + 1) * LOG_PAGE_BYTES);
  for (let page = 0; page <= PAGES; page++)
    file.fill(page, page * LOG_PAGE_BYTES, (page + 1) * LOG_PAGE_BYTES);
  writeFileSync(path, file);
  const image = new LogImage(path);
  const content = image.content(2 * PAGES - 1, 3);
  expect([0, 1, 2].map((page) => content[page * LOG_PAGE_BYTES])).toEqual([PAGES % 256, 1, 2]);
  expect(content.length).toBe(3 * LOG_PAGE_BYTES);
  image.close();
});

test("a file that is no whole number of pages is read as far as it goes, and not further", () => {
  writeFileSync(path, Buffer.alloc(100, 1));
  const image = new LogImage(path);
  expect(image.pages).toBeLessThan(1);
  expect(image.header()).toEqual(Buffer.alloc(100, 1));
  truncateSync(path, 50);
  expect(() => image.header()).toThrow("shorter");
  image.close();
});
