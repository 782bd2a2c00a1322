/** A stream through Tor as a Pipe: a socket to or from the tor beside us, whose far end is nobody's address. */
import type { Socket } from "node:net";
import type { Pipe, PipeDirection, PipeHandlers } from "@godwit/sdk";

/** `write` answers false above this many bytes waiting: half a second at what a good circuit carries. */
const HIGH_WATER_BYTES = 128 * 1024;
/** Assumed until measured. */
const RATE_BITS_PER_SECOND = 2_000_000;
const FLUSH_ON_CLOSE_MS = 1_000;

export interface PipeEnds {
  readonly direction: PipeDirection;
  readonly local: string;
  readonly remote: string;
}

export class TorPipe implements Pipe {
  readonly kind = "stream";
  readonly linkClass = "medium";
  readonly isAnonymous = true;
  readonly rateBitsPerSecond = RATE_BITS_PER_SECOND;
  readonly mtu = 0;
  readonly direction: PipeDirection;
  readonly local: string;
  readonly remote: string;
  readonly #socket: Socket;
  readonly #after: (delayMs: number, fn: () => void) => { cancel(): void };
  #handlers: PipeHandlers | undefined;
  /** Came while nobody listened; the socket is paused by then, so it is what was already on its way up. */
  #early: Uint8Array[] = [];
  #isPaused = false;
  #isFull = false;
  #isClosing = false;
  #isClosed = false;
  #error: Error | undefined;
  #flushTimer: { cancel(): void } | undefined;

  constructor(
    socket: Socket,
    { direction, local, remote }: PipeEnds,
    after: (delayMs: number, fn: () => void) => { cancel(): void },
  ) {
    this.#socket = socket;
    this.#after = after;
    this.direction = direction;
    this.local = local;
    this.remote = remote;
    socket.setNoDelay(true);
    socket.pause();
    socket.on("data", (bytes: Buffer) => this.#onData(bytes));
    // A listener for data starts the flow.
    socket.pause();
    socket.on("drain", () => this.#onDrain());
    socket.on("end", () => this.#onEnd());
    socket.on("error", (error: Error) => this.#onClosed(error));
    socket.on("close", () => this.#onClosed(undefined));
    if (socket.destroyed) this.#onClosed(undefined);
  }

  get bufferedBytes(): number {
    return this.#isClosed ? 0 : this.#socket.writableLength;
  }

  open(handlers: PipeHandlers): void {
    this.#handlers = handlers;
    this.#deliverEarly();
    if (this.#isClosed) queueMicrotask(() => handlers.closed(this.#error));
    else if (!this.#isPaused) this.#socket.resume();
  }

  write(bytes: Uint8Array): boolean {
    if (this.#isClosed || this.#isClosing) return true;
    // The socket keeps what it is handed, and the caller wants it back.
    this.#socket.write(Buffer.from(bytes));
    if (this.#socket.writableLength > HIGH_WATER_BYTES) this.#isFull = true;
    return !this.#isFull;
  }

  pause(paused: boolean): void {
    this.#isPaused = paused;
    if (this.#isClosed || this.#isClosing) return;
    if (paused) this.#socket.pause();
    else {
      this.#deliverEarly();
      if (this.#handlers !== undefined && this.#early.length === 0) this.#socket.resume();
    }
  }

  close(): void {
    if (this.#isClosed || this.#isClosing) return;
    this.#isClosing = true;
    // Tor may not take what waits, and the far end may never answer: nobody waits for either.
    this.#flushTimer = this.#after(FLUSH_ON_CLOSE_MS, () => this.#socket.destroy());
    this.#socket.end();
    // A paused socket would not hear that the far end closed as well.
    this.#socket.resume();
    this.#finish(undefined);
  }

  /** At once, without what still waits. */
  destroy(): void {
    this.#socket.destroy();
    this.#onClosed(undefined);
  }

  #onData(bytes: Buffer): void {
    if (this.#isClosing) return;
    if (this.#handlers !== undefined && !this.#isPaused && this.#early.length === 0)
      return this.#handlers.data(bytes);
    this.#early.push(Uint8Array.from(bytes));
    this.#socket.pause();
  }

  #deliverEarly(): void {
    while (this.#early.length > 0 && this.#handlers !== undefined && !this.#isPaused && !this.#isClosing)
      this.#handlers.data(this.#early.shift()!);
  }

  #onDrain(): void {
    if (!this.#isFull || this.#isClosing || this.#isClosed) return;
    this.#isFull = false;
    this.#handlers?.drain();
  }

  /** The far end will send nothing more, and a link of one direction is none. */
  #onEnd(): void {
    this.#socket.end();
    this.#finish(undefined);
  }

  #onClosed(error: Error | undefined): void {
    this.#flushTimer?.cancel();
    this.#finish(error);
  }

  #finish(error: Error | undefined): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#error = error;
    const handlers = this.#handlers;
    if (handlers !== undefined) queueMicrotask(() => handlers.closed(error));
  }
}
