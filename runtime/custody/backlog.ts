/**
 * Open messages that are on the disk and not in memory: some 50 bytes for each, in lanes of one address and priority. Knows when each
 * is over or to be offered again, and which of a lane is next. Reads no store, decides nothing, owns no timer.
 */
import type { NodeId } from "../kernel/ids.ts";

/** A lane whose dead places outweigh the others by so many is cut. */
const DEAD_MIN = 64;

/** Of one message. */
export interface Parked {
  /** Its place in the order of arrival. */
  readonly order: number;
  /** What was left of its life, ms, at this running time. */
  readonly remainingMs: number;
  readonly atRunMs: number;
  /** Of its body, bytes. */
  readonly size: number;
  /** Undefined: it was never handed on. */
  readonly relayed?: Relayed | undefined;
}

/** A neighbour took it, and its receipt is missing. */
export interface Relayed {
  /** Undefined: an earlier start handed it on. */
  readonly via: NodeId | undefined;
  /** How often it was. */
  readonly relays: number;
  /** Monotonic ms: it is offered again then. */
  readonly wakeAtMs: number;
}

/** What became of a lane since the last sweep. */
export interface Swept {
  /** Whose life is over; they are in the lane no more. */
  readonly over: readonly Parked[];
  /** Some that waited for their time are next now. */
  readonly hasReady: boolean;
}

/** Running time at which the oldest of a lane came, ms, of those that may go and of those that were handed on; undefined: there is none. */
export interface OldestOfLane {
  readonly ready: number | undefined;
  readonly relayed: number | undefined;
}

const NEVER = Number.POSITIVE_INFINITY;

/** In order of arrival. */
class Lane {
  /** Ascending but for their signs; negative: it is gone. */
  #orders: number[] = [];
  #remainingMs: number[] = [];
  #atRunMs: number[] = [];
  #sizes: number[] = [];
  /** 0: ready. */
  #wakeAtMs: number[] = [];
  #relays: number[] = [];
  #via: (NodeId | undefined)[] = [];
  #count = 0;
  #ready = 0;
  /** All before it are gone or not ready. */
  #head = 0;

  get count(): number {
    return this.#count;
  }

  get hasReady(): boolean {
    return this.#ready > 0;
  }

  add({ order, remainingMs, atRunMs, size, relayed }: Parked): void {
    const at = this.#place(order);
    // One that came back takes its old place, if that is there still.
    const isThere = Math.abs(this.#orders[at] ?? 0) === order;
    if (!isThere)
      for (const column of [this.#orders, this.#remainingMs, this.#atRunMs, this.#wakeAtMs, this.#relays])
        column.splice(at, 0, 0);
    if (!isThere) {
      this.#sizes.splice(at, 0, 0);
      this.#via.splice(at, 0, undefined);
    }
    this.#orders[at] = order;
    this.#remainingMs[at] = remainingMs;
    this.#atRunMs[at] = atRunMs;
    this.#sizes[at] = size;
    this.#wakeAtMs[at] = relayed?.wakeAtMs ?? 0;
    this.#relays[at] = relayed?.relays ?? 0;
    this.#via[at] = relayed?.via;
    this.#head = Math.min(this.#head, at);
    this.#count++;
    if (this.#wakeAtMs[at] === 0) this.#ready++;
  }

  /** Takes out those that may go now, `limit` at most. */
  takeReady(limit: number): Parked[] {
    const taken: Parked[] = [];
    for (; this.#head < this.#orders.length && taken.length < limit; this.#head++)
      if (this.#orders[this.#head]! > 0 && this.#wakeAtMs[this.#head] === 0)
        taken.push(this.#take(this.#head));
    this.#cut();
    return taken;
  }

  take(order: number): Parked | undefined {
    const at = this.#place(order);
    if (this.#orders[at] !== order) return undefined;
    const parked = this.#take(at);
    this.#cut();
    return parked;
  }

  peek(order: number): Relayed | undefined {
    const at = this.#place(order);
    return this.#orders[at] === order ? this.#relayed(at) : undefined;
  }

  /** A walk to the first of each, which may be over all that is gone. */
  get oldest(): OldestOfLane {
    let ready: number | undefined;
    let relayed: number | undefined;
    const isWhole = () =>
      (ready !== undefined || this.#ready === 0) && (relayed !== undefined || this.#ready === this.#count);
    for (let at = 0; at < this.#orders.length && !isWhole(); at++) {
      if (this.#orders[at]! < 0) continue;
      if (this.#wakeAtMs[at] === 0) ready ??= this.#atRunMs[at]!;
      else relayed ??= this.#atRunMs[at]!;
    }
    return { ready, relayed };
  }

  /** This one need not wait for its time. False: it does not stand here, or is ready. */
  wake(order: number): boolean {
    const at = this.#place(order);
    if (this.#orders[at] !== order || this.#wakeAtMs[at] === 0) return false;
    this.#makeReady(at);
    return true;
  }

  /** Those handed to `via` are ready. True: there were some. */
  giveBack(via: NodeId): boolean {
    let isAny = false;
    for (let at = 0; at < this.#orders.length; at++)
      if (this.#orders[at]! > 0 && this.#via[at] === via && this.#wakeAtMs[at]! > 0) {
        this.#makeReady(at);
        isAny = true;
      }
    return isAny;
  }

  /** `leftMs` answers what is left of a life. */
  sweep(
    nowMs: number,
    leftMs: (remainingMs: number, atRunMs: number) => number,
    limit: number,
  ): Swept & { nextMs: number } {
    const over: Parked[] = [];
    let hasReady = false;
    let nextMs = NEVER;
    for (let at = 0; at < this.#orders.length; at++) {
      const order = this.#orders[at]!;
      if (order < 0) continue;
      const endsInMs = leftMs(this.#remainingMs[at]!, this.#atRunMs[at]!);
      if (endsInMs <= 0) {
        if (over.length < limit) {
          over.push(this.#take(at));
        } else nextMs = nowMs;
        continue;
      }
      const wakeAtMs = this.#wakeAtMs[at]!;
      if (wakeAtMs > 0 && wakeAtMs <= nowMs) {
        this.#makeReady(at);
        hasReady = true;
      } else if (wakeAtMs > 0) nextMs = Math.min(nextMs, wakeAtMs);
      nextMs = Math.min(nextMs, nowMs + endsInMs);
    }
    this.#cut();
    return { over, hasReady, nextMs };
  }

  /** Where this order stands, or would. */
  #place(order: number): number {
    let low = 0;
    let high = this.#orders.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (Math.abs(this.#orders[middle]!) < order) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #makeReady(at: number): void {
    this.#wakeAtMs[at] = 0;
    this.#head = Math.min(this.#head, at);
    this.#ready++;
  }

  #take(at: number): Parked {
    const order = this.#orders[at]!;
    this.#orders[at] = -order;
    this.#count--;
    if (this.#wakeAtMs[at] === 0) this.#ready--;
    return {
      order,
      remainingMs: this.#remainingMs[at]!,
      atRunMs: this.#atRunMs[at]!,
      size: this.#sizes[at]!,
      relayed: this.#relayed(at),
    };
  }

  #relayed(at: number): Relayed | undefined {
    const relays = this.#relays[at]!;
    return relays === 0 ? undefined : { via: this.#via[at], relays, wakeAtMs: this.#wakeAtMs[at]! };
  }

  /** Amortised: when what is gone outweighs the rest. */
  #cut(): void {
    const dead = this.#orders.length - this.#count;
    if (dead < DEAD_MIN || dead < this.#count) return;
    const orders = this.#orders;
    const kept = <T>(column: T[]): T[] => column.filter((_, at) => orders[at]! > 0);
    let before = 0;
    for (let at = 0; at < this.#head; at++) if (orders[at]! > 0) before++;
    this.#remainingMs = kept(this.#remainingMs);
    this.#atRunMs = kept(this.#atRunMs);
    this.#sizes = kept(this.#sizes);
    this.#wakeAtMs = kept(this.#wakeAtMs);
    this.#relays = kept(this.#relays);
    this.#via = kept(this.#via);
    this.#orders = kept(orders);
    this.#head = before;
  }
}

export class Backlog {
  readonly #lanes = new Map<string, Lane>();
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** Names of lanes that hold something. */
  get lanes(): Iterable<string> {
    return this.#lanes.keys();
  }

  *oldest(): Iterable<readonly [lane: string, oldest: OldestOfLane]> {
    for (const [name, lane] of this.#lanes) yield [name, lane.oldest];
  }

  has(lane: string): boolean {
    return this.#lanes.has(lane);
  }

  /** Whether some of it may go now. */
  hasReady(lane: string): boolean {
    return this.#lanes.get(lane)?.hasReady === true;
  }

  add(name: string, parked: Parked): void {
    let lane = this.#lanes.get(name);
    if (lane === undefined) this.#lanes.set(name, (lane = new Lane()));
    lane.add(parked);
    this.#count++;
  }

  /** The next of a lane, `limit` at most; they are here no more. */
  takeReady(name: string, limit: number): Parked[] {
    const lane = this.#lanes.get(name);
    const taken = lane?.takeReady(limit) ?? [];
    this.#left(name, lane, taken.length);
    return taken;
  }

  /** This one, wherever it stands; it is here no more. */
  take(name: string, order: number): Parked | undefined {
    const lane = this.#lanes.get(name);
    const parked = lane?.take(order);
    this.#left(name, lane, parked === undefined ? 0 : 1);
    return parked;
  }

  relayed(name: string, order: number): Relayed | undefined {
    return this.#lanes.get(name)?.peek(order);
  }

  /** This one need not wait for its time: the lane that it stands in, if it waited. */
  wake(order: number): string | undefined {
    for (const [name, lane] of this.#lanes) if (lane.wake(order)) return name;
    return undefined;
  }

  /** What `via` took is ready again, in a lane. True: there was some. */
  giveBack(name: string, via: NodeId): boolean {
    return this.#lanes.get(name)?.giveBack(via) ?? false;
  }

  /**
   * Takes out whose life is over, `limit` of each lane at most, and makes ready whose time has come: costs a look at each.
   * `nextMs`: when to come again, monotonic.
   */
  sweep(
    nowMs: number,
    leftMs: (remainingMs: number, atRunMs: number) => number,
    limit: number,
  ): { readonly swept: ReadonlyMap<string, Swept>; readonly nextMs: number } {
    const swept = new Map<string, Swept>();
    let nextMs = NEVER;
    for (const [name, lane] of [...this.#lanes]) {
      const found = lane.sweep(nowMs, leftMs, limit);
      nextMs = Math.min(nextMs, found.nextMs);
      if (found.hasReady || found.over.length > 0) swept.set(name, found);
      this.#left(name, lane, found.over.length);
    }
    return { swept, nextMs };
  }

  #left(name: string, lane: Lane | undefined, count: number): void {
    this.#count -= count;
    if (lane?.count === 0) this.#lanes.delete(name);
  }
}
