/**
 * The framing of Meshtastic's stream API, on serial lines and TCP: `94 C3 length16 body`, a body of at most 512 bytes; between frames a device writes
 * text for people. Owns finding frames in whatever comes: a length that lies, or a body that its reader does not take, costs the byte at which
 * the search goes on, and no frame that is whole. Keeps at most one frame.
 */

const START_1 = 0x94;
const START_2 = 0xc3;
const HEAD_BYTES = 4;
export const BODY_BYTES_MAX = 512;
/** A frame comes in one go: after such a pause what was begun was none, ms. */
const STALL_MS = 1_000;
/** Wakes a device that sleeps; part of no frame. */
export const WAKE = new Uint8Array(32).fill(START_2);

/** Throws RangeError for a body beyond 512 bytes. */
export function encodeFrame(body: Uint8Array): Uint8Array {
  if (body.length > BODY_BYTES_MAX) throw new RangeError(`a frame of ${body.length} bytes`);
  const frame = new Uint8Array(HEAD_BYTES + body.length);
  frame.set([START_1, START_2, body.length >> 8, body.length & 0xff]);
  frame.set(body, HEAD_BYTES);
  return frame;
}

export interface FrameEvents {
  /** The body is borrowed. False: it is none that was meant, and what it covers is searched for others. */
  frame(body: Uint8Array): boolean;
  /** So many bytes were part of no frame. */
  noise(bytes: number): void;
}

export class FrameReader {
  readonly #events: FrameEvents;
  #kept = new Uint8Array(0);
  #atMs = Number.NEGATIVE_INFINITY;

  constructor(events: FrameEvents) {
    this.#events = events;
  }

  /** Borrowed. `nowMs`: monotonic. */
  push(bytes: Uint8Array, nowMs: number): void {
    const isStalled = this.#kept.length > 0 && nowMs - this.#atMs > STALL_MS;
    this.#atMs = nowMs;
    let from = 0;
    if (isStalled) from = this.#search(this.#kept, 1, 1);
    const whole = new Uint8Array(this.#kept.length - from + bytes.length);
    whole.set(this.#kept.subarray(from));
    whole.set(bytes, this.#kept.length - from);
    this.#kept = whole.slice(this.#search(whole, 0, 0));
  }

  /** Takes all frames from `at` on; answers where the first one begins that is not whole. `noise`: bytes before `at` that were none. */
  #search(bytes: Uint8Array, start: number, before: number): number {
    let noise = before;
    let at = start;
    while (at < bytes.length) {
      const length = lengthAt(bytes, at);
      if (length === "short") break;
      if (length !== undefined && at + HEAD_BYTES + length > bytes.length) break;
      const end = at + HEAD_BYTES + (length ?? 0);
      if (length !== undefined && this.#events.frame(bytes.subarray(at + HEAD_BYTES, end))) at = end;
      else {
        at++;
        noise++;
      }
    }
    if (noise > 0) this.#events.noise(noise);
    return at;
  }
}

/** Of the frame whose head begins there; undefined: none does; "short": that cannot be said yet. */
function lengthAt(bytes: Uint8Array, at: number): number | "short" | undefined {
  if (bytes[at] !== START_1) return undefined;
  if (at + 1 >= bytes.length) return "short";
  if (bytes[at + 1] !== START_2) return undefined;
  if (at + HEAD_BYTES > bytes.length) return "short";
  const length = (bytes[at + 2]! << 8) | bytes[at + 3]!;
  return length > BODY_BYTES_MAX ? undefined : length;
}
