/**
 * RFC 6455 as bytes: the request that asks for an upgrade and its answer, frames of the far end in, our own out. Pure but for the
 * state of what is arriving; knows no socket. Payload is handed on as it comes: no message is ever held.
 */
import { createHash } from "node:crypto";

/** A request or an answer with its headers; what is longer is none of ours. */
export const HEAD_BYTES_MAX = 8 * 1024;
const END_OF_HEAD = "\r\n\r\n";
/** Of one frame: more than any end of ours says at once. */
const PAYLOAD_BYTES_MAX = 16 * 1024 * 1024;
const CONTROL_BYTES_MAX = 125;
/** RFC 6455 section 1.3. */
const ACCEPT_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

export const Opcode = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

/** What comes up to the empty line, from a socket that brings it in pieces. Holds `HEAD_BYTES_MAX` at most. */
export class HeadReader {
  #text = "";

  /** "partial": more has to come. "endless": it is too long, and nothing after it counts. `rest` is of `bytes`, behind the head. */
  push(bytes: Buffer): "partial" | "endless" | { readonly text: string; readonly rest: Buffer } {
    const before = this.#text.length;
    this.#text += bytes.toString("latin1", 0, HEAD_BYTES_MAX);
    const end = this.#text.indexOf(END_OF_HEAD, Math.max(0, before - END_OF_HEAD.length));
    if (end < 0) return this.#text.length < HEAD_BYTES_MAX ? "partial" : "endless";
    const text = this.#text.slice(0, end);
    this.#text = "";
    return { text, rest: bytes.subarray(end + END_OF_HEAD.length - before) };
  }
}

/** By name in lower case; what came more than once is joined by commas. */
type Headers = ReadonlyMap<string, string>;

export interface UpgradeRequest {
  readonly path: string;
  readonly headers: Headers;
}

/** `text`: up to the empty line, without it. Undefined for what asks for no WebSocket of version 13. */
export function parseUpgrade(text: string): UpgradeRequest | undefined {
  const [first = "", ...lines] = text.split("\r\n");
  const [, target] = /^GET (\/[\x21-\x7e]*) HTTP\/1\.1$/.exec(first) ?? [];
  const headers = parseHeaders(lines);
  if (target === undefined || headers === undefined || !isUpgrade(headers)) return undefined;
  const key = headers.get("sec-websocket-key") ?? "";
  if (headers.get("sec-websocket-version") !== "13" || !/^[A-Za-z0-9+/]{22}==$/.test(key)) return undefined;
  return { path: target.replace(/\?.*$/s, ""), headers };
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
}

/** Of a server or a proxy; `text` as for `parseUpgrade`. Undefined for what is no HTTP/1. */
export function parseAnswer(text: string): Answer | undefined {
  const [first = "", ...lines] = text.split("\r\n");
  const [, status] = /^HTTP\/1\.[01] ([1-5]\d\d)(?: .*)?$/.exec(first) ?? [];
  const headers = parseHeaders(lines);
  return status === undefined || headers === undefined ? undefined : { status: Number(status), headers };
}

/** Why the answer to a request with `key` does not open a WebSocket for `protocol`; undefined where it does. */
export function refusalOf({ status, headers }: Answer, key: string, protocol: string): string | undefined {
  if (status !== 101) return `it answered ${status} and not 101`;
  if (!isUpgrade(headers)) return "its answer is to no upgrade";
  if (headers.get("sec-websocket-accept") !== acceptOf(key)) return "its answer is not to this request";
  if (headers.get("sec-websocket-protocol") !== protocol) return "it does not speak for Godwit";
  if (headers.has("sec-websocket-extensions")) return "it chose an extension that nobody offered";
  return undefined;
}

function parseHeaders(lines: readonly string[]): Headers | undefined {
  const headers = new Map<string, string>();
  for (const line of lines) {
    const [, name, padded] = /^([!#$%&'*+.^_`|~\w-]+):(.*)$/.exec(line) ?? [];
    if (name === undefined || padded === undefined) return undefined;
    const key = name.toLowerCase();
    // No pattern that looks for the end of blanks: a head of blanks would be searched once for each of them.
    const value = padded.trim();
    const before = headers.get(key);
    headers.set(key, before === undefined ? value : `${before},${value}`);
  }
  return headers;
}

const isUpgrade = (headers: Headers): boolean =>
  listOf(headers.get("upgrade")).includes("websocket") &&
  listOf(headers.get("connection")).includes("upgrade");

/** Words of a list, in lower case. */
export const listOf = (value = ""): string[] =>
  value
    .toLowerCase()
    .split(",")
    .map((word) => word.trim());

const acceptOf = (key: string): string =>
  createHash("sha1")
    .update(key + ACCEPT_GUID)
    .digest("base64");

/** `host` as in a `Host` header, `key` 16 bytes in Base64. */
export const encodeUpgrade = (host: string, path: string, key: string, protocol: string): string =>
  `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
  `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\nSec-WebSocket-Protocol: ${protocol}\r\n\r\n`;

export const encodeSwitch = (key: string, protocol: string): string =>
  "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
  `Sec-WebSocket-Accept: ${acceptOf(key)}\r\nSec-WebSocket-Protocol: ${protocol}\r\n\r\n`;

/** What a frame may have besides its payload, the bytes that bring this to a border of words included. */
export const FRAME_HEAD_BYTES_MAX = 16;

/**
 * A whole frame of ours: a client's with 4 fresh random bytes as its mask, a server's without. In `space`, where that is given and
 * large enough: then it is good until something else is written there.
 */
export function encodeFrame(
  opcode: number,
  payload: Uint8Array,
  mask?: Uint8Array,
  space?: ArrayBuffer,
): Uint8Array {
  const { length } = payload;
  const lengthBytes = length < 126 ? 0 : length < 65_536 ? 2 : 8;
  const headBytes = 2 + lengthBytes + (mask === undefined ? 0 : MASK_BYTES);
  // Payload on a border of words, so that it is masked by words.
  const padding = -headBytes & 3;
  const bytes = padding + headBytes + length;
  const buffer = space !== undefined && space.byteLength >= bytes ? space : new ArrayBuffer(bytes);
  const out = new Uint8Array(buffer, padding, headBytes + length);
  out[0] = 0x80 | opcode;
  out[1] = (mask === undefined ? 0 : 0x80) | (lengthBytes === 0 ? length : lengthBytes === 2 ? 126 : 127);
  const view = new DataView(buffer, padding);
  if (lengthBytes === 2) view.setUint16(2, length);
  else if (lengthBytes === 8) view.setBigUint64(2, BigInt(length));
  out.set(payload, headBytes);
  if (mask !== undefined) {
    out.set(mask, 2 + lengthBytes);
    applyMask(out.subarray(headBytes), mask, 0);
  }
  return out;
}

/** Of the mask that each frame of a client has. */
export const MASK_BYTES = 4;
const isLittleEndian = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

/** Masks or unmasks in place; `at`: how many bytes of the payload came before. Four at a time where there are many. */
function applyMask(bytes: Uint8Array, mask: Uint8Array, at: number): void {
  const front = Math.min(-bytes.byteOffset & 3, bytes.length);
  const words = isLittleEndian ? (bytes.length - front) >>> 2 : 0;
  for (let i = 0; i < front; i++) bytes[i]! ^= mask[(at + i) & 3]!;
  if (words > 0) {
    let word = 0;
    for (let i = 3; i >= 0; i--) word = (word << 8) | mask[(at + front + i) & 3]!;
    const view = new Int32Array(bytes.buffer, bytes.byteOffset + front, words);
    for (let i = 0; i < words; i++) view[i]! ^= word;
  }
  for (let i = front + words * 4; i < bytes.length; i++) bytes[i]! ^= mask[(at + i) & 3]!;
}

export interface FrameHandlers {
  /** Bytes of binary messages, in order. Borrowed. */
  data(bytes: Uint8Array): void;
  /** Whole. Borrowed. */
  control(opcode: number, payload: Uint8Array): void;
}

export class FrameReader {
  readonly #handlers: FrameHandlers;
  readonly #isMasked: boolean;
  /** Of the frame that is arriving: its head, then, of a control frame, its payload. */
  readonly #held = new Uint8Array(14 + CONTROL_BYTES_MAX);
  #heldBytes = 0;
  readonly #mask = new Uint8Array(MASK_BYTES);
  #maskAt = 0;
  #opcode = -1;
  /** Payload of this frame that is still to come. */
  #left = 0;
  #isInMessage = false;

  /** Clients mask every frame, servers none. */
  constructor(from: "client" | "server", handlers: FrameHandlers) {
    this.#isMasked = from === "client";
    this.#handlers = handlers;
  }

  /** False: no end of ours says such a thing, and nothing after it counts. Bytes are unmasked in place. */
  push(bytes: Uint8Array): boolean {
    let rest = bytes;
    while (rest.length > 0) {
      if (this.#opcode < 0) {
        const taken = this.#takeHead(rest);
        if (taken === undefined) return false;
        rest = rest.subarray(taken);
      }
      if (this.#opcode < 0) continue;
      const piece = rest.subarray(0, this.#left);
      rest = rest.subarray(piece.length);
      this.#takePayload(piece);
    }
    return true;
  }

  /** How many bytes belonged to the head; undefined where it is not allowed. */
  #takeHead(bytes: Uint8Array): number | undefined {
    let taken = 0;
    while (taken < bytes.length) {
      this.#held[this.#heldBytes++] = bytes[taken++]!;
      if (this.#heldBytes < 2) continue;
      const [first, second] = [this.#held[0]!, this.#held[1]!];
      if (this.#heldBytes === 2 && !this.#isAllowed(first, second)) return undefined;
      const short = second & 0x7f;
      const lengthBytes = short === 126 ? 2 : short === 127 ? 8 : 0;
      const headBytes = 2 + lengthBytes + (this.#isMasked ? MASK_BYTES : 0);
      if (this.#heldBytes < headBytes) continue;
      let length = short;
      if (lengthBytes > 0) {
        length = 0;
        for (let i = 0; i < lengthBytes; i++) length = length * 256 + this.#held[2 + i]!;
      }
      if (length > PAYLOAD_BYTES_MAX) return undefined;
      this.#mask.set(this.#held.subarray(2 + lengthBytes, headBytes));
      this.#maskAt = 0;
      this.#heldBytes = 0;
      this.#opcode = first & 0x0f;
      this.#left = length;
      if (this.#opcode < Opcode.close) this.#isInMessage = (first & 0x80) === 0;
      if (length === 0) this.#takePayload(new Uint8Array(0));
      return taken;
    }
    return taken;
  }

  /** Masked or not as its end has to, without extensions, binary, control frames whole and short, continuations only of what began. */
  #isAllowed(first: number, second: number): boolean {
    if ((first & 0x70) !== 0 || ((second & 0x80) !== 0) !== this.#isMasked) return false;
    const opcode = first & 0x0f;
    if (opcode >= Opcode.close)
      return opcode <= Opcode.pong && (first & 0x80) !== 0 && (second & 0x7f) <= CONTROL_BYTES_MAX;
    return opcode === (this.#isInMessage ? Opcode.continuation : Opcode.binary);
  }

  #takePayload(piece: Uint8Array): void {
    if (this.#isMasked) {
      applyMask(piece, this.#mask, this.#maskAt);
      this.#maskAt = (this.#maskAt + piece.length) & 3;
    }
    this.#left -= piece.length;
    const opcode = this.#opcode;
    const isOver = this.#left === 0;
    if (isOver) this.#opcode = -1;
    if (opcode < Opcode.close) {
      if (piece.length > 0) this.#handlers.data(piece);
      return;
    }
    this.#held.set(piece, this.#heldBytes);
    this.#heldBytes += piece.length;
    if (!isOver) return;
    const payload = this.#held.subarray(0, this.#heldBytes);
    this.#heldBytes = 0;
    this.#handlers.control(opcode, payload);
  }
}
