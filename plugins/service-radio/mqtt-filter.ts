/**
 * What stands between a broker and the decoder of MQTT, which would keep whatever is announced, up to 256 MiB: passes the packets that a client which only subscribes,
 * with quality 0, may be sent (MQTT 3.1.1), and leaves out messages that are too long. Owns no socket.
 */
/** A topic and an envelope. */
export const MESSAGE_BYTES_MAX = 2_048;
/** Of all other packets. */
const CONTROL_BYTES_MAX = 64;
/** A type, and a length of at most four bytes. */
const HEADER_BYTES_MAX = 5;

const TYPE = { connack: 2, publish: 3, suback: 9, pingresp: 13 } as const;
const CONTROL: ReadonlySet<number> = new Set([TYPE.connack, TYPE.suback, TYPE.pingresp]);
const QUALITY = 0b110;

export class MqttFilter {
  readonly #tooLong: () => void;
  readonly #header = new Uint8Array(HEADER_BYTES_MAX);
  #headerBytes = 0;
  #left = 0;
  #isPassing = false;

  /** `tooLong` is told of each message that is left out. */
  constructor(tooLong: () => void) {
    this.#tooLong = tooLong;
  }

  /** What of it goes on: parts of `bytes`, or headers. Throws an error that says what the broker did. */
  push(bytes: Uint8Array): Uint8Array[] {
    const passed: Uint8Array[] = [];
    for (let at = 0; at < bytes.length;) {
      if (this.#left === 0) {
        const header = this.#take(bytes[at++]!);
        if (header !== undefined && this.#isPassing) passed.push(header);
        continue;
      }
      const part = bytes.subarray(at, at + this.#left);
      at += part.length;
      this.#left -= part.length;
      if (this.#isPassing) passed.push(part);
    }
    return passed;
  }

  /** One byte of a header; the whole of it with its last. */
  #take(byte: number): Uint8Array | undefined {
    this.#header[this.#headerBytes++] = byte;
    if (this.#headerBytes === 1) return undefined;
    if ((byte & 0x80) !== 0) {
      if (this.#headerBytes === HEADER_BYTES_MAX) throw new Error("the broker does not speak MQTT");
      return undefined;
    }
    const header = this.#header.slice(0, this.#headerBytes);
    this.#headerBytes = 0;
    let length = 0;
    for (let i = header.length - 1; i > 0; i--) length = length * 128 + (header[i]! & 0x7f);
    this.#judge(header[0]!, length);
    this.#left = length;
    return header;
  }

  #judge(first: number, length: number): void {
    const type = first >> 4;
    if (type === TYPE.publish) {
      if ((first & QUALITY) !== 0)
        throw new Error("the broker sent a message of another quality than was asked for");
      this.#isPassing = length <= MESSAGE_BYTES_MAX;
      if (!this.#isPassing) this.#tooLong();
      return;
    }
    if (!CONTROL.has(type) || length > CONTROL_BYTES_MAX)
      throw new Error("the broker sent what a client that only listens is not sent");
    this.#isPassing = true;
  }
}
