/**
 * A WebSocket as a stream Pipe: binary messages are the bytes, their borders mean nothing. What the socket has not handed
 * to the kernel yet counts as buffered; above the mark nothing more is given to it.
 */
import type { Clock, Pipe, PipeDirection, PipeHandlers, Timer } from "@godwit/sdk";

/** `write` answers false above this many bytes waiting. */
const HIGH_WATER_BYTES = 512 * 1024;
/** Given to the socket at once; the rest waits here, so that closing can tell what has left. */
const SOCKET_BYTES_MAX = 256 * 1024;
/** Messages this long at most, so that no far end has to hold more. */
export const MESSAGE_BYTES_MAX = 64 * 1024;
/** Kept while nobody has opened the pipe: what a socket still delivers after it was paused. */
const EARLY_BYTES_MAX = 4 * 1024 * 1024;
const RATE_BITS_PER_SECOND = 1_000_000_000;
const FLUSH_ON_CLOSE_MS = 1_000;
/** A socket that does not tell when it has drained is asked. */
const DRAIN_POLL_MS = 2;

/** Either end's socket. */
export interface Wire {
  /** Copied before it returns. */
  send(bytes: Uint8Array): void;
  readonly bufferedBytes: number;
  pause(): void;
  resume(): void;
  close(): void;
  terminate(): void;
}

export class WebSocketPipe implements Pipe {
  readonly kind = "stream";
  readonly linkClass = "fast";
  readonly rateBitsPerSecond = RATE_BITS_PER_SECOND;
  readonly mtu = 0;
  readonly direction: PipeDirection;
  readonly local: string;
  readonly remote: string;
  readonly #wire: Wire;
  readonly #clock: Clock;
  readonly #onProven: () => void;
  #handlers: PipeHandlers | undefined;
  #early: Uint8Array[] = [];
  #earlyBytes = 0;
  #isPaused = true;
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #isFull = false;
  #isClosing = false;
  #isClosed = false;
  #error: Error | undefined;
  #poll: Timer | undefined;
  #flush: Timer | undefined;

  /** `onProven` is called when the far end has proven itself or the pipe is over, maybe more than once. */
  constructor(
    wire: Wire,
    ends: { readonly direction: PipeDirection; readonly local: string; readonly remote: string },
    clock: Clock,
    onProven: () => void,
  ) {
    this.#wire = wire;
    this.direction = ends.direction;
    this.local = ends.local;
    this.remote = ends.remote;
    this.#clock = clock;
    this.#onProven = onProven;
    wire.pause();
  }

  get bufferedBytes(): number {
    return this.#isClosed ? 0 : this.#waitingBytes + this.#wire.bufferedBytes;
  }

  open(handlers: PipeHandlers): void {
    this.#handlers = handlers;
    if (this.#isClosed && this.#early.length === 0) return queueMicrotask(() => handlers.closed(this.#error));
    queueMicrotask(() => this.pause(false));
  }

  write(bytes: Uint8Array): boolean {
    if (this.#isClosed || this.#isClosing) return true;
    for (let at = 0; at < bytes.length; at += MESSAGE_BYTES_MAX) {
      const piece = bytes.subarray(at, at + MESSAGE_BYTES_MAX);
      if (this.#waiting.length === 0 && this.#wire.bufferedBytes < SOCKET_BYTES_MAX) this.#wire.send(piece);
      else {
        this.#waiting.push(new Uint8Array(piece));
        this.#waitingBytes += piece.length;
      }
    }
    if (this.#waiting.length > 0) this.#schedulePoll();
    this.#isFull ||= this.#waitingBytes > HIGH_WATER_BYTES;
    return !this.#isFull;
  }

  pause(isPaused: boolean): void {
    this.#isPaused = isPaused;
    if (isPaused) {
      if (!this.#isClosed) this.#wire.pause();
      return;
    }
    while (this.#early.length > 0 && !this.#isPaused && !this.#isClosing) {
      const bytes = this.#early.shift()!;
      this.#earlyBytes -= bytes.length;
      this.#handlers?.data(bytes);
    }
    if (this.#isPaused) return;
    if (!this.#isClosed) this.#wire.resume();
    else this.#report();
  }

  proven(): void {
    this.#onProven();
  }

  close(): void {
    if (this.#isClosed || this.#isClosing) return;
    this.#isClosing = true;
    this.#early.length = 0;
    this.#flush = this.#clock.after(FLUSH_ON_CLOSE_MS, () => this.#wire.terminate());
    // A paused socket would not hear that the far end closed as well.
    this.#wire.resume();
    if (this.#waiting.length === 0) this.#wire.close();
    this.#finish(undefined);
  }

  /** From the socket. Borrowed. */
  onData(bytes: Uint8Array): void {
    if (this.#isClosing || this.#isClosed) return;
    if (this.#handlers !== undefined && !this.#isPaused && this.#early.length === 0)
      return this.#handlers.data(bytes);
    this.#early.push(new Uint8Array(bytes));
    this.#earlyBytes += bytes.length;
    if (this.#earlyBytes > EARLY_BYTES_MAX) {
      this.#wire.terminate();
      this.onClosed(new Error("the far end sent more than anybody read"));
    }
  }

  /** The socket has handed bytes to the kernel. */
  onDrain(): void {
    while (this.#waiting.length > 0 && this.#wire.bufferedBytes < SOCKET_BYTES_MAX) {
      const piece = this.#waiting.shift()!;
      this.#waitingBytes -= piece.length;
      this.#wire.send(piece);
    }
    if (this.#waiting.length > 0) return this.#schedulePoll();
    if (this.#isClosing) return this.#wire.close();
    if (!this.#isFull) return;
    this.#isFull = false;
    this.#handlers?.drain();
  }

  onClosed(error?: Error): void {
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#flush?.cancel();
    this.#poll?.cancel();
    this.#finish(error);
  }

  #schedulePoll(): void {
    this.#poll ??= this.#clock.after(DRAIN_POLL_MS, () => {
      this.#poll = undefined;
      this.onDrain();
    });
  }

  #finish(error: Error | undefined): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#error = error;
    this.#onProven();
    // What came before the end is read before it.
    if (this.#early.length === 0) this.#report();
  }

  #report(): void {
    const handlers = this.#handlers;
    if (handlers === undefined || this.#isReported) return;
    this.#isReported = true;
    queueMicrotask(() => handlers.closed(this.#error));
  }

  #isReported = false;
}
