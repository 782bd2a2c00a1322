/**
 * A large message of the outbox as its sealed bytes, made piece by piece from the body in the store: neither is ever in memory as a whole. Knows
 * nothing of bundles and neighbours. docs/protocol/sealing.md "Segments".
 */
import type { SegmentSealing } from "../context.ts";

/** Plaintext bytes; undefined: they cannot be read. */
export type PlainRead = (offset: number, length: number) => Promise<Uint8Array | undefined>;

export const sealedBytesIn = (
  { opening, segmentBytes, tagBytes }: SegmentSealing,
  plainBytes: number,
): number => opening.length + plainBytes + Math.ceil(plainBytes / segmentBytes) * tagBytes;

export class SealedSegments {
  readonly #sealing: SegmentSealing;
  readonly #plainBytes: number;
  readonly #read: PlainRead;
  /** A piece may end inside of a segment, which the next one begins with. */
  #last: { readonly index: number; readonly sealed: Uint8Array } | undefined;

  constructor(sealing: SegmentSealing, plainBytes: number, read: PlainRead) {
    this.#sealing = sealing;
    this.#plainBytes = plainBytes;
    this.#read = read;
  }

  /** Sealed bytes from `offset` on, which all exist. Owned by the caller. */
  async piece(offset: number, length: number): Promise<Uint8Array | undefined> {
    const { opening, segmentBytes, tagBytes } = this.#sealing;
    const out = new Uint8Array(length);
    const size = segmentBytes + tagBytes;
    const place = (bytes: Uint8Array, at: number) => {
      const from = Math.max(0, offset - at);
      const to = Math.min(bytes.length, offset + length - at);
      if (from < to) out.set(bytes.subarray(from, to), at + from - offset);
    };
    place(opening, 0);
    const end = offset + length - opening.length;
    if (end <= 0) return out;
    const first = Math.floor(Math.max(0, offset - opening.length) / size);
    const behind = Math.ceil(end / size);
    // Another piece may be asked for while this one is read.
    const kept = this.#last?.index === first ? this.#last.sealed : undefined;
    const start = (first + (kept === undefined ? 0 : 1)) * segmentBytes;
    const plainEnd = Math.min(this.#plainBytes, behind * segmentBytes);
    const plain = start < plainEnd ? await this.#read(start, plainEnd - start) : new Uint8Array(0);
    if (plain === undefined || plain.length !== Math.max(0, plainEnd - start)) return undefined;
    for (let index = first; index < behind; index++) {
      const at = opening.length + index * size;
      if (kept !== undefined && index === first) {
        place(kept, at);
        continue;
      }
      const plainAt = index * segmentBytes - start;
      const part = plain.subarray(plainAt, plainAt + segmentBytes);
      // One that is inside is neither kept, nor made elsewhere and copied.
      if (at >= offset && at + part.length + tagBytes <= offset + length) {
        this.#sealing.segment(index, part, out.subarray(at - offset));
        continue;
      }
      this.#last = { index, sealed: this.#sealing.segment(index, part) };
      place(this.#last.sealed, at);
    }
    return out;
  }
}
