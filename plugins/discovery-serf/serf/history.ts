/**
 * What came lately, by Lamport time, so that nothing is taken twice: of events the whole of them, because newcomers are told, of queries their
 * numbers. Owns the bounds of both.
 */
import type { UserEvent } from "../wire/serf-messages.ts";

/** Serf's own: what is older than so many ticks is not taken. */
export const SLOTS = 512;
const EVENTS_A_SLOT_MAX = 16;
const QUERIES_A_SLOT_MAX = 64;
/** Of payloads and names; beyond it the oldest slot goes. */
const EVENT_BYTES_MAX = 524_288;

/** A clock that counts what it hears of (Lamport, 1978). Begins at 1. */
export class LamportClock {
  #time = 1;

  get time(): number {
    return this.#time;
  }

  /** Answers the time that something of this node's has, and goes on. */
  next(): number {
    return this.#time++;
  }

  witness(time: number): void {
    if (time >= this.#time) this.#time = time + 1;
  }
}

interface Slot<T> {
  readonly ltime: number;
  readonly entries: T[];
}

const isOld = (ltime: number, clock: LamportClock): boolean =>
  clock.time > SLOTS && ltime < clock.time - SLOTS;

export class EventHistory {
  readonly clock: LamportClock;
  readonly #slots = new Map<number, Slot<UserEvent>>();
  #bytes = 0;
  /** Events before it are of the time before this node came. */
  #fromLTime = 0;

  constructor(clock: LamportClock) {
    this.clock = clock;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get all(): UserEvent[] {
    return [...this.#slots.values()].flatMap(({ entries }) => entries);
  }

  ignoreBefore(ltime: number): void {
    this.#fromLTime = Math.max(this.#fromLTime, ltime);
  }

  /** Whether it is new; it is kept then. */
  take(event: UserEvent): boolean {
    this.clock.witness(event.ltime);
    if (event.ltime < this.#fromLTime || isOld(event.ltime, this.clock)) return false;
    const index = event.ltime % SLOTS;
    let slot = this.#slots.get(index);
    if (slot?.ltime !== event.ltime) {
      this.#drop(index);
      slot = { ltime: event.ltime, entries: [] };
      this.#slots.set(index, slot);
    }
    const isKnown = slot.entries.some(
      ({ name, payload }) => name === event.name && Buffer.compare(payload, event.payload) === 0,
    );
    if (isKnown || slot.entries.length >= EVENTS_A_SLOT_MAX) return false;
    slot.entries.push({ ...event, payload: event.payload.slice() });
    this.#bytes += sizeOf(event);
    for (const first of this.#slots.keys()) {
      if (this.#bytes <= EVENT_BYTES_MAX) break;
      if (first !== index) this.#drop(first);
    }
    return true;
  }

  #drop(index: number): void {
    for (const event of this.#slots.get(index)?.entries ?? []) this.#bytes -= sizeOf(event);
    this.#slots.delete(index);
  }
}

const sizeOf = ({ name, payload }: UserEvent): number => name.length + payload.length + 64;

export class QueryHistory {
  readonly clock: LamportClock;
  readonly #slots = new Map<number, Slot<number>>();

  constructor(clock: LamportClock) {
    this.clock = clock;
  }

  /** Whether it is new. */
  take(ltime: number, id: number): boolean {
    this.clock.witness(ltime);
    if (isOld(ltime, this.clock)) return false;
    const index = ltime % SLOTS;
    let slot = this.#slots.get(index);
    if (slot?.ltime !== ltime) {
      slot = { ltime, entries: [] };
      this.#slots.set(index, slot);
    }
    if (slot.entries.includes(id) || slot.entries.length >= QUERIES_A_SLOT_MAX) return false;
    slot.entries.push(id);
    return true;
  }
}
