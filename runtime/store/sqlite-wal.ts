/**
 * The log of SQLite (WAL) as a file: as large as it shall stay, without what was deleted, and nobody's once all of it is in the database. The
 * lock of the store is on the database alone, so this file may be opened beside it. Must never change an entry that the database has not.
 */
import type { Database } from "bun:sqlite";
import {
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  openSync,
  readSync,
  statSync,
  writeSync,
} from "node:fs";

const HEADER_BYTES = 32;
const ZEROS_BYTES = 64 * 1024;

/** Of SQLite (`SQLITE_FCNTL_...`). */
const PERSIST_WAL = 10;

/** Whether the file stays when this connection is closed: on a full disk it is the room of the next start. */
export function keepWal(db: Database, isKept: boolean): void {
  db.fileControl(PERSIST_WAL, new BigInt64Array([isKept ? 1n : 0n]));
}

export const walPath = (path: string): string => `${path}-wal`;

/** Of a database that is not open: something may stand in its log that was not brought there at a close. */
export function isLogInUse(path: string): boolean {
  const header = new Uint8Array(HEADER_BYTES);
  try {
    const handle = openSync(walPath(path), "r");
    try {
      readSync(handle, header, 0, HEADER_BYTES, 0);
    } finally {
      closeSync(handle);
    }
  } catch {
    return false;
  }
  return header.some((byte) => byte !== 0);
}

/** Makes the log of a database at least so large, as far as there is room. Zeros behind its end, or in an empty one, are no entries of it. */
export function fillLog(path: string, bytes: number): void {
  try {
    const handle = openSync(walPath(path), "r+");
    try {
      const zeros = new Uint8Array(ZEROS_BYTES);
      for (let at = fstatSync(handle).size; at < bytes;)
        at += writeSync(handle, zeros, 0, Math.min(zeros.length, bytes - at), at);
      fsyncSync(handle);
    } finally {
      closeSync(handle);
    }
  } catch {
    // No room: what is there has to do.
  }
}

/** All of the log is in the database: what it held is overwritten, so that what was deleted from the one is not left in the other. */
export function clearLog(path: string): void {
  const { size } = statSync(walPath(path));
  overwrite(path, HEADER_BYTES, size - HEADER_BYTES);
}

/**
 * Of a closed database: its log is all in the database, and is made nobody's, so that it is never played over another
 * file that is put in the database's place.
 */
export function disownLog(path: string): void {
  if (existsSync(walPath(path))) overwrite(path, 0, HEADER_BYTES);
}

function overwrite(path: string, start: number, bytes: number): void {
  const zeros = new Uint8Array(Math.min(ZEROS_BYTES, bytes));
  const handle = openSync(walPath(path), "r+");
  try {
    for (let at = 0; at < bytes;)
      at += writeSync(handle, zeros, 0, Math.min(zeros.length, bytes - at), start + at);
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}
