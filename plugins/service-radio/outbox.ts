/**
 * What waits to be handed to the radio, and what it has not told of yet. Owns the pace: at most two packets in the radio's hands, none while its queue
 * is nearly full, none beyond half of what its region allows in an hour. Whatever the radio says of its queue, each packet comes to
 * one end within a bounded time.
 */
import type { Clock, Timer } from "@godwit/sdk";
import type { RadioAirtime } from "./airtime.ts";

/** Packets that wait, of all users. */
export const QUEUE_MAX = 64;
/** In the radio's hands. */
const IN_FLIGHT_MAX = 2;
/** Places in the radio's queue that are left to others. */
const LEFT_FREE = 4;
/** Its answer to a packet, at the latest, ms. */
const ANSWER_MS = 30_000;
/** Between two questions whether it has left, at least, ms. */
const POLL_MS = 1_000;
/** Asked so often whether its queue is empty, what it took is believed to have left. */
const POLLS_MAX = 20;
/** So long it is not, where as many wait in the queue as when it was taken, ms: on a busy channel nothing leaves for a minute. */
const HELD_MAX_MS = 120_000;
/** A queue that has no place for so long will have none, ms. */
export const STUCK_MS = 600_000;
const STUCK_POLL_MS = 15_000;
/** Until it is looked again whether the hour has room, ms. */
const HOUR_POLL_MS = 30_000;

/** What became of a packet: "left": it is on its way, as far as can be known. */
export type Outcome = "left" | "refused" | "expired" | "unanswered" | "stuck" | "gone";

export interface Sending {
  /** Of the packet, 1 to 2^32 - 1, never used before in this session. */
  readonly id: number;
  /** Smaller goes first. */
  readonly rank: number;
  readonly airtimeMs: number;
  /** A ToRadio message. */
  readonly message: Uint8Array;
  /** When it is worth nothing any more, monotonic ms. */
  readonly expiresAtMs: number;
  /** Once. */
  readonly done: (outcome: Outcome) => void;
}

export interface QueueStatus {
  readonly res: number;
  readonly free: number;
  readonly maxlen: number;
  readonly meshPacketId: number;
}

export interface OutboxDeps {
  readonly clock: Clock;
  readonly airtime: RadioAirtime;
  /** False: the radio is not ready. */
  write(message: Uint8Array): boolean;
  /** Asks for a status of the queue. */
  ask(): void;
  /** Of this radio and any hour, ms; below any packet: none leaves. */
  hourMaxMs(): number;
  /** The radio's queue has had no place for `STUCK_MS`, or has one again. */
  stuck(isStuck: boolean): void;
  /** One packet was not taken, for a reason of the firmware's. */
  refused(res: number): void;
}

interface InFlight {
  readonly sending: Sending;
  isAccepted: boolean;
  /** Then, monotonic ms, and the places that were free with it there. */
  acceptedAtMs: number;
  free: number;
  /** Of its answer, or of the next question. */
  timer: Timer;
  polls: number;
}

export class Outbox {
  readonly #deps: OutboxDeps;
  #queue: Sending[] = [];
  readonly #inFlight = new Map<number, InFlight>();
  #status: QueueStatus | undefined;
  #isReady = false;
  #timer: Timer | undefined;
  #fullSinceMs: number | undefined;
  #isStuck = false;

  constructor(deps: OutboxDeps) {
    this.#deps = deps;
  }

  get waiting(): number {
    return this.#queue.length;
  }

  get inFlight(): number {
    return this.#inFlight.size;
  }

  get isFull(): boolean {
    return this.#queue.length >= QUEUE_MAX;
  }

  /** False: there is no room, and `done` is not called. */
  offer(sending: Sending): boolean {
    if (this.isFull) return false;
    const at = this.#queue.findLastIndex(({ rank }) => rank <= sending.rank);
    this.#queue.splice(at + 1, 0, sending);
    this.#pump();
    return true;
  }

  /** Those of one user, which has gone: they are not told. */
  withdraw(isTheirs: (sending: Sending) => boolean): void {
    this.#queue = this.#queue.filter((sending) => !isTheirs(sending));
  }

  /** The radio is there and has said all of itself. */
  ready(): void {
    this.#isReady = true;
    this.#status = undefined;
    this.#pump();
  }

  /** The radio is gone, or was another one: what it had is gone with it, what waits waits on for `keeps`, or ends. */
  lost(keeps: boolean): void {
    this.#isReady = false;
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#noteRoom(true);
    for (const { sending } of [...this.#inFlight.values()]) this.#end(sending.id, "gone");
    if (!keeps) for (const { done } of this.#queue.splice(0)) done("gone");
  }

  onStatus(status: QueueStatus): void {
    // An older firmware does not say how long its queue is.
    this.#status = status;
    const known = status.meshPacketId === 0 ? undefined : this.#inFlight.get(status.meshPacketId);
    if (known !== undefined && !known.isAccepted) {
      if (status.res === 0) this.#accept(known);
      else {
        this.#deps.refused(status.res);
        this.#end(known.sending.id, "refused");
      }
    } else if (isEmpty(status))
      // What was taken before that question was answered has left the queue.
      for (const { isAccepted, polls, sending } of [...this.#inFlight.values()])
        if (isAccepted && polls > 0) this.#end(sending.id, "left");
    // Also while nothing waits: who was told that it is stuck hears that it is not.
    this.#hasRoom();
    this.#pump();
  }

  /** The firmware says that one of ours went nowhere. */
  onRefused(id: number): void {
    if (this.#inFlight.has(id)) this.#end(id, "refused");
    this.#pump();
  }

  #accept(flight: InFlight): void {
    flight.isAccepted = true;
    flight.acceptedAtMs = this.#deps.clock.monotonicMs();
    flight.free = this.#status?.free ?? 0;
    flight.timer.cancel();
    this.#pollLater(flight);
  }

  #pollLater(flight: InFlight): void {
    const { sending } = flight;
    flight.timer = this.#deps.clock.after(Math.max(POLL_MS, sending.airtimeMs), () => {
      if (++flight.polls > POLLS_MAX && !this.#isHeld(flight)) {
        this.#end(sending.id, "left");
        return this.#pump();
      }
      this.#pollLater(flight);
      this.#deps.ask();
    });
  }

  /** As many wait in the radio as when it took this one: nothing has left since, or as much was added. */
  #isHeld({ acceptedAtMs, free }: InFlight): boolean {
    const status = this.#status;
    const isBounded = this.#deps.clock.monotonicMs() - acceptedAtMs >= HELD_MAX_MS;
    return !isBounded && status !== undefined && status.maxlen > 0 && status.free <= free;
  }

  #pump(): void {
    const { clock, airtime } = this.#deps;
    this.#dropExpired();
    while (this.#isReady && this.#queue.length > 0 && this.#inFlight.size < IN_FLIGHT_MAX) {
      if (!this.#hasRoom()) return this.#againIn(STUCK_POLL_MS, () => this.#deps.ask());
      const next = this.#queue[0]!;
      if (airtime.hourMs + next.airtimeMs > this.#deps.hourMaxMs()) return this.#againIn(HOUR_POLL_MS);
      this.#queue.shift();
      // Before it is known that it was taken: who says that nothing is taken might send all the same.
      airtime.sent(next.airtimeMs);
      const timer = clock.after(ANSWER_MS, () => {
        this.#end(next.id, "unanswered");
        this.#pump();
      });
      this.#inFlight.set(next.id, {
        sending: next,
        isAccepted: false,
        acceptedAtMs: 0,
        free: 0,
        timer,
        polls: 0,
      });
      if (!this.#deps.write(next.message)) return;
    }
    if (this.#isReady && this.#isStuck) this.#againIn(STUCK_POLL_MS, () => this.#deps.ask());
    // What waits here may be over before anything else happens.
    else if (this.#queue.length > 0) this.#againIn(HOUR_POLL_MS);
  }

  #dropExpired(): void {
    const nowMs = this.#deps.clock.monotonicMs();
    if (!this.#queue.some(({ expiresAtMs }) => expiresAtMs <= nowMs)) return;
    const over = this.#queue.filter(({ expiresAtMs }) => expiresAtMs <= nowMs);
    this.#queue = this.#queue.filter(({ expiresAtMs }) => expiresAtMs > nowMs);
    for (const { done } of over) done("expired");
  }

  #hasRoom(): boolean {
    const status = this.#status;
    const room = status === undefined || status.maxlen === 0 ? 1 : status.free - this.#unanswered;
    const least = Math.min(LEFT_FREE, Math.ceil((status?.maxlen ?? 0) / 2));
    const hasRoom = status === undefined || status.maxlen === 0 ? this.#inFlight.size === 0 : room >= least;
    this.#noteRoom(hasRoom || this.#inFlight.size > 0);
    return hasRoom;
  }

  /** Handed over since the last word of the queue. */
  get #unanswered(): number {
    return [...this.#inFlight.values()].filter(({ isAccepted }) => !isAccepted).length;
  }

  #noteRoom(hasRoom: boolean): void {
    const { clock, stuck } = this.#deps;
    if (hasRoom) this.#fullSinceMs = undefined;
    else this.#fullSinceMs ??= clock.monotonicMs();
    const isStuck = this.#fullSinceMs !== undefined && clock.monotonicMs() - this.#fullSinceMs >= STUCK_MS;
    if (isStuck && this.#queue.length > 0) for (const { done } of this.#queue.splice(0)) done("stuck");
    if (isStuck === this.#isStuck) return;
    this.#isStuck = isStuck;
    stuck(isStuck);
  }

  #againIn(delayMs: number, before: () => void = () => {}): void {
    if (this.#timer !== undefined) return;
    this.#timer = this.#deps.clock.after(delayMs, () => {
      this.#timer = undefined;
      before();
      this.#pump();
    });
  }

  #end(id: number, outcome: Outcome): void {
    const flight = this.#inFlight.get(id);
    if (flight === undefined) return;
    this.#inFlight.delete(id);
    flight.timer.cancel();
    flight.sending.done(outcome);
  }
}

const isEmpty = ({ free, maxlen }: QueueStatus): boolean => free >= maxlen;
