/** Two ends of a stream in memory: what one writes the other gets, in order, one turn later. */
import { GodwitError, type IncomingMeshStream, type MeshStreamHandlers } from "../src/index.ts";

/** More than this unread, and `write` says to wait. */
const WINDOW_BYTES = 64 * 1024;

export class FakeStream implements IncomingMeshStream {
  readonly remote: string;
  readonly service: string;
  readonly metadata: Uint8Array;
  isAccepted = false;
  isClosed = false;
  far: FakeStream | undefined;
  #handlers: MeshStreamHandlers | undefined;
  readonly #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #isFarEnded = false;
  #isEndTold = false;
  #isEnded = false;
  #isPaused = false;
  #owesDrain = false;
  #onDecided: (() => void) | undefined;

  constructor(remote: string, service: string, metadata: Uint8Array) {
    this.remote = remote;
    this.service = service;
    this.metadata = metadata;
  }

  /** Bytes written here that nobody has read at the far end. */
  get unreadAtFarEnd(): number {
    return this.far === undefined || this.isClosed ? 0 : this.far.#waitingBytes;
  }

  /** Resolves once the handler has accepted it. Rejects with GODWIT_STREAM_REFUSED. */
  decided(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const settle = () => {
      if (this.isAccepted) resolve();
      else if (this.isClosed) reject(gone("GODWIT_STREAM_REFUSED", "the far node did not take the stream"));
    };
    this.#onDecided = settle;
    settle();
    return promise;
  }

  accept(): void {
    if (this.isClosed) return;
    this.isAccepted = true;
    this.#onDecided?.();
  }

  open(handlers: MeshStreamHandlers): void {
    this.#handlers = handlers;
    this.#deliver();
  }

  write(bytes: Uint8Array): boolean {
    const { far } = this;
    if (this.isClosed || this.#isEnded || far === undefined || bytes.length === 0) return true;
    far.#waiting.push(new Uint8Array(bytes));
    far.#waitingBytes += bytes.length;
    far.#deliver();
    this.#owesDrain ||= far.#waitingBytes > WINDOW_BYTES;
    return !this.#owesDrain;
  }

  end(): void {
    if (this.isClosed || this.#isEnded) return;
    this.#isEnded = true;
    if (this.far !== undefined) this.far.#isFarEnded = true;
    if (this.far !== undefined) this.far.#deliver();
  }

  pause(paused: boolean): void {
    this.#isPaused = paused;
    this.#deliver();
  }

  reset(): void {
    this.#close(gone("GODWIT_STREAM_RESET", "the stream was given up here"));
    if (this.far !== undefined)
      this.far.#close(gone("GODWIT_STREAM_RESET", "the far end gave the stream up"));
  }

  #deliver(): void {
    queueMicrotask(() => {
      if (this.#handlers === undefined || this.#isPaused || this.isClosed) return;
      for (let bytes = this.#waiting.shift(); bytes !== undefined; bytes = this.#waiting.shift()) {
        this.#waitingBytes -= bytes.length;
        this.#handlers.data(bytes);
        if (this.#isPaused) return;
      }
      if (this.far !== undefined) this.far.#drain();
      if (this.#isFarEnded && !this.#isEndTold) {
        this.#isEndTold = true;
        this.#handlers.end();
      }
      this.#settle();
      if (this.far !== undefined) this.far.#settle();
    });
  }

  #drain(): void {
    if (!this.#owesDrain || this.isClosed) return;
    this.#owesDrain = false;
    this.#handlers?.drain();
  }

  #settle(): void {
    const isOver = this.#isEndTold && this.#isEnded && this.far !== undefined && this.far.#isEndTold;
    if (isOver) this.#close(undefined);
  }

  #close(error: GodwitError | undefined): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.#waiting.length = 0;
    this.#onDecided?.();
    queueMicrotask(() => this.#handlers?.closed(error));
  }
}

const gone = (code: string, message: string) => new GodwitError(code, message, { kind: "transport" });

/** The opener's end and the handler's. */
export function fakeStreamPair(
  ends: { readonly opener: string; readonly handler: string },
  service: string,
  metadata: Uint8Array = new Uint8Array(0),
): { near: FakeStream; far: FakeStream } {
  const near = new FakeStream(ends.handler, service, metadata);
  const far = new FakeStream(ends.opener, service, metadata);
  near.far = far;
  far.far = near;
  return { near, far };
}
