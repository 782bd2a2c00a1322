/**
 * Moves bundles in custody towards their destinations. Owns what is ready, in flight, paused or relayed; never decides
 * routes (Carrier) and never commits (its events do). Driven by events: a route appeared, a neighbour came, an
 * acknowledgement made room; one timer serves what must wait for time. docs/protocol/delivery.md "Forwarding".
 */
import type { Timer } from "@godwit/sdk";
import type { BundleId, NodeId } from "../../kernel/ids.ts";
import {
  encodeBundleFrame,
  encodeOffer,
  refuseReasonNames,
  RefuseReason,
  TRACE_MAX,
  type Journey,
} from "../../wire/bundle.ts";
import { HOP_LIMIT } from "../../wire/constants.ts";
import type { CustodyContext, Holding, HopChoice } from "../context.ts";
import { ReadyQueue } from "./ready-queue.ts";
import { earliestAfter, noteOffered, pinned, whenPinned } from "./ways.ts";
import { hasRoom, newWindow, type Window } from "./window.ts";

/** Sealed bytes that travel inline in one frame; larger bundles are offered and sent as chunks. */
export const INLINE_BYTES_MAX = 16 * 1024;
/** Journey without its trace, header and type around sealed bytes in one frame, and what each trace entry adds. */
const FRAME_OVERHEAD_MAX = 160;
const TRACE_ENTRY_BYTES = 38;
/** A reliable link loses nothing: only a neighbour that cannot commit is slow. */
const ACK_TIMEOUT_RELIABLE_MS = 20_000;
const ACK_TIMEOUT_MIN_MS = 1_000;
const OFFER_TIMEOUT_MS = 60_000;
/** Over datagrams any of offer, want and acknowledgement may be lost; an offer repeated costs one frame. */
const OFFER_TIMEOUT_MIN_MS = 3_000;
/** An exhausted hop limit parks the bundle this long, then its hops count anew. */
const HOP_PARK_MS = 60_000;
/** Pause between timer passes per holding: 100,000 held, half a second. */
const HOLDINGS_PER_MS = 200;
const REFUSED_MIN_MS = 250;
const REFUSED_MAX_MS = 60_000;

export interface ForwarderEvents {
  /** A neighbour holds it durably. A `relay` holding is gone from here; a `source` one waits for its receipt. */
  acknowledged(holding: Holding, by: NodeId): void;
  /** Its lifetime ended; it is gone from here. */
  expired(holding: Holding): void;
  /** An offer to a neighbour ended, well or not: whoever sends its chunks stops. */
  offerEnded(to: NodeId, id: BundleId): void;
}

export class Forwarder {
  readonly #ctx: CustodyContext;
  readonly #events: ForwarderEvents;
  readonly #holdings = new Map<BundleId, Holding>();
  readonly #ready = new Map<NodeId, ReadyQueue>();
  readonly #windows = new Map<NodeId, Window>();
  #bytes = 0;
  #timer: Timer | undefined;
  #timerAtMs = Number.POSITIVE_INFINITY;
  #isStopped = false;
  readonly #sent;
  readonly #returned;

  constructor(ctx: CustodyContext, events: ForwarderEvents) {
    this.#ctx = ctx;
    this.#events = events;
    this.#sent = ctx.metrics.counter(
      "godwit_custody_offers_total",
      "bundles handed to a neighbour, repeats included",
    );
    this.#returned = ctx.metrics.counter(
      "godwit_custody_returned_total",
      "bundles taken back for another try",
      ["reason"],
    );
  }

  get count(): number {
    return this.#holdings.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get(id: BundleId): Holding | undefined {
    return this.#holdings.get(id);
  }

  get holdings(): Iterable<Holding> {
    return this.#holdings.values();
  }

  /** Takes a durable bundle. A second one with the same id is ignored. */
  add(holding: Holding): void {
    if (this.#isStopped || this.#holdings.has(holding.id)) return;
    this.#holdings.set(holding.id, holding);
    this.#bytes += holding.sealedBytes;
    if (holding.state === "ready") this.#enqueue(holding);
    this.#wakeBy(Math.min(holding.deadlineMs, holding.wakeAtMs));
    this.pump(holding.header.destination);
  }

  /** Forgets a bundle, wherever it is. */
  remove(id: BundleId): Holding | undefined {
    const holding = this.#holdings.get(id);
    if (holding === undefined) return undefined;
    this.#holdings.delete(id);
    this.#bytes -= holding.sealedBytes;
    this.#releaseAll(id);
    this.#leaveQueue(holding);
    holding.state = "paused"; // queues skip what is not ready
    return holding;
  }

  /** Makes a waiting or relayed bundle ready at once, for instance when it came back to its source. */
  retry(id: BundleId): void {
    const holding = this.#holdings.get(id);
    if (holding === undefined || holding.state === "ready" || holding.state === "inflight") return;
    this.#makeReady(holding);
    this.pump(holding.header.destination);
  }

  /** Routes to a destination changed. */
  onRoute(destination: NodeId): void {
    this.pump(destination);
  }

  /** A neighbour can take frames again, or is new. */
  onWritable(neighbour: NodeId): void {
    const window = this.#windows.get(neighbour);
    if (window === undefined) return;
    const waiting = [...window.waiting];
    window.waiting.clear();
    for (const destination of waiting) this.pump(destination);
  }

  /** A neighbour's last link went: what it had not acknowledged is ready again. */
  onNeighbourDown(neighbour: NodeId): void {
    const window = this.#windows.get(neighbour);
    if (window === undefined) return;
    this.#windows.delete(neighbour);
    const destinations = new Set(window.waiting);
    // Last sent first, because each goes to the front of its queue.
    for (const { holding, isOffer } of [...window.inflight.values()].reverse()) {
      if (isOffer) this.#events.offerEnded(neighbour, holding.id);
      this.#returned.add(1, { reason: "link_down" });
      this.#makeReady(holding, true);
      destinations.add(holding.header.destination);
    }
    for (const destination of destinations) this.pump(destination);
  }

  /** A neighbour lost its store: what was handed to it may be gone, so the source offers it again. */
  onStoreLost(neighbour: NodeId): void {
    for (const holding of this.#holdings.values()) {
      if (holding.state === "relayed" && holding.relayedTo === neighbour) this.retry(holding.id);
    }
  }

  /** A recipient is back: a receipt that it had not handed on when it went is asked for by offering the message again. */
  onDestinationUp(neighbour: NodeId): void {
    for (const holding of this.#holdings.values()) {
      const isItsOwn = holding.header.destination === neighbour && holding.relayedTo === neighbour;
      if (isItsOwn && holding.state === "relayed") this.retry(holding.id);
    }
  }

  onAck(from: NodeId, ids: readonly BundleId[]): void {
    for (const id of ids) {
      const holding = this.#holdings.get(id);
      // It counts even after its timeout, because the neighbour holds the bundle; but only from one that was given it.
      if (holding?.offeredTo?.includes(from) !== true) continue;
      delete holding.refusedBy;
      delete holding.refusals;
      if (holding.role === "relay") this.remove(id);
      else this.#relayed(holding, from);
      this.#events.acknowledged(holding, from);
    }
    this.onWritable(from);
  }

  /** The source keeps its copy and offers it again should no receipt come. A repeated ack puts nothing off. */
  #relayed(holding: Holding, by: NodeId): void {
    this.#releaseAll(holding.id);
    this.#leaveQueue(holding);
    holding.relayedTo = by;
    holding.relayedAtMs = this.#nowMs();
    if (holding.state === "relayed") return;
    holding.state = "relayed";
    const { reofferFirstMs, reofferCapMs } = this.#ctx.limits;
    const pauseMs = Math.min(reofferCapMs, reofferFirstMs * 2 ** Math.min(holding.relays ?? 0, 20));
    holding.relays = (holding.relays ?? 0) + 1;
    holding.wakeAtMs = this.#nowMs() + pauseMs * (0.9 + this.#ctx.random.float() / 5);
    this.#wakeBy(holding.wakeAtMs);
  }

  onRefuse(from: NodeId, id: BundleId, reason: number, retryAfterMs: number): void {
    const window = this.#windows.get(from);
    if (window?.inflight.has(id) !== true) return;
    this.#release(from, window, id);
    const holding = this.#holdings.get(id);
    if (holding === undefined) return;
    this.#returned.add(1, { reason: refuseReasonNames[reason] ?? "other" });
    // "Busy" passes in a moment; a full store stays full for a while, and thousands may be waiting for it.
    if (reason !== RefuseReason.busy) holding.refusals = (holding.refusals ?? -1) + 1;
    const wantedMs = Math.max(REFUSED_MIN_MS, retryAfterMs) * 2 ** Math.min(holding.refusals ?? 0, 8);
    const pauseMs = Math.min(REFUSED_MAX_MS, wantedMs) * (0.9 + this.#ctx.random.float() / 5);
    holding.refusedBy ??= new Map();
    holding.refusedBy.set(from, this.#nowMs() + pauseMs);
    holding.waitReason = `peer refused: ${refuseReasonNames[reason] ?? `reason ${reason}`}`;
    if (reason === RefuseReason.expired) holding.waitReason = "peer refused: its lifetime is over";
    this.#makeReady(holding);
    // Another neighbour may take it now; this one is asked again after the pause.
    this.#wakeBy(this.#nowMs() + pauseMs);
    this.pump(holding.header.destination);
    this.onWritable(from);
  }

  /** Handed to this neighbour and not yet answered. */
  isInFlightTo(neighbour: NodeId, id: BundleId): boolean {
    return this.#windows.get(neighbour)?.inflight.has(id) === true;
  }

  /** The chunks of an offered bundle are flowing: its timeout starts anew. */
  touch(neighbour: NodeId, id: BundleId): Holding | undefined {
    const entry = this.#windows.get(neighbour)?.inflight.get(id);
    if (entry === undefined) return undefined;
    entry.sentAtMs = this.#nowMs();
    return entry.holding;
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
  }

  /** Sends what can go to a destination now. */
  pump(destination: NodeId): void {
    if (this.#isStopped) return;
    const queue = this.#ready.get(destination);
    if (queue === undefined) return;
    queue.drain((holding) => this.#offer(holding));
    if (queue.length === 0) this.#ready.delete(destination);
  }

  /** True when the holding left its ready queue. */
  #offer(holding: Holding): boolean {
    const { carrier } = this.#ctx;
    const nowMs = this.#nowMs();
    if (holding.deadlineMs <= nowMs) {
      this.#expire(holding);
      return true;
    }
    if (holding.hops >= HOP_LIMIT) {
      holding.hops = 0;
      holding.waitReason = "hop limit reached: parked";
      this.#pause(holding, nowMs + HOP_PARK_MS);
      return true;
    }
    const choice = holding.via === undefined ? this.#choose(holding, nowMs) : pinned(carrier, holding, nowMs);
    if (choice.kind === "wait" || choice.to === undefined) {
      const askAgainMs = earliestAfter(holding.refusedBy, nowMs) ?? whenPinned(holding, nowMs);
      if (askAgainMs === undefined) {
        holding.waitReason = choice.reason;
        return false;
      }
      // Refused by all that lead there: it steps aside, so that others to the same destination are not held up.
      this.#pause(holding, askAgainMs);
      return true;
    }
    const to = choice.to;
    const window = this.#window(to);
    const isOffer = this.#mustOffer(holding, to);
    if (!hasRoom(window, holding.sealedBytes, isOffer)) {
      holding.waitReason = "waiting for acknowledgements of the next hop";
      const askAgainMs = whenPinned(holding, nowMs);
      if (askAgainMs !== undefined) {
        this.#pause(holding, askAgainMs);
        return true;
      }
      window.waiting.add(holding.header.destination);
      return false;
    }
    return this.#launch(holding, to, window, isOffer);
  }

  #choose(holding: Holding, nowMs: number): HopChoice {
    const { sealedBytes: bytes, arrivedFrom, header, relayedTo } = holding;
    return this.#ctx.carrier.nextHop(
      { destination: header.destination, arrivedFrom, bytes },
      (id) => (holding.refusedBy?.get(id) ?? 0) > nowMs,
      relayedTo,
    );
  }

  #mustOffer(holding: Holding, to: NodeId): boolean {
    const frameMax = this.#ctx.carrier.frameBytesMax(to);
    const traceBytes = Math.min(holding.trace.length + 1, TRACE_MAX) * TRACE_ENTRY_BYTES;
    return holding.sealedBytes > Math.min(INLINE_BYTES_MAX, frameMax - FRAME_OVERHEAD_MAX - traceBytes);
  }

  #launch(holding: Holding, to: NodeId, window: Window, isOffer: boolean): boolean {
    holding.state = "inflight";
    holding.waitReason = undefined;
    noteOffered(holding, to);
    window.inflight.set(holding.id, { holding, sentAtMs: this.#nowMs(), isOffer });
    if (isOffer) {
      window.offers++;
      window.offeredBytes += holding.sealedBytes;
    } else window.bytes += holding.sealedBytes;
    this.#wakeBy(this.#nowMs() + this.#ackTimeoutMs(to, isOffer));
    this.#sent.add();
    const sealed = isOffer ? undefined : holding.load();
    if (sealed instanceof Promise) {
      void sealed.then(
        (bytes) => this.#transmitLoaded(holding, to, bytes),
        () => this.#unreadable(holding, to),
      );
      return true;
    }
    const { id, header, sealedBytes } = holding;
    const journey = this.#journey(holding);
    const frame =
      sealed === undefined
        ? encodeOffer({ id, header, journey, sealedBytes })
        : encodeBundleFrame({ id, header, sealed }, journey);
    if (this.#ctx.carrier.send(to, header.priority, frame)) return true;
    this.#noRoom(holding, to);
    // It never left the queue: to queue it again while the queue is being drained would offer it for ever.
    holding.state = "ready";
    return false;
  }

  #transmitLoaded(holding: Holding, to: NodeId, sealed: Uint8Array | undefined): void {
    if (!this.#isInflight(holding, to)) return; // taken back meanwhile
    if (sealed === undefined) return this.#unreadable(holding, to);
    const { id, header } = holding;
    const frame = encodeBundleFrame({ id, header, sealed }, this.#journey(holding));
    if (this.#ctx.carrier.send(to, header.priority, frame)) return;
    this.#noRoom(holding, to);
    this.#makeReady(holding, true);
  }

  #isInflight(holding: Holding, to: NodeId): boolean {
    return this.#windows.get(to)?.inflight.get(holding.id)?.holding === holding;
  }

  #unreadable(holding: Holding, to: NodeId): void {
    if (!this.#isInflight(holding, to)) return;
    this.#release(to, this.#windows.get(to)!, holding.id);
    this.#returned.add(1, { reason: "store_failed" });
    holding.waitReason = "the store cannot read it now";
    this.#pause(holding, this.#nowMs() + REFUSED_MAX_MS);
  }

  /** Nothing reached the neighbour: its destination waits for the link to drain. */
  #noRoom(holding: Holding, to: NodeId): void {
    const window = this.#window(to);
    window.waiting.add(holding.header.destination);
    this.#release(to, window, holding.id);
    this.#returned.add(1, { reason: "no_room" });
    holding.waitReason = "waiting for room on the link";
    // In case the link's drain came before us.
    this.#wakeBy(this.#nowMs() + REFUSED_MIN_MS);
  }

  #journey(holding: Holding): Journey {
    const { clock, self } = this.#ctx;
    const trace =
      holding.trace.length < TRACE_MAX
        ? [...holding.trace, { node: self, atMs: clock.wallMs() }]
        : holding.trace;
    return { remainingMs: holding.deadlineMs - clock.monotonicMs(), hops: holding.hops + 1, trace };
  }

  #release(neighbour: NodeId, window: Window, id: BundleId): void {
    const entry = window.inflight.get(id);
    if (entry === undefined) return;
    window.inflight.delete(id);
    if (entry.isOffer) {
      window.offers--;
      window.offeredBytes -= entry.holding.sealedBytes;
      this.#events.offerEnded(neighbour, id);
    } else window.bytes -= entry.holding.sealedBytes;
    if (window.inflight.size === 0 && window.waiting.size === 0) this.#windows.delete(neighbour);
  }

  /** From every window that it may be in. What waited for the room may go. */
  #releaseAll(id: BundleId): void {
    for (const [neighbour, window] of this.#windows) {
      if (!window.inflight.has(id)) continue;
      this.#release(neighbour, window, id);
      if (window.waiting.size > 0) this.#wakeBy(this.#nowMs());
    }
  }

  /** Call before a `ready` holding becomes something else outside of a drain. */
  #leaveQueue(holding: Holding): void {
    if (holding.state !== "ready") return;
    const { destination } = holding.header;
    const queue = this.#ready.get(destination);
    queue?.forget(holding);
    if (queue?.length === 0) this.#ready.delete(destination);
  }

  #window(neighbour: NodeId): Window {
    let window = this.#windows.get(neighbour);
    if (window === undefined) {
      window = newWindow();
      this.#windows.set(neighbour, window);
    }
    return window;
  }

  #enqueue(holding: Holding, again = false): void {
    const { destination } = holding.header;
    let queue = this.#ready.get(destination);
    if (queue === undefined) this.#ready.set(destination, (queue = new ReadyQueue()));
    queue.push(holding, again);
  }

  #makeReady(holding: Holding, again = false): void {
    if (!this.#holdings.has(holding.id) || holding.state === "ready") return;
    holding.state = "ready";
    holding.wakeAtMs = Number.POSITIVE_INFINITY;
    this.#enqueue(holding, again);
  }

  #pause(holding: Holding, untilMs: number): void {
    holding.state = "paused";
    holding.wakeAtMs = untilMs;
    this.#wakeBy(untilMs);
  }

  #expire(holding: Holding): void {
    this.remove(holding.id);
    this.#events.expired(holding);
  }

  #ackTimeoutMs(to: NodeId, isOffer: boolean): number {
    const { carrier } = this.#ctx;
    const reliableMs = isOffer ? OFFER_TIMEOUT_MS : ACK_TIMEOUT_RELIABLE_MS;
    if (carrier.isReliable(to)) return Math.max(reliableMs, carrier.patienceMs?.(to) ?? 0);
    return Math.max(isOffer ? OFFER_TIMEOUT_MIN_MS : ACK_TIMEOUT_MIN_MS, carrier.rttMs(to) * 4);
  }

  #nowMs(): number {
    return this.#ctx.clock.monotonicMs();
  }

  #wakeBy(atMs: number): void {
    if (this.#isStopped || atMs >= this.#timerAtMs || !Number.isFinite(atMs)) return;
    this.#timer?.cancel();
    this.#timerAtMs = atMs;
    // A pass costs in proportion to what is held, so a full store makes passes rarer, not the node slower.
    const delayMs = Math.max(1, atMs - this.#nowMs(), this.#holdings.size / HOLDINGS_PER_MS);
    this.#timer = this.#ctx.clock.after(delayMs, () => this.#onTimer());
  }

  /** One pass over what is held: expiry, pauses that ended, receipts overdue, acknowledgements overdue. */
  #onTimer(): void {
    this.#timerAtMs = Number.POSITIVE_INFINITY;
    const nowMs = this.#nowMs();
    let nextMs = Number.POSITIVE_INFINITY;
    const destinations = new Set<NodeId>();
    for (const holding of [...this.#holdings.values()]) {
      if (holding.deadlineMs <= nowMs) {
        this.#expire(holding);
        continue;
      }
      if (holding.wakeAtMs <= nowMs && (holding.state === "paused" || holding.state === "relayed"))
        this.#makeReady(holding);
      if (holding.state === "ready") destinations.add(holding.header.destination);
      nextMs = Math.min(nextMs, holding.deadlineMs, holding.wakeAtMs);
      for (const untilMs of holding.refusedBy?.values() ?? [])
        if (untilMs > nowMs) nextMs = Math.min(nextMs, untilMs);
    }
    for (const [neighbour, window] of [...this.#windows]) {
      for (const [id, entry] of [...window.inflight]) {
        const dueMs = entry.sentAtMs + this.#ackTimeoutMs(neighbour, entry.isOffer);
        if (dueMs > nowMs) {
          nextMs = Math.min(nextMs, dueMs);
          continue;
        }
        this.#release(neighbour, window, id);
        entry.holding.relayedTo = neighbour; // another way first
        this.#returned.add(1, { reason: "no_ack" });
        this.#makeReady(entry.holding);
        destinations.add(entry.holding.header.destination);
      }
    }
    for (const destination of destinations) this.pump(destination);
    this.#wakeBy(nextMs);
  }
}
