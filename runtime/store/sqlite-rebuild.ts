/**
 * Where the tables of a damaged database are, said anew: so that what lies in them can be read. Runs in the store's worker, on a file that
 * nobody has open. Must never be the only one to know what was there before: it answers the pages that it wrote over.
 */
import { Database } from "bun:sqlite";
import { closeSync, openSync, readSync, statSync, writeSync } from "node:fs";
import { createSchema } from "./sqlite-schema.ts";

const PAGE_BYTES = 4_096;
/** The first page begins with the header of the file. */
const FILE_HEADER_BYTES = 100;
const TABLE_INNER = 0x05;

/**
 * The first page, and those it leads to, say where the tables are. Every database of ours is made by the same statements, so a new one says it
 * as well. Answers the pages that were there, by number; undefined when the file is too short to be mended.
 */
export function rebuildSchema(path: string): Map<number, Uint8Array> | undefined {
  const pages = Math.floor((statSync(path, { throwIfNoEntry: false })?.size ?? 0) / PAGE_BYTES);
  const template = new Database(":memory:", { strict: true });
  let image: Uint8Array;
  try {
    for (const pragma of [`page_size = ${PAGE_BYTES}`, "auto_vacuum = INCREMENTAL"])
      template.run(`PRAGMA ${pragma}`);
    createSchema(template);
    image = template.serialize();
  } finally {
    template.close();
  }
  if (pages * PAGE_BYTES < image.length) return undefined;
  const pageOf = (number: number): Uint8Array =>
    new Uint8Array(image.subarray((number - 1) * PAGE_BYTES, number * PAGE_BYTES));
  const first = pageOf(1);
  const view = new DataView(first.buffer);
  view.setUint32(28, pages);
  // Free pages that nobody knows of any more.
  view.setUint32(32, 0);
  view.setUint32(36, 0);
  // Its log is a WAL.
  first.set([2, 2], 18);
  const made = new Map([[1, first], ...childrenOf(view).map((number) => [number, pageOf(number)] as const)]);
  const before = new Map<number, Uint8Array>();
  const handle = openSync(path, "r");
  try {
    for (const number of made.keys()) {
      const page = new Uint8Array(PAGE_BYTES);
      readSync(handle, page, 0, PAGE_BYTES, (number - 1) * PAGE_BYTES);
      before.set(number, page);
    }
  } finally {
    closeSync(handle);
  }
  writePages(path, made);
  return before;
}

/** Of the first page: those it leads to, none where it holds all itself. The file format's "B-tree Pages". */
function childrenOf(first: DataView): number[] {
  if (first.getUint8(FILE_HEADER_BYTES) !== TABLE_INNER) return [];
  const cells = first.getUint16(FILE_HEADER_BYTES + 3);
  const left = Array.from({ length: cells }, (_, cell) =>
    first.getUint32(first.getUint16(FILE_HEADER_BYTES + 12 + 2 * cell)),
  );
  return [...left, first.getUint32(FILE_HEADER_BYTES + 8)];
}

/** Of a file that nobody has open. */
export function writePages(path: string, pages: ReadonlyMap<number, Uint8Array>): void {
  const handle = openSync(path, "r+");
  try {
    for (const [number, page] of pages) writeSync(handle, page, 0, page.length, (number - 1) * PAGE_BYTES);
  } finally {
    closeSync(handle);
  }
}
