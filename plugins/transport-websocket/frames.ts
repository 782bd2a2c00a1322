/**
 * The listening side of RFC 6455 as bytes: the request that asks for an upgrade, the frames of clients in, our own out. Pure but
 * for the state of a frame that is arriving; knows no socket. Payload is handed on as it comes: no message is ever held.
 */
import { createHash } from "node:crypto";

/** A request with its headers; what is longer is none of ours. */
export const HEAD_BYTES_MAX = 8 * 1024;
/** Of one frame: more than any client of ours says at once. */
const PAYLOAD_BYTES_MAX = 16 * 1024 * 1024;
const CONTROL_BYTES_MAX = 125;
/** RFC 6455 section 1.3. */
const ACCEPT_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

export const Opcode = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

export interface UpgradeRequest {
  readonly path: string;
  /** By name in lower case; what came more than once is joined by commas. */
  readonly headers: ReadonlyMap<string, string>;
}

/** `text`: up to the empty line, without it. Undefined for what asks for no WebSocket of version 13. */
export function parseUpgrade(text: string): UpgradeRequest | undefined {
  const [first = "", ...lines] = text.split("\r\n");
  const [, target] = /^GET (\/[\x21-\x7e]*) HTTP\/1\.1$/.exec(first) ?? [];
  if (target === undefined) return undefined;
  const headers = new Map<string, string>();
  for (const line of lines) {
    const [, name, value] = /^([!#$%&'*+.^_`|~\w-]+):[ \t]*(.*?)[ \t]*$/.exec(line) ?? [];
    if (name === undefined || value === undefined) return undefined;
    const key = name.toLowerCase();
    const before = headers.get(key);
    headers.set(key, before === undefined ? value : `${before},${value}`);
  }
  const has = (name: string, wanted: string) => listOf(headers.get(name)).includes(wanted);
  const key = headers.get("sec-websocket-key") ?? "";
  if (!has("upgrade", "websocket") || !has("connection", "upgrade")) return undefined;
  if (headers.get("sec-websocket-version") !== "13" || !/^[A-Za-z0-9+/]{22}==$/.test(key)) return undefined;
  return { path: target.replace(/\?.*$/s, ""), headers };
}

/** Words of a list, in lower case. */
export const listOf = (value = ""): string[] => value.toLowerCase().split(/\s*,\s*/);

export function encodeSwitch(key: string, protocol: string): string {
  const accept = createHash("sha1")
    .update(key + ACCEPT_GUID)
    .digest("base64");
  return (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
    `Sec-WebSocket-Accept: ${accept}\r\nSec-WebSocket-Protocol: ${protocol}\r\n\r\n`
  );
}

/** A whole frame of ours, unmasked. */
export function encodeFrame(opcode: number, payload: Uint8Array): Uint8Array {
  const { length } = payload;
  const headBytes = length < 126 ? 2 : length < 65_536 ? 4 : 10;
  const out = new Uint8Array(headBytes + length);
  out[0] = 0x80 | opcode;
  if (headBytes === 2) out[1] = length;
  else if (headBytes === 4) {
    out[1] = 126;
    out[2] = length >>> 8;
    out[3] = length;
  } else {
    out[1] = 127;
    new DataView(out.buffer).setBigUint64(2, BigInt(length));
  }
  out.set(payload, headBytes);
  return out;
}

export interface FrameHandlers {
  /** Bytes of binary messages, in order. Borrowed. */
  data(bytes: Uint8Array): void;
  /** Whole. Borrowed. */
  control(opcode: number, payload: Uint8Array): void;
}

export class FrameReader {
  readonly #handlers: FrameHandlers;
  /** Of the frame that is arriving: its head, then, of a control frame, its payload. */
  readonly #held = new Uint8Array(14 + CONTROL_BYTES_MAX);
  #heldBytes = 0;
  readonly #mask = new Uint8Array(4);
  #maskAt = 0;
  #opcode = -1;
  /** Payload of this frame that is still to come. */
  #left = 0;
  #isInMessage = false;

  constructor(handlers: FrameHandlers) {
    this.#handlers = handlers;
  }

  /** False: a client of ours says no such thing, and nothing after it counts. Bytes are unmasked in place. */
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
      if (this.#heldBytes < 2 + lengthBytes + 4) continue;
      let length = short;
      if (lengthBytes > 0) {
        length = 0;
        for (let i = 0; i < lengthBytes; i++) length = length * 256 + this.#held[2 + i]!;
      }
      if (length > PAYLOAD_BYTES_MAX) return undefined;
      this.#mask.set(this.#held.subarray(2 + lengthBytes, 6 + lengthBytes));
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

  /** Masked, without extensions, binary, control frames whole and short, continuations only of what began. */
  #isAllowed(first: number, second: number): boolean {
    if ((first & 0x70) !== 0 || (second & 0x80) === 0) return false;
    const opcode = first & 0x0f;
    if (opcode >= Opcode.close)
      return opcode <= Opcode.pong && (first & 0x80) !== 0 && (second & 0x7f) <= CONTROL_BYTES_MAX;
    return opcode === (this.#isInMessage ? Opcode.continuation : Opcode.binary);
  }

  #takePayload(piece: Uint8Array): void {
    for (let i = 0; i < piece.length; i++) piece[i]! ^= this.#mask[(this.#maskAt + i) & 3]!;
    this.#maskAt = (this.#maskAt + piece.length) & 3;
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
