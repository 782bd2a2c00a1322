/** How a stream is cut into messages (StreamAPI): 0x94 0xC3, length in two bytes, message; what is between them is a log for people. */
const START = [0x94, 0xc3] as const;
const HEAD_BYTES = 4;
/** Of a message. */
export const MESSAGE_BYTES_MAX = 512;

export function frameMessage(message: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEAD_BYTES + message.length);
  bytes.set([...START, message.length >> 8, message.length & 0xff]);
  bytes.set(message, HEAD_BYTES);
  return bytes;
}

/** As the firmware reads: what does not fit is skipped byte by byte. */
export class MessageReader {
  readonly #onMessage: (message: Uint8Array) => void;
  #bytes: number[] = [];
  /** Of noise, and of what had no sensible length. */
  skipped = 0;

  constructor(onMessage: (message: Uint8Array) => void) {
    this.#onMessage = onMessage;
  }

  push(bytes: Uint8Array): void {
    for (const byte of bytes) this.#take(byte);
  }

  #take(byte: number): void {
    const bytes = this.#bytes;
    bytes.push(byte);
    const isStart = bytes[0] === START[0] && (bytes.length < 2 || bytes[1] === START[1]);
    const length = bytes.length < HEAD_BYTES ? undefined : (bytes[2]! << 8) | bytes[3]!;
    if (!isStart || (length !== undefined && length > MESSAGE_BYTES_MAX)) {
      this.skipped += bytes.length;
      // The byte that did not fit may begin the next one.
      this.#bytes = byte === START[0] ? [byte] : [];
      this.skipped -= this.#bytes.length;
      return;
    }
    if (length === undefined || bytes.length < HEAD_BYTES + length) return;
    this.#bytes = [];
    this.#onMessage(Uint8Array.from(bytes.slice(HEAD_BYTES)));
  }
}
