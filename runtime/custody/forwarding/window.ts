/**
 * What is under way to each neighbour and not yet answered, how much that may be, and how long an answer may take.
 * Knows nothing of queues and routes. docs/protocol/delivery.md "Windows".
 */
import { BoundedMap } from "@godwit/sdk/bounded";
import { type Departure, isWaiting, newDeparture } from "../../kernel/departure.ts";
import type { BundleId, NodeId } from "../../kernel/ids.ts";
import type { Carrier, CustodyLimits, Holding } from "../context.ts";
import { slowestMs } from "./arriving-places.ts";

/** Bundles sent whole. */
const BUNDLES_MAX = 512;
const BYTES_MAX = 4 * 1024 * 1024;
/** Offers of any size: each may hold a whole large bundle in memory. */
const LARGE_OFFERS_MAX = 2;
/** Offers that are small together: on links with small frames every bundle is one. */
const SMALL_OFFERS_MAX = 32;
const SMALL_OFFERS_BYTES_MAX = 256 * 1024;
/** A reliable link loses nothing: only a neighbour that cannot commit is slow. */
const ACK_TIMEOUT_RELIABLE_MS = 20_000;
const ACK_TIMEOUT_MIN_MS = 1_000;
const OFFER_TIMEOUT_MS = 60_000;
/** Over datagrams any of offer, want and acknowledgement may be lost; an offer repeated costs one frame. */
const OFFER_TIMEOUT_MIN_MS = 3_000;
/**
 * A receipt comes behind whatever else its signer has to say, and what is offered again over a slow link for want of it costs all of its airtime
 * once more: so many rounds over such a neighbour, and this long at least wherever only slow links lead.
 */
const RECEIPT_ROUNDS = 8;
const RECEIPT_SLOW_MS = 600_000;
/** Where frames wait for long, and may come in pieces of which one is asked for again, an answer may be a round late. */
const ROUNDS = 2;
/**
 * How long a far end's answers wait there for its own airtime nobody sees but by their coming: what was seen is waited for, and fades with each answer; without
 * any the pause doubles, up to this, ms.
 */
const LATE_MAX_MS = 3_600_000;
const LATE_KEPT = 0.75;

/** Copies that leave although they were answered. */
const LEAVING_MAX = 256;

type ReceiptLimits = Pick<CustodyLimits, "reofferFirstMs" | "reofferCapMs">;

const RECEIPT_SLOW_MAX_MS = 24 * 3_600_000;
/** Between two looks at whether only slow links lead. */
const SLOW_LOOK_MS = 15_000;

interface Flight {
  readonly holding: Holding;
  readonly sinceMs: number;
  /** When it was handed to the neighbour's lanes, or last moved. */
  sentAtMs: number;
  readonly departure: Departure;
  /** Its frame was taken by the neighbour's lanes, now or as a copy of before that waits to leave. */
  isHanded: boolean;
  readonly isOffer: boolean;
}

export interface Window {
  readonly inflight: Map<BundleId, Flight>;
  /** Of bundles sent whole. */
  bytes: number;
  offers: number;
  offeredBytes: number;
  /** Destinations that wait for room here. */
  readonly waiting: Set<NodeId>;
}

export const newWindow = (): Window => ({
  inflight: new Map(),
  bytes: 0,
  offers: 0,
  offeredBytes: 0,
  waiting: new Set(),
});

/** One bundle always has room in an empty window, whatever its size. */
export function hasRoom(window: Window, sealedBytes: number, isOffer: boolean): boolean {
  if (window.inflight.size >= BUNDLES_MAX) return false;
  if (!isOffer) return window.bytes === 0 || window.bytes + sealedBytes <= BYTES_MAX;
  if (window.offers < LARGE_OFFERS_MAX) return true;
  return window.offers < SMALL_OFFERS_MAX && window.offeredBytes + sealedBytes <= SMALL_OFFERS_BYTES_MAX;
}

/** Nothing of any kind or size has room. */
export const isFull = (window: Window): boolean => !hasRoom(window, 0, false) && !hasRoom(window, 0, true);

/** What goes on while it arrives may keep its place from whole ones for so long. */
const ARRIVING_PLACE_MS = 10_000;

export class Windows {
  readonly #carrier: Carrier;
  readonly #offerEnded: (to: NodeId, id: BundleId) => void;
  readonly #windows = new Map<NodeId, Window>();
  /** Longest time of late from a frame's leaving to its answer, ms; of neighbours whose answers wait for airtime. */
  readonly #lateMs = new Map<NodeId, number>();
  /** By neighbour and bundle: whoever gives it here once more need not have it said again. */
  readonly #leaving = new BoundedMap<string, Departure>({
    name: "copies that leave although they were answered",
    max: LEAVING_MAX,
  });

  /** `offerEnded`: an offer is under way no more, for whatever cause. */
  constructor(carrier: Carrier, offerEnded: (to: NodeId, id: BundleId) => void) {
    this.#carrier = carrier;
    this.#offerEnded = offerEnded;
  }

  get(neighbour: NodeId): Window | undefined {
    return this.#windows.get(neighbour);
  }

  open(neighbour: NodeId): Window {
    let window = this.#windows.get(neighbour);
    if (window === undefined) this.#windows.set(neighbour, (window = newWindow()));
    return window;
  }

  isUnderWay(neighbour: NodeId, id: BundleId): boolean {
    return this.#windows.get(neighbour)?.inflight.has(id) === true;
  }

  launch(holding: Holding, to: NodeId, isOffer: boolean, nowMs: number): void {
    const window = this.open(to);
    holding.inflightTo = to;
    const copy = isOffer ? undefined : this.#leaving.get(to + holding.id);
    const isLeaving = isWaiting(copy);
    window.inflight.set(holding.id, {
      holding,
      sinceMs: nowMs,
      sentAtMs: nowMs,
      departure: isLeaving && copy !== undefined ? copy : newDeparture(),
      isHanded: isLeaving,
      isOffer,
    });
    if (isOffer) {
      window.offers++;
      window.offeredBytes += holding.sealedBytes;
    } else window.bytes += holding.sealedBytes;
  }

  /** Sends what was launched to that neighbour, whole or offered: an answer is waited for from when it leaves. Borrowed. False: there is no room or no link. */
  send(to: NodeId, { id, header }: Holding, frame: Uint8Array): boolean {
    const flight = this.get(to)?.inflight.get(id);
    if (flight?.isHanded === true) return true;
    const isTaken = this.#carrier.send(to, header.priority, frame, flight?.departure);
    if (flight !== undefined) flight.isHanded = isTaken;
    return isTaken;
  }

  /** It is under way to this neighbour no more. A window with nothing in it is gone. */
  land(neighbour: NodeId, id: BundleId): Holding | undefined {
    const window = this.#windows.get(neighbour);
    const flight = window?.inflight.get(id);
    if (window === undefined || flight === undefined) return undefined;
    window.inflight.delete(id);
    const { holding, departure, isHanded, isOffer } = flight;
    holding.inflightTo = undefined;
    if (isHanded && !isOffer && this.#waitsLong(neighbour) && isWaiting(departure))
      this.#leaving.renew(neighbour + id, departure);
    if (isOffer) {
      window.offers--;
      window.offeredBytes -= holding.sealedBytes;
      this.#offerEnded(neighbour, id);
    } else window.bytes -= holding.sealedBytes;
    if (window.inflight.size === 0 && window.waiting.size === 0) this.#windows.delete(neighbour);
    return holding;
  }

  /** The neighbour is gone: answers what was under way to it, in the order it went, and who waited for room. */
  close(neighbour: NodeId): { readonly holdings: Holding[]; readonly waiting: ReadonlySet<NodeId> } {
    const window = this.#windows.get(neighbour);
    this.#lateMs.delete(neighbour);
    if (window === undefined) return { holdings: [], waiting: new Set() };
    this.#windows.delete(neighbour);
    for (const { holding, isOffer } of window.inflight.values()) {
      holding.inflightTo = undefined;
      if (isOffer) this.#offerEnded(neighbour, holding.id);
    }
    return { holdings: [...window.inflight.values()].map(({ holding }) => holding), waiting: window.waiting };
  }

  /** Of those that go on while they arrive, the first, and when whole ones may have its place: its end may be long in coming. */
  firstArriving(neighbour: NodeId): { readonly holding: Holding; readonly yieldsAtMs: number } | undefined {
    for (const { holding, sinceMs } of this.#windows.get(neighbour)?.inflight.values() ?? [])
      if (holding.isArriving === true) return { holding, yieldsAtMs: sinceMs + ARRIVING_PLACE_MS };
    return undefined;
  }

  /** The chunks of an offered bundle are flowing: its timeout starts anew, as often as a transfer at the slowest pace needs. */
  touch(neighbour: NodeId, id: BundleId, nowMs: number): Holding | undefined {
    const flight = this.#windows.get(neighbour)?.inflight.get(id);
    if (flight !== undefined && nowMs <= this.#latestTouchMs(neighbour, flight)) flight.sentAtMs = nowMs;
    return flight?.holding;
  }

  /** What only arrives goes on at the pace of whoever sends it, and on a medium that carries little all are slow. */
  #latestTouchMs(neighbour: NodeId, { holding, sinceMs }: Flight): number {
    const isPaced = holding.isArriving === true || (this.#carrier.answerMs?.(neighbour) ?? 0) > 0;
    return isPaced ? Number.POSITIVE_INFINITY : sinceMs + OFFER_TIMEOUT_MS + slowestMs(holding.sealedBytes);
  }

  /** Takes out what the neighbour should have answered by now, and says when the next answer is overdue. */
  takeOverdue(neighbour: NodeId, nowMs: number): { readonly holdings: Holding[]; readonly nextMs: number } {
    const holdings: Holding[] = [];
    let nextMs = Number.POSITIVE_INFINITY;
    for (const [id, { holding, sentAtMs, departure, isOffer }] of [
      ...(this.#windows.get(neighbour)?.inflight.entries() ?? []),
    ]) {
      const answerMs = this.answerMs(neighbour, isOffer);
      // While it arrives pauses are not the neighbour's.
      // Nothing is overdue that waits for its turn here.
      const sinceMs = this.#waitsLong(neighbour) ? Math.max(sentAtMs, departure.leftAtMs ?? nowMs) : sentAtMs;
      const waitMs = holding.isArriving === true ? Math.max(answerMs, OFFER_TIMEOUT_MS) : answerMs;
      const dueMs = sinceMs + this.#patience(neighbour, holding, waitMs);
      if (dueMs > nowMs) nextMs = Math.min(nextMs, dueMs);
      else {
        if (this.#waitsLong(neighbour)) noteUnanswered(holding, departure, nowMs);
        this.land(neighbour, id);
        holdings.push(holding);
      }
    }
    return { holdings, nextMs };
  }

  #patience(neighbour: NodeId, { unanswered }: Holding, answerMs: number): number {
    if (!this.#waitsLong(neighbour)) return answerMs;
    const waitMs = answerMs + (this.#lateMs.get(neighbour) ?? 0);
    return Math.max(answerMs, Math.min(LATE_MAX_MS, waitMs * 2 ** Math.min(unanswered?.times ?? 0, 16)));
  }

  /** It has answered: what it takes others to be answered is known now. */
  noteAnswer(neighbour: NodeId, holding: Holding, nowMs: number): void {
    const { unanswered } = holding;
    delete holding.unanswered;
    if (!this.#waitsLong(neighbour)) return;
    const leftAtMs = this.get(neighbour)?.inflight.get(holding.id)?.departure.leftAtMs;
    const sinceMs = unanswered?.sinceMs ?? leftAtMs;
    if (sinceMs === undefined || sinceMs < 0) return;
    const fadedMs = (this.#lateMs.get(neighbour) ?? 0) * LATE_KEPT;
    this.#lateMs.set(neighbour, Math.min(LATE_MAX_MS, Math.max(nowMs - sinceMs, fadedMs)));
  }

  /** How long an answer may take, ms: from when it was asked for, or where that waits for long from when it has left. */
  answerMs(to: NodeId, isOffer: boolean): number {
    const carrier = this.#carrier;
    const reliableMs = isOffer ? OFFER_TIMEOUT_MS : ACK_TIMEOUT_RELIABLE_MS;
    const answerMs = carrier.answerMs?.(to) ?? 0;
    if (carrier.isReliable(to)) return Math.max(reliableMs, answerMs);
    const roundsMs = answerMs > 0 ? answerMs * ROUNDS : carrier.rttMs(to) * 4;
    return Math.max(isOffer ? OFFER_TIMEOUT_MIN_MS : ACK_TIMEOUT_MIN_MS, roundsMs);
  }

  /** How long a source waits for the receipt of what this neighbour acknowledged before it offers it again, ms. */
  receiptMs({ relays = 0 }: Holding, by: NodeId, limits: ReceiptLimits): number {
    const { reofferFirstMs, reofferCapMs } = limits;
    const carrier = this.#carrier;
    const lateMs = this.#lateMs.get(by) ?? 0;
    const answerMs = this.#waitsLong(by) ? RECEIPT_ROUNDS * (carrier.answerMs!(by) + lateMs) : 0;
    const firstMs = Math.max(reofferFirstMs, answerMs);
    return Math.min(Math.max(reofferCapMs, firstMs), firstMs * 2 ** Math.min(relays, 20));
  }

  /** Its receipt is not late yet where only slow links lead: it is looked at again. Asked each time, because a link that stalls seems slow for a while. */
  staysRelayed(holding: Holding, nowMs: number): boolean {
    const { state, header, relays = 1, slowSinceMs } = holding;
    if (state !== "relayed" || slowSinceMs === undefined) return false;
    const untilMs = slowSinceMs + Math.min(RECEIPT_SLOW_MAX_MS, RECEIPT_SLOW_MS * 2 ** (relays - 1));
    if (nowMs >= untilMs || !this.#carrier.isSlow(header.destination)) return false;
    holding.wakeAtMs = Math.min(untilMs, nowMs + SLOW_LOOK_MS);
    return true;
  }

  #waitsLong(to: NodeId): boolean {
    return !this.#carrier.isReliable(to) && (this.#carrier.answerMs?.(to) ?? 0) > 0;
  }
}

/** What was dropped before it left could have no answer. */
function noteUnanswered(holding: Holding, { leftAtMs }: Departure, nowMs: number): void {
  if (leftAtMs === Number.NEGATIVE_INFINITY) return;
  const { times = 0, sinceMs = leftAtMs ?? nowMs } = holding.unanswered ?? {};
  holding.unanswered = { times: times + 1, sinceMs };
}
