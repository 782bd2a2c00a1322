/**
 * The frames between the node and a plugin that runs outside of its thread: numbers, bounds, and the codec. Pure: bytes in,
 * values out, no I/O and no clock. Specified by docs/protocol/plugin-frames.md.
 *
 *   | length 4 | type 1 | id 4 | body ... |                     big-endian; length counts type, id and body
 *   body of most frames: | length of JSON 4 | JSON in UTF-8 | bytes ... |
 */
import { GodwitError, godwitError } from "../../kernel/errors.ts";

export const PLUGIN_PROTOCOL_VERSION = 1;

/** Append-only; docs/registry.md. */
export const PluginFrame = {
  hello: 0x01,
  configure: 0x02,
  started: 0x03,
  failed: 0x04,
  stop: 0x05,
  stopped: 0x06,
  ping: 0x07,
  pong: 0x08,
  health: 0x09,
  log: 0x0a,
  metric: 0x0b,
  call: 0x0c,
  answer: 0x0d,
  event: 0x0e,
  cancel: 0x0f,
  open: 0x10,
  data: 0x11,
  credit: 0x12,
  proven: 0x13,
  close: 0x14,
  closed: 0x15,
  end: 0x16,
  change: 0x17,
  sandboxed: 0x18,
  left: 0x19,
} as const;

export const FRAME_HEAD_BYTES = 9;
/** Of type, id and body together: a body of a message, 16 MiB, and what stands beside it. */
export const FRAME_BYTES_MAX = 17 * 2 ** 20;
/** Of one `data` frame. */
export const DATA_BYTES_MAX = 65_536;
/** Of the JSON that a plugin sends. */
export const PLUGIN_JSON_BYTES_MAX = 65_536;
/** What each end of a flow may send before the far end has said that it took some of it. */
export const FLOW_WINDOW_BYTES = 524_288;
/** What a `data` frame costs of the window beyond its bytes, so that empty ones cannot fill memory. */
export const DATA_COST_BYTES = 64;

export interface Frame {
  readonly type: number;
  readonly id: number;
  /** Borrowed: valid until the call that handed it over returns. */
  readonly body: Uint8Array;
}

/** Writes the head; answers where the body goes. */
export function putFrameHead(
  target: Uint8Array,
  at: number,
  type: number,
  id: number,
  bodyBytes: number,
): number {
  const length = bodyBytes + 5;
  target[at] = length >>> 24;
  target[at + 1] = length >>> 16;
  target[at + 2] = length >>> 8;
  target[at + 3] = length;
  target[at + 4] = type;
  target[at + 5] = id >>> 24;
  target[at + 6] = id >>> 16;
  target[at + 7] = id >>> 8;
  target[at + 8] = id;
  return at + FRAME_HEAD_BYTES;
}

export function encodeFrame(type: number, id: number, body: Uint8Array = EMPTY): Uint8Array {
  if (body.length + 5 > FRAME_BYTES_MAX)
    throw godwitError("GODWIT_ENCODE", `a frame holds at most ${FRAME_BYTES_MAX} bytes`);
  const frame = new Uint8Array(FRAME_HEAD_BYTES + body.length);
  frame.set(body, putFrameHead(frame, 0, type, id, body.length));
  return frame;
}

export const EMPTY = new Uint8Array(0);
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/** The body of frames that carry JSON. */
export function encodeParts(json: unknown, bytes: Uint8Array = EMPTY): Uint8Array {
  const text = encoder.encode(JSON.stringify(json));
  const body = new Uint8Array(4 + text.length + bytes.length);
  new DataView(body.buffer).setUint32(0, text.length);
  body.set(text, 4);
  body.set(bytes, 4 + text.length);
  return body;
}

export interface Parts {
  readonly json: unknown;
  /** A view of the body. */
  readonly bytes: Uint8Array;
}

/** Throws GODWIT_DECODE. */
export function decodeParts(body: Uint8Array, jsonBytesMax = FRAME_BYTES_MAX): Parts {
  if (body.length < 4) throw malformed("a body is cut short");
  const length = new DataView(body.buffer, body.byteOffset, 4).getUint32(0);
  if (length > jsonBytesMax)
    throw malformed(`its JSON has ${length} bytes, at most ${jsonBytesMax} are read`);
  if (length > body.length - 4) throw malformed("its JSON is cut short");
  try {
    return {
      json: JSON.parse(decoder.decode(body.subarray(4, 4 + length))),
      bytes: body.subarray(4 + length),
    };
  } catch {
    throw malformed("its JSON is none");
  }
}

export function encodeU32(value: number): Uint8Array {
  const body = new Uint8Array(4);
  new DataView(body.buffer).setUint32(0, value);
  return body;
}

/** Throws GODWIT_DECODE. */
export function decodeU32(body: Uint8Array): number {
  if (body.length !== 4) throw malformed("a number of four bytes has another length");
  return new DataView(body.buffer, body.byteOffset, 4).getUint32(0);
}

const malformed = (what: string): GodwitError => godwitError("GODWIT_DECODE", `plugin frame: ${what}`);

const never = (): boolean => false;

/**
 * Cuts a stream of bytes into frames. What is incomplete waits here: at most one frame, and no more of it than has
 * arrived. A length beyond the bound ends it for good.
 */
export class FrameReader {
  readonly #onFrame: (type: number, id: number, body: Uint8Array) => void;
  readonly #bytesMax: number;
  #rest: Uint8Array = EMPTY;
  #held = 0;

  constructor(onFrame: (type: number, id: number, body: Uint8Array) => void, bytesMax = FRAME_BYTES_MAX) {
    this.#onFrame = onFrame;
    this.#bytesMax = bytesMax;
  }

  /** Bytes of a frame that is not complete. */
  get heldBytes(): number {
    return this.#held;
  }

  /**
   * Borrowed: bodies handed on are views of `bytes` or of what waited. `isEnough` is asked after each frame: from there on nothing is
   * taken. Answers how many bytes were. Throws GODWIT_DECODE.
   */
  push(bytes: Uint8Array, isEnough: () => boolean = never): number {
    let from = 0;
    while (this.#held > 0 && from < bytes.length) {
      const wanted = this.#held < 4 ? 4 : this.#lengthAt(this.#rest, 0) + 4;
      from += this.#hold(bytes.subarray(from, from + wanted - this.#held));
      if (this.#held < 4) return from;
      const whole = this.#lengthAt(this.#rest, 0) + 4;
      if (this.#held < whole) continue;
      const frame = this.#rest.subarray(0, whole);
      this.#rest = EMPTY;
      this.#held = 0;
      this.#emit(frame, 0, whole);
      if (isEnough()) return from;
    }
    for (;;) {
      const left = bytes.length - from;
      if (left < 4) break;
      const whole = this.#lengthAt(bytes, from) + 4;
      if (left < whole) break;
      const at = from;
      from += whole;
      this.#emit(bytes, at, whole);
      if (isEnough()) return from;
    }
    if (from < bytes.length) this.#hold(bytes.subarray(from));
    return bytes.length;
  }

  #emit(bytes: Uint8Array, at: number, whole: number): void {
    const id =
      ((bytes[at + 5]! << 24) | (bytes[at + 6]! << 16) | (bytes[at + 7]! << 8) | bytes[at + 8]!) >>> 0;
    this.#onFrame(bytes[at + 4]!, id, bytes.subarray(at + FRAME_HEAD_BYTES, at + whole));
  }

  #lengthAt(bytes: Uint8Array, at: number): number {
    const length =
      ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
    if (length < 5 || length > this.#bytesMax)
      throw malformed(`it says it has ${length} bytes, 5 to ${this.#bytesMax} are allowed`);
    return length;
  }

  #hold(bytes: Uint8Array): number {
    const wanted = this.#held + bytes.length;
    if (wanted > this.#rest.length) {
      const grown = new Uint8Array(
        Math.max(4_096, wanted, Math.min(this.#rest.length * 2, this.#bytesMax + 4)),
      );
      grown.set(this.#rest.subarray(0, this.#held));
      this.#rest = grown;
    }
    this.#rest.set(bytes, this.#held);
    this.#held = wanted;
    return bytes.length;
  }
}

/** An error as it travels in JSON. */
export interface WireError {
  readonly code: string;
  readonly message: string;
  readonly kind?: string;
  readonly retry?: string;
}

export function wireErrorOf(thrown: unknown): WireError {
  if (thrown instanceof GodwitError)
    return { code: thrown.code, message: thrown.message, kind: thrown.kind, retry: thrown.retry };
  return { code: "GODWIT_PLUGIN_FAILED", message: thrown instanceof Error ? thrown.message : String(thrown) };
}

const kinds = ["config", "permission", "protocol", "transport", "capacity", "plugin", "bug"] as const;
const retries = ["never", "later", "now"] as const;
const ERROR_TEXT_MAX = 1_024;

/** Whatever was sent becomes an error: a malformed one is one as well. */
export function errorOfWire(value: unknown): GodwitError {
  const { code, message, kind, retry } = (value ?? {}) as Partial<Record<string, unknown>>;
  const known = kinds.find((one) => one === kind);
  const advice = retries.find((one) => one === retry);
  return new GodwitError(
    typeof code === "string" && /^[A-Z][A-Z0-9_]{0,63}$/.test(code) ? code : "GODWIT_PLUGIN_FAILED",
    typeof message === "string" ? message.slice(0, ERROR_TEXT_MAX) : "the plugin said nothing of why",
    { kind: known ?? "plugin", retry: advice ?? "later" },
  );
}
