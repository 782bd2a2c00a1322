/** The medium of transport.memory: named listeners and pairs of pipes with bounded buffers. */
import { GodwitError, type Pipe, type PipeDirection, type PipeHandlers } from "@godwit/sdk";

const HIGH_WATER_BYTES = 1024 * 1024;
const RATE_BITS_PER_SECOND = 10_000_000_000;

/** What stands behind `memory://`. */
export const NAME = /^[a-z0-9-]{1,64}$/;

export class MemoryNetwork {
  readonly #listeners = new Map<string, (pipe: Pipe) => void>();

  /** Answers a function that stops listening. Throws when the name is taken. */
  listen(name: string, accept: (pipe: Pipe) => void): () => void {
    if (this.#listeners.has(name)) {
      throw new GodwitError("GODWIT_LISTEN_FAILED", `memory://${name} is taken; choose another name`, {
        kind: "transport",
      });
    }
    this.#listeners.set(name, accept);
    return () => void this.#listeners.delete(name);
  }

  dial(name: string, from: string): Pipe {
    if (!NAME.test(name)) {
      const expected = "memory:// and 1 to 64 lower-case letters, digits and hyphens";
      throw new GodwitError("GODWIT_ENDPOINT_INVALID", `"memory://${name}" is not ${expected}`, {
        kind: "config",
      });
    }
    const accept = this.#listeners.get(name);
    if (accept === undefined) {
      throw new GodwitError("GODWIT_DIAL_FAILED", `nothing listens on memory://${name}`, {
        kind: "transport",
        retry: "later",
      });
    }
    const near = new MemoryPipe("outbound", `memory://${from}`, `memory://${name}`);
    const far = new MemoryPipe("inbound", `memory://${name}`, `memory://${from}`);
    near.join(far);
    far.join(near);
    accept(far);
    return near;
  }
}

class MemoryPipe implements Pipe {
  readonly kind = "stream";
  readonly linkClass = "fast";
  readonly rateBitsPerSecond = RATE_BITS_PER_SECOND;
  readonly mtu = 0;
  readonly direction: PipeDirection;
  readonly local: string;
  readonly remote: string;
  #far: MemoryPipe | undefined;
  #handlers: PipeHandlers | undefined;
  /** Written by the far end, not yet read here. */
  #incoming: Uint8Array[] = [];
  #incomingBytes = 0;
  #isPaused = false;
  #isScheduled = false;
  #isFarFull = false;
  #isFarClosed = false;
  #isClosed = false;

  constructor(direction: PipeDirection, local: string, remote: string) {
    this.direction = direction;
    this.local = local;
    this.remote = remote;
  }

  get bufferedBytes(): number {
    return this.#far?.unreadBytes ?? 0;
  }

  get unreadBytes(): number {
    return this.#incomingBytes;
  }

  join(far: MemoryPipe): void {
    this.#far = far;
  }

  open(handlers: PipeHandlers): void {
    this.#handlers = handlers;
    if (this.#isClosed) queueMicrotask(() => handlers.closed());
    else this.#schedule();
  }

  write(bytes: Uint8Array): boolean {
    const far = this.#far;
    if (this.#isClosed || far === undefined) return true;
    far.#incoming.push(bytes.slice());
    far.#incomingBytes += bytes.length;
    far.#schedule();
    const hasRoom = far.#incomingBytes < HIGH_WATER_BYTES;
    if (!hasRoom) this.#isFarFull = true;
    return hasRoom;
  }

  pause(paused: boolean): void {
    this.#isPaused = paused;
    if (!paused) this.#schedule();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const far = this.#far;
    if (far !== undefined) {
      far.#isFarClosed = true;
      far.#schedule();
    }
    queueMicrotask(() => this.#handlers?.closed());
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    queueMicrotask(() => {
      this.#isScheduled = false;
      this.#deliver();
    });
  }

  #deliver(): void {
    const handlers = this.#handlers;
    if (handlers === undefined || this.#isClosed) return;
    while (!this.#isPaused && this.#incoming.length > 0 && !this.#isClosed) {
      const bytes = this.#incoming.shift()!;
      this.#incomingBytes -= bytes.length;
      handlers.data(bytes);
    }
    const far = this.#far;
    if (far !== undefined && !far.#isClosed && far.#isFarFull && this.#incomingBytes < HIGH_WATER_BYTES / 2) {
      far.#isFarFull = false;
      far.#handlers?.drain();
    }
    if (this.#isFarClosed && this.#incoming.length === 0 && !this.#isClosed) {
      this.#isClosed = true;
      handlers.closed();
    }
  }
}
