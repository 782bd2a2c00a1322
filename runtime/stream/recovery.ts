/**
 * What one end knows of its records under way: round trip, losses, and how much may be under way. Loss detection after
 * RFC 9002 section 6 (records are never sent again, their frames go in new ones), round trip after RFC 6298, congestion
 * window after RFC 5681 with the queueing-delay signal of RFC 6817 on top, because relays have megabytes of lanes and
 * drop only when those are full. Knows no frames and no keys. docs/protocol/streams.md "Recovery"
 */
import { BoundedSet } from "@godwit/sdk/bounded";

/** One record under way. */
export interface SentRecord<Frame> {
  readonly number: number;
  readonly bytes: number;
  readonly sentAtMs: number;
  readonly frames: readonly Frame[];
  /** The window was not used up when it went: its arrival says nothing about what would fit. */
  readonly isAppLimited: boolean;
}

const RTT_FIRST_MS = 200;
const GRANULARITY_MS = 2;
const TIMEOUT_MAX_MS = 2_000;
const REORDER_FIRST = 3;
const REORDER_MAX = 256;
const TIME_THRESHOLD = 9 / 8;
/** Records declared lost that are remembered, to notice that they were only late. */
const LOST_REMEMBERED_MAX = 1_024;

const WINDOW_FIRST_BYTES = 131_072;
const WINDOW_MAX_BYTES = 16 * 1024 * 1024;
const WINDOW_RECORDS_MIN = 4;
const LOSS_FACTOR = 0.7;
const DELAY_FACTOR = 0.85;
/** Slow start ends at a queue of this much, ms (RFC 9406: an eighth of the round trip, within bounds). */
const START_DELAY_MIN_MS = 4;
const START_DELAY_MAX_MS = 16;
/** Above the first the window stands still, above the second it shrinks once a round trip, ms. */
const QUEUE_TARGET_MS = 40;
const QUEUE_LIMIT_MS = 80;
/** The smallest round trip is of the last one or two of these. */
const BASE_PERIOD_MS = 10_000;

export class Recovery<Frame> {
  readonly #sent = new Map<number, SentRecord<Frame>>();
  readonly #lost = new BoundedSet<number>({ name: "lost records", max: LOST_REMEMBERED_MAX });
  #bytesInFlight = 0;
  #largestAcked = -1;
  #reorderThreshold = REORDER_FIRST;
  #lossAtMs = Number.POSITIVE_INFINITY;
  #timeouts = 0;
  #lastSentAtMs = 0;

  #smoothedMs = 0;
  #variationMs = 0;
  #baseMs = Number.POSITIVE_INFINITY;
  #baseNextMs = Number.POSITIVE_INFINITY;
  #baseSinceMs = 0;
  #roundMinMs = Number.POSITIVE_INFINITY;
  #roundEnd = 0;
  #queueMs = 0;

  #recordBytes: number;
  #window: number;
  #threshold = Number.POSITIVE_INFINITY;
  /** Records up to this number were under way at the last cut. */
  #cutAt = -1;
  #beforeCut: { window: number; threshold: number; lost: number } | undefined;
  #next = 0;

  constructor(recordBytes: number) {
    this.#recordBytes = recordBytes;
    this.#window = Math.max(2 * recordBytes, Math.min(10 * recordBytes, WINDOW_FIRST_BYTES));
  }

  get bytesInFlight(): number {
    return this.#bytesInFlight;
  }

  get recordsInFlight(): number {
    return this.#sent.size;
  }

  get windowBytes(): number {
    return this.#window;
  }

  get rttMs(): number {
    return this.#smoothedMs === 0 ? RTT_FIRST_MS : this.#smoothedMs;
  }

  get timeouts(): number {
    return this.#timeouts;
  }

  get maySend(): boolean {
    return this.#bytesInFlight < this.#window;
  }

  /** The path carries records of this size now. */
  setRecordBytes(bytes: number): void {
    if (bytes === this.#recordBytes) return;
    this.#recordBytes = bytes;
    this.#window = Math.max(this.#window, WINDOW_RECORDS_MIN * bytes);
  }

  /** Something that wants an acknowledgement has left. Numbers ascend. */
  onSent(number: number, bytes: number, frames: readonly Frame[], nowMs: number): void {
    this.#next = number + 1;
    this.#bytesInFlight += bytes;
    const isAppLimited = this.#bytesInFlight < this.#window / 2;
    this.#sent.set(number, { number, bytes, sentAtMs: nowMs, frames, isAppLimited });
    this.#lastSentAtMs = nowMs;
  }

  /** `ranges` as on the wire, of numbers that were sent. Answers what arrived and what is taken as lost. */
  onAck(
    ranges: readonly number[],
    delayMs: number,
    nowMs: number,
  ): { acked: SentRecord<Frame>[]; lost: SentRecord<Frame>[] } {
    const largest = ranges[1]!;
    const acked: SentRecord<Frame>[] = [];
    let range = ranges.length - 2;
    for (const record of this.#sent.values()) {
      if (record.number > largest) break;
      while (range > 0 && record.number > ranges[range + 1]!) range -= 2;
      if (record.number >= ranges[range]!) acked.push(record);
    }
    this.#noteSpurious(ranges);
    if (acked.length === 0) return { acked, lost: this.#detectLost(nowMs) };
    for (const { number, bytes } of acked) {
      this.#sent.delete(number);
      this.#bytesInFlight -= bytes;
    }
    const newest = acked[acked.length - 1]!;
    if (newest.number > this.#largestAcked) this.#largestAcked = newest.number;
    if (newest.number === largest) this.#sample(nowMs - newest.sentAtMs, delayMs, newest.number, nowMs);
    this.#timeouts = 0;
    const lost = this.#detectLost(nowMs);
    this.#grow(acked);
    return { acked, lost };
  }

  /** When `onTimer` has something to do, monotonic ms; infinity: nothing is under way. */
  get timerAtMs(): number {
    if (this.#sent.size === 0) return Number.POSITIVE_INFINITY;
    return Math.min(this.#lossAtMs, this.#lastSentAtMs + this.#timeoutMs);
  }

  /** Lost records, or a timeout: then the caller sends a probe, whatever the window says. */
  onTimer(nowMs: number): { lost: SentRecord<Frame>[]; isTimeout: boolean } {
    if (nowMs >= this.#lossAtMs) return { lost: this.#detectLost(nowMs), isTimeout: false };
    if (this.#sent.size === 0 || nowMs < this.#lastSentAtMs + this.#timeoutMs)
      return { lost: [], isTimeout: false };
    this.#timeouts++;
    this.#lastSentAtMs = nowMs;
    return { lost: [], isTimeout: true };
  }

  /** The oldest record under way: what a probe repeats. */
  get oldest(): SentRecord<Frame> | undefined {
    return this.#sent.values().next().value;
  }

  /** Another way leads there now: what waited for the old one is asked for at once. */
  hurry(nowMs: number): void {
    this.#timeouts = 0;
    this.#lastSentAtMs = Math.min(this.#lastSentAtMs, nowMs - this.#timeoutMs);
    this.#baseMs = this.#baseNextMs = Number.POSITIVE_INFINITY;
  }

  get #timeoutMs(): number {
    const baseMs =
      this.#smoothedMs === 0
        ? 2 * RTT_FIRST_MS
        : this.#smoothedMs + Math.max(4 * this.#variationMs, GRANULARITY_MS) + 10;
    return Math.min(baseMs * 2 ** Math.min(this.#timeouts, 8), TIMEOUT_MAX_MS + baseMs);
  }

  #detectLost(nowMs: number): SentRecord<Frame>[] {
    const waitMs = Math.max(TIME_THRESHOLD * this.rttMs, GRANULARITY_MS);
    const lost: SentRecord<Frame>[] = [];
    this.#lossAtMs = Number.POSITIVE_INFINITY;
    for (const record of this.#sent.values()) {
      if (record.number >= this.#largestAcked) break;
      const dueAtMs = record.sentAtMs + waitMs;
      if (record.number <= this.#largestAcked - this.#reorderThreshold || dueAtMs <= nowMs) lost.push(record);
      else this.#lossAtMs = Math.min(this.#lossAtMs, dueAtMs);
    }
    for (const { number, bytes } of lost) {
      this.#sent.delete(number);
      this.#bytesInFlight -= bytes;
      this.#lost.add(number);
    }
    if (lost.length > 0) this.#cutFor(lost);
    return lost;
  }

  /** Once per round trip, however much was lost in it. */
  #cutFor(lost: readonly SentRecord<Frame>[]): void {
    if (lost[lost.length - 1]!.number <= this.#cutAt) {
      if (this.#beforeCut !== undefined) this.#beforeCut.lost += lost.length;
      return;
    }
    this.#beforeCut = { window: this.#window, threshold: this.#threshold, lost: lost.length };
    this.#cut(LOSS_FACTOR);
  }

  #cut(factor: number): void {
    this.#cutAt = this.#next - 1;
    this.#window = Math.max(this.#window * factor, WINDOW_RECORDS_MIN * this.#recordBytes);
    this.#threshold = this.#window;
  }

  /** Late, not lost: wait longer next time, and undo the cut when nothing of it was lost (after RFC 4015). */
  #noteSpurious(ranges: readonly number[]): void {
    if (this.#lost.size === 0) return;
    for (const number of this.#lost) {
      let isAcked = false;
      for (let i = 0; i < ranges.length; i += 2)
        if (number >= ranges[i]! && number <= ranges[i + 1]!) isAcked = true;
      if (!isAcked) continue;
      this.#lost.delete(number);
      const distance = this.#largestAcked - number + 1;
      this.#reorderThreshold = Math.min(Math.max(this.#reorderThreshold, distance), REORDER_MAX);
      if (this.#beforeCut === undefined || --this.#beforeCut.lost > 0) continue;
      this.#window = Math.max(this.#window, this.#beforeCut.window);
      this.#threshold = this.#beforeCut.threshold;
      this.#beforeCut = undefined;
    }
  }

  #sample(rawMs: number, delayMs: number, number: number, nowMs: number): void {
    if (nowMs - this.#baseSinceMs > BASE_PERIOD_MS) {
      this.#baseMs = this.#baseNextMs;
      this.#baseNextMs = Number.POSITIVE_INFINITY;
      this.#baseSinceMs = nowMs;
    }
    this.#baseMs = Math.min(this.#baseMs, rawMs);
    this.#baseNextMs = Math.min(this.#baseNextMs, rawMs);
    const sampleMs = Math.max(rawMs - delayMs, Math.min(rawMs, this.#baseMs), 0.01);
    if (this.#smoothedMs === 0) {
      this.#smoothedMs = sampleMs;
      this.#variationMs = sampleMs / 2;
    } else {
      this.#variationMs += (Math.abs(this.#smoothedMs - sampleMs) - this.#variationMs) / 4;
      this.#smoothedMs += (sampleMs - this.#smoothedMs) / 8;
    }
    this.#roundMinMs = Math.min(this.#roundMinMs, sampleMs);
    if (number < this.#roundEnd) return;
    // The smallest of a whole round trip: a single late one is the scheduler, not a queue.
    this.#queueMs = Math.max(0, this.#roundMinMs - this.#baseMs);
    this.#roundMinMs = Number.POSITIVE_INFINITY;
    this.#roundEnd = this.#next;
    const startDelayMs = Math.min(Math.max(this.#baseMs / 8, START_DELAY_MIN_MS), START_DELAY_MAX_MS);
    if (this.#window < this.#threshold && this.#queueMs > startDelayMs) this.#threshold = this.#window;
    if (this.#queueMs > QUEUE_LIMIT_MS) this.#cut(DELAY_FACTOR);
  }

  #grow(acked: readonly SentRecord<Frame>[]): void {
    let bytes = 0;
    for (const record of acked)
      if (!record.isAppLimited && record.number > this.#cutAt) bytes += record.bytes;
    if (bytes === 0) return;
    if (this.#window < this.#threshold) this.#window += bytes;
    else if (this.#queueMs < QUEUE_TARGET_MS) this.#window += (this.#recordBytes * bytes) / this.#window;
    this.#window = Math.min(this.#window, WINDOW_MAX_BYTES);
  }
}
