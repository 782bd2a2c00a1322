/**
 * One subscriber of `GET /events`: the node's events as server-sent events (WHATWG HTML, section 9.2), with heartbeats.
 * Pull-driven, so a slow reader fills its own bounded queue and nothing else; what falls out of it is counted and told.
 */
import { type Clock, isoTime, type Timer } from "../kernel/clock.ts";
import { BoundedQueue } from "../kernel/queue.ts";
import type { NodeEvent, NodeView } from "../view/contract/node.ts";

export const HEARTBEAT_MS = 6_000;
export const EVENTS_QUEUED_MAX = 1_024;
export const EVENTS_QUEUED_BYTES_MAX = 1024 * 1024;
/** Bytes handed to the server in one piece. */
const CHUNK_BYTES_MAX = 64 * 1024;
/** What a browser's EventSource waits before it connects again, in ms. */
const RECONNECT_MS = 2_000;

export interface EventStreamOptions {
  readonly view: Pick<NodeView, "subscribe">;
  readonly clock: Clock;
  /** Ends the stream: the node stops. */
  readonly signal: AbortSignal;
  readonly wants: (event: NodeEvent) => boolean;
  /** Exactly once, however the stream ends. */
  readonly onClosed: () => void;
}

export function openEventStream(options: EventStreamOptions): ReadableStream<Uint8Array> {
  const subscriber = new Subscriber(options);
  return new ReadableStream<Uint8Array>(
    {
      start: (controller) => subscriber.start(controller),
      pull: () => subscriber.pull(),
      cancel: () => subscriber.close(),
    },
    { highWaterMark: 0 },
  );
}

const encoder = new TextEncoder();

class Subscriber {
  readonly #options: EventStreamOptions;
  readonly #queue: BoundedQueue<Uint8Array>;
  #controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  #subscription: { close(): void } | undefined;
  #heartbeat: Timer | undefined;
  /** Set while the reader waits for bytes: it has taken everything so far. */
  #wake: (() => void) | undefined;
  #lost = 0;
  #isClosed = false;
  readonly #onAbort = () => this.#end();

  constructor(options: EventStreamOptions) {
    this.#options = options;
    this.#queue = new BoundedQueue(
      { itemsMax: EVENTS_QUEUED_MAX, bytesMax: EVENTS_QUEUED_BYTES_MAX, whenFull: "drop-oldest" },
      () => this.#lost++,
    );
  }

  start(controller: ReadableStreamDefaultController<Uint8Array>): void {
    const { view, signal } = this.#options;
    this.#controller = controller;
    // Headers leave with the first bytes: without these a client could not tell "quiet" from "hanging".
    const hello = encoder.encode(`retry: ${RECONNECT_MS}\n: godwit events\n\n`);
    this.#queue.push(hello, hello.length);
    if (signal.aborted) return this.#end();
    signal.addEventListener("abort", this.#onAbort, { once: true });
    this.#subscription = view.subscribe((event) => this.#onEvent(event));
    this.#beat();
  }

  pull(): Promise<void> | void {
    if (this.#flush()) return;
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#heartbeat?.cancel();
    this.#subscription?.close();
    this.#options.signal.removeEventListener("abort", this.#onAbort);
    this.#queue.clear();
    this.#wakeReader();
    this.#options.onClosed();
  }

  #end(): void {
    if (this.#isClosed) return;
    this.#controller?.close();
    this.close();
  }

  #onEvent(event: NodeEvent): void {
    if (this.#isClosed || !this.#options.wants(event)) return;
    const bytes = encodeEvent(event.type, event);
    if (!this.#queue.push(bytes, bytes.length)) this.#lost++;
    if (this.#wake !== undefined && this.#flush()) this.#wakeReader();
  }

  #beat(): void {
    this.#heartbeat = this.#options.clock.after(HEARTBEAT_MS, () => {
      // A reader that still owes us a read needs no sign of life; it has bytes waiting.
      if (this.#wake !== undefined) {
        this.#controller?.enqueue(encoder.encode(": heartbeat\n\n"));
        this.#wakeReader();
      }
      this.#beat();
    });
  }

  /** Hands over what is queued, up to a chunk; false when there was nothing. */
  #flush(): boolean {
    if (this.#isClosed || this.#controller === undefined) return false;
    const parts: Uint8Array[] = [];
    let bytes = 0;
    if (this.#lost > 0) {
      const at = isoTime(this.#options.clock.wallMs());
      const note = { family: "events", type: "events.lost", at, data: { count: this.#lost } };
      this.#lost = 0;
      parts.push(encodeEvent(note.type, note));
    }
    for (let next = this.#queue.peek(); next !== undefined; next = this.#queue.peek()) {
      if (bytes > 0 && bytes + next.length > CHUNK_BYTES_MAX) break;
      this.#queue.shift();
      parts.push(next);
      bytes += next.length;
    }
    if (parts.length === 0) return false;
    this.#controller.enqueue(Buffer.concat(parts));
    return true;
  }

  #wakeReader(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}

/** JSON.stringify leaves no line break in `data`; the type is ours but plugins name theirs. */
function encodeEvent(type: string, event: unknown): Uint8Array {
  const safeType = type.replace(/[^\w.-]/g, "_");
  return encoder.encode(`event: ${safeType}\ndata: ${JSON.stringify(event)}\n\n`);
}
