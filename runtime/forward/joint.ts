/**
 * A TCP connection and a stream joined: bytes, ends and resets of each become those of the other. Holds one write of
 * the socket's at most beyond what socket and stream hold themselves.
 */
import type { Socket } from "bun";
import type { Place } from "@godwit/sdk/places";
import type { ByteStream } from "../stream/byte-stream.ts";

export interface JointCounts {
  bytesSent: number;
  bytesReceived: number;
}

/** What a socket of ours carries; the handlers below find their joint through it. */
export interface JointState {
  joint: Joint | undefined;
  /** Of one that came to a port of ours. */
  place?: Place;
}

export class Joint {
  readonly #socket: Socket<JointState>;
  readonly #counts: JointCounts;
  readonly #onClosed: (error: Error | undefined) => void;
  #stream: ByteStream | undefined;
  #waiting: Uint8Array[] = [];
  #isFarEnded = false;
  #isClosed = false;

  /** The socket is paused until `join`. */
  constructor(socket: Socket<JointState>, counts: JointCounts, onClosed: (error: Error | undefined) => void) {
    this.#socket = socket;
    this.#counts = counts;
    this.#onClosed = onClosed;
    socket.data.joint = this;
    socket.setNoDelay(true);
    socket.pause();
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  join(stream: ByteStream): void {
    if (this.#isClosed) return stream.reset();
    this.#stream = stream;
    stream.open({
      data: (bytes) => this.#toSocket(bytes),
      end: () => {
        this.#isFarEnded = true;
        if (this.#waiting.length === 0) this.#socket.shutdown();
      },
      drain: () => this.#socket.resume(),
      closed: (error) => this.#onStreamClosed(error),
    });
    this.#socket.resume();
  }

  /** There will be no stream: the peer sees its connection reset. */
  abort(error: Error | undefined): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#stream?.reset();
    this.#socket.terminate();
    this.#onClosed(error);
  }

  onData(bytes: Uint8Array): void {
    this.#counts.bytesSent += bytes.length;
    this.#socket.data.place?.stand("engaged");
    if (this.#stream?.write(bytes) === false) this.#socket.pause();
  }

  /** The peer has written everything. */
  onEnd(): void {
    this.#stream?.end();
  }

  onDrain(): void {
    while (this.#waiting.length > 0) {
      const head = this.#waiting[0]!;
      const sent = Math.max(0, this.#socket.write(head));
      if (sent < head.length) {
        this.#waiting[0] = head.subarray(sent);
        return;
      }
      this.#waiting.shift();
    }
    if (this.#isFarEnded) this.#socket.shutdown();
    this.#stream?.pause(false);
  }

  onSocketClosed(error: Error | undefined): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#waiting = [];
    this.#stream?.reset(undefined, "the connection was reset");
    this.#onClosed(error);
  }

  #toSocket(bytes: Uint8Array): void {
    this.#counts.bytesReceived += bytes.length;
    if (this.#waiting.length > 0) {
      this.#waiting.push(bytes);
      return;
    }
    const sent = Math.max(0, this.#socket.write(bytes));
    if (sent === bytes.length) return;
    this.#waiting.push(bytes.subarray(sent));
    this.#stream!.pause(true);
  }

  #onStreamClosed(error: Error | undefined): void {
    if (this.#isClosed) return;
    if (error !== undefined) return this.abort(error);
    // Both ends have finished; the socket's own end comes when its last bytes are out.
    if (this.#waiting.length === 0) this.#socket.end();
  }
}

/** The same for both kinds of socket: ours that listen and ours that connect. */
export const jointHandlers = {
  data: (socket: Socket<JointState>, bytes: Uint8Array) => socket.data.joint?.onData(bytes),
  drain: (socket: Socket<JointState>) => socket.data.joint?.onDrain(),
  end: (socket: Socket<JointState>) => socket.data.joint?.onEnd(),
  close: (socket: Socket<JointState>, error?: Error) => socket.data.joint?.onSocketClosed(error),
  error: (socket: Socket<JointState>, error: Error) => socket.data.joint?.onSocketClosed(error),
};
