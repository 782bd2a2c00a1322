/**
 * One connection over sticks as a stream pipe. Pure state: `letter` is what the far end must be told now, `take` what it
 * told us. Nothing here touches a file.
 */
import { GodwitError, type Pipe, type PipeDirection, type PipeHandlers } from "@godwit/sdk";
import { BYTES_MAX, type Letter } from "./letter.ts";

/** `write` answers false above this many bytes that the far end has not confirmed; one letter holds twice as many. */
const HIGH_WATER_BYTES = BYTES_MAX / 2;

export interface DropPipeOptions {
  readonly direction: PipeDirection;
  readonly local: string;
  readonly remote: string;
  readonly patienceMs: number;
  /** There is something to tell. */
  onChange(): void;
}

export class DropPipe implements Pipe {
  readonly kind = "stream";
  readonly linkClass = "slow";
  readonly mtu = 0;
  /** A stick holds a lot; what it lacks is haste, which `patienceMs` says. */
  readonly rateBitsPerSecond = 100_000;
  readonly direction: PipeDirection;
  readonly local: string;
  readonly remote: string;
  readonly patienceMs: number;
  readonly #onChange: () => void;
  #handlers: PipeHandlers | undefined;
  /** Not confirmed, from place `#base` of the stream on. */
  #unconfirmed: Uint8Array[] = [];
  #unconfirmedBytes = 0;
  #base = 0;
  #written = 0;
  #read = 0;
  #isFull = false;
  #isPaused = false;
  #isClosing = false;
  #isFarEnded = false;
  #isOver = false;
  #hasReported = false;
  #error: Error | undefined;

  constructor(options: DropPipeOptions) {
    this.direction = options.direction;
    this.local = options.local;
    this.remote = options.remote;
    this.patienceMs = options.patienceMs;
    this.#onChange = options.onChange;
  }

  /** Not on any stick yet. */
  get bufferedBytes(): number {
    return this.#base + this.#unconfirmedBytes - this.#written;
  }

  /** Nothing will be told or taken any more, once the last letter is written. */
  get isOver(): boolean {
    return this.#isOver;
  }

  open(handlers: PipeHandlers): void {
    this.#handlers = handlers;
    if (this.#isOver) this.#report();
    else this.#onChange();
  }

  write(bytes: Uint8Array): boolean {
    if (this.#isOver || this.#isClosing) return true;
    if (bytes.length > 0) {
      this.#unconfirmed.push(new Uint8Array(bytes));
      this.#unconfirmedBytes += bytes.length;
      this.#onChange();
    }
    if (this.#unconfirmedBytes > BYTES_MAX)
      this.#end(
        new GodwitError("GODWIT_QUEUE_FULL", "more was written than a letter holds, against all advice", {
          kind: "capacity",
        }),
      );
    this.#isFull ||= this.#unconfirmedBytes > HIGH_WATER_BYTES;
    return !this.#isFull;
  }

  pause(paused: boolean): void {
    this.#isPaused = paused;
    if (!paused) this.#onChange();
  }

  close(): void {
    if (this.#isOver || this.#isClosing) return;
    this.#isClosing = true;
    this.#onChange();
  }

  /** The last letter is written, or there was no stick in time. */
  closed(): void {
    this.#end(undefined);
  }

  /** The far end knows nothing of this connection, or the plugin stops. */
  cut(error: Error): void {
    this.#end(error);
  }

  get isClosing(): boolean {
    return this.#isClosing || this.#isFarEnded;
  }

  letter(): Letter {
    const bytes = Buffer.concat(this.#unconfirmed);
    return {
      isOpener: this.direction === "outbound",
      isEnd: this.isClosing,
      isReset: false,
      base: this.#base,
      read: this.#read,
      bytes,
    };
  }

  /** `letter` lies on a stick now. */
  told({ base, bytes }: Letter): void {
    this.#written = Math.max(this.#written, base + bytes.length);
  }

  /** Answers false when it has to be shown the letter again: nobody reads just now. */
  take(letter: Letter): boolean {
    if (this.#isOver || this.#isFarEnded) return true;
    if (letter.isReset) {
      this.#end(new Error("the far end does not know this connection any more: it was started anew"));
      return true;
    }
    this.#confirm(letter.read);
    const handlers = this.#handlers;
    if (handlers === undefined || this.#isPaused) return false;
    const { base, bytes } = letter;
    if (base <= this.#read && base + bytes.length > this.#read) {
      const fresh = bytes.subarray(this.#read - base);
      this.#read = base + bytes.length;
      this.#onChange();
      handlers.data(fresh);
    }
    if (letter.isEnd && base + bytes.length <= this.#read) {
      this.#isFarEnded = true;
      this.#onChange();
    }
    return true;
  }

  #confirm(upTo: number): void {
    while (this.#unconfirmed.length > 0 && this.#base + this.#unconfirmed[0]!.length <= upTo) {
      const { length } = this.#unconfirmed.shift()!;
      this.#base += length;
      this.#unconfirmedBytes -= length;
    }
    this.#written = Math.max(this.#written, this.#base);
    if (!this.#isFull || this.#unconfirmedBytes > HIGH_WATER_BYTES / 2 || this.isClosing) return;
    this.#isFull = false;
    this.#handlers?.drain();
  }

  #end(error: Error | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#error = error;
    this.#unconfirmed = [];
    this.#unconfirmedBytes = 0;
    this.#written = this.#base;
    if (this.#handlers !== undefined) this.#report();
  }

  #report(): void {
    if (this.#hasReported) return;
    this.#hasReported = true;
    queueMicrotask(() => this.#handlers?.closed(this.#error));
  }
}
