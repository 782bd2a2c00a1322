/**
 * The end-to-end session of two nodes that all their streams share: frames into sealed records and back, what is
 * acknowledged, lost and sent again, and when it is over. Stages on the way out: stream -> pump -> record -> seal ->
 * packet; on the way in: open -> frames -> stream -> acknowledgement. Must never act on a byte that was not
 * authenticated. docs/protocol/streams.md
 */
import { asGodwitError, godwitError, type GodwitError } from "../kernel/errors.ts";
import { TAG_BYTES } from "../identity/noise.ts";
import { releaseBuffer, takeBuffer } from "../link/records.ts";
import { PACKET_HEADER_BYTES } from "../wire/packet.ts";
import { Alarm } from "./alarm.ts";
import { Acks } from "./acks.ts";
import { ByteStream, type StreamOwner } from "./byte-stream.ts";
import * as bound from "./constants.ts";
import { StreamReset } from "./constants.ts";
import { ReceiveKeys, SendKeys } from "./keys.ts";
import { RangeSet } from "./ranges.ts";
import { Recovery, type SentRecord } from "./recovery.ts";
import {
  cutText,
  meaningOf,
  unreachable,
  writeControl,
  type Frame,
  type SessionDeps,
  type SessionFacts,
} from "./session-types.ts";
import {
  DATA_HEADER_BYTES_MAX,
  decodeFrames,
  decodeRecordHeader,
  FrameWriter,
  RECORD_HEADER_BYTES,
  writeRecordHeader,
  type FrameSink,
} from "./wire.ts";

const OVERHEAD_BYTES = PACKET_HEADER_BYTES + RECORD_HEADER_BYTES + TAG_BYTES;

export class StreamSession implements StreamOwner, FrameSink {
  readonly facts: SessionFacts;
  readonly #deps: SessionDeps<StreamSession>;
  readonly #streams = new Map<number, ByteStream>();
  /** Streams with something to send, in turn. */
  readonly #ready = new Set<ByteStream>();
  #control: Frame[] = [];
  readonly #credits = new Set<ByteStream>();
  readonly #sendKeys: SendKeys;
  readonly #receiveKeys: ReceiveKeys;
  readonly #recovery: Recovery<Frame>;
  readonly #acks = new Acks();
  /** Peer's stream numbers that were opened, halved. */
  readonly #opened = new RangeSet();
  #wantsAck = false;
  #isWhollyTaken = true;
  #isProven: boolean;
  #isOver = false;
  #isPumping = false;
  #isScheduled = false;
  #isWaiting = false;
  #probes = 0;
  #isCareful = false;
  #growth = 0;
  #nextStream: number;
  #heardAtMs: number;
  #waitingSinceMs: number | undefined;
  #idleSinceMs: number;
  readonly #alarm: Alarm;

  constructor(facts: SessionFacts, deps: SessionDeps<StreamSession>) {
    this.facts = facts;
    this.#deps = deps;
    const nowMs = deps.clock.monotonicMs();
    this.#sendKeys = new SendKeys(facts.sendKey, nowMs);
    this.#receiveKeys = new ReceiveKeys(facts.receiveKey);
    const path = deps.path(facts.remote);
    const recordBytes = "frameBytes" in path ? path.frameBytes : bound.SAFE_FRAME_BYTES;
    this.#recovery = new Recovery(recordBytes);
    this.#isProven = facts.isInitiator;
    this.#nextStream = facts.isInitiator ? 0 : 1;
    this.#heardAtMs = this.#idleSinceMs = nowMs;
    this.#alarm = new Alarm(deps.clock, () => this.#onTimer());
    this.#arm();
  }

  get streams(): ReadonlyMap<number, ByteStream> {
    return this.#streams;
  }

  get isProven(): boolean {
    return this.#isProven;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  get rttMs(): number {
    return this.#recovery.rttMs;
  }

  get hasRoom(): boolean {
    return !this.#isOver && this.#streams.size < bound.STREAMS_PER_SESSION_MAX;
  }

  nowMs(): number {
    return this.#deps.clock.monotonicMs();
  }

  /** Asks for a stream; `onAccepted` hears the far side's answer once. */
  openStream(
    service: string,
    metadata: Uint8Array,
    onAccepted: (error: GodwitError | undefined) => void,
  ): ByteStream {
    const id = this.#nextStream;
    this.#nextStream += 2;
    const { remote } = this.facts;
    const facts = { id, remote, service, metadata: new Uint8Array(metadata), onAccepted };
    const stream = new ByteStream(this, facts);
    this.#streams.set(id, stream);
    this.#push({ kind: "open", stream });
    return stream;
  }

  /** The initiator's first record, by which the responder knows that message 1 was no replay. */
  confirm(): void {
    this.#push({ kind: "ping" });
  }

  wake(stream: ByteStream): void {
    this.#ready.add(stream);
    this.#schedule();
  }

  credit(stream: ByteStream): void {
    this.#credits.add(stream);
    this.#schedule();
  }

  accepted(stream: ByteStream): void {
    this.#push({ kind: "accepted", stream });
  }

  reset(stream: ByteStream, reason: number, message: string): void {
    this.#push({ kind: "reset", id: stream.id, reason, message: cutText(message) });
  }

  grow(bytes: number): boolean {
    if (this.#growth + bytes > bound.SESSION_GROWTH_BYTES_MAX || !this.#deps.grow(bytes)) return false;
    this.#growth += bytes;
    return true;
  }

  gone(stream: ByteStream): void {
    this.#streams.delete(stream.id);
    this.#ready.delete(stream);
    this.#credits.delete(stream);
    this.#idleSinceMs = this.nowMs();
  }

  /** A packet's payload that begins with a record header. Borrowed. Throws GODWIT_DECODE on a header cut short. */
  receive(payload: Uint8Array): void {
    if (this.#isOver) return;
    const { epoch, counter } = decodeRecordHeader(payload);
    const plaintext = this.#receiveKeys.open(epoch, counter, payload.subarray(RECORD_HEADER_BYTES));
    const { counters } = this.#deps;
    if (typeof plaintext === "string") return counters.dropped(plaintext);
    counters.recordsReceived++;
    this.#heardAtMs = this.nowMs();
    if (!this.#isProven) {
      this.#isProven = true;
      this.#deps.proven(this);
    }
    this.#wantsAck = false;
    this.#isWhollyTaken = true;
    try {
      decodeFrames(plaintext, this);
    } catch (error) {
      counters.dropped("malformed");
      if (asGodwitError(error).kind !== "protocol") throw error;
      return this.end(
        godwitError("GODWIT_STREAM_RESET", "the far end broke the stream protocol", error),
        true,
      );
    }
    if (this.#isOver) return;
    if (this.#isWhollyTaken) this.#acks.note(counter, this.#wantsAck, this.#heardAtMs);
    this.#pump();
  }

  /** Frames towards the far end may go again, or another way leads there. */
  onWritable(): void {
    if (this.#isWaiting) this.#pump();
  }

  onRoute(): void {
    if (this.#isOver) return;
    this.#recovery.hurry(this.nowMs());
    this.#onTimer();
  }

  /** Ends the session and all its streams. `isTold`: the far end hears of it if it can. */
  end(error: GodwitError | undefined, isTold: boolean): void {
    if (this.#isOver) return;
    if (isTold) this.#sendClose();
    this.#isOver = true;
    this.#alarm.cancel();
    for (const stream of [...this.#streams.values()])
      stream.close(error ?? godwitError("GODWIT_STREAM_RESET", "the far end closed the session"));
    this.#control = [];
    this.#deps.over(this);
  }

  // Frames of the far end.

  onPing(): void {
    this.#wantsAck = true;
  }

  onAck(ranges: readonly number[], delay: number): void {
    if (ranges[1]! >= this.#sendKeys.counter) {
      this.end(godwitError("GODWIT_STREAM_RESET", "the far end acknowledged what was never sent"), true);
      return;
    }
    const outcome = this.#recovery.onAck(ranges, Math.min(delay / 10, bound.ACK_DELAY_MS * 4), this.nowMs());
    for (const { number, frames } of outcome.acked) {
      this.#sendKeys.onAcked(number);
      for (const frame of frames) if (frame.kind === "data") frame.stream.onAcked(frame.piece);
    }
    if (outcome.acked.length > 0) {
      this.#waitingSinceMs = undefined;
      this.#isCareful &&= this.#recovery.recordsInFlight > 0;
    }
    this.#onLost(outcome.lost);
  }

  onOpen(id: number, service: string, metadata: Uint8Array): void {
    this.#wantsAck = true;
    const isTheirs = (id & 1) === (this.facts.isInitiator ? 1 : 0);
    if (!isTheirs) throw godwitError("GODWIT_DECODE", "a stream was opened under a number of ours");
    const slot = id >>> 1;
    if (this.#opened.has(slot)) return;
    if (this.#opened.count >= bound.ACK_RANGES_MAX) {
      this.#isWhollyTaken = false;
      return;
    }
    this.#opened.add(slot, slot + 1);
    const stream = new ByteStream(this, {
      id,
      remote: this.facts.remote,
      service,
      metadata: metadata.slice(),
    });
    if (!this.hasRoom) {
      this.reset(stream, StreamReset.limit, "too many streams between the two nodes");
      return;
    }
    this.#streams.set(id, stream);
    this.#deps.incoming(this, stream);
  }

  onData(id: number, offset: number, bytes: Uint8Array, isEnd: boolean): void {
    this.#wantsAck = true;
    const stream = this.#streams.get(id);
    if (stream === undefined) {
      // Of a stream that is over, or one whose opening is still on its way: then it must come again.
      if ((id & 1) === (this.facts.isInitiator ? 1 : 0) && !this.#opened.has(id >>> 1))
        this.#isWhollyTaken = false;
      return;
    }
    this.#deps.counters.bytesReceived += bytes.length;
    if (!stream.onData(offset, bytes, isEnd)) this.#isWhollyTaken = false;
  }

  onCredit(id: number, limit: number): void {
    this.#wantsAck = true;
    this.#streams.get(id)?.onCredit(limit);
  }

  onReset(id: number, reason: number, message: string): void {
    this.#wantsAck = true;
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    const { code, words } = meaningOf(reason, stream);
    stream.onReset(code, message === "" ? words : message);
  }

  onAccepted(id: number): void {
    this.#wantsAck = true;
    this.#streams.get(id)?.onAccepted();
  }

  onClose(): void {
    this.end(undefined, false);
  }

  #push(frame: Frame): void {
    if (this.#isOver) return;
    this.#control.push(frame);
    this.#schedule();
    if (this.#control.length > bound.CONTROL_FRAMES_MAX)
      queueMicrotask(() =>
        this.end(godwitError("GODWIT_STREAM_LIMIT", "the far end asks for too much"), true),
      );
  }

  #onLost(lost: readonly SentRecord<Frame>[]): void {
    for (const { frames } of lost) for (const frame of frames) this.#again(frame);
  }

  #again(frame: Frame): void {
    switch (frame.kind) {
      case "data":
        this.#deps.counters.retransmittedBytes += frame.piece.end - frame.piece.start;
        return frame.stream.onLost(frame.piece);
      case "credit":
        if (!frame.stream.isClosed) this.#credits.add(frame.stream);
        return;
      case "ping":
        return;
      case "open":
      case "accepted":
        if (!frame.stream.isClosed) this.#control.push(frame);
        return;
      case "reset":
        this.#control.push(frame);
    }
  }

  #schedule(): void {
    if (this.#isScheduled || this.#isOver) return;
    this.#isScheduled = true;
    queueMicrotask(() => {
      this.#isScheduled = false;
      this.#pump();
    });
  }

  get #hasWork(): boolean {
    return this.#control.length > 0 || this.#credits.size > 0 || this.#ready.size > 0;
  }

  /** Sends what may go now. */
  #pump(): void {
    if (this.#isOver || this.#isPumping) return;
    this.#isPumping = true;
    this.#isWaiting = false;
    try {
      while (!this.#isOver) {
        const mayData = (this.#recovery.maySend || this.#probes > 0) && this.#hasWork;
        const path = mayData || this.#acks.isDue ? this.#deps.path(this.facts.remote) : undefined;
        if (path === undefined) break;
        const isReady = path.kind === "ready";
        if (!isReady && !(this.#acks.isDue && path.kind === "full")) {
          this.#isWaiting = true;
          if (path.kind !== "full" && this.#hasWork) this.#waitingSinceMs ??= this.nowMs();
          break;
        }
        if (!this.#sendRecord(path.frameBytes, mayData && isReady)) break;
      }
    } finally {
      this.#isPumping = false;
    }
    if (!this.#isOver) this.#arm();
  }

  /** One record of what waits; false: there was nothing. */
  #sendRecord(frameBytes: number, mayData: boolean): boolean {
    const nowMs = this.nowMs();
    const recordBytes = this.#isCareful ? Math.min(frameBytes, bound.SAFE_FRAME_BYTES) : frameBytes;
    this.#recovery.setRecordBytes(recordBytes);
    const limit = recordBytes - OVERHEAD_BYTES;
    const scratch = takeBuffer();
    const out = takeBuffer();
    try {
      const writer = new FrameWriter(scratch);
      const frames: Frame[] = [];
      if (this.#acks.hasUnsaid) this.#acks.write(writer, nowMs);
      if (mayData) this.#fill(writer, limit, frames);
      if (writer.length === 0) {
        this.#acks.isDue = false;
        return false;
      }
      if (this.#sendKeys.advanceIfDue(nowMs)) this.#deps.counters.rekeys++;
      if (this.#sendKeys.isExpired) {
        this.end(godwitError("GODWIT_SESSION_EXPIRED", "the far end does not follow to the next key"), false);
        return false;
      }
      this.#seal(writer.bytes, out, frames, nowMs);
      return true;
    } finally {
      releaseBuffer(scratch);
      releaseBuffer(out);
    }
  }

  #seal(plaintext: Uint8Array, out: Uint8Array, frames: readonly Frame[], nowMs: number): void {
    const { facts } = this;
    const { counters } = this.#deps;
    out.set(facts.header);
    const counter = this.#sendKeys.counter;
    writeRecordHeader(out, PACKET_HEADER_BYTES, {
      epoch: this.#sendKeys.epoch,
      index: facts.remoteIndex,
      counter,
    });
    const end = this.#sendKeys.seal(plaintext, out, PACKET_HEADER_BYTES + RECORD_HEADER_BYTES);
    if (frames.length > 0) {
      this.#recovery.onSent(counter, end, frames, nowMs);
      this.#waitingSinceMs ??= nowMs;
      if (this.#probes > 0) this.#probes--;
    }
    counters.recordsSent++;
    this.#deps.sendPacket(facts.remote, out.subarray(0, end));
  }

  #fill(writer: FrameWriter, limit: number, frames: Frame[]): void {
    while (this.#control.length > 0 && limit - writer.length >= bound.CONTROL_BYTES_MAX) {
      const frame = this.#control.shift()!;
      if (writeControl(writer, frame)) frames.push(frame);
    }
    for (const stream of this.#credits) {
      if (limit - writer.length < 16) break;
      this.#credits.delete(stream);
      writer.credit(stream.id, stream.creditLimit);
      frames.push({ kind: "credit", stream });
    }
    for (const stream of this.#ready) {
      const room = limit - writer.length - DATA_HEADER_BYTES_MAX;
      if (room < bound.PIECE_BYTES_MIN) break;
      // Behind the others, should something be left.
      this.#ready.delete(stream);
      const piece = stream.takePiece(room);
      if (piece === undefined) continue;
      const out = writer.data(stream.id, piece.start, piece.end - piece.start, piece.isEnd);
      stream.copyPiece(piece, out);
      this.#deps.counters.bytesSent += out.length;
      frames.push({ kind: "data", stream, piece });
      if (stream.hasWork) this.#ready.add(stream);
      stream.noteTaken();
    }
  }

  #sendClose(): void {
    if (this.#deps.path(this.facts.remote).kind !== "ready") return;
    const out = takeBuffer();
    const writer = new FrameWriter(new Uint8Array(1));
    writer.close();
    this.#seal(writer.bytes, out, [], this.nowMs());
    releaseBuffer(out);
  }

  // Time.

  #arm(): void {
    const quietMs = this.#streams.size > 0 ? bound.KEEPALIVE_MS : bound.IDLE_MS;
    const since = this.#streams.size > 0 ? this.#heardAtMs : Math.max(this.#idleSinceMs, this.#heardAtMs);
    this.#alarm.set(
      Math.min(
        this.#recovery.timerAtMs,
        this.#acks.dueAtMs,
        since + quietMs,
        (this.#waitingSinceMs ?? Number.POSITIVE_INFINITY) + bound.UNREACHABLE_MS,
        this.#isWaiting ? this.nowMs() + bound.ROUTE_POLL_MS : Number.POSITIVE_INFINITY,
      ),
    );
  }

  #onTimer(): void {
    if (this.#isOver) return;
    const nowMs = this.nowMs();
    if (this.#waitingSinceMs !== undefined && nowMs - this.#waitingSinceMs >= bound.UNREACHABLE_MS)
      return this.end(unreachable(), false);
    if (this.#streams.size === 0 && !this.#hasWork) {
      if (nowMs - Math.max(this.#idleSinceMs, this.#heardAtMs) >= bound.IDLE_MS)
        return this.end(undefined, true);
    } else if (nowMs - this.#heardAtMs >= bound.KEEPALIVE_MS && this.#recovery.recordsInFlight === 0) {
      this.#control.push({ kind: "ping" });
      this.#heardAtMs = nowMs;
    }
    if (nowMs >= this.#acks.dueAtMs) this.#acks.isDue = true;
    const { lost, isTimeout } = this.#recovery.onTimer(nowMs);
    this.#onLost(lost);
    if (isTimeout) this.#onTimeout();
    this.#pump();
  }

  /** Nothing came back: what is oldest goes again, and the answer will say what else was lost (RFC 9002 section 6.2). */
  #onTimeout(): void {
    this.#deps.counters.timeouts++;
    if (this.#recovery.timeouts >= bound.BLACK_HOLE_TIMEOUTS) this.#isCareful = true;
    this.#probes = bound.PROBES;
    for (const frame of this.#recovery.oldest?.frames ?? []) this.#again(frame);
    this.#control.push({ kind: "ping" });
  }
}
