/**
 * What the two kinds of session share: batching frames into records, limits and rekeys, back-pressure, and how a
 * session ends. Stages of a frame on its way out: send -> batch -> flush -> seal (stream-session.ts,
 * datagram-session.ts) -> pipe; on its way in: receive -> backlog while nobody reads -> process -> items -> handler.
 * Must never hand out a byte that was not authenticated, nor use a key beyond its limits. Specified by
 * docs/protocol/link.md.
 */
import type { LinkClass, Medium, Pipe, PipeDirection, Urgency } from "@godwit/sdk";
import type { AirtimeNeed, ChannelBudget } from "../kernel/airtime.ts";
import type { Clock, Timer } from "../kernel/clock.ts";
import { type Departure, newDeparture, noteDropped } from "../kernel/departure.ts";
import { assert, GodwitError, godwitError } from "../kernel/errors.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { Random } from "../kernel/random.ts";
import type { Invite } from "../identity/invite.ts";
import type { DhKey } from "../identity/keys.ts";
import {
  ControlKind,
  HIGH_WATER_BYTES,
  patienceOf,
  type HandshakeTiming,
  type SessionLimits,
} from "./constants.ts";
import type { Departures } from "./departures.ts";
import type { LinkCounters } from "./guard.ts";
import type { Established } from "./initiator.ts";
import { FRAME_BYTES_MAX } from "../wire/constants.ts";
import { ALARM, urgencyOf } from "../wire/urgency.ts";
import { Batch, decodeItems, varintBytes, type ItemSink } from "./items.ts";
import type { Role } from "../identity/noise.ts";
import { Rekeying } from "./rekey.ts";
import type { Session, SessionHandlers } from "./types.ts";

export interface SessionParams {
  readonly pipe: Pipe;
  /** Of that pipe: everything is written through it. */
  readonly departures: Departures;
  readonly role: Role;
  readonly own: DhKey;
  readonly established: Established;
  readonly clock: Clock;
  readonly random: Random;
  readonly counters: LinkCounters;
  readonly limits: SessionLimits;
  /** Datagrams: how often and how long to repeat what must arrive. */
  readonly timing: HandshakeTiming;
  /** Of the channel that the pipe shares; undefined: none, or nobody keeps one. */
  readonly budget?: ChannelBudget | undefined;
  /** What the handshake put on the medium already. */
  readonly bytesSent: number;
  readonly bytesReceived: number;
}

/** How often a pipe that took more than the high-water mark without saying so is asked whether it has drained. */
const DRAIN_POLL_MS = 5;
/** The responder lets the initiator rekey first, so that a crossing is the exception. */
const RESPONDER_PATIENCE = 1.1;
const NO_BYTES = new Uint8Array(0);
/** Of a rekey's request, bytes. */
const REKEY_BYTES = 103;
/** Where answers take long nothing is given up before so many could have come. */
export const ANSWERS_AWAITED = 3;
const NOBODY: readonly Departure[] = [];

export abstract class LinkSession implements Session {
  readonly remote: NodeId;
  readonly direction: PipeDirection;
  readonly localEndpoint: string;
  readonly linkClass: LinkClass;
  readonly isCarried: boolean;
  readonly rateBitsPerSecond: number;
  readonly medium: Medium | undefined;
  /** The protocol version that both ends agreed on. */
  readonly version: number;
  readonly invite: Invite | undefined;
  readonly secretEpoch: string | undefined;
  abstract readonly isReliable: boolean;
  abstract readonly frameBytesMax: number;
  /** Called once, when the far end's first record (an inbound session) has verified. */
  onProof: (() => void) | undefined;

  protected readonly params: SessionParams;
  protected readonly rekeying: Rekeying;
  protected readonly batch = new Batch();
  protected handlers: SessionHandlers | undefined;
  /** Raw bytes of the pipe that wait for a reader, oldest first. */
  protected readonly backlog: Uint8Array[] = [];
  protected backlogBytes = 0;
  protected isPaused = false;
  protected isOver = false;
  /** Records under the present receiving key. */
  protected rxRecords = 0;

  #isFlushScheduled = false;
  #bytesSent: number;
  #bytesReceived: number;
  #isBlocked = false;
  /** The pipe took what it was given, and no more before it says so. */
  #awaitsDrain = false;
  #wantsDrain = false;
  #drainPoll: Timer | undefined;
  #isDelivering = false;
  #isPipePaused = false;
  #isClosing = false;
  #endError: GodwitError | undefined;
  #txRecords = 0;
  #txBytes = 0;
  #epochStartedMs: number;
  /** When the far end was asked for a rekey; it has its time from when that left. */
  #rekeyAsked: Departure | undefined;
  /** Of frames in the batch. */
  #batched: Departure[] = [];
  /** Of the record that is being written. */
  #departing = NOBODY;
  /** Of the batch, and of the record that is being written: that of the most urgent in it. */
  #batchedUrgency: Urgency | undefined;
  #urgency: Urgency | undefined;
  /** The pipe is gone but its last bytes are not read yet. */
  #pipeEnd: { readonly error: Error | undefined } | undefined;

  constructor(params: SessionParams) {
    const { pipe, established } = params;
    this.params = params;
    this.remote = established.remote;
    this.version = established.version;
    this.invite = established.invite;
    this.secretEpoch = established.secretEpoch;
    this.direction = pipe.direction;
    this.localEndpoint = pipe.local;
    this.linkClass = pipe.linkClass;
    this.isCarried = patienceOf(pipe) > 0;
    this.rateBitsPerSecond = pipe.rateBitsPerSecond;
    this.medium = pipe.medium;
    this.#bytesSent = params.bytesSent;
    this.#bytesReceived = params.bytesReceived;
    this.#epochStartedMs = params.clock.monotonicMs();
    this.rekeying = new Rekeying(params.own, established, params.role, params.random);
  }

  /** Largest plaintext of one record. */
  protected abstract readonly batchBytesMax: number;
  /** A batch of this size does not wait for the end of the turn. */
  protected abstract readonly flushBytes: number;
  /** Seals one record and passes it to `write`. `plaintext` is borrowed. */
  protected abstract seal(plaintext: Uint8Array, isBare: boolean): void;
  /** Opens what arrived and passes it to `takeItems`. Borrowed. */
  protected abstract process(bytes: Uint8Array): void;
  /** One authenticated control item other than close. */
  protected abstract onControl(kind: number, body: Uint8Array, isLast: boolean): void;
  /** Bytes that nobody reads yet, owned: into the backlog, or dropped and counted. */
  protected abstract keep(bytes: Uint8Array): void;
  /** Asks the far end for a new epoch. */
  protected abstract startRekey(departure: Departure): void;
  /** Cancels timers and frees buffers. */
  protected abstract dispose(): void;

  get bufferedBytes(): number {
    return this.params.pipe.bufferedBytes + this.batch.length;
  }

  /** A far end on a datagram pipe may move. */
  get remoteEndpoint(): string {
    return this.params.pipe.remote;
  }

  get answerMs(): number {
    return this.params.departures.answerMs;
  }

  get bytesSent(): number {
    return this.#bytesSent;
  }

  get bytesReceived(): number {
    return this.#bytesReceived;
  }

  /** Why the session ended, if it did so other than politely. */
  get failure(): GodwitError | undefined {
    return this.#endError;
  }

  /** The initiator's first record, by which the responder knows that message 1 was no replay. */
  abstract confirm(message3: Uint8Array | undefined): void;

  open(handlers: SessionHandlers): void {
    assert(this.handlers === undefined, "a session is opened once");
    this.handlers = handlers;
    if (this.isOver) this.#reportClosed();
    else queueMicrotask(() => this.#deliverBacklog());
  }

  send(frame: Uint8Array, departure?: Departure): boolean {
    if (this.isOver || this.#isClosing) {
      noteDropped(departure);
      return true;
    }
    const length = frame.length;
    if (length === 0 || length > this.frameBytesMax)
      throw godwitError("GODWIT_ENCODE", `a frame has 1 to ${this.frameBytesMax} bytes, got ${length}`);
    const needed = length + varintBytes(length);
    if (this.batch.length + needed > this.batchBytesMax) this.flush();
    const urgency = this.linkClass === "slow" ? urgencyOf(frame) : undefined;
    if (needed > this.batchBytesMax) {
      // Fits its datagram only without a length of its own, or needs several of them.
      this.#sealCounted(frame, true, departure === undefined ? NOBODY : [departure], urgency);
      this.rekeyIfDue();
    } else {
      if (departure !== undefined) this.#batched.push(departure);
      this.#noteUrgency(urgency);
      this.batch.addFrame(frame);
      if (this.batch.length >= this.flushBytes) this.flush();
      else this.#scheduleFlush();
    }
    if (!this.#isBlocked) return true;
    this.#wantsDrain = true;
    return false;
  }

  flush(): void {
    if (this.batch.length === 0) return;
    const hadFrames = this.batch.hasFrames;
    this.batch.drain(!this.isReliable, this.#seal);
    this.#batchedUrgency = undefined;
    if (hadFrames) this.rekeyIfDue();
  }

  pause(isPaused: boolean): void {
    this.isPaused = isPaused;
    this.#applyPause();
    if (!isPaused && this.backlog.length > 0) queueMicrotask(() => this.#deliverBacklog());
  }

  close(): void {
    if (this.isOver || this.#isClosing) return;
    this.#isClosing = true;
    this.params.budget?.charge(this.params.budget.costMs(0, true), "handshakes");
    this.sendControl(ControlKind.close, NO_BYTES);
    if (this.isOver) return;
    this.dispose();
    this.params.pipe.close();
  }

  /** From the pipe. Borrowed. */
  receive(bytes: Uint8Array): void {
    this.#bytesReceived += bytes.length;
    if (this.isOver || this.#isClosing) return;
    if (this.mustKeep || this.#isDelivering) this.keep(new Uint8Array(bytes));
    else this.process(bytes);
    this.#applyPause();
    if (!this.isOver && !this.#isClosing) this.handlers?.bytes?.();
  }

  pipeDrained(): void {
    this.#awaitsDrain = false;
    this.pipeLeft();
  }

  /** A datagram has left: there may be room again. */
  pipeLeft(): void {
    if (this.#awaitsDrain || this.#drainPoll !== undefined || this.params.departures.isFull) return;
    this.#unblock();
  }

  pipeClosed(error?: Error): void {
    if (this.isOver) return;
    if (this.#isClosing) this.end();
    else if (this.backlog.length > 0) this.#pipeEnd = { error };
    else this.#endWithPipe(error);
  }

  /** The end, seen from this side; the pipe is closed. `closed` is reported in its own turn, never inside a call. */
  end(error?: GodwitError): void {
    if (this.isOver) return;
    this.isOver = true;
    this.#endError = error;
    this.#drainPoll?.cancel();
    this.dispose();
    this.params.departures.end();
    for (const departure of this.#batched) noteDropped(departure);
    this.batch.drain(false, () => {});
    this.backlog.length = 0;
    this.backlogBytes = 0;
    this.params.pipe.close();
    if (this.handlers !== undefined) this.#reportClosed();
  }

  /** Of the record that is being sealed; undefined: the link is not slow. */
  protected get urgency(): Urgency | undefined {
    return this.#urgency;
  }

  /** Whether arriving bytes have to wait for a reader. */
  protected get mustKeep(): boolean {
    return this.handlers === undefined || this.backlog.length > 0 || (this.isPaused && this.isReliable);
  }

  /** `isLast`: with these bytes all of the record is on its way. `departure` is of these bytes alone. */
  protected write(bytes: Uint8Array, isLast = true, departure?: Departure, urgency = this.#urgency): void {
    this.#bytesSent += bytes.length;
    const { pipe, departures } = this.params;
    let told = isLast ? this.#departing : NOBODY;
    if (isLast) this.#departing = NOBODY;
    if (departure !== undefined) told = [...told, departure];
    const hasRoom = departures.write(bytes, told, urgency);
    if (!hasRoom) this.#awaitsDrain = true;
    if (!hasRoom || departures.isFull) this.#isBlocked = true;
    else if (pipe.bufferedBytes > HIGH_WATER_BYTES && this.#drainPoll === undefined) {
      this.#isBlocked = true;
      this.#pollDrain();
    }
  }

  /** Takes the airtime of a control item, where the channel is shared, and of a handshake message before it. False: it must not be sent now. */
  protected mayControl(bytes: number, need: AirtimeNeed = "control", before?: Uint8Array): boolean {
    const { budget } = this.params;
    if (budget === undefined) return true;
    const beforeMs = before === undefined ? 0 : budget.costMs(before.length, false);
    return budget.take(budget.costMs(bytes, true) + beforeMs, "handshakes", need);
  }

  /** Adds a control item and sends the batch, so that the item is the last of its record. */
  protected sendControl(kind: number, body: Uint8Array, ...departures: (Departure | undefined)[]): void {
    if (this.batch.length + body.length + 3 > this.batchBytesMax) this.flush();
    for (const departure of departures) if (departure !== undefined) this.#batched.push(departure);
    // What a link needs to stand is held back by its own budget.
    this.#noteUrgency(ALARM);
    this.batch.addControl(kind, body);
    this.flush();
  }

  /** A record without items. */
  protected sendEmpty(departure?: Departure): void {
    this.#sealCounted(NO_BYTES, false, departure === undefined ? NOBODY : [departure], ALARM);
  }

  /** The items of one authenticated record. Borrowed by the handlers. */
  protected takeItems(plaintext: Uint8Array, isBare: boolean): void {
    if (plaintext.length === 0) return;
    try {
      if (isBare) this.#sink.onFrame(plaintext);
      // Not our own limit: the path back may carry more.
      else decodeItems(plaintext, FRAME_BYTES_MAX, this.#sink);
    } catch (error) {
      this.end(
        error instanceof GodwitError
          ? error
          : godwitError("GODWIT_DECODE", "a frame of the far end could not be handled", error),
      );
    }
  }

  /** After a record has come in: counts it against its key and starts a rekey if one is due. */
  protected received(): void {
    if (++this.rxRecords > this.params.limits.expireRecords) this.expire("records received under one key");
    else this.rekeyIfDue();
  }

  protected expire(what: string): void {
    this.params.counters.sessionsExpired++;
    this.end(godwitError("GODWIT_SESSION_EXPIRED", `the session reached its limit: ${what}`));
  }

  /** From now on records go out under a new key. */
  protected sendingKeyChanged(): void {
    this.#txRecords = 0;
    this.#txBytes = 0;
    this.#epochStartedMs = this.params.clock.monotonicMs();
    this.#rekeyAsked = undefined;
    this.params.counters.rekeys++;
  }

  protected get mayRekey(): boolean {
    return this.rekeying.isIdle;
  }

  protected rekeyIfDue(): void {
    if (this.isOver || this.#isClosing || this.#rekeyAsked !== undefined || !this.mayRekey) return;
    const { limits, role, clock } = this.params;
    const patience = role === "initiator" ? 1 : RESPONDER_PATIENCE;
    const nowMs = clock.monotonicMs();
    if (
      this.#txRecords < limits.rekeyAfterRecords * patience &&
      this.#txBytes < limits.rekeyAfterBytes * patience &&
      nowMs - this.#epochStartedMs < limits.rekeyAfterMs * patience
    )
      return;
    const { budget } = this.params;
    // Half of what a key lasts is left for it to wait for airtime; then it waits no longer.
    const isLate = this.#txRecords >= limits.expireRecords / 2;
    if (budget !== undefined && !isLate && !budget.has(budget.costMs(REKEY_BYTES, true), "handshakes"))
      return;
    this.#rekeyAsked = newDeparture();
    this.startRekey(this.#rekeyAsked);
  }

  readonly #seal = (plaintext: Uint8Array, isBare: boolean): void => {
    const departing = this.#batched;
    this.#batched = [];
    this.#sealCounted(plaintext, isBare, departing, this.#batchedUrgency);
  };

  /** Of what is batched; told of slow links alone. */
  #noteUrgency(urgency: Urgency | undefined): void {
    if (this.linkClass !== "slow" || urgency === undefined) return;
    this.#batchedUrgency = Math.min(this.#batchedUrgency ?? urgency, urgency) as Urgency;
  }

  readonly #sink: ItemSink = {
    onFrame: (frame) => {
      if (!this.#isClosing) this.handlers?.frame(frame);
      return !this.isOver;
    },
    onControl: (kind, body, isLast) => {
      if (kind === ControlKind.close) this.end();
      else this.onControl(kind, body, isLast);
      return !this.isOver;
    },
  };

  #sealCounted(plaintext: Uint8Array, isBare: boolean, departing = NOBODY, urgency?: Urgency): void {
    if (this.isOver) return;
    const { limits, clock } = this.params;
    if (this.#txRecords >= limits.expireRecords) return this.expire("records sent under one key");
    if (this.#txBytes + plaintext.length > limits.expireBytes) return this.expire("bytes sent under one key");
    const askedAtMs = this.#rekeyAsked?.leftAtMs;
    const graceMs = Math.max(limits.rekeyGraceMs, ANSWERS_AWAITED * this.answerMs);
    if (askedAtMs !== undefined && clock.monotonicMs() - askedAtMs > graceMs)
      return this.expire("time without an answer to a rekey");
    this.#txRecords++;
    this.#txBytes += plaintext.length;
    this.#departing = departing;
    this.#urgency = urgency;
    this.seal(plaintext, isBare);
  }

  #scheduleFlush(): void {
    if (this.#isFlushScheduled) return;
    this.#isFlushScheduled = true;
    queueMicrotask(() => {
      this.#isFlushScheduled = false;
      if (!this.isOver && !this.#isClosing) this.flush();
    });
  }

  #deliverBacklog(): void {
    if (this.#isDelivering || this.handlers === undefined) return;
    this.#isDelivering = true;
    while (this.backlog.length > 0 && !this.isOver && !(this.isPaused && this.isReliable)) {
      const bytes = this.backlog.shift()!;
      this.backlogBytes -= bytes.length;
      this.process(bytes);
    }
    this.#isDelivering = false;
    this.#applyPause();
    if (this.backlog.length === 0 && this.#pipeEnd !== undefined && !this.isOver)
      this.#endWithPipe(this.#pipeEnd.error);
  }

  #applyPause(): void {
    const isPipePaused = this.isReliable && this.onProof === undefined && this.mustKeep;
    if (isPipePaused === this.#isPipePaused || this.isOver) return;
    this.#isPipePaused = isPipePaused;
    this.params.pipe.pause(isPipePaused);
  }

  #pollDrain(): void {
    const { clock, pipe } = this.params;
    this.#drainPoll = clock.after(DRAIN_POLL_MS, () => {
      this.#drainPoll = undefined;
      if (pipe.bufferedBytes > HIGH_WATER_BYTES / 2) this.#pollDrain();
      else this.#unblock();
    });
  }

  #unblock(): void {
    this.#isBlocked = false;
    if (!this.#wantsDrain || this.isOver || this.#isClosing) return;
    this.#wantsDrain = false;
    this.handlers?.drain();
  }

  #endWithPipe(error: Error | undefined): void {
    if (this.isReliable) this.params.counters.sessionsTruncated++;
    this.end(
      godwitError(
        "GODWIT_LINK_CLOSED",
        error === undefined
          ? "the pipe ended without a goodbye of the far end"
          : `the pipe broke: ${error.message}`,
        error,
      ),
    );
  }

  #reportClosed(): void {
    const { handlers } = this;
    queueMicrotask(() => handlers!.closed(this.#endError));
  }
}
