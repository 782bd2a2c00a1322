/** The log as a file: what it gives back is what was written to it, whatever became of it meanwhile. */
import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { seededRandom } from "../kernel/random.ts";
import { openLog, type CommitLog, type LogMark } from "./commit-log.ts";
import { alignedPages } from "./log-image.ts";
import { encodeFrame, frameBytes, LOG_PAGE_BYTES, pagesOf, type LogCommit } from "./log-frame.ts";

const directories: string[] = [];
const scratch = (): string => {
  const directory = mkdtempSync(join(tmpdir(), "godwit-log-"));
  directories.push(directory);
  return join(directory, "godwit.db-log");
};
afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
});

const PAGES = 32;
const BYTES = (PAGES + 1) * LOG_PAGE_BYTES;
const ID = 77;
const EMPTY: LogMark = { id: 0, page: 0 };

const open = (path: string, mark: LogMark, freshId: number, laterCollections: readonly string[] = []) =>
  openLog(path, { bytes: BYTES, mark, freshId, laterCollections });

const commitOf = (index: number): LogCommit => [
  {
    op: "put",
    in: "outbox",
    key: `k${index}`,
    meta: `{"ä":${index}}`,
    body: new Uint8Array((index * 700) % 9_000).fill(index),
  },
  { op: "put", in: "seen", key: `s${index}`, meta: "[]" },
  {
    op: "put-place",
    in: "inbox",
    key: `p${index}`,
    meta: "{}",
    place: { id: 2 ** 40 + index, bytes: 50_000, sum: 2 ** 52 - 1 },
  },
  { op: "delete", in: "transit", key: `t${index}` },
];
const textOf = (commit: LogCommit): string =>
  JSON.stringify(
    commit.map((op) => (op.op === "put" && op.body !== undefined ? { ...op, body: op.body.toBase64() } : op)),
  );

async function append(log: CommitLog, commits: readonly LogCommit[]): Promise<number> {
  const bytes = frameBytes(commits);
  const room = alignedPages(pagesOf(bytes));
  await log.append(encodeFrame(room, commits, bytes, log.head, log.id), false);
  return pagesOf(bytes);
}

/** A log that has gone round once, with the last frames in use: their commits, and the page that each begins with. */
async function filled(path: string): Promise<{ mark: LogMark; pages: number[]; commits: LogCommit[][] }> {
  const { log } = open(path, EMPTY, ID);
  const frames: { page: number; commits: LogCommit[] }[] = [];
  for (let index = 0; log.head < PAGES + 20; index += 2) {
    const commits = [commitOf(index), commitOf(index + 1)];
    while (log.used + pagesOf(frameBytes(commits)) > PAGES) {
      frames.shift();
      await log.release(frames[0]!.page);
    }
    frames.push({ page: log.head, commits });
    await append(log, commits);
  }
  const mark = { id: ID, page: log.tail };
  log.close();
  return { mark, pages: frames.map(({ page }) => page), commits: frames.map(({ commits }) => commits) };
}

test("what was appended and not released comes back, in its order, round the end of the file", async () => {
  const path = scratch();
  const { mark, commits } = await filled(path);
  const opened = open(path, mark, 1);
  expect(opened.commits.map(textOf)).toEqual(commits.flat().map(textOf));
  expect([opened.lost, opened.rotten, opened.log.id]).toEqual([[], [], ID]);
  // It goes on where it ended.
  await append(opened.log, [commitOf(1)]).catch(() => {});
  opened.log.close();
  expect(open(path, { id: ID, page: opened.log.head }, 1).commits).toEqual([]);
});

test("a commit is whole pages in place: the file neither grows nor moves", async () => {
  const path = scratch();
  const { log } = open(path, EMPTY, ID);
  expect(await append(log, [commitOf(0)])).toBe(1);
  log.close();
  const file = readFileSync(path);
  expect(file.length).toBe(BYTES);
  expect(file.subarray(2 * LOG_PAGE_BYTES).every((byte) => byte === 0)).toBe(true);
});

test("whatever becomes of its bytes, it opens, gives back nothing that was not written, and tells what is missing in front of what is there", async () => {
  const path = scratch();
  const { mark, pages, commits } = await filled(path);
  const pristine = readFileSync(path);
  const written = new Map(
    commits.flatMap((frame, index) => frame.map((commit) => [textOf(commit), index] as const)),
  );
  const random = seededRandom(3);
  let told = 0;
  for (let round = 0; round < 300; round++) {
    const bytes = Buffer.from(pristine);
    const at = (): number => random.below(bytes.length);
    for (let count = 1 + random.below(3); count > 0; count--) {
      const [kind, page] = [random.below(4), at() & -LOG_PAGE_BYTES];
      if (kind === 0) bytes[at()]! ^= 1 << random.below(8);
      else if (kind === 1) bytes.fill(0, page, page + LOG_PAGE_BYTES);
      else if (kind === 2) bytes.set(random.bytes(512), at() & -512);
      else bytes.copyWithin(page, at() & -LOG_PAGE_BYTES, (at() & -LOG_PAGE_BYTES) + LOG_PAGE_BYTES);
    }
    writeFileSync(path, bytes.subarray(0, BYTES));
    const { log, commits: found, lost } = open(path, mark, 1);
    log.close();
    const frames = found.map((commit) => written.get(textOf(commit)));
    expect([round, frames.includes(undefined)]).toEqual([round, false]);
    expect([round, frames.toSorted((a, b) => a! - b!)]).toEqual([round, frames]);
    const last = frames.at(-1) ?? -1;
    const isMissing = found.length < 2 * (last + 1);
    if (isMissing) expect([round, lost.length > 0]).toEqual([round, true]);
    if (lost.length > 0) told++;
  }
  expect(told).toBeGreaterThan(100);
  expect(pages.length).toBeGreaterThan(5);
});

test("a file that was cut or emptied is another log from now on, and told", async () => {
  const path = scratch();
  const { mark } = await filled(path);
  for (const length of [BYTES - 100, LOG_PAGE_BYTES, 10, 0]) {
    truncateSync(path, length);
    const { log, commits, lost } = open(path, mark, 5);
    expect([commits.length, lost.length, log.id, log.used]).toEqual([0, 1, 5, 0]);
    log.close();
  }
});
