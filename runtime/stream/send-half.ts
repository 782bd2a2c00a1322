/**
 * The sending half of one stream: what was written and is not acknowledged yet, what of it to send next. Knows no
 * records and no keys. Holds at most UNACKED_BYTES_MAX that is under way and what its writer did not keep back.
 */
import { UNACKED_BYTES_MAX, UNSENT_HIGH_WATER_BYTES, WINDOW_FIRST_BYTES } from "./constants.ts";
import { RangeSet } from "./ranges.ts";

/** A piece of the stream as one data frame carries it. */
export interface Piece {
  readonly start: number;
  readonly end: number;
  readonly isEnd: boolean;
}

interface Chunk {
  readonly start: number;
  readonly bytes: Uint8Array;
  /** Bytes of it that are written; the rest is room for small writes. */
  length: number;
}

/** Writes below this are gathered in chunks of this size. */
const GATHER_BYTES = 8_192;

export class SendHalf {
  #chunks: Chunk[] = [];
  readonly #acked = new RangeSet();
  readonly #lost = new RangeSet();
  /** Everything below is acknowledged. */
  #base = 0;
  #next = 0;
  #written = 0;
  #limit = WINDOW_FIRST_BYTES;
  #isEnded = false;
  #end: "waiting" | "sent" | "acked" = "waiting";

  get isEnded(): boolean {
    return this.#isEnded;
  }

  get unsentBytes(): number {
    return this.#written - this.#next;
  }

  /** Held in memory. */
  get heldBytes(): number {
    return this.#written - this.#base;
  }

  get isFull(): boolean {
    return this.unsentBytes > UNSENT_HIGH_WATER_BYTES;
  }

  /** All of it and its end have arrived. */
  get isDone(): boolean {
    return this.#end === "acked" && this.#base === this.#written;
  }

  /** Copies. */
  write(bytes: Uint8Array): void {
    let tail = this.#chunks[this.#chunks.length - 1];
    const needed = bytes.length;
    if (needed < GATHER_BYTES) {
      if (tail === undefined || tail.bytes.length - tail.length < needed) {
        tail = { start: this.#written, bytes: new Uint8Array(GATHER_BYTES), length: 0 };
        this.#chunks.push(tail);
      }
      tail.bytes.set(bytes, tail.length);
      tail.length += needed;
    } else {
      // Uint8Array's slice, because a Buffer's would share the borrowed memory.
      const copy = Uint8Array.prototype.slice.call(bytes);
      this.#chunks.push({ start: this.#written, bytes: copy, length: needed });
    }
    this.#written += needed;
  }

  finish(): void {
    this.#isEnded = true;
  }

  raiseLimit(limit: number): void {
    this.#limit = Math.max(this.#limit, limit);
  }

  get hasWork(): boolean {
    return !this.#lost.isEmpty || this.#next < this.#sendable || (this.#endIsDue && this.#end === "waiting");
  }

  /** The next piece, lost ones first; undefined: nothing to send, or no credit. */
  take(bytesMax: number): Piece | undefined {
    let piece: Piece;
    if (!this.#lost.isEmpty) {
      const start = this.#lost.start(0);
      const end = Math.min(this.#lost.end(0), start + bytesMax);
      this.#lost.remove(start, end);
      piece = { start, end, isEnd: this.#isEnded && end === this.#written };
    } else {
      const start = this.#next;
      const end = Math.min(this.#sendable, start + bytesMax);
      piece = { start, end, isEnd: this.#isEnded && end === this.#written };
      if (end === start && !(piece.isEnd && this.#end === "waiting")) return undefined;
      this.#next = end;
    }
    if (piece.isEnd && this.#end === "waiting") this.#end = "sent";
    return piece;
  }

  /** Copies [start, end), which is not acknowledged, to `out`. */
  copy(start: number, end: number, out: Uint8Array): void {
    let low = 0;
    let high = this.#chunks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#chunks[middle]!.start <= start) low = middle + 1;
      else high = middle;
    }
    for (let at = start, i = low - 1; at < end; i++) {
      const chunk = this.#chunks[i]!;
      const to = Math.min(end, chunk.start + chunk.length);
      out.set(chunk.bytes.subarray(at - chunk.start, to - chunk.start), at - start);
      at = to;
    }
  }

  onAcked({ start, end, isEnd }: Piece): void {
    if (isEnd) this.#end = "acked";
    this.#acked.add(start, end);
    this.#lost.remove(start, end);
    if (this.#acked.isEmpty || this.#acked.start(0) > this.#base) return;
    this.#base = this.#acked.end(0);
    let gone = 0;
    while (gone < this.#chunks.length) {
      const chunk = this.#chunks[gone]!;
      if (chunk.start + chunk.length > this.#base) break;
      gone++;
    }
    if (gone > 0) this.#chunks.splice(0, gone);
  }

  onLost({ start, end, isEnd }: Piece): void {
    if (isEnd && this.#end === "sent") this.#end = "waiting";
    this.#lost.add(Math.max(start, this.#base), end);
    for (let i = 0; i < this.#acked.count; i++) {
      if (this.#acked.start(i) >= end) break;
      this.#lost.remove(this.#acked.start(i), this.#acked.end(i));
    }
  }

  drop(): void {
    this.#chunks = [];
    this.#lost.remove(0, Number.MAX_SAFE_INTEGER);
    this.#next = this.#base = this.#written;
    this.#end = "acked";
  }

  get #sendable(): number {
    return Math.min(this.#written, this.#limit, this.#base + UNACKED_BYTES_MAX);
  }

  get #endIsDue(): boolean {
    return this.#isEnded && this.#next === this.#written;
  }
}
