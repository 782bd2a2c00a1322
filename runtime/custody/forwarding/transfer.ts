/**
 * Bundles too large for one frame: offered, then fetched in chunks at the receiver's pace, resumable after a lost link
 * or a restart of either end. This is the receiving half; chunk-sender.ts is the other. The receiver grants credit (`want`), the sender never sends beyond it. What
 * arrives behind a gap is kept, and the gap alone is asked for again. What has arrived is arriving-body.ts. docs/protocol/delivery.md "Large bundles".
 */
import type { BundleId, NodeId } from "../../kernel/ids.ts";
import { encodeWant, type Offer } from "../../wire/bundle.ts";
import type { ArrivedBundle, CustodyContext, OpeningBody } from "../context.ts";
import type { StoreOp } from "../../store/types.ts";
import { ArrivingBody, chunkKey, isWholeInMemory, sumOf } from "./arriving-body.ts";
import { type Arriving, newArriving } from "./arriving.ts";
import { type Holder, isSlow, planPlace } from "./arriving-places.ts";
import { creditAfter, creditMax, UNWRITTEN_BYTES_MAX } from "./credit.ts";

/** Smallest chunk that a sender makes of its own accord. */
export const CHUNK_BYTES_MIN = 4 * 1024;
/** Chunks kept behind a gap: twice the credit in pieces that fit the smallest usual packet. */
const EARLY_CHUNKS_MAX = 2_048;
/** Large transfers arriving at once; each may hold its credit in memory. */
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
/** A block that is not the one that was offered is fetched again so often. */
const BAD_BLOCKS_MAX = 3;

export interface ReceiverEvents {
  /** What comes of a message for this node is told to that. */
  opens(offer: Offer): OpeningBody | undefined;
  /** All chunks are here and the id is right. Delete `cleanup` with the commit. Until it resolves the bundle is not fetched once more; then its pieces go. */
  complete(from: NodeId, bundle: ArrivedBundle, offer: Offer, cleanup: readonly StoreOp[]): Promise<void>;
  /** The first of it is durable, or more of it is; it is not whole. */
  progress(from: NodeId, offer: Offer, body: ArrivingBody): void;
  /** It comes no more, for whatever cause; what has come may be there for another try. */
  ended(id: BundleId, isDamaged: boolean): void;
  /** Another neighbour has its place now: it should offer the bundle again. */
  yielded(from: NodeId, id: BundleId): void;
  /** The bytes are not those that were offered: everything was thrown away. */
  damaged(from: NodeId, id: BundleId): void;
  /** The store takes no more of it; what it has it keeps. */
  storeFailed(from: NodeId, id: BundleId): void;
}

export class ChunkReceiver {
  readonly #ctx: CustodyContext;
  readonly #events: ReceiverEvents;
  readonly #arriving = new Map<BundleId, Arriving>();
  /** Sizes of the pieces in the store by bundle, contiguous from 0; oldest first. */
  readonly #partials = new Map<BundleId, readonly number[]>();
  /** Whole, and not taken in yet: another try would write over the pieces. */
  readonly #whole = new Set<BundleId>();
  /** Those whose last try is being written: the next one begins behind it. */
  readonly #settling = new Map<BundleId, Promise<void>>();
  readonly #badBlocks;

  constructor(ctx: CustodyContext, events: ReceiverEvents) {
    this.#ctx = ctx;
    this.#events = events;
    this.#badBlocks = ctx.metrics.counter("godwit_custody_bad_blocks_total");
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
      if (Number(index) === pieces.length) this.#partials.set(id, [...pieces, row.bodyBytes]);
      else orphans.push({ op: "delete", in: "chunk", key: row.key });
    }
    if (orphans.length > 0) await this.#ctx.store.commit(orphans);
  }

  isArrivingFrom(id: BundleId): NodeId | undefined {
    return this.#arriving.get(id)?.from;
  }

  /** False: another neighbour sends it, at a pace. Who drips a byte now and then keeps it from nobody; where a medium is slow, all do. */
  mayComeFrom(id: BundleId, from: NodeId): boolean {
    const current = this.#arriving.get(id);
    if (current === undefined || current.from === from) return true;
    const { clock, carrier } = this.#ctx;
    return (
      (carrier.answerMs?.(current.from) ?? 0) === 0 && isSlow(this.#holder(current), clock.monotonicMs())
    );
  }

  /** Starts or resumes a transfer. False: too many at once, or it is here by now: ask again later. The caller has checked quotas. */
  async accept(from: NodeId, offer: Offer): Promise<boolean> {
    if (this.#whole.has(offer.id)) return false;
    const current = this.#arriving.get(offer.id);
    if (current?.from === from) {
      if (current.isReady) this.#want(current, current.body.received);
      return true;
    }
    if (!this.mayComeFrom(offer.id, from)) return false;
    if (current !== undefined) this.#yield(current);
    if (!this.#makePlace(from, offer.sealedBytes <= SMALL_BYTES)) return false;
    const body = new ArrivingBody(this.#ctx.store, offer, () => this.#events.opens(offer));
    const arriving = newArriving(this.#ctx, from, offer, body);
    this.#arriving.set(offer.id, arriving);
    await this.#resume(arriving);
    if (this.#arriving.get(offer.id) !== arriving) return true; // its neighbour went meanwhile
    arriving.isReady = true;
    if (arriving.body.isWhole) void this.#finish(arriving);
    else {
      this.#want(arriving, arriving.body.received);
      this.#watch(arriving);
      if (arriving.body.durable > 0) this.#events.progress(from, offer, arriving.body);
    }
    return true;
  }

  onChunk(from: NodeId, chunk: { id: BundleId; offset: number; bytes: Uint8Array }): void {
    const arriving = this.#arriving.get(chunk.id);
    // Not asked for, or a repeat: not an error of an honest neighbour.
    if (arriving === undefined || arriving.from !== from || !arriving.isReady) return;
    const { body, early } = arriving;
    if (body.isWhole || chunk.offset < body.received || chunk.bytes.length === 0) return;
    // Beyond what was granted: not of an honest one either.
    if (chunk.offset + chunk.bytes.length > arriving.grantedEnd) return;
    if (chunk.offset > body.received) {
      this.#keepEarly(arriving, chunk);
      return this.#onGap(arriving);
    }
    if (!this.#append(arriving, chunk.bytes)) return this.#onBadBlock(arriving);
    arriving.stalls = 0;
    arriving.progressAtMs = this.#ctx.clock.monotonicMs();
    if (body.isWhole) return void this.#finish(arriving);
    this.#write(arriving);
    if (early.size > 0) return this.#onGap(arriving);
    if (arriving.gapAt !== undefined) {
      // The sender was told to stop behind the gap.
      arriving.gapAt = undefined;
      return this.#want(arriving, body.received);
    }
    this.#renewCredit(arriving);
  }

  /** Whoever offered it takes that back. What is said to be damaged is of no use for another try. */
  withdraw(from: NodeId, id: BundleId, isDamaged: boolean): void {
    const arriving = this.#arriving.get(id);
    if (arriving?.from !== from) return;
    if (isDamaged) this.#discard(arriving);
    else this.#abandon(arriving);
  }

  /** Nobody needs it any more. */
  forget(id: BundleId): void {
    const arriving = this.#arriving.get(id);
    if (arriving !== undefined) this.#discard(arriving);
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
      .map((arriving) => this.#holder(arriving));
    const choice = planPlace(holders, {
      from,
      share: regard.shareOf(from),
      nowMs: clock.monotonicMs(),
      max: isSmall ? SMALL_ARRIVING_MAX : ARRIVING_MAX,
      perNeighbourMax: isSmall ? SMALL_PER_NEIGHBOUR_MAX : ARRIVING_PER_NEIGHBOUR_MAX,
    });
    if (choice.kind === "yields") this.#yield(choice.key);
    return choice.kind !== "none";
  }

  #yield(arriving: Arriving): void {
    this.#abandon(arriving);
    this.#events.yielded(arriving.from, arriving.offer.id);
  }

  #holder(arriving: Arriving): Holder<Arriving> {
    const { from, startedAtMs, body, resumed } = arriving;
    return {
      key: arriving,
      from,
      share: this.#ctx.regard.shareOf(from),
      startedAtMs,
      bytes: body.received - resumed,
    };
  }

  /** Takes up the pieces of an earlier try. Unreadable ones mean starting over. */
  async #resume(arriving: Arriving): Promise<void> {
    const { id } = arriving.offer;
    await this.#settling.get(id);
    const pieces = this.#partials.get(id);
    if (pieces === undefined || this.#arriving.get(id) !== arriving) return;
    if (await arriving.body.resume(pieces)) arriving.resumed = arriving.body.received;
    else if (this.#arriving.get(id) === arriving) await this.#forget(arriving);
  }

  /** All of it is to be sent again. */
  async #forget(arriving: Arriving): Promise<void> {
    await arriving.body.settled();
    void this.#ctx.store.commit(this.#dropOps(arriving.offer.id)).catch(() => {});
    const { offer } = arriving;
    arriving.body = new ArrivingBody(this.#ctx.store, offer, () => this.#events.opens(offer));
    arriving.resumed = 0;
  }

  /** Either the block is wrong or its sum: whoever sends both answers for it, and nobody for what another brought of it. */
  #onBadBlock(arriving: Arriving): void {
    const { from, offer } = arriving;
    this.#badBlocks.add();
    arriving.early.clear();
    arriving.earlyBytes = 0;
    arriving.gapAt = undefined;
    if (arriving.body.isSpoilt) return void this.#startOver(arriving);
    if (++arriving.badBlocks > BAD_BLOCKS_MAX) {
      this.#discard(arriving);
      return this.#events.damaged(from, offer.id);
    }
    // A range that ends no later is a resumption for the sender.
    this.#wantAgain(arriving);
  }

  async #startOver(arriving: Arriving): Promise<void> {
    const { id } = arriving.offer;
    arriving.isReady = false;
    // What went on of it goes on anew.
    this.#events.ended(id, false);
    await this.#forget(arriving);
    if (this.#arriving.get(id) !== arriving) return; // its neighbour went meanwhile
    arriving.isReady = true;
    arriving.grantedEnd = 0; // what is under way of the try before
    this.#want(arriving, 0);
  }

  /** Each offset once, and no more bytes than can be missing: pieces that overlap would take many times that. */
  #keepEarly(arriving: Arriving, { offset, bytes }: { offset: number; bytes: Uint8Array }): void {
    const { early, offer } = arriving;
    const { received } = arriving.body;
    const aheadMax = 2 * creditMax(this.#ctx.carrier, arriving.from, offer);
    const bytesMax = Math.min(aheadMax, offer.sealedBytes - received);
    if (offset - received > aheadMax || early.has(offset)) return;
    if (early.size >= EARLY_CHUNKS_MAX || arriving.earlyBytes + bytes.length > bytesMax) return;
    early.set(offset, bytes.slice());
    arriving.earlyBytes += bytes.length;
  }

  /** A chunk before this one is late or lost; should this word be lost as well, the watch repeats it. */
  #onGap(arriving: Arriving): void {
    const nowMs = this.#ctx.clock.monotonicMs();
    const pauseMs = 2 * this.#ctx.carrier.rttMs(arriving.from);
    if (arriving.gapAt === arriving.body.received && nowMs - arriving.gapAskedAtMs < pauseMs) return;
    arriving.gapAskedAtMs = nowMs;
    this.#wantAgain(arriving);
  }

  /** Asks for what was granted already: a range that ends no later is a resumption for the sender, not more credit. */
  #wantAgain(arriving: Arriving): void {
    const { early, offer, from, creditEnd } = arriving;
    const { received } = arriving.body;
    if (early.size > 0) arriving.gapAt = received;
    // What came behind it may be of a larger grant of before.
    if (creditEnd <= received) return this.#want(arriving, received);
    let end = creditEnd;
    for (const offset of early.keys()) end = Math.min(end, offset);
    this.#ctx.carrier.send(from, "control", encodeWant(offer.id, received, end - received));
  }

  /** Takes the next bytes and whatever waited behind them. False: they end a block that is not the one that was offered. */
  #append(arriving: Arriving, bytes: Uint8Array): boolean {
    const { early, body } = arriving;
    for (let next: Uint8Array | undefined = bytes; next !== undefined; next = early.get(body.received)) {
      if (early.delete(body.received)) arriving.earlyBytes -= next.length;
      if (!body.take(next)) return false;
    }
    // Cut differently the second time: what these hold has come already.
    for (const [offset, held] of early)
      if (offset < body.received && early.delete(offset)) arriving.earlyBytes -= held.length;
    return true;
  }

  /** More as soon as half of what was granted has come, as far as what is not durable yet may lie in memory. */
  #renewCredit(arriving: Arriving): void {
    const { offer, creditEnd, creditBytes, body } = arriving;
    // With all of it granted there is no more credit to give: a range that ends no later would be sent again.
    if (creditEnd >= offer.sealedBytes || creditEnd - body.received >= creditBytes / 2) return;
    const { clock, carrier } = this.#ctx;
    arriving.creditBytes = creditAfter(carrier, arriving.from, offer, {
      credit: creditBytes,
      bytes: body.received - arriving.creditFrom,
      tookMs: clock.monotonicMs() - arriving.creditAtMs,
    });
    if (this.#endOf(arriving, body.received) > creditEnd) this.#want(arriving, body.received);
  }

  #endOf({ offer, creditBytes, body }: Arriving, offset: number): number {
    return Math.min(offset + creditBytes, offer.sealedBytes, body.durable + UNWRITTEN_BYTES_MAX);
  }

  #want(arriving: Arriving, offset: number): void {
    const end = Math.max(this.#endOf(arriving, offset), offset + 1);
    arriving.creditAtMs = this.#ctx.clock.monotonicMs();
    arriving.creditFrom = offset;
    arriving.creditEnd = end;
    arriving.grantedEnd = Math.max(arriving.grantedEnd, end);
    this.#ctx.carrier.send(arriving.from, "control", encodeWant(arriving.offer.id, offset, end - offset));
  }

  #watch(arriving: Arriving): void {
    const stallMs = Math.max(STALL_MS, this.#ctx.carrier.answerMs?.(arriving.from) ?? 0);
    arriving.timer = this.#ctx.clock.after(stallMs, () => {
      if (this.#ctx.clock.monotonicMs() - arriving.progressAtMs >= stallMs * 0.9) {
        if (++arriving.stalls > STALLS_MAX) return this.#abandon(arriving);
        this.#wantAgain(arriving);
      }
      this.#watch(arriving);
    });
  }

  /** Nobody sends it any more. */
  #end(arriving: Arriving): void {
    arriving.timer?.cancel();
    this.#arriving.delete(arriving.offer.id);
  }

  /** What has come of it is there for the next offer. Nobody waits: losing it costs only sending it again. */
  #abandon(arriving: Arriving): void {
    const { id } = arriving.offer;
    this.#end(arriving);
    this.#events.ended(id, false);
    if (!arriving.isReady) return;
    const settling = arriving.body
      .writeRest()
      .catch(() => {})
      .then(() => {
        this.#note(arriving);
        const ops = this.#excess(id).flatMap((oldest) => this.#dropOps(oldest));
        if (this.#settling.get(id) === settling) this.#settling.delete(id);
        if (ops.length > 0) this.#ctx.store.commit(ops).catch(() => {});
      });
    this.#settling.set(id, settling);
  }

  /** One commit at a time: what comes meanwhile goes with the next. */
  #write(arriving: Arriving): void {
    const { id } = arriving.offer;
    if (isWholeInMemory(arriving.offer.sealedBytes)) return;
    const writing = arriving.body.write(() => this.#excess(id).flatMap((oldest) => this.#dropOps(oldest)));
    if (writing === undefined) return;
    void writing.then(
      () => {
        this.#note(arriving);
        if (this.#arriving.get(id) !== arriving) return;
        this.#events.progress(arriving.from, arriving.offer, arriving.body);
        if (arriving.body.isWhole) return;
        this.#write(arriving);
        if (arriving.gapAt === undefined && arriving.early.size === 0) this.#renewCredit(arriving);
      },
      () => {
        if (this.#arriving.get(id) !== arriving || arriving.body.isWhole) return;
        this.#abandon(arriving);
        this.#events.storeFailed(arriving.from, id);
      },
    );
  }

  /** What of it is in the store by now. */
  #note({ offer, body }: Arriving): void {
    if (body.pieces.length > 0) this.#partials.set(offer.id, body.pieces);
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

  async #finish(arriving: Arriving): Promise<void> {
    const { offer, from, body } = arriving;
    const { id, header, sealedBytes } = offer;
    arriving.timer?.cancel();
    await body.settled();
    if (this.#arriving.get(id) !== arriving) return;
    if (body.hasFailed) {
      this.#abandon(arriving);
      return this.#events.storeFailed(from, id);
    }
    this.#end(arriving);
    this.#note(arriving);
    const parts = body.finish();
    if (parts === undefined) {
      this.#throwAway(id);
      this.#events.ended(id, true);
      return this.#events.damaged(from, id);
    }
    const { rest, sums } = parts;
    const head = { of: id, bytes: body.durable };
    const pieces = body.reader(rest);
    const cleanup = this.#dropOps(id);
    const stored = { id, header, sealedBytes, head, rest, sums, pieces, opening: body.opening };
    const bundle = body.durable === 0 ? { id, header, sealed: rest } : stored;
    this.#whole.add(id);
    await this.#events.complete(from, bundle, offer, cleanup);
    // Not every outcome commits them with the bundle; once more does no harm.
    if (cleanup.length > 0) await this.#ctx.store.commit(cleanup).catch(() => {});
    this.#whole.delete(id);
  }

  #discard(arriving: Arriving): void {
    const { id } = arriving.offer;
    this.#end(arriving);
    this.#events.ended(id, true);
    const settling = arriving.body.settled().then(() => {
      this.#note(arriving);
      this.#throwAway(id);
      if (this.#settling.get(id) === settling) this.#settling.delete(id);
    });
    this.#settling.set(id, settling);
  }

  #throwAway(id: BundleId): void {
    void this.#ctx.store.commit(this.#dropOps(id)).catch(() => {});
  }

  #dropOps(id: BundleId): StoreOp[] {
    const pieces = this.#partials.get(id) ?? [];
    this.#partials.delete(id);
    return pieces.map((_, index) => ({ op: "delete", in: "chunk", key: chunkKey(id, index) }));
  }
}
