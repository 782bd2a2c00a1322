/**
 * The receiving half of one stream: puts pieces in order, hands them out, keeps them while nobody reads. Holds at most
 * the credit it gave, and bounded overhead however the far end cuts its pieces.
 */
import { decodeError } from "../wire/bytes.ts";
import { WINDOW_FIRST_BYTES } from "./constants.ts";
import { RangeSet } from "./ranges.ts";

/** Pieces out of order that are kept: so many, and one for each so many bytes of window. */
const PIECES_MIN = 64;
const BYTES_PER_PIECE = 512;
/** Smaller pieces are copied out of their record and gathered, so that one byte never holds a whole record. */
const SHARE_BYTES_MIN = 16_384;

export class ReceiveHalf {
  readonly #ranges = new RangeSet();
  readonly #pieces = new Map<number, Uint8Array>();
  /** In order, waiting for a reader. */
  readonly #queue: Uint8Array[] = [];
  /** Bytes of the last queued block that are filled, when it is one for gathering. */
  #gathered: number | undefined;
  #queuedBytes = 0;
  #expected = 0;
  #granted = WINDOW_FIRST_BYTES;
  #endAt: number | undefined;

  get granted(): number {
    return this.#granted;
  }

  /** Handed to the reader. */
  get consumed(): number {
    return this.#expected - this.#queuedBytes;
  }

  get heldBytes(): number {
    let held = this.#queuedBytes;
    for (const piece of this.#pieces.values()) held += piece.length;
    return held;
  }

  get hasQueued(): boolean {
    return this.#queuedBytes > 0;
  }

  /** Everything up to the end is here. */
  get isWhole(): boolean {
    return this.#endAt === this.#expected;
  }

  grant(limit: number): void {
    this.#granted = limit;
  }

  /**
   * Takes one piece; what is in order goes to `deliver`, shared memory that is the receiver's from then on. False: no
   * room for one more piece out of order; the record must not be acknowledged. Throws GODWIT_DECODE beyond the credit
   * or the end.
   */
  take(offset: number, bytes: Uint8Array, isEnd: boolean, deliver: (bytes: Uint8Array) => void): boolean {
    const end = offset + bytes.length;
    if (end > this.#granted) throw decodeError("a stream went beyond its credit");
    if (this.#endAt !== undefined && (end > this.#endAt || (isEnd && end !== this.#endAt)))
      throw decodeError("a stream went beyond its end");
    if (isEnd) {
      if (this.#expected > end || (!this.#ranges.isEmpty && this.#ranges.end(this.#ranges.count - 1) > end))
        throw decodeError("a stream ended before what was sent of it");
      this.#endAt = end;
    }
    if (end <= this.#expected) return true;
    if (offset <= this.#expected && this.#pieces.size === 0) {
      const fresh = bytes.subarray(this.#expected - offset);
      this.#expected = end;
      deliver(fresh);
      return true;
    }
    if (!this.#keep(Math.max(offset, this.#expected), end, offset, bytes)) return false;
    for (;;) {
      const piece = this.#pieces.get(this.#expected);
      if (piece === undefined) return true;
      this.#pieces.delete(this.#expected);
      this.#ranges.remove(this.#expected, this.#expected + piece.length);
      this.#expected += piece.length;
      deliver(piece);
    }
  }

  /** Keeps bytes that were delivered while nobody reads. */
  queue(bytes: Uint8Array): void {
    this.#queuedBytes += bytes.length;
    if (bytes.length >= SHARE_BYTES_MIN) {
      this.#closeGathering();
      this.#queue.push(bytes);
      return;
    }
    const last = this.#queue[this.#queue.length - 1];
    if (this.#gathered !== undefined && last!.length - this.#gathered >= bytes.length) {
      last!.set(bytes, this.#gathered);
      this.#gathered += bytes.length;
      return;
    }
    this.#closeGathering();
    const block = new Uint8Array(SHARE_BYTES_MIN);
    block.set(bytes);
    this.#gathered = bytes.length;
    this.#queue.push(block);
  }

  /** The oldest queued block; undefined: none. */
  dequeue(): Uint8Array | undefined {
    if (this.#queue.length === 1) this.#closeGathering();
    const block = this.#queue.shift();
    if (block !== undefined) this.#queuedBytes -= block.length;
    return block;
  }

  drop(): void {
    this.#pieces.clear();
    this.#queue.length = 0;
    this.#gathered = undefined;
    this.#queuedBytes = 0;
  }

  #closeGathering(): void {
    if (this.#gathered === undefined) return;
    const last = this.#queue.length - 1;
    this.#queue[last] = this.#queue[last]!.slice(0, this.#gathered);
    this.#gathered = undefined;
  }

  /** Stores what is new of [start, end); pieces never overlap. */
  #keep(start: number, end: number, offset: number, bytes: Uint8Array): boolean {
    const piecesMax = PIECES_MIN + (this.#granted - this.consumed) / BYTES_PER_PIECE;
    const ranges = this.#ranges;
    const gaps: number[] = [];
    let at = start;
    for (let i = 0; i < ranges.count && at < end; i++) {
      if (ranges.end(i) <= at) continue;
      if (ranges.start(i) > at) gaps.push(at, Math.min(end, ranges.start(i)));
      at = Math.max(at, ranges.end(i));
    }
    if (at < end) gaps.push(at, end);
    if (this.#pieces.size + gaps.length / 2 > piecesMax) return false;
    for (let i = 0; i < gaps.length; i += 2) {
      const piece = bytes.subarray(gaps[i]! - offset, gaps[i + 1]! - offset);
      this.#pieces.set(gaps[i]!, piece.length < SHARE_BYTES_MIN ? piece.slice() : piece);
      ranges.add(gaps[i]!, gaps[i + 1]!);
    }
    return true;
  }
}
