/**
 * Bundles too large for one frame: offered, then fetched in chunks at the receiver's pace, resumable after a lost link
 * or a restart of either end. This is the receiving half; chunk-sender.ts is the other. The receiver grants credit (`want`), the sender never sends beyond it. What
 * arrives behind a gap is kept, and the gap alone is asked for again. docs/protocol/delivery.md "Large bundles".
 */
import type { Timer } from "@godwit/sdk";
import type { BundleId, NodeId } from "../../kernel/ids.ts";
import { bundleIdOf, encodeBundleHeader, encodeWant, type Bundle, type Offer } from "../../wire/bundle.ts";
import { concatBytes } from "../../wire/bytes.ts";
import type { CustodyContext } from "../context.ts";
import { planPlace } from "./arriving-places.ts";
import type { StoreOp } from "../../store/types.ts";

/** Smallest chunk that a sender makes of its own accord. */
export const CHUNK_BYTES_MIN = 4 * 1024;
/** Bytes asked for ahead of what has arrived, at most. */
export const CREDIT_BYTES = 1024 * 1024;
/** At first so much, then as much as arrives in about a second: what is under way cannot be overtaken. */
const CREDIT_FIRST_BYTES = 64 * 1024;
const CREDIT_BYTES_MIN = 16 * 1024;
/** Half of the credit that arrives sooner doubles it, later halves it. */
const CREDIT_FAST_MS = 250;
const CREDIT_SLOW_MS = 1_000;
/** Chunks kept behind a gap: twice the credit in pieces that fit the smallest usual packet. */
const EARLY_CHUNKS_MAX = 2_048;
/** Arrived bytes are written to the store in pieces of about this size. */
const FLUSH_BYTES = 512 * 1024;
/** Large transfers arriving at once; each may hold a whole bundle in memory. */
export const ARRIVING_MAX = 4;
/** What an honest neighbour's window allows (window.ts), so that one alone cannot take every place. */
const ARRIVING_PER_NEIGHBOUR_MAX = 2;
/** The same for small ones: on links with small frames every bundle comes in chunks. */
const SMALL_BYTES = 64 * 1024;
const SMALL_ARRIVING_MAX = 64;
const SMALL_PER_NEIGHBOUR_MAX = 32;
/** Half-arrived bundles kept in the store for resumption. */
export const PARTIALS_MAX = 64;
/** And no more bytes of them than this, or a quarter of what may be carried for others. */
const PARTIAL_BYTES_MAX = 64 * 1024 * 1024;
export const STALL_MS = 5_000;
const STALLS_MAX = 6;

interface Arriving {
  readonly from: NodeId;
  readonly offer: Offer;
  readonly chunks: Uint8Array[];
  readonly startedAtMs: number;
  /** Of what was received, what an earlier try had brought. */
  resumed: number;
  received: number;
  flushed: number;
  creditEnd: number;
  creditBytes: number;
  creditAtMs: number;
  stalls: number;
  /** Behind a gap, by offset. Datagrams only. */
  readonly early: Map<number, Uint8Array>;
  earlyBytes: number;
  /** The gap last asked for, and when: once in two round trips is enough. Undefined: the sender has all its credit. */
  gapAt: number | undefined;
  gapAskedAtMs: number;
  progressAtMs: number;
  timer: Timer | undefined;
}

export interface ReceiverEvents {
  /** All chunks are here and the id is right. The store still holds the pieces: delete `cleanup` with the commit. */
  complete(from: NodeId, bundle: Bundle, offer: Offer, cleanup: readonly StoreOp[]): void;
  /** Another neighbour has its place now: it should offer the bundle again. */
  yielded(from: NodeId, id: BundleId): void;
  /** The bytes do not hash to the id: everything was thrown away. */
  damaged(from: NodeId, id: BundleId): void;
}

export class ChunkReceiver {
  readonly #ctx: CustodyContext;
  readonly #events: ReceiverEvents;
  readonly #arriving = new Map<BundleId, Arriving>();
  /** Sizes of the pieces in the store by bundle, contiguous from 0; oldest first. */
  readonly #partials = new Map<BundleId, number[]>();

  constructor(ctx: CustodyContext, events: ReceiverEvents) {
    this.#ctx = ctx;
    this.#events = events;
  }

  /** Bytes promised by offers that are arriving: they count against quotas. */
  get expectedBytes(): number {
    let bytes = 0;
    for (const { offer } of this.#arriving.values()) bytes += offer.sealedBytes;
    return bytes;
  }

  async load(): Promise<void> {
    const orphans: StoreOp[] = [];
    for (const row of await this.#ctx.store.load("chunk")) {
      const [id, index] = row.key.split("/") as [BundleId, string];
      const pieces = this.#partials.get(id) ?? [];
      if (Number(index) === pieces.length) {
        pieces.push(row.bodyBytes);
        this.#partials.set(id, pieces);
      } else orphans.push({ op: "delete", in: "chunk", key: row.key });
    }
    if (orphans.length > 0) await this.#ctx.store.commit(orphans);
  }

  isArrivingFrom(id: BundleId): NodeId | undefined {
    return this.#arriving.get(id)?.from;
  }

  /** Starts or resumes a transfer. False: too many at once, ask again later. The caller has checked quotas. */
  async accept(from: NodeId, offer: Offer): Promise<boolean> {
    const current = this.#arriving.get(offer.id);
    if (current !== undefined) {
      if (current.from !== from) return false;
      this.#want(current, current.received);
      return true;
    }
    if (!this.#makePlace(from, offer.sealedBytes <= SMALL_BYTES)) return false;
    const arriving: Arriving = {
      from,
      offer,
      chunks: [],
      startedAtMs: this.#ctx.clock.monotonicMs(),
      resumed: 0,
      received: 0,
      flushed: 0,
      creditEnd: 0,
      // Each grant costs a round, so a carried medium gets all at once.
      creditBytes: (this.#ctx.carrier.patienceMs?.(from) ?? 0) > 0 ? CREDIT_BYTES : CREDIT_FIRST_BYTES,
      creditAtMs: this.#ctx.clock.monotonicMs(),
      stalls: 0,
      early: new Map(),
      earlyBytes: 0,
      gapAt: undefined,
      gapAskedAtMs: 0,
      progressAtMs: this.#ctx.clock.monotonicMs(),
      timer: undefined,
    };
    this.#arriving.set(offer.id, arriving);
    await this.#resume(arriving);
    if (this.#arriving.get(offer.id) !== arriving) return true; // its neighbour went meanwhile
    if (arriving.received >= offer.sealedBytes) this.#finish(arriving);
    else {
      this.#want(arriving, arriving.received);
      this.#watch(arriving);
    }
    return true;
  }

  onChunk(from: NodeId, chunk: { id: BundleId; offset: number; bytes: Uint8Array }): void {
    const arriving = this.#arriving.get(chunk.id);
    // Not asked for, or a repeat: not an error of an honest neighbour.
    if (arriving === undefined || arriving.from !== from || chunk.offset < arriving.received) return;
    if (chunk.bytes.length === 0 || chunk.offset + chunk.bytes.length > arriving.offer.sealedBytes) return;
    if (chunk.offset > arriving.received) {
      this.#keepEarly(arriving, chunk);
      return this.#onGap(arriving);
    }
    this.#append(arriving, chunk.bytes.slice());
    arriving.stalls = 0;
    arriving.progressAtMs = this.#ctx.clock.monotonicMs();
    if (arriving.received === arriving.offer.sealedBytes) return this.#finish(arriving);
    if (arriving.received - arriving.flushed >= FLUSH_BYTES) this.#flush(arriving);
    if (arriving.early.size > 0) return this.#onGap(arriving);
    if (arriving.gapAt !== undefined) {
      // The sender was told to stop behind the gap.
      arriving.gapAt = undefined;
      return this.#want(arriving, arriving.received);
    }
    // With all of it granted there is no more credit to give: a range that ends no later would be sent again.
    const isGranted = arriving.creditEnd >= arriving.offer.sealedBytes;
    if (!isGranted && arriving.creditEnd - arriving.received < arriving.creditBytes / 2) {
      this.#adaptCredit(arriving);
      this.#want(arriving, arriving.received);
    }
  }

  /** What had arrived stays in the store for the next offer. */
  onNeighbourDown(neighbour: NodeId): void {
    for (const arriving of [...this.#arriving.values()])
      if (arriving.from === neighbour) this.#abandon(arriving);
  }

  stop(): void {
    for (const arriving of this.#arriving.values()) arriving.timer?.cancel();
    this.#arriving.clear();
  }

  /** False: others have the places, and none of them yields. */
  #makePlace(from: NodeId, isSmall: boolean): boolean {
    const { clock, regard } = this.#ctx;
    const holders = [...this.#arriving.values()]
      .filter(({ offer }) => offer.sealedBytes <= SMALL_BYTES === isSmall)
      .map((arriving) => ({
        key: arriving,
        from: arriving.from,
        share: regard.shareOf(arriving.from),
        startedAtMs: arriving.startedAtMs,
        bytes: arriving.received - arriving.resumed,
      }));
    const choice = planPlace(holders, {
      from,
      share: regard.shareOf(from),
      nowMs: clock.monotonicMs(),
      max: isSmall ? SMALL_ARRIVING_MAX : ARRIVING_MAX,
      perNeighbourMax: isSmall ? SMALL_PER_NEIGHBOUR_MAX : ARRIVING_PER_NEIGHBOUR_MAX,
    });
    if (choice.kind === "yields") {
      this.#abandon(choice.key);
      this.#events.yielded(choice.key.from, choice.key.offer.id);
    }
    return choice.kind !== "none";
  }

  /** Takes up the pieces of an earlier try. Unreadable ones mean starting over. */
  async #resume(arriving: Arriving): Promise<void> {
    const { id } = arriving.offer;
    const pieces = this.#partials.get(id);
    if (pieces === undefined) return;
    for (let index = 0; index < pieces.length; index++) {
      const bytes = await this.#ctx.store.body("chunk", chunkKey(id, index)).catch(() => undefined);
      if (bytes === undefined) return this.#forget(arriving);
      arriving.chunks.push(bytes);
      arriving.received += bytes.length;
    }
    arriving.flushed = arriving.resumed = arriving.received;
    if (arriving.received > arriving.offer.sealedBytes) this.#forget(arriving);
  }

  #forget(arriving: Arriving): void {
    void this.#ctx.store.commit(this.#dropOps(arriving.offer.id)).catch(() => {});
    arriving.chunks.length = 0;
    arriving.received = arriving.resumed = 0;
    arriving.flushed = 0;
  }

  /** Each offset once, and no more bytes than can be missing: pieces that overlap would take many times that. */
  #keepEarly(arriving: Arriving, { offset, bytes }: { offset: number; bytes: Uint8Array }): void {
    const { early, received, offer } = arriving;
    const bytesMax = Math.min(CREDIT_BYTES * 2, offer.sealedBytes - received);
    if (offset - received > CREDIT_BYTES * 2 || early.has(offset)) return;
    if (early.size >= EARLY_CHUNKS_MAX || arriving.earlyBytes + bytes.length > bytesMax) return;
    early.set(offset, bytes.slice());
    arriving.earlyBytes += bytes.length;
  }

  /** A chunk before this one is late or lost; should this word be lost as well, the watch repeats it. */
  #onGap(arriving: Arriving): void {
    const nowMs = this.#ctx.clock.monotonicMs();
    const pauseMs = 2 * this.#ctx.carrier.rttMs(arriving.from);
    if (arriving.gapAt === arriving.received && nowMs - arriving.gapAskedAtMs < pauseMs) return;
    arriving.gapAskedAtMs = nowMs;
    this.#wantAgain(arriving);
  }

  /** Asks for what was granted already: a range that ends no later is a resumption for the sender, not more credit. */
  #wantAgain(arriving: Arriving): void {
    const { received, early, offer, from, creditEnd } = arriving;
    let end = creditEnd;
    for (const offset of early.keys()) end = Math.min(end, offset);
    if (early.size > 0) arriving.gapAt = received;
    this.#ctx.carrier.send(from, "control", encodeWant(offer.id, received, end - received));
  }

  /** Takes the next bytes and whatever waited behind them. */
  #append(arriving: Arriving, bytes: Uint8Array): void {
    const { early } = arriving;
    for (let next: Uint8Array | undefined = bytes; next !== undefined; next = early.get(arriving.received)) {
      if (early.delete(arriving.received)) arriving.earlyBytes -= next.length;
      const last = arriving.chunks.at(-1);
      // Pieces of a few bytes would each cost many times that.
      if (last !== undefined && last.length < CHUNK_BYTES_MIN && next.length < CHUNK_BYTES_MIN)
        arriving.chunks[arriving.chunks.length - 1] = concatBytes([last, next]);
      else arriving.chunks.push(next);
      arriving.received += next.length;
    }
    // Cut differently the second time: what these hold has come already.
    for (const [offset, held] of early)
      if (offset < arriving.received && early.delete(offset)) arriving.earlyBytes -= held.length;
  }

  #adaptCredit(arriving: Arriving): void {
    const tookMs = this.#ctx.clock.monotonicMs() - arriving.creditAtMs;
    const { creditBytes } = arriving;
    if (tookMs < CREDIT_FAST_MS) arriving.creditBytes = Math.min(2 * creditBytes, CREDIT_BYTES);
    else if (tookMs > Math.max(CREDIT_SLOW_MS, this.#ctx.carrier.patienceMs?.(arriving.from) ?? 0))
      arriving.creditBytes = Math.max(creditBytes / 2, CREDIT_BYTES_MIN);
  }

  #want(arriving: Arriving, offset: number): void {
    const length = Math.min(arriving.creditBytes, arriving.offer.sealedBytes - offset);
    arriving.creditAtMs = this.#ctx.clock.monotonicMs();
    arriving.creditEnd = offset + length;
    this.#ctx.carrier.send(arriving.from, "control", encodeWant(arriving.offer.id, offset, length));
  }

  #watch(arriving: Arriving): void {
    const stallMs = Math.max(STALL_MS, this.#ctx.carrier.patienceMs?.(arriving.from) ?? 0);
    arriving.timer = this.#ctx.clock.after(stallMs, () => {
      if (this.#ctx.clock.monotonicMs() - arriving.progressAtMs >= stallMs * 0.9) {
        if (++arriving.stalls > STALLS_MAX) return this.#abandon(arriving);
        this.#wantAgain(arriving);
      }
      this.#watch(arriving);
    });
  }

  #abandon(arriving: Arriving): void {
    arriving.timer?.cancel();
    this.#arriving.delete(arriving.offer.id);
    this.#flush(arriving);
  }

  /** Writes what arrived since the last flush. Nobody waits: losing it costs only sending it again. */
  #flush(arriving: Arriving): void {
    const body = concatBytes(takeFrom(arriving.chunks, arriving.flushed));
    if (body.length === 0) return;
    const { id } = arriving.offer;
    const pieces = this.#partials.get(id) ?? [];
    const ops: StoreOp[] = [{ op: "put", in: "chunk", key: chunkKey(id, pieces.length), meta: "", body }];
    arriving.flushed += body.length;
    this.#partials.set(id, [...pieces, body.length]);
    for (const oldest of this.#excess(id)) ops.push(...this.#dropOps(oldest));
    this.#ctx.store.commit(ops).catch(() => {
      // The pieces before it are there still; what follows must be written again from where they end.
      if (!this.#partials.has(id)) return;
      this.#partials.set(id, pieces);
      arriving.flushed = sumOf(pieces);
    });
  }

  /** Of those that nobody sends now, oldest first, what is more than may lie here: no quota counts what never became whole. */
  #excess(kept: BundleId): BundleId[] {
    const bytesMax = Math.min(PARTIAL_BYTES_MAX, this.#ctx.limits.transitBytesMax / 4);
    const resting = [...this.#partials].filter(([id]) => id !== kept && !this.#arriving.has(id));
    let bytes = 0;
    for (const [, pieces] of resting) bytes += sumOf(pieces);
    let count = this.#partials.size;
    const excess: BundleId[] = [];
    for (const [id, pieces] of resting) {
      if (count <= PARTIALS_MAX && bytes <= bytesMax) break;
      excess.push(id);
      count--;
      bytes -= sumOf(pieces);
    }
    return excess;
  }

  #finish(arriving: Arriving): void {
    const { offer, from } = arriving;
    arriving.timer?.cancel();
    this.#arriving.delete(offer.id);
    const sealed = concatBytes(arriving.chunks);
    const cleanup = this.#dropOps(offer.id);
    if (bundleIdOf(encodeBundleHeader(offer.header), sealed) !== offer.id) {
      void this.#ctx.store.commit(cleanup).catch(() => {});
      return this.#events.damaged(from, offer.id);
    }
    this.#events.complete(from, { id: offer.id, header: offer.header, sealed }, offer, cleanup);
  }

  #dropOps(id: BundleId): StoreOp[] {
    const pieces = this.#partials.get(id) ?? [];
    this.#partials.delete(id);
    return pieces.map((_, index) => ({ op: "delete", in: "chunk", key: chunkKey(id, index) }));
  }
}

const sumOf = (pieces: readonly number[]): number => pieces.reduce((total, bytes) => total + bytes, 0);

const chunkKey = (id: BundleId, index: number): string => `${id}/${String(index).padStart(6, "0")}`;

/** The bytes of `chunks` from `offset` on, as views. */
function takeFrom(chunks: readonly Uint8Array[], offset: number): Uint8Array[] {
  const out: Uint8Array[] = [];
  let at = 0;
  for (const chunk of chunks) {
    if (at + chunk.length > offset) out.push(chunk.subarray(Math.max(0, offset - at)));
    at += chunk.length;
  }
  return out;
}
