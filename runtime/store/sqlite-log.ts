/**
 * Whether a store's log lost what was committed. SQLite reads its log up to the first frame that does not fit and takes the rest for the
 * torn end of a last commit. Where whole commits lie behind that frame, it was rot: what was acknowledged is gone, and the store is
 * older than it says. Reads the file format of SQLite (https://sqlite.org/fileformat2.html, "The WAL File Format"). Never writes.
 */
import { closeSync, fstatSync, openSync, readSync, statSync } from "node:fs";
import { endianness } from "node:os";

const HEADER_BYTES = 32;
const FRAME_HEADER_BYTES = 24;
/** Read at once. */
const FRAMES_AT_ONCE = 32;
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
  const headerWords = Uint32Array.from({ length: 6 }, (_, index) => header.readUInt32LE(index * 4));
  let sums = checksum(headerWords, 0, headerWords.length, [0, 0]);
  let isBroken = sums[0] !== header.readUInt32BE(24) || sums[1] !== header.readUInt32BE(28);
  let hasCommit = false;
  const words = new Uint32Array((FRAMES_AT_ONCE * frameBytes) / 4);
  const buffer = Buffer.from(words.buffer);
  const frames = Math.floor((fstatSync(file).size - HEADER_BYTES) / frameBytes);
  for (let index = 0; index < frames; index++) {
    const place = (index % FRAMES_AT_ONCE) * frameBytes;
    if (place === 0) readSync(file, buffer, 0, buffer.length, HEADER_BYTES + index * frameBytes);
    const isOfThisLog = buffer.compare(salts, 0, salts.length, place + 8, place + 16) === 0;
    // A commit behind the damage and something behind that: not the torn end of the last one.
    if (isBroken && hasCommit && isOfThisLog) return true;
    if (!isBroken) {
      const [from, content, end] = [place, place + FRAME_HEADER_BYTES, place + frameBytes].map(
        (at) => at / 4,
      );
      sums = checksum(words, content!, end!, checksum(words, from!, from! + 2, sums));
      const [first, second] = [buffer.readUInt32BE(place + 16), buffer.readUInt32BE(place + 20)];
      isBroken = !isOfThisLog || sums[0] !== first || sums[1] !== second;
    }
    if (isBroken && isOfThisLog && buffer.readUInt32BE(place + 4) !== 0) hasCommit = true;
  }
  return false;
}

/** "Checksum Algorithm" of the format, over an even number of words, which the machine reads as the log has them. */
function checksum(
  words: Uint32Array,
  from: number,
  to: number,
  [first, second]: readonly [number, number],
): [number, number] {
  let [a, b] = [first, second];
  for (let at = from; at < to; at += 2) {
    a = (a + words[at]! + b) >>> 0;
    b = (b + words[at + 1]! + a) >>> 0;
  }
  return [a, b];
}
