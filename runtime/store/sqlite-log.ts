/**
 * Whether a store's log lost what was committed. SQLite reads its log up to the first frame that does not fit and takes the rest for the
 * torn end of a last commit. Where whole commits lie behind that frame, it was rot: what was acknowledged is gone, and the store is
 * older than it says. Reads the file format of SQLite (https://sqlite.org/fileformat2.html, "The WAL File Format"). Never writes.
 */
import { closeSync, fstatSync, openSync, readSync, statSync } from "node:fs";
import { endianness } from "node:os";

const HEADER_BYTES = 32;
const FRAME_HEADER_BYTES = 24;
/** Checksums of little-endian words: what SQLite writes on every machine that Godwit runs on. */
const MAGIC = 0x377f0682;

/** Of a database that nobody has open. False also for a log of another machine or page size, which is not judged. */
export function isLogRotten(path: string): boolean {
  let file: number;
  try {
    file = openSync(`${path}-wal`, "r");
  } catch {
    return false;
  }
  try {
    const header = Buffer.alloc(HEADER_BYTES);
    if (readSync(file, header, 0, HEADER_BYTES, 0) < HEADER_BYTES) return false;
    if (header.readUInt32BE(0) !== MAGIC || endianness() !== "LE") return false;
    const pageBytes = header.readUInt32BE(8);
    if (pageBytes !== 4_096) return false;
    return hasCommitsBehindDamage(file, header, FRAME_HEADER_BYTES + pageBytes);
  } finally {
    closeSync(file);
  }
}

/**
 * A log beside a database that is gone or has no byte: the log comes after the database's first page, so there was one. SQLite
 * deletes such a log without a word and begins anew.
 */
export const isLogOrphaned = (path: string): boolean => sizeOf(path) === 0 && sizeOf(`${path}-wal`) > 0;

/** 0 for what cannot be looked at: opening it says why. */
function sizeOf(path: string): number {
  try {
    return statSync(path).size;
  } catch {
    return 0;
  }
}

function hasCommitsBehindDamage(file: number, header: Buffer, frameBytes: number): boolean {
  const salts = header.subarray(16, 24);
  let sums = checksum(header.subarray(0, 24), [0, 0]);
  const frame = Buffer.alloc(frameBytes);
  const { size } = fstatSync(file);
  let isBroken = sums[0] !== header.readUInt32BE(24) || sums[1] !== header.readUInt32BE(28);
  let hasCommit = false;
  for (let at = HEADER_BYTES; at + frameBytes <= size; at += frameBytes) {
    readSync(file, frame, 0, frameBytes, at);
    const isOfThisLog = frame.subarray(8, 16).equals(salts);
    // A commit behind the damage and something behind that: not the torn end of the last one.
    if (isBroken && hasCommit && isOfThisLog) return true;
    if (!isBroken) {
      sums = checksum(frame.subarray(FRAME_HEADER_BYTES), checksum(frame.subarray(0, 8), sums));
      isBroken = !isOfThisLog || sums[0] !== frame.readUInt32BE(16) || sums[1] !== frame.readUInt32BE(20);
    }
    if (isBroken && isOfThisLog && frame.readUInt32BE(4) !== 0) hasCommit = true;
  }
  return false;
}

/** "Checksum Algorithm" of the format. `bytes`: a multiple of eight. */
function checksum(bytes: Buffer, [first, second]: readonly [number, number]): [number, number] {
  let [a, b] = [first, second];
  for (let at = 0; at < bytes.length; at += 8) {
    a = (a + bytes.readUInt32LE(at) + b) >>> 0;
    b = (b + bytes.readUInt32LE(at + 4) + a) >>> 0;
  }
  return [a, b];
}
