/**
 * A large bundle block by block, as it is summed, checked and read, so that nobody holds all of it at once. A block that leaves this file is what
 * its bundle's id stands for, as far as that is known. docs/protocol/delivery.md "Large bundles".
 */
import { createHash } from "node:crypto";
import { BUNDLE_ID_BYTES, formatBundleId, type BundleId } from "../../kernel/ids.ts";
import { blocksIn, blockSum, encodeBundleHeader, type BundleHeader } from "../../wire/bundle.ts";
import { BLOCK_BYTES, BLOCK_SUM_BYTES } from "../../wire/constants.ts";
import type { SealedPieces } from "../context.ts";

/** Sums up a bundle whose blocks come in order. */
export class SealedSums {
  readonly #whole = createHash("sha256");
  readonly #blocks: Uint8Array[] = [];
  #part = createHash("sha256");
  #partBytes = 0;

  constructor(header: BundleHeader) {
    this.#whole.update(encodeBundleHeader(header));
  }

  add(block: Uint8Array, sum = blockSum(block)): void {
    this.#whole.update(block);
    this.#blocks.push(sum);
  }

  /** Bytes that may end anywhere. Not together with `add`. */
  push(bytes: Uint8Array): void {
    this.#whole.update(bytes);
    for (let at = 0; at < bytes.length;) {
      const part = bytes.subarray(at, at + BLOCK_BYTES - this.#partBytes);
      this.#part.update(part);
      at += part.length;
      this.#partBytes += part.length;
      if (this.#partBytes === BLOCK_BYTES) this.#endPart();
    }
  }

  #endPart(): void {
    this.#blocks.push(this.#part.digest().subarray(0, BLOCK_SUM_BYTES));
    this.#part = createHash("sha256");
    this.#partBytes = 0;
  }

  /** Of all blocks; call once, behind the last one. Owned by the caller. */
  sums(): Uint8Array {
    if (this.#partBytes > 0) this.#endPart();
    return Buffer.concat(this.#blocks);
  }

  /** Call once, behind the last block. */
  id(): BundleId {
    return formatBundleId(this.#whole.digest().subarray(0, BUNDLE_ID_BYTES));
  }
}

/** Whether that is the sum of the block at `index`. */
export const isSumAt = (sum: Uint8Array, index: number, sums: Uint8Array): boolean =>
  Buffer.compare(sum, sums.subarray(index * BLOCK_SUM_BYTES, (index + 1) * BLOCK_SUM_BYTES)) === 0;

export const blockLength = (sealedBytes: number, index: number): number =>
  Math.min(BLOCK_BYTES, sealedBytes - index * BLOCK_BYTES);

export const piecesInMemory = (sealed: Uint8Array): SealedPieces => ({
  read: (offset) => sealed.subarray(offset, offset + BLOCK_BYTES),
});

export interface CheckedBundle {
  readonly id: BundleId;
  readonly header: BundleHeader;
  readonly sealedBytes: number;
  /** Of its blocks, where they are known. */
  sums?: Uint8Array | undefined;
}

/** Where the bytes come from, unjudged. Undefined: they cannot be read. */
export type RawRead = (offset: number, length: number) => Promise<Uint8Array | undefined>;

/**
 * Reads a bundle that is whole, each block judged by its sum; where the sums are not known they are made first, from all of it, and the id
 * judges them. Undefined, after `damaged`, when it is not that bundle; undefined without that when it cannot be read now.
 */
export async function openPieces(
  bundle: CheckedBundle,
  raw: RawRead,
  damaged: () => void,
): Promise<SealedPieces | undefined> {
  const { sealedBytes } = bundle;
  const block = (index: number) => raw(index * BLOCK_BYTES, blockLength(sealedBytes, index));
  if (bundle.sums === undefined) {
    const made = new SealedSums(bundle.header);
    for (let index = 0; index < blocksIn(sealedBytes); index++) {
      const bytes = await block(index);
      if (bytes === undefined) return undefined;
      made.add(bytes);
    }
    if (made.id() !== bundle.id) {
      damaged();
      return undefined;
    }
    bundle.sums = made.sums();
  }
  const { sums } = bundle;
  return {
    async read(offset) {
      const index = Math.floor(offset / BLOCK_BYTES);
      try {
        const bytes = await block(index);
        if (bytes !== undefined && isSumAt(blockSum(bytes), index, sums))
          return bytes.subarray(offset - index * BLOCK_BYTES);
        if (bytes !== undefined) damaged();
      } catch {
        // The store says why.
      }
      return undefined;
    },
  };
}
