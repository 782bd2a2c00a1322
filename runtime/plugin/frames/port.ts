/**
 * One end of a channel of frames, whatever carries it: batches what is sent within a turn of the loop into one write, cuts what
 * arrives into frames. Both ends use it. Owns no meaning of frames; `remote.ts` and `guest/guest.ts` do.
 */
import type { Clock } from "@godwit/sdk";
import type { Socket, SocketHandler } from "bun";
import { asGodwitError, godwitError, type GodwitError } from "../../kernel/errors.ts";
import { EMPTY, encodeParts, FRAME_HEAD_BYTES, FrameReader, putFrameHead } from "./frames.ts";

/** Whatever carries bytes between the node and a plugin, in order. */
export interface FrameChannel {
  /** Borrowed until it returns. What cannot go at once waits, and counts in `queuedBytes`. */
  write(bytes: Uint8Array): void;
  readonly queuedBytes: number;
  open(handlers: ChannelHandlers): void;
  /** Whether what comes waits where it is: only where it can. What was on its way may still come. */
  pause?(isPaused: boolean): void;
  /**
   * Waits, the whole thread with it, until something is there or the channel is gone (undefined). The bytes are the caller's.
   * Only where an end needs it.
   */
  readBlocking?(): Uint8Array | undefined;
  close(): void;
}

export interface ChannelHandlers {
  /** Borrowed. */
  data(bytes: Uint8Array): void;
  closed(error?: Error): void;
}

/** Frames sent within one turn of the loop go together, up to so many bytes. */
const BATCH_BYTES = 131_072;
/** Who does not read what is sent is not there any more. */
const QUEUED_BYTES_MAX = 64 * 2 ** 20;

/**
 * What comes is handled for so long in one turn of the event loop, ms: a plugin that floods frames, however cheap each is, leaves the rest of
 * the loop to others. The rest waits, up to a bound.
 */
const TURN_MS = 4;
/** Frames between two looks at the clock. */
const LOOK_FRAMES = 16;
const UNREAD_BYTES_MAX = 64 * 2 ** 20;
/** What a piece of it counts beside its bytes. */
const PIECE_COST_BYTES = 64;

export interface PortOptions {
  /** Of an end whose thread serves others too. By default all that comes is handled at once. */
  readonly pacedBy?: Clock;
}

export interface PortHandlers {
  frame(type: number, id: number, body: Uint8Array): void;
  /**
   * Only of an end that waits for answers with its whole thread: says whether the frame is what it waits for, and takes it.
   * All others keep their order.
   */
  awaited?(type: number, id: number, body: Uint8Array): boolean;
  /** Once, last: with an error when the far end broke the protocol or stopped reading. */
  closed(error: GodwitError | undefined): void;
}

export class FramePort {
  readonly #channel: FrameChannel;
  readonly #handlers: PortHandlers;
  readonly #reader: FrameReader;
  #batch = new Uint8Array(BATCH_BYTES);
  #at = 0;
  #isFlushing = false;
  #isClosed = false;
  /** Frames that have arrived and are not handled, of an end that may wait in the midst of handling one. */
  #queue: { readonly type: number; readonly id: number; readonly body: Uint8Array }[] = [];
  #isHandling = false;
  #isWaiting = false;
  readonly #clock: Clock | undefined;
  /** When this turn began to handle frames; undefined: it has not. */
  #turnMs: number | undefined;
  #frames = 0;
  /** What came and had no turn yet. */
  #unread: Uint8Array[] = [];
  #unreadBytes = 0;
  /** The channel is gone, behind what is unread. */
  #ending: { readonly error: GodwitError | undefined } | undefined;

  /** `pacedBy` is for an end that does not wait with its whole thread. */
  constructor(channel: FrameChannel, handlers: PortHandlers, { pacedBy }: PortOptions = {}) {
    this.#channel = channel;
    this.#clock = pacedBy;
    this.#handlers = handlers;
    const { awaited } = handlers;
    this.#reader = new FrameReader((type, id, body) => {
      if (this.#isClosed) return;
      if (awaited === undefined) handlers.frame(type, id, body);
      else if (!this.#isWaiting || !awaited(type, id, body)) this.#queue.push({ type, id, body });
    });
    channel.open({
      data: (bytes) => this.#onData(bytes),
      closed: (error) => this.#onChannelClosed(error === undefined ? undefined : asGodwitError(error)),
    });
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Bytes that wait for the far end to read. */
  get queuedBytes(): number {
    return this.#channel.queuedBytes + this.#at;
  }

  /** Borrowed until it returns. */
  send(type: number, id = 0, body: Uint8Array = EMPTY): void {
    if (this.#isClosed) return;
    const whole = FRAME_HEAD_BYTES + body.length;
    if (this.#at + whole > BATCH_BYTES) this.flush();
    if (whole > BATCH_BYTES) {
      const head = new Uint8Array(FRAME_HEAD_BYTES);
      putFrameHead(head, 0, type, id, body.length);
      this.#channel.write(head);
      this.#channel.write(body);
    } else {
      this.#batch.set(body, putFrameHead(this.#batch, this.#at, type, id, body.length));
      this.#at += whole;
      if (!this.#isFlushing) {
        this.#isFlushing = true;
        queueMicrotask(this.#flushLater);
      }
    }
    if (this.#channel.queuedBytes > QUEUED_BYTES_MAX)
      this.close(godwitError("GODWIT_PLUGIN_FAILED", "it does not read what it is sent"));
  }

  sendParts(type: number, id: number, json: unknown, bytes: Uint8Array = EMPTY): void {
    this.send(type, id, encodeParts(json, bytes));
  }

  readonly #flushLater = (): void => {
    this.#isFlushing = false;
    this.flush();
  };

  flush(): void {
    if (this.#at === 0) return;
    const end = this.#at;
    this.#at = 0;
    this.#channel.write(this.#batch.subarray(0, end));
  }

  /** Sends what waits, then takes in what comes until `isDone`. False: the channel is gone. */
  waitFor(isDone: () => boolean): boolean {
    this.flush();
    this.#isWaiting = true;
    try {
      while (!isDone()) {
        const bytes = this.#isClosed ? undefined : this.#channel.readBlocking?.();
        if (bytes === undefined) return false;
        this.#reader.push(bytes);
      }
      return true;
    } catch (error) {
      this.close(asGodwitError(error));
      return false;
    } finally {
      this.#isWaiting = false;
      if (this.#queue.length > 0) queueMicrotask(() => this.#handleQueue());
    }
  }

  /** Idempotent; what was sent before still goes. */
  close(error?: GodwitError): void {
    if (this.#isClosed) return;
    this.flush();
    this.#isClosed = true;
    this.#unread = [];
    this.#channel.close();
    this.#handlers.closed(error);
  }

  #onData(bytes: Uint8Array): void {
    try {
      if (this.#clock !== undefined) return this.#takePaced(bytes, this.#clock);
      this.#reader.push(bytes);
      this.#handleQueue();
    } catch (error) {
      this.close(asGodwitError(error));
    }
  }

  #onChannelClosed(error: GodwitError | undefined): void {
    if (this.#unread.length > 0) this.#ending = { error };
    else this.close(error);
  }

  /** In order: behind what is unread it is unread as well. */
  #takePaced(bytes: Uint8Array, clock: Clock): void {
    const from = this.#unread.length > 0 ? 0 : this.#take(bytes, clock);
    if (from === bytes.length || this.#isClosed) return;
    this.#unreadBytes += bytes.length - from + PIECE_COST_BYTES;
    if (this.#unreadBytes > UNREAD_BYTES_MAX)
      throw godwitError("GODWIT_PLUGIN_FAILED", "it floods the node with more than it can handle");
    this.#unread.push(bytes.slice(from));
    if (this.#unread.length > 1) return;
    this.#channel.pause?.(true);
    clock.after(0, () => this.#goOn(clock));
  }

  /** As much as this turn has time for; answers how many bytes. */
  #take(bytes: Uint8Array, clock: Clock): number {
    if (this.#turnMs === undefined) {
      this.#turnMs = clock.monotonicMs();
      clock.after(0, () => (this.#turnMs = undefined));
    }
    // Since it began, and not what frames took: much of what they ask for is done behind them.
    const isOver = () => clock.monotonicMs() - (this.#turnMs ?? 0) >= TURN_MS;
    return isOver() ? 0 : this.#reader.push(bytes, () => ++this.#frames % LOOK_FRAMES === 0 && isOver());
  }

  #goOn(clock: Clock): void {
    this.#turnMs = undefined;
    const unread = this.#unread;
    let at = 0;
    try {
      for (; at < unread.length; at++) {
        const piece = unread[at]!;
        const taken = this.#take(piece, clock);
        if (this.#isClosed) return;
        this.#unreadBytes -= taken;
        if (taken < piece.length) {
          unread[at] = piece.subarray(taken);
          break;
        }
        this.#unreadBytes -= PIECE_COST_BYTES;
      }
    } catch (error) {
      return this.close(asGodwitError(error));
    }
    unread.splice(0, at);
    if (unread.length > 0) clock.after(0, () => this.#goOn(clock));
    else if (this.#ending !== undefined) this.close(this.#ending.error);
    else this.#channel.pause?.(false);
  }

  #handleQueue(): void {
    if (this.#isHandling) return;
    this.#isHandling = true;
    try {
      // What a handler waits for may bring more.
      for (let at = 0; at < this.#queue.length; at++) {
        const { type, id, body } = this.#queue[at]!;
        this.#handlers.frame(type, id, body);
      }
      this.#queue = [];
    } finally {
      this.#isHandling = false;
    }
  }
}

/** A socket of the machine: fd 3 of a child, and the node's end of it. */
export async function openSocketChannel(
  fd: number,
  readBlocking?: (wantsToWrite: boolean, onWritable: () => void) => Uint8Array | undefined,
): Promise<FrameChannel> {
  let handlers: ChannelHandlers | undefined;
  let early: Uint8Array[] = [];
  let waiting: Uint8Array[] = [];
  let queuedBytes = 0;
  let isClosed = false;
  const onGone = (error?: Error) => {
    if (isClosed) return;
    isClosed = true;
    waiting = [];
    queuedBytes = 0;
    handlers?.closed(error);
  };
  const socketHandlers: SocketHandler = {
    open() {},
    data(_socket, bytes) {
      if (handlers === undefined) early.push(bytes.slice());
      else handlers.data(bytes);
    },
    drain: () => drain(),
    end: (one) => {
      one.end();
      onGone();
    },
    close: (_socket, error) => onGone(error),
    error: (_socket, error) => onGone(error),
  };
  // The types know no fd here.
  const options = { fd, socket: socketHandlers } as unknown as Bun.TCPSocketConnectOptions;
  const socket: Socket = await Bun.connect(options);
  const drain = () => {
    while (waiting.length > 0) {
      const first = waiting[0]!;
      const sent = Math.max(0, socket.write(first));
      queuedBytes -= sent;
      if (sent < first.length) {
        waiting[0] = first.subarray(sent);
        return;
      }
      waiting.shift();
    }
  };
  return {
    get queuedBytes() {
      return queuedBytes;
    },
    write(bytes) {
      if (isClosed) return;
      const sent = waiting.length > 0 ? 0 : Math.max(0, socket.write(bytes));
      if (sent === bytes.length) return;
      waiting.push(bytes.slice(sent));
      queuedBytes += bytes.length - sent;
    },
    open(given) {
      handlers = given;
      const held = early;
      early = [];
      for (const bytes of held) given.data(bytes);
      if (isClosed) queueMicrotask(() => given.closed());
    },
    pause: (isPaused) => {
      if (isClosed) return;
      if (isPaused) socket.pause();
      else socket.resume();
    },
    close() {
      if (isClosed) return;
      isClosed = true;
      if (waiting.length === 0) socket.end();
      else socket.terminate();
    },
    ...(readBlocking === undefined ? {} : { readBlocking: () => readBlocking(waiting.length > 0, drain) }),
  };
}
