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

/** What follows where something is no message: firmware goes on behind it, though a message may begin within; a careful client looks there. */
export type Resync = "behind" | "within";

export class MessageReader {
  readonly #onMessage: (message: Uint8Array) => void;
  readonly #resync: Resync;
  #bytes: number[] = [];
  /** Of noise, and of what had no sensible length. */
  skipped = 0;

  constructor(onMessage: (message: Uint8Array) => void, resync: Resync) {
    this.#onMessage = onMessage;
    this.#resync = resync;
  }

  push(bytes: Uint8Array): void {
    for (const byte of bytes) {
      this.#bytes.push(byte);
      while (this.#isNoMessage()) this.#skip();
      const { length } = this.#bytes;
      if (length < HEAD_BYTES || length < HEAD_BYTES + this.#length) continue;
      const message = Uint8Array.from(this.#bytes.slice(HEAD_BYTES));
      this.#bytes = [];
      this.#onMessage(message);
    }
  }

  get #length(): number {
    return (this.#bytes[2]! << 8) | this.#bytes[3]!;
  }

  #isNoMessage(): boolean {
    const { length, 0: first, 1: second } = this.#bytes;
    if (length === 0) return false;
    if (first !== START[0] || (length > 1 && second !== START[1])) return true;
    return length >= HEAD_BYTES && this.#length > MESSAGE_BYTES_MAX;
  }

  #skip(): void {
    const count = this.#resync === "within" ? 1 : this.#bytes.length;
    this.#bytes.splice(0, count);
    this.skipped += count;
  }
}
