/**
 * Rows of a database file, found page by page without its trees: an inner page that was lost takes no rows with it that still lie in
 * their leaves. Reads the file format of SQLite (https://sqlite.org/fileformat2.html, "B-tree Pages", "Record Format"), tables only,
 * UTF-8 only. Believes nothing: whoever asks judges what a row is and whether it is sound. Never writes.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";

const PAGE_BYTES = 4_096;
const TABLE_LEAF = 0x0d;
/** The first page begins with the header of the file. */
const FILE_HEADER_BYTES = 100;
/** Above what any row of ours has: a length beyond it is damage. */
const PAYLOAD_BYTES_MAX = 80 * 1024 * 1024;

export interface LeafRow {
  readonly rowid: number;
  readonly values: readonly unknown[];
}

/** Every cell of every page that looks like a leaf of a table; what cannot be read is passed over. */
export function* leafRows(path: string): Generator<LeafRow> {
  const file = openSync(path, "r");
  try {
    const pages = Math.floor(fstatSync(file).size / PAGE_BYTES);
    const pageAt = (number: number): Buffer => {
      const page = Buffer.alloc(PAGE_BYTES);
      if (number < 1 || number > pages) throw new RangeError("no such page");
      readSync(file, page, 0, PAGE_BYTES, (number - 1) * PAGE_BYTES);
      return page;
    };
    for (let number = 1; number <= pages; number++) {
      const page = pageAt(number);
      const at = number === 1 ? FILE_HEADER_BYTES : 0;
      if (page[at] !== TABLE_LEAF) continue;
      const cells = Math.min(page.readUInt16BE(at + 3), PAGE_BYTES / 4);
      for (let cell = 0; cell < cells; cell++) {
        const row = readCell(page, at + 8 + 2 * cell, pageAt);
        if (row !== undefined) yield row;
      }
    }
  } finally {
    closeSync(file);
  }
}

function readCell(page: Buffer, pointerAt: number, pageAt: (number: number) => Buffer): LeafRow | undefined {
  try {
    const size = varint(page, page.readUInt16BE(pointerAt));
    const rowid = varint(page, size.next);
    if (size.value > PAYLOAD_BYTES_MAX) return undefined;
    const payload = readPayload(page, rowid.next, size.value, pageAt);
    return { rowid: rowid.value, values: readRecord(payload) };
  } catch {
    return undefined;
  }
}

/** The part in the page, then its overflow pages. Throws RangeError. */
function readPayload(page: Buffer, at: number, bytes: number, pageAt: (number: number) => Buffer): Buffer {
  const localMax = PAGE_BYTES - 35;
  const localMin = Math.floor(((PAGE_BYTES - 12) * 32) / 255) - 23;
  const wanted = localMin + ((bytes - localMin) % (PAGE_BYTES - 4));
  const local = bytes <= localMax ? bytes : wanted <= localMax ? wanted : localMin;
  const parts = [page.subarray(at, at + local)];
  if (parts[0]!.length < local) throw new RangeError("beyond its page");
  let left = bytes - local;
  let next = left > 0 ? page.readUInt32BE(at + local) : 0;
  while (left > 0) {
    const overflow = pageAt(next);
    next = overflow.readUInt32BE(0);
    parts.push(overflow.subarray(4, 4 + Math.min(left, PAGE_BYTES - 4)));
    left -= PAGE_BYTES - 4;
  }
  return Buffer.concat(parts);
}

const COLUMNS_MAX = 16;
const integerBytes = [0, 1, 2, 3, 4, 6, 8, 8, 0, 0];

/** Throws RangeError. */
function readRecord(payload: Buffer): unknown[] {
  const header = varint(payload, 0);
  let at = header.next;
  let valueAt = header.value;
  const values: unknown[] = [];
  while (at < header.value) {
    const type = varint(payload, at);
    at = type.next;
    const bytes = type.value < 10 ? integerBytes[type.value]! : Math.floor((type.value - 12) / 2);
    const raw = payload.subarray(valueAt, valueAt + bytes);
    if (raw.length < bytes || bytes < 0 || values.length >= COLUMNS_MAX) throw new RangeError("no record");
    values.push(valueOf(type.value, raw));
    valueAt += bytes;
  }
  return values;
}

function valueOf(type: number, raw: Buffer): unknown {
  if (type === 0 || type === 7) return null; // no column of ours is a fraction
  if (type >= 12) return type % 2 === 0 ? new Uint8Array(raw) : raw.toString("utf8");
  if (type >= 8) return type - 8;
  return raw.length > 6 ? Number(raw.readBigInt64BE(0)) : raw.readIntBE(0, raw.length);
}

/** Throws RangeError. Beyond 2^53 it loses digits, which no number of ours has. */
function varint(bytes: Buffer, start: number): { value: number; next: number } {
  let value = 0;
  for (let at = start; at < start + 8; at++) {
    const byte = bytes.readUInt8(at);
    value = value * 128 + (byte & 0x7f);
    if (byte < 0x80) return { value, next: at + 1 };
  }
  return { value: value * 256 + bytes.readUInt8(start + 8), next: start + 9 };
}
