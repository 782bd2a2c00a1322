/**
 * Records larger than a datagram of their pipe, on slow links: cut by one end and put together by the other, which says once what it lacks. Pieces prove
 * nothing; the whole record is opened as any other, so a forged piece costs that record and no more. Knows neither keys nor pipe.
 * docs/protocol/slow.md "Fragments"
 */
import { BoundedMap } from "@godwit/sdk/bounded";
import type { Urgency } from "@godwit/sdk";
import type { Clock, Timer } from "../kernel/clock.ts";
import { type Departure, isWaiting, newDeparture } from "../kernel/departure.ts";
import type { LinkCounters } from "./guard.ts";
import { BARE_FLAG, EPOCH_MASK, FRAGMENT_FLAG, LAST_FLAG, RECORD_FLAG } from "./constants.ts";

/** Of one record; the index has 6 bits. */
export const FRAGMENTS_MAX = 64;
/** Largest frame that is cut: whatever is not bulk, with header and journey. */
export const CUT_FRAME_BYTES_MAX = 5_632;
/** Of a record, behind its header: the frame and its tag. */
const BODY_BYTES_MAX = CUT_FRAME_BYTES_MAX + 16;
/** Cut records that one end keeps, and half-arrived ones of the other. */
const RECORDS_MAX = 8;
/** Neither longer than this after the last sign of it. */
const KEPT_MS = 30 * 60_000;
/** A piece goes at most this often besides the first time, and a record is asked for this often. */
const AGAIN_MAX = 3;
const ASKS_MAX = 4;
/** Asks for records that never became whole; one is forgiven a minute. Who forges pieces must not make us talk. */
const VAIN_ASKS_MAX = 8;
const VAIN_ASK_MS = 60_000;
/** Of the longest pause that was seen, what is left at the next piece. */
const PACE_KEPT = 0.75;

const INDEX_BYTES = 1;
const NAME_FLAGS = BARE_FLAG | EPOCH_MASK;

/** Header and counter as one number: bits that differ make another record. */
const keyOf = (flags: number, counter: number): number => (flags & NAME_FLAGS) * 2 ** 32 + counter;

const pieceBytes = (mtu: number, counterBytes: number): number => mtu - 1 - counterBytes - INDEX_BYTES;

/** Largest frame that goes in pieces over a pipe of this mtu. */
export const cutFrameBytesMax = (mtu: number, counterBytes: number, tagBytes: number): number =>
  Math.min(CUT_FRAME_BYTES_MAX, FRAGMENTS_MAX * pieceBytes(mtu, counterBytes) - tagBytes);

export interface Fragment {
  /** As of the whole record. */
  readonly flags: number;
  readonly counter: number;
  readonly index: number;
  readonly isLast: boolean;
  /** Borrowed. */
  readonly piece: Uint8Array;
}

/** Undefined: it is none. Throws nothing. */
export function decodeFragment(datagram: Uint8Array, counterBytes: number): Fragment | undefined {
  const head = datagram[0] ?? 0;
  if ((head & ~(NAME_FLAGS | LAST_FLAG)) !== (RECORD_FLAG | FRAGMENT_FLAG)) return undefined;
  const at = 1 + counterBytes + INDEX_BYTES;
  if (datagram.length <= at) return undefined;
  const index = datagram[at - 1]!;
  if (index >= FRAGMENTS_MAX) return undefined;
  return {
    flags: RECORD_FLAG | (head & NAME_FLAGS),
    counter: readCounter(datagram, counterBytes),
    index,
    isLast: (head & LAST_FLAG) !== 0,
    piece: datagram.subarray(at),
  };
}

/** The datagrams of a sealed record, each its own bytes. */
export function cutRecord(record: Uint8Array, counterBytes: number, mtu: number): Uint8Array[] {
  const head = 1 + counterBytes;
  const size = pieceBytes(mtu, counterBytes);
  const count = Math.ceil((record.length - head) / size);
  return Array.from({ length: count }, (_, index) => {
    const piece = record.subarray(head + index * size, Math.min(record.length, head + (index + 1) * size));
    const out = new Uint8Array(head + INDEX_BYTES + piece.length);
    out.set(record.subarray(0, head));
    out[0]! |= FRAGMENT_FLAG | (index === count - 1 ? LAST_FLAG : 0);
    out[head] = index;
    out.set(piece, head + INDEX_BYTES);
    return out;
  });
}

function readCounter(bytes: Uint8Array, counterBytes: number): number {
  let counter = 0;
  for (let i = 0; i < counterBytes; i++) counter = counter * 256 + bytes[1 + i]!;
  return counter;
}

/** What has come of a record: its flags and counter, and one bit for each piece, the first one highest; zeros at the end are left off. */
function encodeCame(head: Uint8Array, came: (index: number) => boolean, count: number): Uint8Array {
  const bits = new Uint8Array(Math.ceil(count / 8));
  for (let index = 0; index < count; index++) if (came(index)) bits[index >>> 3]! |= 0x80 >>> (index & 7);
  let length = bits.length;
  while (length > 0 && bits[length - 1] === 0) length--;
  const out = new Uint8Array(head.length + length);
  out.set(head);
  out.set(bits.subarray(0, length), head.length);
  return out;
}

interface Sent {
  readonly datagram: Uint8Array;
  departure: Departure;
  times: number;
  readonly urgency: Urgency | undefined;
}

/** The pieces that this end sent, for as long as the far end may lack some. */
export class SentFragments {
  readonly #clock: Clock;
  readonly #counterBytes: number;
  readonly #records = new BoundedMap<number, readonly Sent[]>({
    name: "records in pieces",
    max: RECORDS_MAX,
  });

  constructor(clock: Clock, counterBytes: number) {
    this.#clock = clock;
    this.#counterBytes = counterBytes;
  }

  /** Takes the datagrams of a record that are about to be written. Answers when each leaves, in their order. */
  keep(datagrams: readonly Uint8Array[], urgency?: Urgency): readonly Departure[] {
    const pieces = datagrams.map((datagram) => ({ datagram, departure: newDeparture(), times: 0, urgency }));
    const first = datagrams[0]!;
    this.#records.renew(keyOf(first[0]!, readCounter(first, this.#counterBytes)), pieces);
    return pieces.map(({ departure }) => departure);
  }

  /**
   * The far end says what it has of a record: what it lacks goes again, but not what still waits here or left less than `answerMs` ago, of which it
   * cannot have known. Anything else means nothing. Shared: never write to it.
   */
  missing(came: Uint8Array, answerMs = 0): readonly Pick<Sent, "datagram" | "departure" | "urgency">[] {
    const head = 1 + this.#counterBytes;
    if (came.length < head) return [];
    const key = keyOf(came[0]!, readCounter(came, this.#counterBytes));
    const record = this.#records.get(key);
    if (record === undefined) return [];
    const nowMs = this.#clock.monotonicMs();
    const again: Sent[] = [];
    for (const [index, piece] of record.entries()) {
      const { leftAtMs } = piece.departure;
      const ageMs = nowMs - (leftAtMs ?? Number.POSITIVE_INFINITY);
      if (ageMs < answerMs || ageMs > KEPT_MS || piece.times >= AGAIN_MAX) continue;
      if (((came[head + (index >>> 3)] ?? 0) & (0x80 >>> (index & 7))) !== 0) continue;
      piece.times++;
      piece.departure = newDeparture();
      again.push(piece);
    }
    return again;
  }

  clear(): void {
    this.#records.clear();
  }
}

interface Half {
  /** Flags and counter, as the far end is told of it. */
  readonly head: Uint8Array;
  readonly counter: number;
  readonly pieces: (Uint8Array | undefined)[];
  count: number;
  bytes: number;
  /** Known once the last piece has come. */
  lastIndex: number | undefined;
  /** The piece behind which the far end is done with what it sends now. */
  awaited: number | undefined;
  atMs: number;
  asks: number;
  /** The last time that the far end was asked. */
  asked: Departure | undefined;
  timer: Timer | undefined;
}

export interface CollectedDeps {
  readonly clock: Clock;
  readonly counterBytes: number;
  /** How long the far end may be silent before it is asked, ms. */
  silenceMs(): number;
  /** Tells the far end what has come; `departure` is told when that has left. */
  ask(came: Uint8Array, departure: Departure): void;
  readonly counters: Pick<LinkCounters, "recordsReplayed" | "fragmentsCollected" | "recordsUnfinished">;
}

export interface Whole {
  readonly record: Uint8Array;
  readonly asks: number;
}

/** The records of the far end of which pieces have come. */
export class CollectedFragments {
  readonly #deps: CollectedDeps;
  readonly #halves = new Map<number, Half>();
  /** Longest pause of late between two pieces of a record, ms: budgets of airtime make it long. Undefined before there were two. */
  #paceMs: number | undefined;
  #vainAsks = 0;
  #vainAtMs = 0;

  constructor(deps: CollectedDeps) {
    this.#deps = deps;
  }

  /** Records that are not whole. */
  get count(): number {
    return this.#halves.size;
  }

  /** The whole record, if this piece was what it lacked: `forgive` it when it proves genuine. */
  take(fragment: Fragment): Whole | undefined {
    const key = keyOf(fragment.flags, fragment.counter);
    const half = this.#halves.get(key) ?? this.#begin(key, fragment);
    const { clock, counters } = this.#deps;
    if (!add(half, fragment)) {
      counters.recordsReplayed++;
      return undefined;
    }
    counters.fragmentsCollected++;
    const nowMs = clock.monotonicMs();
    if (half.count > 1) this.#paceMs = Math.max(nowMs - half.atMs, (this.#paceMs ?? 0) * PACE_KEPT);
    half.atMs = nowMs;
    if (half.count - 1 === half.lastIndex) {
      half.timer?.cancel();
      this.#halves.delete(key);
      return { record: joined(half), asks: half.asks };
    }
    if (fragment.isLast) half.awaited = fragment.index;
    if (fragment.index === half.awaited) this.#ask(key, half);
    else this.#watch(key, half);
    return undefined;
  }

  /** A genuine record with this counter has come: those before it have left the far end, as far as they will. */
  later(flags: number, counter: number): void {
    for (const [key, half] of this.#halves)
      if (half.asks === 0 && half.counter < counter && ((half.head[0]! ^ flags) & EPOCH_MASK) === 0)
        this.#ask(key, half);
  }

  /** What was asked for was genuine. */
  forgive(asks: number): void {
    this.#vainAsks = Math.max(0, this.#vainAsks - asks);
  }

  clear(): void {
    for (const [key, half] of this.#halves) this.#giveUp(key, half);
  }

  /** The one that lacks most gives way: whoever begins many must not push out what is nearly whole. */
  #begin(key: number, { flags, counter }: Fragment): Half {
    if (this.#halves.size >= RECORDS_MAX) {
      let least: [number, Half] | undefined;
      for (const entry of this.#halves)
        if (least === undefined || entry[1].count < least[1].count) least = entry;
      this.#giveUp(...least!);
    }
    const half: Half = {
      head: headOf(flags, counter, this.#deps.counterBytes),
      counter,
      pieces: [],
      count: 0,
      bytes: 0,
      lastIndex: undefined,
      awaited: undefined,
      atMs: 0,
      asks: 0,
      asked: undefined,
      timer: undefined,
    };
    this.#halves.set(key, half);
    return half;
  }

  #giveUp(key: number, half: Half): void {
    this.#deps.counters.recordsUnfinished++;
    half.timer?.cancel();
    this.#halves.delete(key);
  }

  #ask(key: number, half: Half): void {
    // Not while the last question waits here still.
    if (half.asks < ASKS_MAX && !isWaiting(half.asked) && this.#mayAsk()) {
      half.asks++;
      half.asked = newDeparture();
      const { pieces, lastIndex } = half;
      half.awaited = undefined;
      for (let index = lastIndex ?? -1; index >= 0 && half.awaited === undefined; index--)
        if (pieces[index] === undefined) half.awaited = index;
      this.#deps.ask(
        encodeCame(half.head, (index) => pieces[index] !== undefined, pieces.length),
        half.asked,
      );
    }
    this.#watch(key, half);
  }

  #mayAsk(): boolean {
    const nowMs = this.#deps.clock.monotonicMs();
    this.#vainAsks = Math.max(0, this.#vainAsks - (nowMs - this.#vainAtMs) / VAIN_ASK_MS);
    this.#vainAtMs = nowMs;
    if (this.#vainAsks > VAIN_ASKS_MAX - 1) return false;
    this.#vainAsks++;
    return true;
  }

  #watch(key: number, half: Half): void {
    half.timer?.cancel();
    const { clock, silenceMs } = this.#deps;
    // Of a far end whose pace nobody knows yet a single piece says nothing: it may have to wait long for its next one.
    const isUnknown = this.#paceMs === undefined && half.asks > 0;
    const waitMs = isUnknown ? KEPT_MS : Math.max(silenceMs(), 2 * (this.#paceMs ?? 0)) * 2 ** half.asks;
    half.timer = clock.after(Math.min(waitMs, KEPT_MS), () => {
      const isAsked = half.asks >= ASKS_MAX && !isWaiting(half.asked);
      if (isAsked || clock.monotonicMs() - half.atMs >= KEPT_MS) this.#giveUp(key, half);
      else this.#ask(key, half);
    });
  }
}

/** False: it is there, or does not fit with those that are. The first one counts, since none proves anything. */
function add(half: Half, { index, isLast, piece }: Fragment): boolean {
  const { pieces, lastIndex } = half;
  if (pieces[index] !== undefined || half.bytes + piece.length > BODY_BYTES_MAX) return false;
  if (lastIndex !== undefined && (isLast || index > lastIndex)) return false;
  if (isLast && pieces.length > index) return false;
  pieces[index] = new Uint8Array(piece);
  half.count++;
  half.bytes += piece.length;
  if (isLast) half.lastIndex = index;
  return true;
}

function headOf(flags: number, counter: number, counterBytes: number): Uint8Array {
  const head = new Uint8Array(1 + counterBytes);
  head[0] = flags;
  for (let i = 0; i < counterBytes; i++) head[1 + i] = (counter >>> (8 * (counterBytes - 1 - i))) & 255;
  return head;
}

function joined({ head, pieces, bytes }: Half): Uint8Array {
  const out = new Uint8Array(head.length + bytes);
  out.set(head);
  let at = head.length;
  for (const piece of pieces) {
    out.set(piece!, at);
    at += piece!.length;
  }
  return out;
}
