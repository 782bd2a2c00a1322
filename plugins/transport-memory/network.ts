/** The medium of transport.memory: named listeners and pairs of pipes with bounded buffers. */
import { GodwitError, type Pipe, type PipeDirection, StreamPipe } from "@godwit/sdk";

/** `write` answers false from 1 MiB unread on. */
const HIGH_WATER_BYTES = 1024 * 1024 - 1;
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
    const [out, back] = [new Way(), new Way()];
    const near = openEnd("outbound", { local: `memory://${from}`, remote: `memory://${name}` }, out, back);
    const far = openEnd("inbound", { local: `memory://${name}`, remote: `memory://${from}` }, back, out);
    out.join(near, far);
    back.join(far, near);
    accept(far);
    return near;
  }
}

function openEnd(
  direction: PipeDirection,
  ends: { readonly local: string; readonly remote: string },
  out: Way,
  into: Way,
): StreamPipe {
  const leave = () => {
    out.end();
    into.drop();
  };
  const pipe: StreamPipe = new StreamPipe(
    {
      write: (bytes) => out.push(bytes),
      get bufferedBytes() {
        return out.bytes;
      },
      pause: () => into.run(false),
      resume: () => into.run(true),
      shut() {
        leave();
        pipe.onGone();
      },
      destroy: leave,
    },
    { direction, ...ends, linkClass: "fast", rateBitsPerSecond: RATE_BITS_PER_SECOND },
    { highWaterBytes: HIGH_WATER_BYTES },
  );
  return pipe;
}

/** One of the two ways between a pair: written here, not yet read there. Handed over in a turn of its own, as a medium does. */
class Way {
  #writer: StreamPipe | undefined;
  #reader: StreamPipe | undefined;
  #pieces: Uint8Array[] = [];
  bytes = 0;
  #isRunning = false;
  #isScheduled = false;
  #isEnded = false;
  #isDropped = false;

  join(writer: StreamPipe, reader: StreamPipe): void {
    this.#writer = writer;
    this.#reader = reader;
  }

  /** Takes all, copied. */
  push(bytes: Uint8Array): number {
    if (this.#isDropped) return bytes.length;
    this.#pieces.push(new Uint8Array(bytes));
    this.bytes += bytes.length;
    this.#schedule();
    return bytes.length;
  }

  run(isRunning: boolean): void {
    this.#isRunning = isRunning;
    if (isRunning) this.#schedule();
  }

  /** What was written before still arrives. */
  end(): void {
    this.#isEnded = true;
    this.#schedule();
  }

  /** Nobody reads any more. */
  drop(): void {
    this.#isDropped = true;
    this.#pieces = [];
    this.bytes = 0;
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
    const before = this.bytes;
    while (this.#isRunning && this.#pieces.length > 0) {
      const bytes = this.#pieces.shift()!;
      this.bytes -= bytes.length;
      this.#reader?.onData(bytes);
    }
    if (this.bytes < before) this.#writer?.onDrain();
    if (this.#isEnded && this.#pieces.length === 0) this.#reader?.onGone();
  }
}
