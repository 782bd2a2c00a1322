/**
 * The body of one large bundle while it comes: checked block by block, written to the store as it is, and summed up on the way, so that a few
 * blocks of it are in memory at any time. Must never call a block durable, or count it as received for good, before its sum holds where the
 * offer told it. Credit, gaps and who may send are transfer.ts. docs/protocol/delivery.md "Large bundles".
 */
import type { OpeningBody, SealedPieces } from "../context.ts";
import type { BundleId } from "../../kernel/ids.ts";
import { blockSum, blocksIn, type Offer } from "../../wire/bundle.ts";
import { BLOCK_BYTES } from "../../wire/constants.ts";
import { concatBytes } from "../../wire/bytes.ts";
import type { Store, StoreOp } from "../../store/types.ts";
import { blockLength, isSumAt, SealedSums } from "./pieces.ts";

export const chunkKey = (id: BundleId, index: number): string => `${id}/${String(index).padStart(6, "0")}`;
export const sumOf = (pieces: readonly number[]): number => pieces.reduce((total, bytes) => total + bytes, 0);

/** Blocks that may go to the store in one piece. */
const SLAB_BYTES = 8 * BLOCK_BYTES;

/** A bundle up to this size stays in memory until it is whole. */
export const isWholeInMemory = (sealedBytes: number): boolean => sealedBytes <= BLOCK_BYTES;

export class ArrivingBody {
  readonly #store: Store;
  readonly #offer: Offer;
  readonly #opens: (() => OpeningBody | undefined) | undefined;
  #opening: OpeningBody | undefined;
  #sums: SealedSums;
  #index = 0;
  #block: Uint8Array;
  #fill = 0;
  /** How much of the block lies in the store already: the end of what an earlier try had brought. */
  #kept = 0;
  /** Checked, and not handed to the store; blocks that lie side by side are one. */
  #unwritten: Uint8Array[] = [];
  /** Where blocks are made, so that what is written together need not be copied together. */
  #slab = new Uint8Array(0);
  #slabUsed = 0;
  /** One of which all is durable: it is written to again. */
  #spareSlab: ArrayBufferLike | undefined;
  /** Sizes of the pieces in the store, in order. */
  #pieces: number[] = [];
  #durable = 0;
  /** What became durable last: whoever sends it on need not read it again. */
  #latest: { readonly at: number; readonly bytes: Uint8Array } | undefined;
  #writing: Promise<void> | undefined;
  #hasFailed = false;

  /** `opens`: for what is opened while it comes, undefined where it is not for this node. */
  constructor(store: Store, offer: Offer, opens?: () => OpeningBody | undefined) {
    this.#store = store;
    this.#offer = offer;
    this.#opens = opens;
    // What stays in memory is opened there.
    if (!isWholeInMemory(offer.sealedBytes)) this.#opening = opens?.();
    this.#sums = new SealedSums(offer.header);
    this.#block = this.#newBlock();
  }

  /** Bytes from the beginning without a gap. */
  get received(): number {
    return this.#index * BLOCK_BYTES + this.#fill;
  }

  get isWhole(): boolean {
    return this.received >= this.#offer.sealedBytes;
  }

  get durable(): number {
    return this.#durable;
  }

  /** Part of it was handed to the store, and is not there. */
  get hasFailed(): boolean {
    return this.#hasFailed;
  }

  get pieces(): readonly number[] {
    return this.#pieces;
  }

  /** Resolves once nothing of it is being written. */
  async settled(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing;
  }

  /** Takes up what an earlier try left in the store. False: that is not the beginning of this bundle. */
  async resume(pieces: readonly number[]): Promise<boolean> {
    this.#opening ??= this.#opens?.();
    for (let index = 0; index < pieces.length; index++) {
      const bytes = await this.#store.body("chunk", chunkKey(this.#offer.id, index)).catch(() => undefined);
      if (bytes === undefined || bytes.length !== pieces[index]) return false;
      if (this.received + bytes.length > this.#offer.sealedBytes || !this.take(bytes)) return false;
      // What is in the store need not be written again.
      this.#unwritten = [];
      this.#kept = this.#fill;
      this.#durable = this.received;
    }
    this.#pieces = [...pieces];
    return true;
  }

  /** The next bytes, borrowed. False: the block that they end is not the one that was offered; it counts as not received. */
  take(bytes: Uint8Array): boolean {
    for (let at = 0; at < bytes.length;) {
      const part = bytes.subarray(at, at + this.#block.length - this.#fill);
      this.#block.set(part, this.#fill);
      this.#fill += part.length;
      at += part.length;
      if (this.#fill === this.#block.length && !this.#endBlock()) return false;
    }
    return true;
  }

  /** Part of the bad block is of an earlier try, whoever made that: it cannot be fetched alone. */
  get isSpoilt(): boolean {
    return this.#kept > 0;
  }

  #endBlock(): boolean {
    const { sums, sealedBytes } = this.#offer;
    const sum = blockSum(this.#block);
    if (sums !== undefined && !isSumAt(sum, this.#index, sums)) {
      this.#fill = this.#kept;
      return false;
    }
    this.#sums.add(this.#block, sum);
    this.#opening?.take(this.#block);
    this.#addUnwritten(this.#block.subarray(this.#kept));
    this.#index++;
    this.#fill = this.#kept = 0;
    if (this.#index < blocksIn(sealedBytes)) this.#block = this.#newBlock();
    return true;
  }

  #addUnwritten(bytes: Uint8Array): void {
    const last = this.#unwritten.at(-1);
    const isBehind = last?.buffer === bytes.buffer && last.byteOffset + last.length === bytes.byteOffset;
    if (!isBehind) this.#unwritten.push(bytes);
    else
      this.#unwritten[this.#unwritten.length - 1] = new Uint8Array(
        last.buffer,
        last.byteOffset,
        last.length + bytes.length,
      );
  }

  #newBlock(): Uint8Array {
    const { sealedBytes } = this.#offer;
    const bytes = blockLength(sealedBytes, this.#index);
    if (this.#slabUsed + bytes > this.#slab.length) {
      const slab = this.#spareSlab ?? Math.min(SLAB_BYTES, sealedBytes - this.#index * BLOCK_BYTES);
      this.#slab = new Uint8Array(slab as ArrayBuffer);
      this.#spareSlab = undefined;
      this.#slabUsed = 0;
    }
    this.#slabUsed += bytes;
    return this.#slab.subarray(this.#slabUsed - bytes, this.#slabUsed);
  }

  /**
   * Hands what is checked to the store, unless it is still at what it was handed before; `more` goes into the same commit. Undefined: nothing
   * to do. Rejects with GODWIT_STORE_FAILED.
   */
  write(more: () => readonly StoreOp[]): Promise<void> | undefined {
    if (this.#writing !== undefined || this.#unwritten.length === 0) return undefined;
    return this.#write(this.#unwritten.shift()!, more());
  }

  /** At the end of a try that will go on later: all of it, the beginning of a block as well. */
  async writeRest(): Promise<void> {
    await this.settled();
    const rest = concatBytes([...this.#unwritten, this.#block.subarray(this.#kept, this.#fill)]);
    this.#unwritten = [];
    if (rest.length > 0 && !this.#hasFailed) await this.#write(rest, []);
  }

  async #write(body: Uint8Array, more: readonly StoreOp[]): Promise<void> {
    const key = chunkKey(this.#offer.id, this.#pieces.length);
    const commit = this.#store.commit([{ op: "put", in: "chunk", key, meta: "", body }, ...more]);
    this.#writing = commit.then(
      () => {
        this.#writing = undefined;
        this.#takeBack(body);
        this.#latest = { at: this.#durable, bytes: body };
        this.#pieces.push(body.length);
        this.#durable += body.length;
      },
      () => {
        this.#writing = undefined;
        this.#hasFailed = true;
      },
    );
    await commit;
  }

  /** What became durable before is needed no more, unless `next` lies beside it. */
  #takeBack(next: Uint8Array): void {
    const slab = this.#latest?.bytes.buffer;
    if (slab === undefined || slab === next.buffer) return;
    if (slab.byteLength === SLAB_BYTES) this.#spareSlab = slab;
  }

  /** Of a whole bundle that has not failed: what is in no row of the store, and the sums; undefined when it is not the one that was offered. Call once. */
  finish(): { readonly rest: Uint8Array; readonly sums: Uint8Array } | undefined {
    if (this.#sums.id() !== this.#offer.id) return undefined;
    return { rest: concatBytes(this.#unwritten), sums: this.#sums.sums() };
  }

  /** What all of it was told to. */
  get opening(): OpeningBody | undefined {
    return this.#opening;
  }

  /** Reads what has arrived of a whole bundle. */
  reader(rest: Uint8Array): SealedPieces {
    return {
      read: (offset) =>
        offset < this.#durable
          ? this.readDurable(offset)
          : rest.subarray(offset - this.#durable).subarray(0, BLOCK_BYTES),
    };
  }

  /** Some bytes from a durable one on: at most a block. As `SealedPieces.read`. */
  readDurable(offset: number): Uint8Array | Promise<Uint8Array | undefined> {
    const { at, bytes } = this.#latest ?? { at: this.#durable, bytes: undefined };
    if (bytes !== undefined && offset >= at) return bytes.subarray(offset - at, offset - at + BLOCK_BYTES);
    let start = 0;
    for (const [index, size] of this.#pieces.entries()) {
      if (offset >= start + size) {
        start += size;
        continue;
      }
      const length = Math.min(BLOCK_BYTES, start + size - offset);
      const key = chunkKey(this.#offer.id, index);
      return this.#store.piece("chunk", key, offset - start, length).catch(() => undefined);
    }
    return Promise.resolve(undefined);
  }
}
