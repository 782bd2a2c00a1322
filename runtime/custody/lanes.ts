/**
 * Which open mail of a box is in memory: some of each lane (a destination or an address, a priority, and whether it is large), more where a lane can go now. The others lie in the
 * store, whose groups the lanes are, and in the backlog; they are fetched in the order of arrival when there is room or when their lives end. Changes no mail and
 * commits nothing. Must never have one in memory and in the backlog.
 */
import type { Timer } from "@godwit/sdk";
import type { NodeId } from "../kernel/ids.ts";
import { PAGE_ROWS_MAX, type SlottedRow, type Slotted } from "../store/types.ts";
import { Backlog, type Parked } from "./backlog.ts";
import type { CustodyContext } from "./context.ts";
import { BULK_BYTES } from "./forwarding/ready-queue.ts";

/** Of those that lie so far apart, on average, a page is short: most of a long one would be read for nothing. */
const SPARSE = 4;
/** Rows of one page: less is not worth the way. */
const PAGE_ROWS_MIN = 32;
/** Fetched at one time. */
const FETCH_MAX = 256;
/** Ends of lives in the backlog are seen at most so late, ms. */
const SWEEP_MS = 1_000;
const FETCH_RETRY_MS = 5_000;

export interface LanesDeps {
  /** Whether what stands in this lane can go somewhere now. */
  isReachable(lane: string): boolean;
  /** Of the backlog no more: it is to be in memory, or, if it `isOver`, its life has ended. */
  fetched(row: SlottedRow, parked: Parked, isOver: boolean): void;
  /** Its row is there no more. */
  gone(parked: Parked): void;
}

/**
 * What so many bytes, sealed, of this group (a priority in one digit, a space, whom it is for) stand behind. Large ones have a lane of their own: there may
 * be no way fit for them where there is one for small ones, which must not wait behind them. In the store both are of one group.
 */
export const laneIn = (group: string, bytes: number): string =>
  bytes > BULK_BYTES ? `${group[0]}+${addressOf(group)}` : group;
const groupOf = (lane: string): string => `${lane[0]} ${addressOf(lane)}`;
/** Whom a lane, or a group, is for. */
export const addressOf = (lane: string): string => lane.slice(2);

/** Whether a bundle of this node for `destination` can go somewhere now. */
export function canReach(
  { self, carrier }: Pick<CustodyContext, "self" | "carrier">,
  destination: NodeId,
): boolean {
  if (destination === self) return true;
  const bundle = { destination, arrivedFrom: undefined, bytes: 0 };
  return carrier.nextHop(bundle, () => false, undefined).kind === "forward";
}

export class Lanes {
  readonly #ctx: CustodyContext;
  readonly #box: Slotted;
  readonly #deps: LanesDeps;
  readonly backlog = new Backlog();
  /** In memory, by lane. */
  readonly #counts = new Map<string, number>();
  #count = 0;
  /** Being fetched, by order: they are neither in memory nor in the backlog. */
  readonly #fetching = new Map<number, Promise<void>>();
  readonly #feeding = new Set<string>();
  #timer: Timer | undefined;
  #timerAtMs = Number.POSITIVE_INFINITY;
  #isStopped = false;

  constructor(ctx: CustodyContext, box: Slotted, deps: LanesDeps) {
    this.#ctx = ctx;
    this.#box = box;
    this.#deps = deps;
  }

  /** How many of a lane are in memory. */
  countOf(lane: string): number {
    return this.#counts.get(lane) ?? 0;
  }

  /** Whether one more of a lane has its place in memory, behind those that came before. */
  hasRoom(lane: string): boolean {
    if (this.backlog.hasReady(lane) || this.#feeding.has(lane)) return false;
    return this.countOf(lane) < this.#limitOf(lane);
  }

  /** One more of a lane is in memory, or, with -1, one less: call `feed` once it is gone. */
  count(lane: string, by: 1 | -1): void {
    this.#count += by;
    const count = this.countOf(lane) + by;
    if (count > 0) this.#counts.set(lane, count);
    else this.#counts.delete(lane);
  }

  /** On the disk alone from now on. */
  park(lane: string, parked: Parked): void {
    this.backlog.add(lane, parked);
    const { remainingMs, atRunMs, relayed } = parked;
    const endMs = this.#nowMs() + this.#leftMs(remainingMs, atRunMs);
    this.#sweepBy(Math.min(endMs, relayed?.wakeAtMs || Number.POSITIVE_INFINITY));
  }

  /** Resolves or rejects when it is in memory, or in the backlog again. Undefined: nobody fetches it. */
  fetchingOf(order: number): Promise<void> | undefined {
    return this.#fetching.get(order);
  }

  /** Fetches what has room, in the order of arrival. */
  feed(lane: string): void {
    if (this.#isStopped || this.#feeding.has(lane) || !this.backlog.hasReady(lane)) return;
    const limit = this.#limitOf(lane);
    const count = this.countOf(lane);
    const room = limit - count;
    if (room <= 0 || (count > 0 && room < limit / 4)) return;
    this.#feeding.add(lane);
    const parked = this.backlog.takeReady(lane, Math.min(room, FETCH_MAX));
    this.#fetch(lane, parked, false).then(
      (isSome) => {
        this.#feeding.delete(lane);
        // A way that comes and goes must not make the same rows be read without end.
        if (isSome) this.feed(lane);
        else this.#feedLater(lane);
      },
      () => {
        this.#feeding.delete(lane);
        this.#feedLater(lane);
      },
    );
  }

  #feedLater(lane: string): void {
    if (!this.#isStopped) this.#ctx.clock.after(FETCH_RETRY_MS, () => this.feed(lane));
  }

  feedAll(isMeant: (lane: string) => boolean): void {
    for (const lane of [...this.backlog.lanes]) if (isMeant(lane)) this.feed(lane);
  }

  /** Time off was confirmed: lives end sooner. */
  onTimePassed(): void {
    if (this.backlog.count > 0) this.#sweepBy(0);
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
  }

  /** Each is used in the order of arrival. Should the store fail, those that were not read are in the backlog again. False: so are all. */
  async #fetch(lane: string, parked: readonly Parked[], isOver: boolean): Promise<boolean> {
    const left = new Map(parked.map((one) => [one.order, one]));
    const reading = this.#readAll(lane, left, isOver);
    for (const { order } of parked) this.#fetching.set(order, reading);
    try {
      await reading;
      return left.size < parked.length;
    } finally {
      for (const { order } of parked) this.#fetching.delete(order);
      for (const one of left.values()) this.backlog.add(lane, one);
    }
  }

  async #readAll(lane: string, left: Map<number, Parked>, isOver: boolean): Promise<void> {
    const unread = new Map(left);
    const take = (rows: readonly SlottedRow[]): void => {
      // The way may be gone by now: what has no place any more goes back.
      const limit = isOver ? Number.POSITIVE_INFINITY : this.#limitOf(lane);
      for (const row of rows) {
        const parked = unread.get(row.order);
        if (parked === undefined) continue;
        unread.delete(row.order);
        if (this.countOf(lane) >= limit) continue;
        left.delete(row.order);
        this.#deps.fetched(row, parked, isOver);
      }
    };
    const last = Math.max(...unread.keys());
    // Those of an earlier release are in no group.
    for (const group of [groupOf(lane), ""]) {
      let seen = 0;
      // What lies between them is not read: a few that end here and there must not cost the whole lane.
      for (const order of [...unread.keys()]) {
        if (order <= seen || !unread.has(order)) continue;
        const isSparse = last - order >= SPARSE * unread.size;
        const limit = isSparse
          ? PAGE_ROWS_MIN
          : Math.min(Math.max(unread.size, PAGE_ROWS_MIN), PAGE_ROWS_MAX);
        const page = { order: "oldest-first", after: order - 1, limit, group } as const;
        const rows = await this.#ctx.store.page(this.#box, page);
        take(rows);
        seen = rows.at(-1)?.order ?? Number.POSITIVE_INFINITY;
      }
    }
    for (const [order, parked] of unread) {
      left.delete(order);
      this.#deps.gone(parked);
    }
  }

  #limitOf(lane: string): number {
    const { laneAwakeMax, laneUnreachableMax } = this.#ctx.limits;
    // However many lanes there are that cannot go: whoever comes last to memory waits on the disk.
    const fewMax = this.#count < laneAwakeMax ? laneUnreachableMax : 0;
    // Asked for few only: it is the many that must not be in memory for nothing.
    if (this.countOf(lane) < fewMax && !this.backlog.has(lane)) return fewMax;
    return this.#deps.isReachable(lane) ? laneAwakeMax : fewMax;
  }

  #nowMs(): number {
    return this.#ctx.clock.monotonicMs();
  }

  readonly #leftMs = (remainingMs: number, atRunMs: number): number =>
    remainingMs - this.#ctx.time.ageMs(atRunMs);

  #sweepBy(atMs: number): void {
    if (this.#isStopped || atMs >= this.#timerAtMs || !Number.isFinite(atMs)) return;
    this.#timer?.cancel();
    this.#timerAtMs = atMs;
    // Many that end one after the other cost one look.
    this.#timer = this.#ctx.clock.after(Math.max(SWEEP_MS, atMs - this.#nowMs()), () => this.#sweep());
  }

  #sweep(): void {
    this.#timerAtMs = Number.POSITIVE_INFINITY;
    const { swept, nextMs } = this.backlog.sweep(this.#nowMs(), this.#leftMs, FETCH_MAX);
    for (const [lane, { over, hasReady }] of swept) {
      if (over.length > 0) this.#fetch(lane, over, true).catch(() => this.#sweepBy(this.#nowMs()));
      if (hasReady) this.feed(lane);
    }
    this.#sweepBy(nextMs);
  }
}
