/**
 * The inside of a record: frames, each behind its length as a varint, and control items, which begin with length 0.
 * docs/protocol/link.md, "Items"
 */
import { decodeError } from "../wire/bytes.ts";
import { releaseBuffer, SMALL_BUFFER_BYTES, takeBuffer, takeSmallBuffer } from "./records.ts";

/** Longest control body: a rekey request. */
export const CONTROL_BYTES_MAX = 127;

export interface ItemSink {
  /** One frame, never empty. Borrowed. False: skip the rest. */
  onFrame(frame: Uint8Array): boolean;
  /** One control item; `isLast`: nothing follows it in its record. Borrowed. False: skip the rest. */
  onControl(kind: number, body: Uint8Array, isLast: boolean): boolean;
}

/** Throws GODWIT_DECODE on a malformed record, after the items before the fault were handed out. */
export function decodeItems(plaintext: Uint8Array, frameBytesMax: number, sink: ItemSink): void {
  const end = plaintext.length;
  let at = 0;
  while (at < end) {
    let length = plaintext[at++]!;
    if (length === 0) {
      if (end - at < 2) throw decodeError("a control item is cut short");
      const kind = plaintext[at++]!;
      const bodyBytes = plaintext[at++]!;
      if (bodyBytes > CONTROL_BYTES_MAX || bodyBytes > end - at)
        throw decodeError("a control item is longer than its record");
      const body = plaintext.subarray(at, at + bodyBytes);
      at += bodyBytes;
      if (!sink.onControl(kind, body, at === end)) return;
      continue;
    }
    if (length > 127) {
      // Two or three bytes: enough for 2^21, and longer than any frame is refused anyhow.
      const second = at < end ? plaintext[at++]! : 255;
      length = (length & 127) | ((second & 127) << 7);
      if (second > 127) {
        const third = at < end ? plaintext[at++]! : 255;
        if (third === 0 || third > 127) throw decodeError("a frame's length is malformed");
        length |= third << 14;
      } else if (second === 0) throw decodeError("a frame's length is not in its shortest form");
    }
    if (length > frameBytesMax || length > end - at)
      throw decodeError(`a frame of ${length} bytes does not fit its record`);
    if (!sink.onFrame(plaintext.subarray(at, at + length))) return;
    at += length;
  }
}

export const varintBytes = (value: number): number => (value < 128 ? 1 : value < 16_384 ? 2 : 3);

/** Collects items for one record. Holds a scratch buffer only while something is in it. */
export class Batch {
  #buffer: Uint8Array | undefined;
  #length = 0;
  #frames = 0;
  #controls = 0;
  #firstFrameOffset = 0;

  get length(): number {
    return this.#length;
  }

  get hasFrames(): boolean {
    return this.#frames > 0;
  }

  /** The caller has seen to it that the frame fits. */
  addFrame(frame: Uint8Array): void {
    const buffer = this.#bufferFor(varintBytes(frame.length) + frame.length);
    let at = this.#length;
    let rest = frame.length;
    while (rest > 127) {
      buffer[at++] = (rest & 127) | 128;
      rest >>>= 7;
    }
    buffer[at++] = rest;
    if (this.#frames++ === 0) this.#firstFrameOffset = at;
    buffer.set(frame, at);
    this.#length = at + frame.length;
  }

  addControl(kind: number, body: Uint8Array): void {
    const buffer = this.#bufferFor(3 + body.length);
    buffer[this.#length++] = 0;
    buffer[this.#length++] = kind;
    buffer[this.#length++] = body.length;
    buffer.set(body, this.#length);
    this.#length += body.length;
    this.#controls++;
  }

  #bufferFor(more: number): Uint8Array {
    const needed = this.#length + more;
    const held = this.#buffer;
    if (held !== undefined && needed <= held.length) return held;
    const next = needed <= SMALL_BUFFER_BYTES ? takeSmallBuffer() : takeBuffer();
    if (held !== undefined) {
      next.set(held.subarray(0, this.#length));
      releaseBuffer(held);
    }
    this.#buffer = next;
    return next;
  }

  /**
   * Empties the batch through `use`, whose plaintext is borrowed. `isBare`: it is one frame without its length, which
   * only a datagram may be (`allowBare`).
   */
  drain(allowBare: boolean, use: (plaintext: Uint8Array, isBare: boolean) => void): void {
    const buffer = this.#buffer;
    if (buffer === undefined) return;
    const isBare = allowBare && this.#frames === 1 && this.#controls === 0;
    const plaintext = buffer.subarray(isBare ? this.#firstFrameOffset : 0, this.#length);
    this.#buffer = undefined;
    this.#length = 0;
    this.#frames = 0;
    this.#controls = 0;
    try {
      use(plaintext, isBare);
    } finally {
      releaseBuffer(buffer);
    }
  }
}
