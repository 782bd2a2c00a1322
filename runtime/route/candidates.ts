/**
 * What every neighbour says of every destination, in columns: a hub with 250 neighbours that all tell it 10,000 destinations
 * holds two and a half million of these, so that each is 17 bytes, or up to 21, and no object. Owns the memory and who is meant by a
 * number; must never choose a route, send, or look at a clock. docs/decisions/0021-candidates-in-columns.md says why so.
 *
 * A destination has a list of chunks of eight rows, all of them full but the first, so that whatever it costs grows by what
 * was said of it and a selection reads memory in order. A row is one neighbour's route for one plane or, where both are the
 * same, for both; whose planes differ has a second row. Rows move when others go: a row number is good until the next change.
 */
import { assert } from "../kernel/errors.ts";
import type { Bottleneck } from "../wire/constants.ts";
import { isSameRoute, METRIC_INFINITE, UNREACHABLE, type PlaneRoute } from "../wire/route-messages.ts";
import type { Neighbour } from "./neighbour.ts";

export const CHUNK_ROWS = 8;
/** Memory comes and goes in pieces of this, 70 KiB: nothing is copied to grow, and little is kept for what has gone. */
const SEGMENT_SHIFT = 9;
const SEGMENT_CHUNKS = 2 ** SEGMENT_SHIFT;
const SEGMENT_ROWS = SEGMENT_CHUNKS * CHUNK_ROWS;
/** Numbers of neighbours are 16 bits; RouteLimits.neighboursMax is far below. */
const HANDLES_MAX = 2 ** 16;
export const NO_ROW = -1;
const NO_CHUNK = -1;

/** Bits of the flags column: the planes that the route of the row is for; none: all was retracted, the serial counts. */
export const ROW_ANY = 1;
export const ROW_BULK = 2;
/** Mail handed to the neighbour for this destination is missing, and a trial is on. In both rows. */
export const ROW_SUSPECT = 4;
/** The second row of its neighbour: bulk, which goes another way than any. */
export const ROW_SECOND = 8;
/** The first of two. */
const ROW_HAS_SECOND = 16;
const CLASS_SHIFT = 6;

/** The rows of one destination; kept by it, changed here alone. */
export interface RowList {
  /** First chunk; below 0: none. */
  chunk: number;
  /** Second ones included. */
  rows: number;
}

export const noRows = (): RowList => ({ chunk: NO_CHUNK, rows: 0 });

const BYTES_PER_ROW = 4 + 4 + 4 + 2 + 2 + 1;

export class Segment {
  readonly #seqnoLow: Uint32Array;
  readonly metric: Uint32Array;
  readonly #serialLow: Uint32Array;
  /** Above 32 bits: of whom has started 256 times, and of who said something four thousand million times. Undefined: none in here. */
  #seqnoHigh: Uint16Array | undefined;
  #serialHigh: Uint16Array | undefined;
  readonly mtu: Uint16Array;
  readonly handle: Uint16Array;
  readonly flags: Uint8Array;
  /** By chunk: the next one of the same destination, or the next free one. */
  readonly next: Int32Array;
  free = 0;
  used = 0;

  constructor(first: number) {
    const buffer = new ArrayBuffer(SEGMENT_ROWS * BYTES_PER_ROW);
    let at = 0;
    const take = (bytes: number): number => (at += bytes * SEGMENT_ROWS) - bytes * SEGMENT_ROWS;
    this.#seqnoLow = new Uint32Array(buffer, take(4), SEGMENT_ROWS);
    this.metric = new Uint32Array(buffer, take(4), SEGMENT_ROWS);
    this.#serialLow = new Uint32Array(buffer, take(4), SEGMENT_ROWS);
    this.mtu = new Uint16Array(buffer, take(2), SEGMENT_ROWS);
    this.handle = new Uint16Array(buffer, take(2), SEGMENT_ROWS);
    this.flags = new Uint8Array(buffer, take(1), SEGMENT_ROWS);
    this.next = new Int32Array(SEGMENT_CHUNKS);
    for (let i = 0; i < SEGMENT_CHUNKS; i++) this.next[i] = i + 1 < SEGMENT_CHUNKS ? first + i + 1 : NO_CHUNK;
    this.free = first;
  }

  get bytes(): number {
    const high = (this.#seqnoHigh?.byteLength ?? 0) + (this.#serialHigh?.byteLength ?? 0);
    return SEGMENT_ROWS * BYTES_PER_ROW + SEGMENT_CHUNKS * 4 + high;
  }

  seqno(at: number): number {
    const low = this.#seqnoLow[at]!;
    return this.#seqnoHigh === undefined ? low : this.#seqnoHigh[at]! * 2 ** 32 + low;
  }

  setSeqno(at: number, seqno: number): void {
    this.#seqnoLow[at] = seqno % 2 ** 32;
    if (seqno >= 2 ** 32) this.#seqnoHigh ??= new Uint16Array(SEGMENT_ROWS);
    if (this.#seqnoHigh !== undefined) this.#seqnoHigh[at] = Math.floor(seqno / 2 ** 32);
  }

  serial(at: number): number {
    const low = this.#serialLow[at]!;
    return this.#serialHigh === undefined ? low : this.#serialHigh[at]! * 2 ** 32 + low;
  }

  setSerial(at: number, serial: number): void {
    this.#serialLow[at] = serial % 2 ** 32;
    if (serial >= 2 ** 32) this.#serialHigh ??= new Uint16Array(SEGMENT_ROWS);
    if (this.#serialHigh !== undefined) this.#serialHigh[at] = Math.floor(serial / 2 ** 32);
  }

  /** 0 fast, 1 medium, 2 slow: of the path behind the neighbour. */
  bottleneck(at: number): Bottleneck {
    return (this.flags[at]! >> CLASS_SHIFT) as Bottleneck;
  }
}

export class Candidates {
  readonly #segments: (Segment | undefined)[] = [];
  /** Numbers of segments that were given back. */
  readonly #holes: number[] = [];
  /** No segment below it has a free chunk. */
  #lowest = 0;
  /** The one that may be empty. */
  #spare = 0;
  readonly #owners: (Neighbour | undefined)[] = [];
  readonly #freeHandles: number[] = [];
  #rows = 0;

  /** Rows in all. */
  get rows(): number {
    return this.#rows;
  }

  /** Bytes of the columns, free rows included. */
  get bytes(): number {
    return this.#segments.reduce((total, segment) => total + (segment?.bytes ?? 0), 0);
  }

  /** Before its first row. Its number is its own until `leave`. */
  enter(neighbour: Neighbour): void {
    assert(neighbour.handle < 0, "a neighbour enters the table twice");
    const handle = this.#freeHandles.pop() ?? this.#owners.length;
    assert(handle < HANDLES_MAX, "more neighbours than their numbers have room for");
    this.#owners[handle] = neighbour;
    neighbour.handle = handle;
  }

  /** A row that outlived its neighbour would be taken for one of whoever gets the number next. */
  leave(neighbour: Neighbour): void {
    assert(neighbour.rows === 0, "a neighbour leaves the table before what it said");
    assert(this.#owners[neighbour.handle] === neighbour, "a neighbour leaves the table that is not in it");
    this.#owners[neighbour.handle] = undefined;
    this.#freeHandles.push(neighbour.handle);
    neighbour.handle = -1;
  }

  owner(handle: number): Neighbour {
    return this.#owners[handle]!;
  }

  /** Where the rows of a chunk stand: from `firstOf` in the columns of this. For loops over all of a destination. */
  segmentOf(chunk: number): Segment {
    return this.#segments[chunk >>> SEGMENT_SHIFT]!;
  }

  firstOf(chunk: number): number {
    return (chunk & (SEGMENT_CHUNKS - 1)) * CHUNK_ROWS;
  }

  /** The next chunk of the same destination, full; below 0: none. */
  nextOf(chunk: number): number {
    return this.#segments[chunk >>> SEGMENT_SHIFT]!.next[chunk & (SEGMENT_CHUNKS - 1)]!;
  }

  neighbourAt(row: number): Neighbour {
    return this.#owners[this.#at(row).handle[row % SEGMENT_ROWS]!]!;
  }

  /** Its first row, or NO_ROW: it never said anything of the destination. */
  find(list: RowList, neighbour: Neighbour): number {
    return this.#find(list, neighbour.handle, 0);
  }

  has(list: RowList, neighbour: Neighbour): boolean {
    return this.find(list, neighbour) !== NO_ROW;
  }

  serialAt(row: number): number {
    return this.#at(row).serial(row % SEGMENT_ROWS);
  }

  isSuspectAt(row: number): boolean {
    return (this.#at(row).flags[row % SEGMENT_ROWS]! & ROW_SUSPECT) !== 0;
  }

  /** By the first row, for as long as the neighbour says anything of the destination. */
  setSuspect(list: RowList, row: number, isSuspect: boolean): void {
    const segment = this.#at(row);
    const at = row % SEGMENT_ROWS;
    const set = (flags: Uint8Array, i: number) =>
      void (flags[i] = isSuspect ? flags[i]! | ROW_SUSPECT : flags[i]! & ~ROW_SUSPECT);
    set(segment.flags, at);
    if ((segment.flags[at]! & ROW_HAS_SECOND) === 0) return;
    const second = this.#find(list, segment.handle[at]!, ROW_SECOND);
    set(this.#at(second).flags, second % SEGMENT_ROWS);
  }

  /** By the first row: neither plane is offered any more. */
  isRetractedAt(row: number): boolean {
    return (this.#at(row).flags[row % SEGMENT_ROWS]! & (ROW_ANY | ROW_BULK)) === 0;
  }

  /** Which row speaks for the plane, of the neighbour of this first one; NO_ROW: it does not offer that. */
  planeAt(list: RowList, row: number, plane: number): number {
    const segment = this.#at(row);
    const at = row % SEGMENT_ROWS;
    const flags = segment.flags[at]!;
    if ((flags & plane) !== 0) return row;
    if (plane !== ROW_BULK || (flags & ROW_HAS_SECOND) === 0) return NO_ROW;
    return this.#find(list, segment.handle[at]!, ROW_SECOND);
  }

  seqnoAt(row: number): number {
    return this.#at(row).seqno(row % SEGMENT_ROWS);
  }

  metricAt(row: number): number {
    return this.#at(row).metric[row % SEGMENT_ROWS]!;
  }

  /** A copy of what the neighbour of the first row says. */
  anyAt(row: number): PlaneRoute {
    return this.#routeAt(row, ROW_ANY);
  }

  bulkAt(list: RowList, row: number): PlaneRoute {
    const segment = this.#at(row);
    const at = row % SEGMENT_ROWS;
    if ((segment.flags[at]! & ROW_HAS_SECOND) === 0) return this.#routeAt(row, ROW_BULK);
    return this.#routeAt(this.#find(list, segment.handle[at]!, ROW_SECOND), ROW_BULK);
  }

  isSameAt(list: RowList, row: number, any: PlaneRoute, bulk: PlaneRoute): boolean {
    return isSameRoute(this.anyAt(row), any) && isSameRoute(this.bulkAt(list, row), bulk);
  }

  /** Calls for the first row of each neighbour. The list must not change meanwhile. */
  forEach(list: RowList, each: (row: number) => void): void {
    let count = ((list.rows - 1) % CHUNK_ROWS) + 1;
    for (let { chunk } = list; chunk >= 0; chunk = this.nextOf(chunk), count = CHUNK_ROWS) {
      const first = chunk * CHUNK_ROWS;
      const { flags } = this.#at(first);
      for (let row = first; row < first + count; row++)
        if ((flags[row % SEGMENT_ROWS]! & ROW_SECOND) === 0) each(row);
    }
  }

  /** Of the nth row, whosever it is; `n` from 0 to `rows` - 1. */
  nthNeighbour(list: RowList, n: number): Neighbour {
    const inFirst = ((list.rows - 1) % CHUNK_ROWS) + 1;
    if (n < inFirst) return this.neighbourAt(list.chunk * CHUNK_ROWS + n);
    let { chunk } = list;
    for (let skip = Math.floor((n - inFirst) / CHUNK_ROWS) + 1; skip > 0; skip--) chunk = this.nextOf(chunk);
    return this.neighbourAt(chunk * CHUNK_ROWS + ((n - inFirst) % CHUNK_ROWS));
  }

  /**
   * Says or says anew what the neighbour advertises; a suspicion stays. `row` is its first one or NO_ROW, as `find` answered just
   * now. Answers its first row after that.
   */
  put(
    list: RowList,
    neighbour: Neighbour,
    row: number,
    serial: number,
    any: PlaneRoute,
    bulk: PlaneRoute,
  ): number {
    const hasAny = any.metric < METRIC_INFINITE;
    const hasBulk = bulk.metric < METRIC_INFINITE;
    const isSplit = hasAny && hasBulk && !isSameRoute(any, bulk);
    let first = row;
    if (first === NO_ROW) {
      first = this.#addRow(list, neighbour.handle);
      neighbour.rows++;
    } else if (!isSplit && this.#dropSecond(list, neighbour.handle, first))
      // Dropping the second may have moved the first.
      first = this.find(list, neighbour);
    const segment = this.#at(first);
    const at = first % SEGMENT_ROWS;
    segment.setSerial(at, serial);
    const kept = segment.flags[at]! & (ROW_SUSPECT | ROW_HAS_SECOND);
    const planes = (hasAny ? ROW_ANY : 0) | (hasBulk && !isSplit ? ROW_BULK : 0);
    write(segment, at, kept | planes, hasAny ? any : bulk);
    if (isSplit) this.#putSecond(list, neighbour.handle, segment, at, bulk);
    return first;
  }

  setSerial(row: number, serial: number): void {
    this.#at(row).setSerial(row % SEGMENT_ROWS, serial);
  }

  /** Forgets all that the neighbour said; answers whether it had said anything reachable. The caller selects anew. */
  drop(list: RowList, neighbour: Neighbour): boolean {
    const row = this.find(list, neighbour);
    if (row === NO_ROW) return false;
    const isReachable = !this.isRetractedAt(row);
    const first = this.#dropSecond(list, neighbour.handle, row) ? this.find(list, neighbour) : row;
    this.#removeRow(list, first);
    neighbour.rows--;
    return isReachable;
  }

  /** Forgets the destination. */
  clear(list: RowList): void {
    this.forEach(list, (row) => this.neighbourAt(row).rows--);
    this.#rows -= list.rows;
    for (let { chunk } = list; chunk >= 0;) {
      const next = this.nextOf(chunk);
      this.#freeChunk(chunk);
      chunk = next;
    }
    list.chunk = NO_CHUNK;
    list.rows = 0;
  }

  #putSecond(list: RowList, handle: number, first: Segment, at: number, bulk: PlaneRoute): void {
    const held = (first.flags[at]! & ROW_HAS_SECOND) !== 0;
    first.flags[at] = first.flags[at]! | ROW_HAS_SECOND;
    const row = held ? this.#find(list, handle, ROW_SECOND) : this.#addRow(list, handle);
    write(this.#at(row), row % SEGMENT_ROWS, ROW_SECOND | ROW_BULK | (first.flags[at] & ROW_SUSPECT), bulk);
  }

  /** False: there was none, and no row has moved. */
  #dropSecond(list: RowList, handle: number, firstRow: number): boolean {
    const { flags } = this.#at(firstRow);
    const at = firstRow % SEGMENT_ROWS;
    if ((flags[at]! & ROW_HAS_SECOND) === 0) return false;
    flags[at] = flags[at]! & ~ROW_HAS_SECOND;
    this.#removeRow(list, this.#find(list, handle, ROW_SECOND));
    return true;
  }

  #find(list: RowList, wanted: number, second: number): number {
    let count = ((list.rows - 1) & (CHUNK_ROWS - 1)) + 1;
    for (let { chunk } = list; chunk >= 0; count = CHUNK_ROWS) {
      const segment = this.#segments[chunk >>> SEGMENT_SHIFT]!;
      const inSegment = chunk & (SEGMENT_CHUNKS - 1);
      const first = inSegment * CHUNK_ROWS;
      const { handle } = segment;
      for (let i = 0; i < count; i++)
        if (handle[first + i] === wanted && (segment.flags[first + i]! & ROW_SECOND) === second)
          return chunk * CHUNK_ROWS + i;
      chunk = segment.next[inSegment]!;
    }
    return NO_ROW;
  }

  #routeAt(row: number, plane: number): PlaneRoute {
    const segment = this.#at(row);
    const at = row % SEGMENT_ROWS;
    if ((segment.flags[at]! & plane) === 0) return UNREACHABLE;
    const bottleneck = segment.bottleneck(at);
    return { seqno: segment.seqno(at), metric: segment.metric[at]!, mtu: segment.mtu[at]!, bottleneck };
  }

  #at(row: number): Segment {
    return this.#segments[Math.floor(row / SEGMENT_ROWS)]!;
  }

  #addRow(list: RowList, handle: number): number {
    const inFirst = list.rows % CHUNK_ROWS;
    if (inFirst === 0) {
      const chunk = this.#takeChunk();
      this.segmentOf(chunk).next[chunk % SEGMENT_CHUNKS] = list.chunk;
      list.chunk = chunk;
    }
    const row = list.chunk * CHUNK_ROWS + inFirst;
    const segment = this.#at(row);
    segment.handle[row % SEGMENT_ROWS] = handle;
    segment.flags[row % SEGMENT_ROWS] = 0;
    list.rows++;
    this.#rows++;
    return row;
  }

  /** The last row of the first chunk takes its place. */
  #removeRow(list: RowList, row: number): void {
    list.rows--;
    this.#rows--;
    const last = list.chunk * CHUNK_ROWS + (list.rows % CHUNK_ROWS);
    if (last !== row) copy(this.#at(last), last % SEGMENT_ROWS, this.#at(row), row % SEGMENT_ROWS);
    if (list.rows % CHUNK_ROWS !== 0) return;
    const { chunk } = list;
    list.chunk = this.nextOf(chunk);
    this.#freeChunk(chunk);
  }

  /** Of the lowest segment that has one, so that the others may empty. */
  #takeChunk(): number {
    while (this.#lowest < this.#segments.length) {
      const segment = this.#segments[this.#lowest];
      if (segment !== undefined && segment.free !== NO_CHUNK) break;
      this.#lowest++;
    }
    if (this.#lowest === this.#segments.length) this.#addSegment();
    const segment = this.#segments[this.#lowest]!;
    const chunk = segment.free;
    segment.free = segment.next[chunk % SEGMENT_CHUNKS]!;
    segment.used++;
    return chunk;
  }

  #addSegment(): void {
    this.#lowest = this.#holes.pop() ?? this.#segments.length;
    this.#segments[this.#lowest] = new Segment(this.#lowest * SEGMENT_CHUNKS);
  }

  /** One empty segment stays, or whoever says and unsays a single route would have memory taken and given back each time. */
  #freeChunk(chunk: number): void {
    const at = Math.floor(chunk / SEGMENT_CHUNKS);
    const segment = this.#segments[at]!;
    segment.next[chunk % SEGMENT_CHUNKS] = segment.free;
    segment.free = chunk;
    segment.used--;
    this.#lowest = Math.min(this.#lowest, at);
    if (segment.used > 0) return;
    if (this.#spare === at || this.#segments[this.#spare]?.used !== 0) {
      this.#spare = at;
      return;
    }
    this.#segments[at] = undefined;
    this.#holes.push(at);
  }
}

function write(segment: Segment, at: number, flags: number, route: PlaneRoute): void {
  segment.flags[at] = flags | (route.bottleneck << CLASS_SHIFT);
  segment.setSeqno(at, route.seqno);
  segment.metric[at] = route.metric;
  segment.mtu[at] = route.mtu;
}

function copy(from: Segment, at: number, to: Segment, into: number): void {
  to.flags[into] = from.flags[at]!;
  to.handle[into] = from.handle[at]!;
  to.setSerial(into, from.serial(at));
  to.setSeqno(into, from.seqno(at));
  to.metric[into] = from.metric[at]!;
  to.mtu[into] = from.mtu[at]!;
}
