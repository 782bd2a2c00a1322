/** Between a radio and one client: messages cut out of bytes, and what faults make of them on the way. Whatever carries the bytes is a `Wire`. */
import type { Random } from "@godwit/sdk";
import type { MediumTime } from "../sim/radio/medium.ts";
import type { Faults } from "./faults.ts";
import type { Phone, PhoneClient } from "./phone.ts";
import { frameMessage, MessageReader, MESSAGE_BYTES_MAX } from "./stream.ts";

/** Towards the client. */
export interface Wire {
  /** False: it takes no more until `Cable.drained`; the bytes are taken all the same. */
  write(bytes: Uint8Array): boolean;
  close(): void;
}

export interface CableOptions {
  readonly time: MediumTime;
  readonly random: Random;
  readonly faults: () => Faults;
  readonly wire: Wire;
  readonly phone: Phone;
  readonly onEnd: (cable: Cable) => void;
}

export class Cable {
  readonly #options: CableOptions;
  readonly #reader: MessageReader;
  readonly #client: PhoneClient;
  #isOver = false;
  #messages = 0;

  constructor(options: CableOptions) {
    this.#options = options;
    this.#client = options.phone.connect({
      send: (message) => this.#say(message),
      close: () => this.close(),
    });
    this.#reader = new MessageReader((message) => this.#client.receive(message), "behind");
  }

  /** Bytes of the client. */
  receive(bytes: Uint8Array): void {
    if (!this.#isOver) this.#reader.push(bytes);
  }

  drained(): void {
    this.#client.kick();
  }

  tellRebooted(): void {
    this.log("// \r\nBOOT: starting");
    this.#client.tellRebooted();
  }

  log(line: string): void {
    this.#write(new TextEncoder().encode(`${line}\r\n`));
  }

  /** The radio's end. */
  close(): void {
    if (this.#isOver) return;
    this.#options.wire.close();
    this.ended();
  }

  /** The client's end. */
  ended(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#client.end();
    this.#options.onEnd(this);
  }

  #say(message: Uint8Array): boolean {
    if (this.#isOver) return false;
    const { logNoise, rubbish } = this.#options.faults();
    const number = this.#messages++;
    if (logNoise)
      this.log(
        `\u001b[34mDEBUG\u001b[0m | 12:00:${number % 60} ${number} [Router] Rx someone \u0094 rebroadcasting`,
      );
    if (rubbish) this.#write(this.#newRubbish());
    return this.#write(frameMessage(message));
  }

  /** Ends in such a way that a reader that looks for the next start finds the message behind it. */
  #newRubbish(): Uint8Array {
    const { random } = this.#options;
    const lie = MESSAGE_BYTES_MAX + 1 + random.below(60_000);
    const kinds = [
      () => Uint8Array.of(0x94, 0xc3, lie >> 8, lie & 0xff),
      () => Uint8Array.of(0x94, 0x94, 0x00, 0xc3),
      () => Uint8Array.of(0x94),
      () => Uint8Array.of(0x94, 0xc3, 0x94),
      () => frameMessage(random.bytes(1 + random.below(20)).fill(0xff)),
      () => frameMessage(new Uint8Array()),
    ];
    return kinds[random.below(kinds.length)]!();
  }

  #write(bytes: Uint8Array): boolean {
    const { wire } = this.#options;
    let isOpen = true;
    for (const piece of this.#pieces(bytes)) isOpen = wire.write(piece) && isOpen;
    return isOpen;
  }

  #pieces(bytes: Uint8Array): Uint8Array[] {
    const { random, faults } = this.#options;
    const { split } = faults();
    if (split === "no") return [bytes];
    const pieces: Uint8Array[] = [];
    let from = 0;
    for (let at = 1; at <= bytes.length; at++) {
      const isCut =
        split === "bytes" || (split === "anywhere" ? random.below(4) === 0 : bytes[at - 1] === 0x94);
      if (!isCut && at < bytes.length) continue;
      pieces.push(bytes.subarray(from, at));
      from = at;
    }
    return pieces;
  }
}
