/**
 * A socket that has become a WebSocket, at either end: frames out as far as the kernel takes them, frames in to the pipe, pings
 * answered, closing as RFC 6455 wants it. Owns what waits for the kernel, which the pipe bounds; knows nothing of how it came to be.
 */
import type { Clock, PipeDirection } from "@godwit/sdk";
import { encodeFrame, FRAME_HEAD_BYTES_MAX, FrameReader, Opcode } from "./frames.ts";
import { MESSAGE_BYTES_MAX, WebSocketPipe, type Wire } from "./pipe.ts";

/** Code 1000, a normal close. */
const CLOSE = Uint8Array.of(0x03, 0xe8);

/** Where frames are made: the kernel takes most of them within the call, and only what it does not take is copied. */
const frameSpace = new ArrayBuffer(MESSAGE_BYTES_MAX + FRAME_HEAD_BYTES_MAX);

/** What of a connection, with TLS or without, is needed here. */
export interface ByteSocket {
  /** How many of the first bytes it took; below 0 where it is closed. Borrowed until it returns. */
  write(bytes: Uint8Array): number;
  pause(): void;
  resume(): void;
  end(): void;
  terminate(): void;
}

export interface WebSocketOptions {
  /** 4 fresh random bytes for each frame of a client. Undefined: this end is the server. */
  readonly nextMask: (() => Uint8Array) | undefined;
  /** Once, as soon as nothing more comes or goes. */
  onGone?(): void;
}

/** Its owner passes on what the socket says: `onData`, `onDrain`, `onGone`. */
export class OpenWebSocket implements Wire {
  readonly #socket: ByteSocket;
  readonly #options: WebSocketOptions;
  readonly #frames: FrameReader;
  #pipe: WebSocketPipe | undefined;
  /** Framed, and not taken by the kernel. */
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  /** What the last ping that is not answered yet said. */
  #ping: Uint8Array | undefined;
  #isClosing = false;
  #isGone = false;

  constructor(socket: ByteSocket, options: WebSocketOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#frames = new FrameReader(options.nextMask === undefined ? "client" : "server", {
      data: (bytes) => this.#pipe?.onData(bytes),
      control: (opcode, payload) => this.#onControl(opcode, payload),
    });
  }

  /** Once, when both ends have agreed: from here on frames are read. */
  open(
    ends: { readonly direction: PipeDirection; readonly local: string; readonly remote: string },
    clock: Clock,
    watch?: { onProven?(): void; onOver?(): void },
  ): WebSocketPipe {
    this.#pipe = new WebSocketPipe(this, ends, clock, watch);
    return this.#pipe;
  }

  get pipe(): WebSocketPipe | undefined {
    return this.#pipe;
  }

  get isGone(): boolean {
    return this.#isGone;
  }

  get bufferedBytes(): number {
    return this.#waitingBytes;
  }

  send(bytes: Uint8Array): void {
    this.#frame(Opcode.binary, bytes);
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** The far end answers with a close of its own, and then the connection goes. */
  close(): void {
    if (this.#isClosing) return;
    this.#isClosing = true;
    this.#frame(Opcode.close, CLOSE);
  }

  terminate(): void {
    this.#socket.terminate();
    this.onGone();
  }

  /** Frames; owned: they are unmasked in place. */
  onData(bytes: Uint8Array): void {
    if (this.#isGone) return;
    if (this.#frames.push(bytes)) this.#answerPing();
    else this.terminate();
  }

  onDrain(): void {
    while (this.#waiting.length > 0) {
      const head = this.#waiting[0]!;
      const sent = Math.max(0, this.#socket.write(head));
      this.#waitingBytes -= sent;
      if (sent < head.length) {
        this.#waiting[0] = head.subarray(sent);
        return;
      }
      this.#waiting.shift();
    }
    this.#answerPing();
    this.#pipe?.onDrain();
  }

  onGone(): void {
    if (this.#isGone) return;
    this.#isGone = true;
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#options.onGone?.();
    this.#pipe?.onGone();
  }

  /** As it stands: what comes before the frames. Borrowed. */
  write(bytes: Uint8Array): void {
    if (this.#isGone) return;
    const sent = this.#waiting.length === 0 ? Math.max(0, this.#socket.write(bytes)) : 0;
    if (sent === bytes.length) return;
    // Not `slice`, which lends the caller's own bytes when they are a Buffer.
    this.#waiting.push(new Uint8Array(bytes.subarray(sent)));
    this.#waitingBytes += bytes.length - sent;
  }

  #onControl(opcode: number, payload: Uint8Array): void {
    if (opcode === Opcode.ping) this.#ping = payload.slice();
    if (opcode !== Opcode.close) return;
    if (!this.#isClosing) {
      this.#isClosing = true;
      this.#frame(Opcode.close, payload.subarray(0, 2));
    }
    this.#socket.end();
    this.#pipe?.onEnd();
  }

  /** Of several that came together only the last (RFC 6455 section 5.5.3): six bytes must not buy a write each, nor be held unread. */
  #answerPing(): void {
    if (this.#ping === undefined || this.#waiting.length > 0 || this.#isClosing) return;
    const payload = this.#ping;
    this.#ping = undefined;
    this.#frame(Opcode.pong, payload);
  }

  #frame(opcode: number, payload: Uint8Array): void {
    this.write(encodeFrame(opcode, payload, this.#options.nextMask?.(), frameSpace));
  }
}
