/** A TCP connection as a Pipe: what the kernel does not take at once waits here, up to a high-water mark. */
import type { Socket } from "bun";
import { formatEndpoint } from "../endpoint.ts";
import type { Pipe, PipeDirection, PipeHandlers } from "../pipe.ts";

/** `write` answers false above this many bytes waiting. */
const HIGH_WATER_BYTES = 512 * 1024;
/** Assumed until measured: a local network. */
const RATE_BITS_PER_SECOND = 1_000_000_000;
const KEEPALIVE_MS = 60_000;
const FLUSH_ON_CLOSE_MS = 1_000;

export class TcpPipe implements Pipe {
  readonly kind = "stream";
  readonly linkClass = "fast";
  readonly rateBitsPerSecond = RATE_BITS_PER_SECOND;
  readonly mtu = 0;
  readonly direction: PipeDirection;
  readonly local: string;
  readonly remote: string;
  readonly #socket: Socket<SocketState>;
  readonly #owner: PipeOwner;
  /** Without zone, IPv4 in its own form. */
  readonly localAddress: string;
  #handlers: PipeHandlers | undefined;
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #isFull = false;
  #isClosing = false;
  #isClosed = false;
  #error: Error | undefined;
  #flushTimer: { cancel(): void } | undefined;

  constructor(socket: Socket<SocketState>, direction: PipeDirection, scheme: string, owner: PipeOwner) {
    this.#socket = socket;
    this.#owner = owner;
    this.direction = direction;
    this.localAddress = plainAddress(socket.localAddress);
    this.local = formatEndpoint(scheme, this.localAddress, socket.localPort);
    this.remote = formatEndpoint(scheme, plainAddress(socket.remoteAddress), socket.remotePort);
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEPALIVE_MS);
    // Nothing is read before somebody listens; the kernel's buffer bounds what arrives until then.
    socket.pause();
  }

  get bufferedBytes(): number {
    return this.#waitingBytes;
  }

  open(handlers: PipeHandlers): void {
    this.#handlers = handlers;
    if (this.#isClosed) queueMicrotask(() => handlers.closed(this.#error));
    else this.#socket.resume();
  }

  write(bytes: Uint8Array): boolean {
    if (this.#isClosed || this.#isClosing) return true;
    let sent = 0;
    if (this.#waiting.length === 0) {
      sent = Math.max(0, this.#socket.write(bytes));
      if (sent === bytes.length) return true;
    }
    const rest = bytes.slice(sent);
    this.#waiting.push(rest);
    this.#waitingBytes += rest.length;
    // Only a drain ends it: whoever was told to stop waits for one, whatever is written meanwhile.
    if (this.#waitingBytes > HIGH_WATER_BYTES) this.#isFull = true;
    return !this.#isFull;
  }

  pause(paused: boolean): void {
    if (this.#isClosed) return;
    if (paused) this.#socket.pause();
    else this.#socket.resume();
  }

  proven(): void {
    this.#owner.onProven();
  }

  /** Ends it without a word to the far end. */
  cut(error: Error): void {
    this.onClosed(error);
    this.#socket.terminate();
  }

  close(): void {
    if (this.#isClosed || this.#isClosing) return;
    this.#isClosing = true;
    // A far end that is frozen or gone never answers our FIN: nobody waits for it, and its socket goes all the same.
    this.#flushTimer = this.#owner.after(FLUSH_ON_CLOSE_MS, () => this.#socket.terminate());
    // A paused socket would not hear that the far end closed as well.
    this.#socket.resume();
    if (this.#waiting.length === 0) this.#socket.end();
    this.#finish(undefined);
  }

  /** The socket has bytes. Borrowed. */
  onData(bytes: Uint8Array): void {
    if (!this.#isClosing) this.#handlers?.data(bytes);
  }

  /** The kernel takes bytes again. */
  onDrain(): void {
    while (this.#waiting.length > 0) {
      const head = this.#waiting[0]!;
      const sent = Math.max(0, this.#socket.write(head));
      this.#waitingBytes -= sent;
      if (sent < head.length) {
        this.#waiting[0] = head.subarray(sent);
        break;
      }
      this.#waiting.shift();
    }
    if (this.#isClosing) {
      if (this.#waiting.length === 0) this.#socket.end();
      return;
    }
    if (this.#isFull && this.#waitingBytes < HIGH_WATER_BYTES / 2) {
      this.#isFull = false;
      this.#handlers?.drain();
    }
  }

  onClosed(error?: Error): void {
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#flushTimer?.cancel();
    this.#finish(error);
  }

  #finish(error: Error | undefined): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#error = error;
    this.#owner.onProven();
    this.#owner.onGone();
    const handlers = this.#handlers;
    if (handlers !== undefined) queueMicrotask(() => handlers.closed(error));
  }
}

/** What a pipe's transport lends it and wants to know. */
export interface PipeOwner {
  after(delayMs: number, fn: () => void): { cancel(): void };
  /** The far end has proven itself, or the pipe is over: idempotent at the owner's. */
  onProven(): void;
  onGone(): void;
}

/** A socket of both families shows IPv4 as IPv6 and link-local addresses with their zone. */
const plainAddress = (address: string): string =>
  address.replace(/^::ffff:(?=\d+\.)/i, "").replace(/%.*$/, "");

export interface SocketState {
  pipe: TcpPipe | undefined;
  onOpen(socket: Socket<SocketState>): void;
  /** It went before it was a pipe. */
  onLost?(error: Error | undefined): void;
}
