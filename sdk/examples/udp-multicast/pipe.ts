/** One connection over the group, as a datagram pipe. */
import type { Pipe, PipeDirection, PipeHandlers } from "@godwit/sdk";
import { MTU } from "./wire.ts";

/** Kept while nobody has opened the pipe; more is dropped, as any datagram may be. */
const EARLY_MAX = 16;

export interface GroupPipeOptions {
  readonly direction: PipeDirection;
  readonly local: string;
  readonly remote: string;
  /** Borrowed until it returns. */
  send(bytes: Uint8Array): void;
  onClosed(): void;
}

export class GroupPipe implements Pipe {
  readonly kind = "datagram";
  readonly linkClass = "fast";
  /** Wireless networks send to groups at their slowest rate. */
  readonly rateBitsPerSecond = 1_000_000;
  readonly mtu = MTU;
  readonly bufferedBytes = 0;
  readonly direction: PipeDirection;
  readonly local: string;
  readonly remote: string;
  readonly #options: GroupPipeOptions;
  readonly #early: Uint8Array[] = [];
  #handlers: PipeHandlers | undefined;
  #isClosed = false;

  constructor(options: GroupPipeOptions) {
    this.#options = options;
    this.direction = options.direction;
    this.local = options.local;
    this.remote = options.remote;
  }

  open(handlers: PipeHandlers): void {
    this.#handlers = handlers;
    queueMicrotask(() => {
      if (this.#isClosed) return handlers.closed();
      for (const bytes of this.#early.splice(0)) if (!this.#isClosed) handlers.data(bytes);
    });
  }

  write(bytes: Uint8Array): boolean {
    if (!this.#isClosed && bytes.length > 0 && bytes.length <= MTU) this.#options.send(bytes);
    return true;
  }

  pause(): void {}

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#early.length = 0;
    this.#options.onClosed();
    const handlers = this.#handlers;
    if (handlers !== undefined) queueMicrotask(() => handlers.closed());
  }

  /** From the group, borrowed. */
  receive(bytes: Uint8Array): void {
    if (this.#isClosed) return;
    if (this.#handlers !== undefined) this.#handlers.data(bytes);
    else if (this.#early.length < EARLY_MAX) this.#early.push(new Uint8Array(bytes));
  }
}
