/**
 * One reliable, ordered, two-way stream as its user holds it. Joins a sending and a receiving half and gives credit;
 * the session moves its bytes. docs/protocol/streams.md "Streams"
 */
import { godwitError, type ErrorCode, type GodwitError } from "../kernel/errors.ts";
import type { NodeId } from "../kernel/ids.ts";
import { StreamReset, WINDOW_FIRST_BYTES, WINDOW_MAX_BYTES } from "./constants.ts";
import { ReceiveHalf } from "./receive-half.ts";
import { SendHalf, type Piece } from "./send-half.ts";

export interface StreamHandlers {
  /** In order. The bytes are the handler's. */
  data(bytes: Uint8Array): void;
  /** The far end has written everything. */
  end(): void;
  /** `write` answered false and there is room again. */
  drain(): void;
  /** Once, last. Undefined: both ends finished. */
  closed(error: GodwitError | undefined): void;
}

/** What a stream asks of its session. */
export interface StreamOwner {
  readonly rttMs: number;
  nowMs(): number;
  /** Bytes, an end or credit wait to be sent. */
  wake(stream: ByteStream): void;
  credit(stream: ByteStream): void;
  accepted(stream: ByteStream): void;
  reset(stream: ByteStream, reason: number, message: string): void;
  /** Room for a window to grow by so many bytes; negative gives back. */
  grow(bytes: number): boolean;
  gone(stream: ByteStream): void;
}

/** Windows double while a reader empties half of one within so many round trips, or so long. */
const GROW_ROUNDS = 4;
const GROW_WITHIN_MS = 50;

export class ByteStream {
  readonly id: number;
  readonly remote: NodeId;
  readonly service: string;
  /** What the opener said with it; owned by the stream. */
  readonly metadata: Uint8Array;
  readonly isOutbound: boolean;
  readonly #owner: StreamOwner;
  readonly #send = new SendHalf();
  readonly #receive = new ReceiveHalf();
  #handlers: StreamHandlers | undefined;
  #window = WINDOW_FIRST_BYTES;
  #grantedAtMs: number;
  #isPaused = false;
  #isEndDelivered = false;
  #isDelivering = false;
  #wantsDrain = false;
  #isClosed = false;
  #error: GodwitError | undefined;
  #onAccepted: ((error: GodwitError | undefined) => void) | undefined;
  #isAccepted = false;
  #bytesSent = 0;
  #bytesReceived = 0;

  constructor(
    owner: StreamOwner,
    facts: {
      id: number;
      remote: NodeId;
      service: string;
      metadata: Uint8Array;
      onAccepted?: (error: GodwitError | undefined) => void;
    },
  ) {
    this.#owner = owner;
    this.id = facts.id;
    this.remote = facts.remote;
    this.service = facts.service;
    this.metadata = facts.metadata;
    this.isOutbound = facts.onAccepted !== undefined;
    this.#onAccepted = facts.onAccepted;
    this.#grantedAtMs = owner.nowMs();
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Of the user's bytes, both halves, held here. */
  get heldBytes(): number {
    return this.#send.heldBytes + this.#receive.heldBytes;
  }

  /** Written by our user so far. */
  get bytesSent(): number {
    return this.#bytesSent;
  }

  /** Handed to our user so far. */
  get bytesReceived(): number {
    return this.#bytesReceived;
  }

  /** Whether the far side still has to say yes or no. */
  get isPending(): boolean {
    return !this.#isAccepted && !this.#isClosed;
  }

  /** Starts delivery. Once. */
  open(handlers: StreamHandlers): void {
    this.#handlers = handlers;
    if (this.#isClosed) queueMicrotask(() => handlers.closed(this.#error));
    else queueMicrotask(() => this.#deliver());
  }

  /** The far side asked for it: says yes. */
  accept(): void {
    if (this.isOutbound || this.#isAccepted || this.#isClosed) return;
    this.#isAccepted = true;
    this.#owner.accepted(this);
  }

  /** Takes all of it, borrowed until it returns. False: wait for `drain` before the next. Ignored after an end. */
  write(bytes: Uint8Array): boolean {
    if (this.#isClosed || this.#send.isEnded || bytes.length === 0) return true;
    this.#send.write(bytes);
    this.#bytesSent += bytes.length;
    this.#owner.wake(this);
    this.#wantsDrain ||= this.#send.isFull;
    return !this.#wantsDrain;
  }

  /** No more will be written; the other direction stays open. */
  end(): void {
    if (this.#isClosed || this.#send.isEnded) return;
    this.#send.finish();
    this.#owner.wake(this);
  }

  /** Tears both directions down at once; the far end is told why. */
  reset(reason: number = StreamReset.cancelled, message = ""): void {
    if (this.#isClosed) return;
    this.#owner.reset(this, reason, message);
    this.close(godwitError("GODWIT_STREAM_RESET", message === "" ? "the stream was given up here" : message));
  }

  /** While paused, at most the window is kept here and the far end waits. */
  pause(isPaused: boolean): void {
    this.#isPaused = isPaused;
    if (!isPaused) this.#deliver();
  }

  // What follows is the session's.

  get hasWork(): boolean {
    return !this.#isClosed && this.#send.hasWork;
  }

  takePiece(bytesMax: number): Piece | undefined {
    return this.#isClosed ? undefined : this.#send.take(bytesMax);
  }

  copyPiece(piece: Piece, out: Uint8Array): void {
    this.#send.copy(piece.start, piece.end, out);
  }

  /** Pieces were taken: whoever waits for room may go on. */
  noteTaken(): void {
    if (!this.#wantsDrain || this.#send.isFull) return;
    this.#wantsDrain = false;
    queueMicrotask(() => {
      if (!this.#isClosed) this.#handlers?.drain();
    });
  }

  onAcked(piece: Piece): void {
    if (this.#isClosed) return;
    const hadWork = this.#send.hasWork;
    this.#send.onAcked(piece);
    // What may be under way is bounded as well, and what bounded it has just arrived: credit alone would not tell.
    if (!hadWork && this.#send.hasWork) this.#owner.wake(this);
    this.#settle();
  }

  onLost(piece: Piece): void {
    if (this.#isClosed) return;
    this.#send.onLost(piece);
    this.#owner.wake(this);
  }

  onCredit(limit: number): void {
    if (this.#isClosed) return;
    this.#send.raiseLimit(limit);
    this.#owner.wake(this);
  }

  onAccepted(): void {
    if (!this.isOutbound || this.#isAccepted || this.#isClosed) return;
    this.#isAccepted = true;
    this.#onAccepted?.(undefined);
    this.#onAccepted = undefined;
  }

  /** False: the record must not be acknowledged. Throws GODWIT_DECODE. */
  onData(offset: number, bytes: Uint8Array, isEnd: boolean): boolean {
    if (this.#isClosed) return true;
    this.onAccepted();
    const isTaken = this.#receive.take(offset, bytes, isEnd, (fresh) => {
      if (this.#mayDeliver && !this.#receive.hasQueued) this.#hand(fresh);
      else this.#receive.queue(fresh);
    });
    this.#finishReading();
    this.#giveCredit();
    return isTaken;
  }

  onReset(code: ErrorCode, message: string): void {
    this.close(godwitError(code, message));
  }

  /** The limit that a credit frame carries now. */
  get creditLimit(): number {
    return this.#receive.granted;
  }

  /** The end, seen from here; nothing is sent. Idempotent. */
  close(error: GodwitError | undefined): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#error = error;
    this.#send.drop();
    this.#receive.drop();
    this.#owner.grow(WINDOW_FIRST_BYTES - this.#window);
    this.#owner.gone(this);
    this.#onAccepted?.(
      error ?? godwitError("GODWIT_STREAM_RESET", "the stream closed before it was accepted"),
    );
    this.#onAccepted = undefined;
    const handlers = this.#handlers;
    if (handlers !== undefined) queueMicrotask(() => handlers.closed(error));
  }

  get #mayDeliver(): boolean {
    return this.#handlers !== undefined && !this.#isPaused && !this.#isClosed;
  }

  #hand(bytes: Uint8Array): void {
    this.#bytesReceived += bytes.length;
    this.#handlers!.data(bytes);
  }

  #deliver(): void {
    if (this.#isDelivering) return;
    this.#isDelivering = true;
    while (this.#mayDeliver) {
      const block = this.#receive.dequeue();
      if (block === undefined) break;
      this.#hand(block);
    }
    this.#isDelivering = false;
    this.#finishReading();
    this.#giveCredit();
  }

  #finishReading(): void {
    if (this.#isEndDelivered || !this.#mayDeliver || !this.#receive.isWhole || this.#receive.hasQueued)
      return;
    this.#isEndDelivered = true;
    this.#handlers!.end();
    this.#settle();
  }

  #settle(): void {
    if (this.#isEndDelivered && this.#send.isDone) this.close(undefined);
  }

  #giveCredit(): void {
    if (this.#isClosed || this.#receive.isWhole) return;
    const { consumed, granted } = this.#receive;
    if (granted - consumed > this.#window / 2) return;
    const nowMs = this.#owner.nowMs();
    const isFast = nowMs - this.#grantedAtMs < Math.max(GROW_ROUNDS * this.#owner.rttMs, GROW_WITHIN_MS);
    if (isFast && this.#window < WINDOW_MAX_BYTES && this.#owner.grow(this.#window)) this.#window *= 2;
    this.#grantedAtMs = nowMs;
    this.#receive.grant(consumed + this.#window);
    this.#owner.credit(this);
  }
}
