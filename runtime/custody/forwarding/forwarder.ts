/**
 * Moves bundles in custody towards their destinations. Owns what is ready, in flight, paused or relayed; never decides
 * routes (Carrier) and never commits (its events do). Driven by events: a route appeared, a neighbour came, an
 * acknowledgement made room; one timer serves what must wait for time. Each event costs in proportion to what it concerns,
 * never to what is held: `holdings.ts` finds it, `alarms.ts` knows what is due. docs/protocol/delivery.md "Forwarding".
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
import { mustOffer, offerOf } from "./offers.ts";
import { refusalWords } from "./refusal-words.ts";
import { HOP_LIMIT } from "../../wire/constants.ts";
import { deadlineOf, type CustodyContext, type Holding } from "../context.ts";
import { Alarms } from "../alarms.ts";
import { Holdings } from "./holdings.ts";
import { ReadyQueue } from "./ready-queue.ts";
import { chosen, earliestAfter, noteOffered, pinned, whenPinned } from "./ways.ts";
import { hasRoom, isFull, Windows } from "./window.ts";

/** An exhausted hop limit parks the bundle this long, then its hops count anew. */
const HOP_PARK_MS = 60_000;
const REFUSED_MIN_MS = 250;
const REFUSED_MAX_MS = 60_000;

export interface ForwarderEvents {
  /** A neighbour holds it durably. A `relay` holding is gone from here; a `source` one waits for its receipt. */
  acknowledged(holding: Holding, by: NodeId): void;
  /** Its lifetime ended; it is gone from here. */
  expired(holding: Holding): void;
  /** An offer to a neighbour ended, well or not: whoever sends its chunks stops. */
  offerEnded(to: NodeId, id: BundleId): void;
  /** What was offered to a neighbour while it arrives waits until it is whole: others need the place. */
  gaveWay(to: NodeId, id: BundleId): void;
}

export class Forwarder {
  readonly #ctx: CustodyContext;
  readonly #events: ForwarderEvents;
  readonly #holdings = new Holdings();
  readonly #ready = new Map<NodeId, ReadyQueue>();
  readonly #windows: Windows;
  /** What time moves: a bundle's life, pause or receipt; answers that a neighbour owes; destinations to try again. */
  readonly #due = {
    bundles: new Alarms<Holding>(),
    answers: new Alarms<NodeId>(),
    destinations: new Alarms<NodeId>(),
  };
  #timer: Timer | undefined;
  #timerAtMs = Number.POSITIVE_INFINITY;
  #isStopped = false;
  readonly #sent;
  readonly #returned;

  constructor(ctx: CustodyContext, events: ForwarderEvents) {
    this.#ctx = ctx;
    this.#events = events;
    this.#windows = new Windows(ctx.carrier, (to, id) => events.offerEnded(to, id));
    this.#sent = ctx.metrics.counter("godwit_custody_offers_total");
    this.#returned = ctx.metrics.counter("godwit_custody_returned_total");
  }

  get count(): number {
    return this.#holdings.count;
  }

  get bytes(): number {
    return this.#holdings.bytes;
  }

  get(id: BundleId): Holding | undefined {
    return this.#holdings.get(id);
  }

  /** Every bundle held for a destination, in the order they came. Copy it to change what it walks over. */
  toward(destination: NodeId): Iterable<Holding> {
    return this.#holdings.toward(destination);
  }

  /** Messages to a destination whose receipt is missing since this neighbour acknowledged them; no test bundles. */
  *awaiting(via: NodeId, destination: NodeId): Generator<Holding, void> {
    for (const holding of this.#holdings.relayedBy(via, destination))
      if (holding.via === undefined) yield holding;
  }

  /** How many those are, test bundles included. */
  awaitingCount(via: NodeId, destination: NodeId): number {
    return this.#holdings.relayedCount(via, destination);
  }

  /** Whether a receipt is missing of anything that this neighbour acknowledged. */
  isOwedBy(neighbour: NodeId): boolean {
    return this.#holdings.hasRelayed(neighbour);
  }

  /** Time off was confirmed: what is held durably ends sooner. */
  onTimePassed(): void {
    for (const holding of this.#holdings.all) {
      if (holding.lifetime === undefined) continue;
      holding.deadlineMs = Math.min(holding.deadlineMs, deadlineOf(this.#ctx, holding.lifetime));
      this.#wake(this.#due.bundles, holding, holding.deadlineMs);
    }
  }

  /** Takes a durable bundle. A second one with the same id is ignored: false. */
  add(holding: Holding): boolean {
    if (this.#isStopped || !this.#holdings.add(holding)) return false;
    if (holding.state === "ready") this.#enqueue(holding);
    this.#wake(this.#due.bundles, holding, Math.min(holding.deadlineMs, holding.wakeAtMs));
    this.pump(holding.header.destination);
    return true;
  }

  /** Forgets a bundle, wherever it is. */
  remove(id: BundleId): Holding | undefined {
    const holding = this.#holdings.remove(id);
    if (holding === undefined) return undefined;
    this.#due.bundles.delete(holding);
    this.#land(holding);
    this.#leaveQueue(holding);
    holding.state = "paused"; // queues skip what is not ready
    return holding;
  }

  /** What went on while it arrived is here as a whole. */
  onWhole({ id, header }: Holding): void {
    this.retry(id);
    this.pump(header.destination);
  }

  /** Makes a waiting or relayed bundle ready at once, for instance when it came back to its source. */
  retry(id: BundleId): void {
    const holding = this.#holdings.get(id);
    if (holding !== undefined) this.#retryAll([holding]);
  }

  /** Routes to a destination changed. */
  onRoute(destination: NodeId): void {
    this.pump(destination);
  }

  /** A way appeared to every destination that has no route of its own. */
  onDefaultRoute(): void {
    for (const destination of [...this.#ready.keys()]) this.pump(destination);
  }

  /** A neighbour can take frames again, or is new. */
  onWritable(neighbour: NodeId): void {
    const window = this.#windows.get(neighbour);
    if (window === undefined) return;
    // A destination without room joins again at the end, so that each has its turn.
    let left = window.waiting.size;
    for (const destination of window.waiting) {
      if (left-- === 0 || isFull(window)) return;
      window.waiting.delete(destination);
      this.pump(destination);
    }
  }

  /** A neighbour's last link went: what it had not acknowledged is ready again. */
  onNeighbourDown(neighbour: NodeId): void {
    const { holdings, waiting } = this.#windows.close(neighbour);
    this.#due.answers.delete(neighbour);
    const destinations = new Set(waiting);
    // Last sent first, because each goes to the front of its queue.
    for (const holding of holdings.reverse()) {
      this.#returned.add(1, { reason: "link_down" });
      this.#makeReady(holding, true);
      destinations.add(holding.header.destination);
    }
    for (const destination of destinations) this.pump(destination);
  }

  /** A neighbour lost its store: what was handed to it may be gone, so the source offers it again. */
  onStoreLost(neighbour: NodeId): void {
    this.#retryAll(this.#holdings.relayedBy(neighbour));
  }

  /** A recipient is back: a receipt that it had not handed on when it went is asked for by offering the message again. */
  onDestinationUp(neighbour: NodeId): void {
    this.#retryAll(this.#holdings.relayedBy(neighbour, neighbour));
  }

  onAck(from: NodeId, ids: readonly BundleId[]): void {
    for (const id of ids) {
      const holding = this.#holdings.get(id);
      // It counts even after its timeout, because the neighbour holds the bundle; but only from one that was given it.
      if (holding?.offeredTo?.includes(from) !== true) continue;
      delete holding.refusedBy;
      delete holding.refusals;
      this.#windows.noteAnswer(from, holding, this.#nowMs());
      if (holding.role === "relay") this.remove(id);
      else this.#relayed(holding, from);
      this.#events.acknowledged(holding, from);
    }
    this.onWritable(from);
  }

  /** The source keeps its copy and offers it again should no receipt come. A repeated ack puts nothing off. */
  #relayed(holding: Holding, by: NodeId): void {
    this.#land(holding);
    this.#leaveQueue(holding);
    const isRepeated = holding.state === "relayed";
    this.#holdings.setRelayed(holding, by);
    holding.relayedAtMs = this.#nowMs();
    if (isRepeated) return;
    const pauseMs = this.#windows.receiptMs(holding, by, this.#ctx.limits);
    holding.relays = (holding.relays ?? 0) + 1;
    holding.slowSinceMs = this.#nowMs();
    holding.wakeAtMs = this.#nowMs() + pauseMs * (0.9 + this.#ctx.random.float() / 5);
    this.#wake(this.#due.bundles, holding, holding.wakeAtMs);
  }

  onRefuse(from: NodeId, id: BundleId, reason: number, retryAfterMs: number): void {
    if (this.#windows.land(from, id) === undefined) return;
    const holding = this.#holdings.get(id);
    if (holding === undefined) return;
    this.#returned.add(1, { reason: refuseReasonNames[reason] ?? "other" });
    // "Busy" passes in a moment; a full store stays full for a while, and thousands may be waiting for it.
    if (reason !== RefuseReason.busy) holding.refusals = (holding.refusals ?? -1) + 1;
    const wantedMs = Math.max(REFUSED_MIN_MS, retryAfterMs) * 2 ** Math.min(holding.refusals ?? 0, 8);
    const pauseMs = Math.min(REFUSED_MAX_MS, wantedMs) * (0.9 + this.#ctx.random.float() / 5);
    holding.refusedBy ??= new Map();
    holding.refusedBy.set(from, this.#nowMs() + pauseMs);
    holding.waitReason = refusalWords(from, reason);
    this.#makeReady(holding);
    // Another neighbour may take it now; this one is asked again after the pause.
    this.#wake(this.#due.bundles, holding, this.#nowMs() + pauseMs);
    this.pump(holding.header.destination);
    this.onWritable(from);
  }

  /**
   * It came back, and who brought it drops its copy on our word: from now on this one is the one. An acknowledgement of an earlier offer, which
   * may be on its way round the same circle, does not end it; the same neighbour is asked again instead.
   */
  retake(id: BundleId): void {
    const holding = this.#holdings.get(id);
    if (holding?.role === "relay") delete holding.offeredTo;
  }

  /** Handed to this neighbour and not yet answered. */
  isInFlightTo(neighbour: NodeId, id: BundleId): boolean {
    return this.#windows.isUnderWay(neighbour, id);
  }

  /** The chunks of an offered bundle are flowing: its timeout starts anew. */
  touch(neighbour: NodeId, id: BundleId): Holding | undefined {
    return this.#windows.touch(neighbour, id, this.#nowMs());
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
    const choice = (holding.via === undefined ? chosen : pinned)(carrier, holding, nowMs);
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
    const window = this.#windows.open(to);
    const isOffer = mustOffer(carrier, holding, to);
    if (isOffer && holding.isArriving !== true && !hasRoom(window, holding.sealedBytes, isOffer))
      this.#giveWay(to, holding.header.destination, nowMs);
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
    return this.#launch(holding, to, isOffer);
  }

  /** A whole bundle finds no room: what only arrives leaves it, when it has had its time. */
  #giveWay(to: NodeId, destination: NodeId, nowMs: number): void {
    const first = this.#windows.firstArriving(to);
    if (first === undefined) return;
    const { holding, yieldsAtMs } = first;
    if (yieldsAtMs > nowMs) return this.#wake(this.#due.destinations, destination, yieldsAtMs);
    this.#windows.land(to, holding.id);
    this.#pause(holding, nowMs + REFUSED_MAX_MS);
    this.#events.gaveWay(to, holding.id);
  }

  #launch(holding: Holding, to: NodeId, isOffer: boolean): boolean {
    const nowMs = this.#nowMs();
    holding.state = "inflight";
    holding.waitReason = undefined;
    noteOffered(holding, to);
    this.#windows.launch(holding, to, isOffer, nowMs);
    this.#wake(this.#due.answers, to, nowMs + this.#windows.answerMs(to, isOffer));
    this.#sent.add();
    const sealed = isOffer ? undefined : holding.load();
    if (sealed instanceof Promise) {
      void sealed.then(
        (bytes) => this.#transmitLoaded(holding, to, bytes),
        () => this.onUnreadable(holding, to),
      );
      return true;
    }
    const { id, header } = holding;
    const frame =
      sealed === undefined
        ? encodeOffer(offerOf(this.#ctx.carrier, holding, to, this.#journey(holding)))
        : encodeBundleFrame({ id, header, sealed }, this.#journey(holding));
    if (this.#windows.send(to, holding, frame)) return true;
    this.#noRoom(holding, to);
    // It never left the queue: to queue it again while the queue is being drained would offer it for ever.
    holding.state = "ready";
    return false;
  }

  #transmitLoaded(holding: Holding, to: NodeId, sealed: Uint8Array | undefined): void {
    if (!this.#isInflight(holding, to)) return; // taken back meanwhile
    if (sealed === undefined) return this.onUnreadable(holding, to);
    const { id, header } = holding;
    const frame = encodeBundleFrame({ id, header, sealed }, this.#journey(holding));
    if (this.#windows.send(to, holding, frame)) return;
    this.#noRoom(holding, to);
    this.#makeReady(holding, true);
  }

  #isInflight(holding: Holding, to: NodeId): boolean {
    return holding.inflightTo === to && this.#holdings.has(holding);
  }

  /** The store cannot read now what is under way to that neighbour. */
  onUnreadable(holding: Holding, to: NodeId): void {
    if (!this.#isInflight(holding, to)) return;
    this.#windows.land(to, holding.id);
    this.#returned.add(1, { reason: "store_failed" });
    holding.waitReason = "the store cannot read it now";
    this.#pause(holding, this.#nowMs() + REFUSED_MAX_MS);
  }

  /** Nothing reached the neighbour: its destination waits for the link to drain. */
  #noRoom(holding: Holding, to: NodeId): void {
    this.#windows.open(to).waiting.add(holding.header.destination);
    this.#windows.land(to, holding.id);
    this.#returned.add(1, { reason: "no_room" });
    holding.waitReason = "waiting for room on the link";
    // In case the link's drain came before us.
    this.#wake(this.#due.destinations, holding.header.destination, this.#nowMs() + REFUSED_MIN_MS);
  }

  #journey(holding: Holding): Journey {
    const { clock, self } = this.#ctx;
    const trace =
      holding.trace.length < TRACE_MAX
        ? [...holding.trace, { node: self, atMs: clock.wallMs() }]
        : holding.trace;
    return { remainingMs: holding.deadlineMs - clock.monotonicMs(), hops: holding.hops + 1, trace };
  }

  /** Out of the window that it is in. What waited for the room may go. */
  #land(holding: Holding): void {
    const to = holding.inflightTo;
    if (to === undefined || this.#windows.land(to, holding.id) === undefined) return;
    if ((this.#windows.get(to)?.waiting.size ?? 0) > 0) this.#wake(this.#due.answers, to, this.#nowMs());
  }

  /** Call before a `ready` holding becomes something else outside of a drain. */
  #leaveQueue(holding: Holding): void {
    if (holding.state !== "ready") return;
    const { destination } = holding.header;
    const queue = this.#ready.get(destination);
    queue?.forget(holding);
    if (queue?.length === 0) this.#ready.delete(destination);
  }

  #enqueue(holding: Holding, again = false): void {
    const { destination } = holding.header;
    let queue = this.#ready.get(destination);
    if (queue === undefined) this.#ready.set(destination, (queue = new ReadyQueue()));
    queue.push(holding, again);
  }

  #makeReady(holding: Holding, again = false): void {
    if (!this.#holdings.has(holding) || holding.state === "ready") return;
    this.#holdings.leaveRelayed(holding);
    holding.state = "ready";
    holding.wakeAtMs = Number.POSITIVE_INFINITY;
    this.#enqueue(holding, again);
  }

  #retryAll(holdings: Iterable<Holding>): void {
    const destinations = new Set<NodeId>();
    for (const holding of [...holdings]) {
      if (holding.state === "ready" || holding.state === "inflight") continue;
      this.#makeReady(holding);
      destinations.add(holding.header.destination);
    }
    for (const destination of destinations) this.pump(destination);
  }

  #pause(holding: Holding, untilMs: number): void {
    holding.state = "paused";
    holding.wakeAtMs = untilMs;
    this.#wake(this.#due.bundles, holding, untilMs);
  }

  #expire(holding: Holding): void {
    this.remove(holding.id);
    this.#events.expired(holding);
  }

  #nowMs(): number {
    return this.#ctx.clock.monotonicMs();
  }

  /** Looks at `key` then, or earlier. */
  #wake<K>(alarms: Alarms<K>, key: K, atMs: number): void {
    alarms.set(key, atMs);
    this.#wakeBy(atMs);
  }

  #wakeBy(atMs: number): void {
    if (this.#isStopped || atMs >= this.#timerAtMs || !Number.isFinite(atMs)) return;
    this.#timer?.cancel();
    this.#timerAtMs = atMs;
    this.#timer = this.#ctx.clock.after(Math.max(1, atMs - this.#nowMs()), () => this.#onTimer());
  }

  /** What is due: expiry, pauses that ended, receipts overdue, answers overdue. */
  #onTimer(): void {
    this.#timerAtMs = Number.POSITIVE_INFINITY;
    const nowMs = this.#nowMs();
    const { bundles, answers, destinations: untried } = this.#due;
    const destinations = new Set(untried.takeDue(nowMs));
    for (const holding of bundles.takeDue(nowMs)) this.#onDue(holding, nowMs, destinations);
    const neighbours = answers.takeDue(nowMs);
    for (const neighbour of neighbours) this.#takeBackOverdue(neighbour, nowMs, destinations);
    for (const destination of destinations) this.pump(destination);
    for (const neighbour of neighbours) this.onWritable(neighbour);
    this.#wakeBy(Math.min(bundles.nextMs, answers.nextMs, untried.nextMs));
  }

  #onDue(holding: Holding, nowMs: number, destinations: Set<NodeId>): void {
    if (!this.#holdings.has(holding)) return; // went with another one that was due
    if (holding.deadlineMs <= nowMs) return this.#expire(holding);
    if (holding.wakeAtMs <= nowMs && (holding.state === "paused" || holding.state === "relayed"))
      if (!this.#windows.staysRelayed(holding, nowMs)) this.#makeReady(holding);
    if (holding.state === "ready") destinations.add(holding.header.destination);
    const askAgainMs = earliestAfter(holding.refusedBy, nowMs) ?? Number.POSITIVE_INFINITY;
    this.#due.bundles.set(holding, Math.min(holding.deadlineMs, holding.wakeAtMs, askAgainMs));
  }

  /** What a neighbour did not answer in time is ready again; that is a window at most. */
  #takeBackOverdue(neighbour: NodeId, nowMs: number, destinations: Set<NodeId>): void {
    const { holdings, nextMs } = this.#windows.takeOverdue(neighbour, nowMs);
    this.#due.answers.set(neighbour, nextMs);
    for (const holding of holdings) {
      holding.relayedTo = neighbour; // another way first
      this.#returned.add(1, { reason: "no_ack" });
      this.#makeReady(holding);
      destinations.add(holding.header.destination);
    }
  }
}
