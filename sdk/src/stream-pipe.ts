/**
 * The one state machine of streams: what a medium does not take at once, what nobody has read yet, the end of one direction, a
 * close that flushes, a cut that does not, and `closed` once and last. A transport writes the few lines of `StreamMedium` for its
 * socket, port or queue and passes on what that says; it keeps no state of its own. TCP, WebSocket, Tor, memory, `ctx.net` and
 * the pipes of plugins outside of the node's thread are made of it. Owns bytes on their way, never a medium; no I/O, no policy.
 *
 *            open            end: they go, ours may      close, or the far end ended      gone
 *     held --------> open ------------------> half closed ----------------> draining -------------> over
 *                      |                                                        ^                    ^
 *                      +------------------------------- close ------------------+                    |
 *                      +----------------------------- cut, or the medium goes ----------------------+
 *
 * Bytes are copied only when they must wait. Nothing is put off to a later turn but `closed` and what was there before `open`.
 */
import type { Clock, Timer } from "./clock.ts";
import type { LinkClass, Pipe, PipeDirection, PipeHandlers } from "./pipe.ts";

/** Default of `StreamCoreOptions.highWaterBytes`. */
const HIGH_WATER_BYTES = 512 * 1024;
/** Default of `StreamCoreOptions.closeMs`: what the contract of `Pipe.close` allows. */
const CLOSE_MS = 1_000;
/** What a paused medium may still deliver. One that delivers more does not pause, and is cut. */
const HELD_BYTES_MAX = 4 * 1024 * 1024;
/** What a piece that is held costs besides its bytes, so that a flood of tiny ones is bounded as well. */
const PIECE_COST_BYTES = 64;

/**
 * What a medium does when it is told to. None of it throws. None of it calls the stream before it returns, but for `shut` and
 * `destroy`, which may call `onGone`. The medium in turn calls `onData`, `onDrain`, `onEnd` and `onGone` of its stream as things
 * happen. It is made paused: nothing is read before the first `resume`.
 */
export interface StreamMedium {
  /**
   * Takes as many of the first bytes as go now and answers how many: 0 to all. Borrowed until it returns: what it keeps it copies.
   * When that was not all, `onDrain` follows as soon as more go; none is called in vain.
   */
  write(bytes: Uint8Array): number;
  /**
   * Bytes that it took and still holds, where it has a queue of its own; they count for the high-water mark. It then says `onDrain`
   * as they get fewer, at the latest when there are none. Left out by what hands everything to the operating system at once.
   */
  readonly bufferedBytes?: number;
  /** Stops reading, soon: what was on its way up may still come and is held, up to 4 MiB. Idempotent. */
  pause(): void;
  /** Reads (again). Idempotent. */
  resume(): void;
  /**
   * Says that nothing more will be written, and reads on. Once, when all was taken. Left out where a stream of one direction is
   * none, as a link's: then the end of the far end closes it. Once both directions have ended the medium goes by itself.
   */
  end?(): void;
  /** What it took still goes, then it closes and says `onGone`. Once, when all was taken or the far end has ended. */
  shut(): void;
  /** Closes at once, whatever it holds. Once; after it, nothing of the medium is used. */
  destroy(): void;
}

export interface StreamHandlers extends PipeHandlers {
  /** Only of media that have `end`: the far end writes no more; this end may go on. Once, after all its data. */
  end?(): void;
}

export interface StreamCoreOptions {
  /** `write` answers false above this many bytes waiting, those of the medium included. Default 524,288. */
  readonly highWaterBytes?: number;
  /** `drain` follows once so few wait, less than `highWaterBytes`. Default half of it. */
  readonly lowWaterBytes?: number;
  /** How long a close may wait for the medium to take what waits and to go, ms; then it is cut. Default 1,000. */
  readonly closeMs?: number;
  /** Counts `closeMs`. Without one a close waits for nothing: only for a medium that takes everything and goes within `shut`. */
  readonly clock?: Pick<Clock, "after"> | undefined;
  /** `closed` of a close waits for the medium to be gone, `closeMs` at most. Default: it is told at once, and the rest is nobody's business. */
  readonly isClosedWhenGone?: boolean;
  /** Once, as soon as it is over, before `closed` is told: whoever keeps a list of streams takes it off. */
  onOver?(): void;
}

/** One end of a stream, as it is used (`open`, `write`, ...) and as its medium feeds it (`onData`, ...). */
export class StreamCore {
  readonly #medium: StreamMedium;
  readonly #options: StreamCoreOptions;
  readonly #highWaterBytes: number;
  readonly #lowWaterBytes: number;
  #handlers: StreamHandlers | undefined;
  /** Came while nobody read. */
  #held: Uint8Array[] = [];
  #heldBytes = 0;
  #isPaused = false;
  #isHandingOut = false;
  /** Written, and not taken by the medium. */
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #isFull = false;
  #isEnding = false;
  #farEnd: "writes" | "ended" | "told" = "writes";
  #isClosing = false;
  #isShut = false;
  #isOver = false;
  #isGone = false;
  #isTold = false;
  #error: Error | undefined;
  #deadline: Timer | undefined;

  constructor(medium: StreamMedium, options: StreamCoreOptions = {}) {
    this.#medium = medium;
    this.#options = options;
    this.#highWaterBytes = options.highWaterBytes ?? HIGH_WATER_BYTES;
    this.#lowWaterBytes = options.lowWaterBytes ?? this.#highWaterBytes / 2;
  }

  /** Bytes written and not with the operating system yet. */
  get bufferedBytes(): number {
    return this.#isGone ? 0 : this.#waitingBytes + (this.#medium.bufferedBytes ?? 0);
  }

  /** False as soon as `write` only ignores: after `end`, `close`, a cut, or the far end's going. */
  get isWritable(): boolean {
    return !this.#isOver && !this.#isClosing && !this.#isEnding;
  }

  /** False as soon as what the medium delivers is only dropped: after `close`, a cut, or the far end's going. */
  get isReadable(): boolean {
    return !this.#isOver && !this.#isClosing;
  }

  /** Nothing comes of it any more but what is held, and `closed`. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /**
   * Starts delivery, also after a `pause`. Once. What is there already, an end or a close included, comes soon after, never within
   * the call.
   */
  open(handlers: StreamHandlers): void {
    this.#handlers = handlers;
    this.#isPaused = false;
    if (this.#held.length > 0 || this.#farEnd === "ended" || this.#isOver || this.#isFull)
      queueMicrotask(() => {
        this.#handOut();
        this.#relieve();
      });
    else this.#medium.resume();
  }

  /**
   * Sends bytes; borrowed until it returns. False: more waits than the high-water mark; stop until `drain`, which follows once for
   * any number of such answers, whatever is written meanwhile. Ignored once nothing more may be written.
   */
  write(bytes: Uint8Array): boolean {
    if (!this.isWritable) return true;
    const taken = this.#waiting.length === 0 ? this.#medium.write(bytes) : 0;
    if (taken < bytes.length) {
      // Not `slice`, which lends the caller's own bytes when they are a Buffer.
      this.#waiting.push(new Uint8Array(taken === 0 ? bytes : bytes.subarray(taken)));
      this.#waitingBytes += bytes.length - taken;
    }
    if (this.bufferedBytes > this.#highWaterBytes) this.#isFull = true;
    return !this.#isFull;
  }

  /**
   * Stops and resumes delivery: after `pause(true)` no data is handed out, not even what the medium still delivers. An end or a
   * close is told all the same, unless data is held before it.
   */
  pause(paused: boolean): void {
    this.#isPaused = paused;
    if (!paused) this.#handOut();
    else if (!this.#isOver && !this.#isClosing) this.#medium.pause();
  }

  /** Nothing more will be written; what waits still goes. Of a medium without `end` the same as `close`. Idempotent. */
  end(): void {
    if (this.#medium.end === undefined) return this.close();
    if (!this.isWritable) return;
    this.#isEnding = true;
    if (this.#waiting.length === 0) this.#medium.end();
  }

  /**
   * Nothing more is handed out; what waits is flushed for `closeMs` at most. `closed` follows, without an error. Idempotent. After
   * the far end has gone it gives up what is held.
   */
  close(): void {
    if (this.#isClosing) return;
    this.#dropHeld();
    if (this.#isOver) return this.#handOut();
    this.#isClosing = true;
    // A paused medium would not hear that the far end closes as well.
    this.#medium.resume();
    if (this.#waiting.length === 0) this.#shut();
    this.#startDeadline();
    if (this.#options.isClosedWhenGone !== true) this.#finish(undefined);
  }

  /** Ends it at once: what waits and what is held is lost. `closed` follows, with `error` unless it was closing. Idempotent. */
  cut(error?: Error): void {
    this.#dropHeld();
    if (this.#isGone) this.#handOut();
    else this.#destroy(error);
  }

  /** Of the medium: bytes came. Borrowed until it returns. */
  onData(bytes: Uint8Array): void {
    if (!this.isReadable) return;
    if (this.#handlers === undefined || this.#isPaused || this.#isHandingOut || this.#held.length > 0)
      this.#hold(bytes);
    else this.#handlers.data(bytes);
  }

  /** Of the medium: it takes bytes again, or holds fewer. */
  onDrain(): void {
    if (this.#isGone) return;
    while (this.#waiting.length > 0) {
      const head = this.#waiting[0]!;
      const taken = this.#medium.write(head);
      this.#waitingBytes -= taken;
      if (taken < head.length) {
        this.#waiting[0] = head.subarray(taken);
        break;
      }
      this.#waiting.shift();
      if (this.#waiting.length > 0) continue;
      // What was said while this waited.
      if (this.#isClosing) this.#shut();
      else if (this.#isEnding) this.#medium.end?.();
    }
    this.#relieve();
  }

  /** Of the medium: the far end writes no more. Of one without `end` this closes: `closed` follows, without an error. */
  onEnd(): void {
    if (this.#isGone || this.#farEnd !== "writes") return;
    this.#farEnd = "ended";
    if (this.#medium.end !== undefined) return this.#handOut();
    // Whoever ended reads no more either.
    this.#dropWaiting();
    this.#shut();
    this.#startDeadline();
    this.#finish(undefined);
  }

  /** Of the medium: it is closed, by whomever; with an error when that was not polite. Idempotent. */
  onGone(error?: Error): void {
    if (this.#isGone) return;
    this.#isGone = true;
    this.#dropWaiting();
    this.#deadline?.cancel();
    this.#finish(this.#isClosing ? undefined : error);
  }

  #hold(bytes: Uint8Array): void {
    this.#heldBytes += bytes.length + PIECE_COST_BYTES;
    if (this.#heldBytes > HELD_BYTES_MAX)
      return this.cut(new Error("the far end sent more than anybody read"));
    this.#held.push(new Uint8Array(bytes));
  }

  /** What was held, as far as it is wanted now; then what came after it. */
  #handOut(): void {
    const handlers = this.#handlers;
    if (handlers === undefined || this.#isHandingOut) return;
    this.#isHandingOut = true;
    try {
      while (this.#held.length > 0 && !this.#isPaused) {
        const bytes = this.#held.shift()!;
        this.#heldBytes -= bytes.length + PIECE_COST_BYTES;
        handlers.data(bytes);
      }
    } finally {
      this.#isHandingOut = false;
    }
    if (this.#held.length > 0) return;
    if (this.#farEnd === "ended" && this.#medium.end !== undefined && !this.#isClosing) {
      this.#farEnd = "told";
      handlers.end?.();
    }
    if (this.#isOver) this.#tell(handlers);
    else if (!this.#isPaused && !this.#isClosing) this.#medium.resume();
  }

  #relieve(): void {
    // Whoever was told to stop before it opened hears of it then.
    if (!this.#isFull || this.#handlers === undefined || !this.isWritable) return;
    if (this.bufferedBytes > this.#lowWaterBytes) return;
    this.#isFull = false;
    this.#handlers.drain();
  }

  #shut(): void {
    if (this.#isShut) return;
    this.#isShut = true;
    this.#medium.shut();
  }

  /** A far end that is frozen or gone answers no close: nobody waits for it, and the medium goes all the same. */
  #startDeadline(): void {
    if (this.#isGone) return;
    this.#deadline ??= this.#options.clock?.after(this.#options.closeMs ?? CLOSE_MS, () => this.#destroy());
  }

  #destroy(error?: Error): void {
    if (this.#isGone) return;
    this.onGone(error);
    this.#medium.destroy();
  }

  #finish(error: Error | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#error = error;
    this.#options.onOver?.();
    this.#handOut();
  }

  #tell(handlers: StreamHandlers): void {
    if (this.#isTold) return;
    this.#isTold = true;
    queueMicrotask(() => handlers.closed(this.#error));
  }

  #dropHeld(): void {
    this.#held = [];
    this.#heldBytes = 0;
  }

  #dropWaiting(): void {
    this.#waiting = [];
    this.#waitingBytes = 0;
  }
}

/** What a pipe says of itself; each as in `Pipe`. */
export interface StreamPipeFacts {
  readonly direction: PipeDirection;
  readonly local: string;
  readonly remote: string;
  readonly linkClass: LinkClass;
  readonly rateBitsPerSecond: number;
  readonly isAnonymous?: boolean;
  readonly patienceMs?: number;
}

export interface StreamPipeOptions extends StreamCoreOptions {
  /** The link has proven the far end; once. */
  onProven?(): void;
}

/** A stream as a `Pipe`: what a transport dials and accepts. */
export class StreamPipe extends StreamCore implements Pipe {
  readonly kind = "stream";
  readonly mtu = 0;
  readonly direction: PipeDirection;
  readonly local: string;
  readonly remote: string;
  readonly linkClass: LinkClass;
  readonly rateBitsPerSecond: number;
  readonly isAnonymous: boolean;
  readonly patienceMs: number;
  readonly #onProven: (() => void) | undefined;

  constructor(medium: StreamMedium, facts: StreamPipeFacts, options: StreamPipeOptions = {}) {
    super(medium, options);
    this.direction = facts.direction;
    this.local = facts.local;
    this.remote = facts.remote;
    this.linkClass = facts.linkClass;
    this.rateBitsPerSecond = facts.rateBitsPerSecond;
    this.isAnonymous = facts.isAnonymous ?? false;
    this.patienceMs = facts.patienceMs ?? 0;
    this.#onProven = options.onProven;
  }

  proven(): void {
    this.#onProven?.();
  }
}
