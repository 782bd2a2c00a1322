/**
 * Frames of the commit log (commit-log.ts): how commits become bytes and bytes become commits again. A frame is whole pages, holds commits
 * that became durable together, and carries a sum seeded with the log's id, so that a frame of another log, or a piece of a body that looks
 * like one, is none. Each commit carries a sum as well: what a damaged frame still holds is found by it. Never touches a file.
 */
import { assert } from "../kernel/errors.ts";
import type { BodyPlace } from "./body-files.ts";
import { collections, type Collection, type Damage, type Slot, type StoreOp } from "./types.ts";

export const LOG_PAGE_BYTES = 4_096;
/** "GdwF". */
export const FRAME_MAGIC = 0x46776447;
/** Magic, length of what follows, number of the first page, sum of all that and of what follows. */
export const FRAME_HEAD_BYTES = 24;
const SUM_AT = 16;
/** Length and sum of a commit. */
const COMMIT_HEAD_BYTES = 8;
/** Collection, kind, lengths of key, meta and body. */
const OP_HEAD_BYTES = 12;
/** 2^64 by the golden ratio: numbers in a row become far ones. */
const SPREAD = 0x9e3779b97f4a7c15n;
const DELETE = 1;
const HAS_BODY = 2;
const HAS_PLACE = 3;
/** Beside one of those: its slot stands before its meta, as order, length of the group and the group. */
const HAS_SLOT = 0x80;
const SLOT_HEAD_BYTES = 10;
/** Place, length and sum of a body that lies elsewhere. */
const PLACE_BYTES = 24;

export const pagesOf = (bytes: number): number => Math.ceil(bytes / LOG_PAGE_BYTES);

/** An op as the log has it; rows that are set aside go another way. */
export type LogOp =
  | Exclude<StoreOp, { op: "set-aside" }>
  /** Its body was made durable before. */
  | {
      readonly op: "put-place";
      readonly in: Collection;
      readonly key: string;
      readonly meta: string;
      readonly place: BodyPlace;
      readonly slot?: Slot | undefined;
    };
export type LogCommit = readonly LogOp[];

/** A frame that is what was written, and says what this release does not know: it was never read here before it was written. */
export class LaterFrame extends Error {}

const numberOf = new Map<string, number>(collections.map((name, index) => [name, index]));

/** Bytes of a frame with these commits. */
export const frameBytes = (commits: readonly LogCommit[]): number =>
  commits.reduce((total, commit) => total + commitBytes(commit), FRAME_HEAD_BYTES);

export function commitBytes(commit: readonly (StoreOp | LogOp)[]): number {
  let bytes = COMMIT_HEAD_BYTES;
  for (const op of commit) {
    bytes += OP_HEAD_BYTES + Buffer.byteLength(op.key);
    if ((op.op === "put" || op.op === "put-place") && op.slot !== undefined)
      bytes += SLOT_HEAD_BYTES + Buffer.byteLength(op.slot.group);
    if (op.op === "put-place") bytes += Buffer.byteLength(op.meta) + PLACE_BYTES;
    if (op.op === "put") bytes += Buffer.byteLength(op.meta) + (op.body?.length ?? 0);
  }
  return bytes;
}

/** Into `frame`, which has room for the pages of `bytes`, and those are what `frameBytes` says. Answers these pages, zeros behind the end. */
export function encodeFrame(
  frame: Buffer,
  commits: readonly LogCommit[],
  bytes: number,
  page: number,
  id: number,
): Buffer {
  const end = pagesOf(bytes) * LOG_PAGE_BYTES;
  frame.fill(0, bytes, end);
  const seed = seedOf(id, page);
  let at = FRAME_HEAD_BYTES;
  for (const commit of commits) {
    const start = at;
    at += COMMIT_HEAD_BYTES;
    for (const op of commit) at = writeOp(frame, at, op);
    frame.writeUInt32LE(at - start - COMMIT_HEAD_BYTES, start);
    frame.writeUInt32LE(commitSum(frame.subarray(start + COMMIT_HEAD_BYTES, at), seed), start + 4);
  }
  assert(at === bytes, "a frame has other bytes than room was made for");
  frame.writeUInt32LE(FRAME_MAGIC, 0);
  frame.writeUInt32LE(at - FRAME_HEAD_BYTES, 4);
  frame.writeBigUInt64LE(BigInt(page), 8);
  frame.writeBigUInt64LE(frameSum(frame, at, id), SUM_AT);
  return frame.subarray(0, end);
}

function writeOp(frame: Buffer, start: number, op: LogOp): number {
  const key = start + OP_HEAD_BYTES;
  const slotAt = key + frame.write(op.key, key);
  const slot = op.op === "delete" ? undefined : op.slot;
  const meta = slot === undefined ? slotAt : writeSlot(frame, slotAt, slot);
  const body = op.op === "delete" ? meta : meta + frame.write(op.meta, meta);
  const content = op.op === "put" ? op.body : op.op === "put-place" ? placeBytes(op.place) : undefined;
  frame[start] = numberOf.get(op.in)!;
  const kind =
    op.op === "delete" ? DELETE : op.op === "put-place" ? HAS_PLACE : content === undefined ? 0 : HAS_BODY;
  frame[start + 1] = slot === undefined ? kind : kind | HAS_SLOT;
  frame.writeUInt16LE(slotAt - key, start + 2);
  frame.writeUInt32LE(body - meta, start + 4);
  frame.writeUInt32LE(content?.length ?? 0, start + 8);
  if (content === undefined) return body;
  frame.set(content, body);
  return body + content.length;
}

function writeSlot(frame: Buffer, at: number, { order, group }: Slot): number {
  const bytes = frame.write(group, at + SLOT_HEAD_BYTES);
  frame.writeDoubleLE(order, at);
  frame.writeUInt16LE(bytes, at + 8);
  return at + SLOT_HEAD_BYTES + bytes;
}

function readSlot(bytes: Buffer, at: number): [end: number, slot: Slot] {
  const start = at + SLOT_HEAD_BYTES;
  const end = start + bytes.readUInt16LE(at + 8);
  return [end, { order: bytes.readDoubleLE(at), group: bytes.toString("utf8", start, end) }];
}

function placeBytes({ id, bytes, sum }: BodyPlace): Uint8Array {
  return new Uint8Array(Float64Array.of(id, bytes, sum).buffer);
}

function placeOf(bytes: Buffer, at: number): BodyPlace {
  return { id: bytes.readDoubleLE(at), bytes: bytes.readDoubleLE(at + 8), sum: bytes.readDoubleLE(at + 16) };
}

const frameSum = (frame: Buffer, end: number, id: number): bigint =>
  Bun.hash.xxHash3(
    frame.subarray(FRAME_HEAD_BYTES, end),
    Bun.hash.xxHash3(frame.subarray(0, SUM_AT), BigInt(id)),
  );

/** Of the sums of a frame's commits: one that lies where another was is none. */
const seedOf = (id: number, page: number): bigint => BigInt.asUintN(64, BigInt(id) + BigInt(page) * SPREAD);

const commitSum = (bytes: Buffer, seed: bigint): number =>
  Number(BigInt.asUintN(32, Bun.hash.xxHash3(bytes, seed)));

/** What a frame says of itself, believed only after `isSound`. */
export interface FrameHead {
  readonly page: number;
  readonly bytes: number;
}

/** `frame` has at least the bytes that its head says. */
export const isSound = (frame: Buffer, head: FrameHead, id: number): boolean =>
  frame.readBigUInt64LE(SUM_AT) === frameSum(frame, head.bytes, id);

/** Commits of a sound frame; `later`: see `OpenPlan.laterCollections` of commit-log.ts. Throws LaterFrame. */
export function decodeFrame(frame: Buffer, head: FrameHead, later: readonly string[]): LogCommit[] {
  const commits: LogCommit[] = [];
  for (let at = FRAME_HEAD_BYTES; at < head.bytes;) {
    const end = at + COMMIT_HEAD_BYTES + frame.readUInt32LE(at);
    commits.push(readOps(frame.subarray(at + COMMIT_HEAD_BYTES, end), later));
    at = end;
  }
  return commits;
}

function readOps(bytes: Buffer, later: readonly string[]): LogOp[] {
  const ops: LogOp[] = [];
  for (let at = 0; at < bytes.length;) {
    const [end, op] = readOp(bytes, at, later);
    ops.push(op);
    at = end;
  }
  return ops;
}

/** Throws a RangeError where no op can be, and LaterFrame. */
function readOp(bytes: Buffer, start: number, later: readonly string[]): [end: number, op: LogOp] {
  const number = bytes.readUInt8(start);
  const collection = collections[number] ?? (later[number - collections.length] as Collection | undefined);
  const kind = bytes.readUInt8(start + 1) & ~HAS_SLOT;
  const hasSlot = (bytes.readUInt8(start + 1) & HAS_SLOT) !== 0;
  const key = start + OP_HEAD_BYTES;
  const slotAt = key + bytes.readUInt16LE(start + 2);
  const [meta, slot] = hasSlot ? readSlot(bytes, slotAt) : [slotAt, undefined];
  const body = meta + bytes.readUInt32LE(start + 4);
  const end = body + bytes.readUInt32LE(start + 8);
  if (end > bytes.length) throw new RangeError("no op of a commit");
  if (collection === undefined || kind > HAS_PLACE)
    throw new LaterFrame("it holds what a later release wrote, and this one cannot read");
  const name = bytes.toString("utf8", key, slotAt);
  if (kind === DELETE) return [end, { op: "delete", in: collection, key: name }];
  if (kind === HAS_PLACE) {
    const place = placeOf(bytes, body);
    return [
      end,
      { op: "put-place", in: collection, key: name, meta: bytes.toString("utf8", meta, body), place, slot },
    ];
  }
  const text = bytes.toString("utf8", meta, body);
  const put = { op: "put", in: collection, key: name, meta: text, slot } as const;
  return [end, kind === HAS_BODY ? { ...put, body: new Uint8Array(bytes.subarray(body, end)) } : put];
}

/**
 * Of a frame that is not what was written and should begin with `page`: the commits that still are, and the rows that the others name as far as it
 * can be told.
 */
export function salvageFrame(
  bytes: Buffer,
  page: number,
  id: number,
  later: readonly string[],
): { commits: LogCommit[]; lost: Damage[] } {
  const seed = seedOf(id, page);
  const commits: LogCommit[] = [];
  const lost: Damage[] = [];
  let isAll = false;
  for (let at = FRAME_HEAD_BYTES; at + COMMIT_HEAD_BYTES <= bytes.length;) {
    const length = bytes.readUInt32LE(at);
    const start = at + COMMIT_HEAD_BYTES;
    // Zeros behind the last commit.
    if (length === 0 && bytes.readUInt32LE(at + 4) === 0) isAll = true;
    if (length === 0 || start + length > bytes.length) break;
    const content = bytes.subarray(start, start + length);
    if (bytes.readUInt32LE(at + 4) === commitSum(content, seed)) commits.push(readOps(content, later));
    else lost.push(...namesIn(content, later));
    at = start + length;
  }
  // Whoever reads that something was lost must not take the named ones for all.
  if (!isAll || lost.length === 0) lost.push({ in: "setting", key: "last commits" });
  return { commits, lost };
}

function namesIn(bytes: Buffer, later: readonly string[]): Damage[] {
  const names: Damage[] = [];
  try {
    for (let at = 0; at < bytes.length;) {
      const [end, op] = readOp(bytes, at, later);
      names.push({ in: op.in, key: op.key });
      at = end;
    }
  } catch {
    names.push({ in: "setting", key: "last commits" });
  }
  return names;
}
