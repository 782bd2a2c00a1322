/**
 * Which open messages of an outbox are in memory: some of each lane (an address and a priority), more where its address can be reached. The others
 * lie in the store and in the backlog, and are fetched in the order of arrival when there is room, when they are due or when a receipt
 * names them. Changes no message and commits nothing. Must never have two of one message, nor one in memory and in the backlog.
 */
import type { Timer } from "@godwit/sdk";
import type { BundleId, MessageId, NodeId } from "../../kernel/ids.ts";
import { PAGE_ROWS_MAX, type SlottedRow } from "../../store/types.ts";
import type { CustodyContext, Holding } from "../context.ts";
import type { Forwarder } from "../forwarding/forwarder.ts";
import { Backlog, type Parked, type Relayed } from "./backlog.ts";
import type { OutboxEntries } from "./entries.ts";
import { finalStates, type Live, type OutboxEntry } from "./entry.ts";
import type { OutboxRows } from "./rows.ts";

/** Rows of one page: less is not worth the way. */
const PAGE_ROWS_MIN = 32;
/** Fetched at one time. */
const FETCH_MAX = 256;
/** Ends of lives in the backlog are seen at most so late, ms. */
const SWEEP_MS = 1_000;
const FETCH_RETRY_MS = 5_000;

export interface AwakeDeps {
  /** A row of the outbox; undefined for a damaged one. */
  decode(id: string, meta: string): OutboxEntry | undefined;
  /** Something is under way with it that ends by itself. */
  isBusy(live: Live): boolean;
  /** It is in memory again, and open. */
  woken(live: Live, relayed: Relayed | undefined): void;
  /** It is in memory, and its life is over. */
  over(live: Live): void;
  /** The row of an open message is there no more, or says nothing that can be read: the store has told of it. */
  gone(parked: Parked): void;
}

export const laneOf = ({ priority, to }: Pick<OutboxEntry, "priority" | "to">): string => `${priority} ${to}`;
const addressOf = (lane: string): string => lane.slice(2);

export class Awake {
  readonly #ctx: CustodyContext;
  readonly #forwarder: Forwarder;
  readonly #entries: OutboxEntries;
  readonly #rows: OutboxRows;
  readonly #deps: AwakeDeps;
  readonly #backlog = new Backlog();
  /** Open ones in memory, by lane. */
  readonly #counts = new Map<string, number>();
  /** Being fetched, by order: they are neither in memory nor in the backlog. */
  readonly #fetching = new Map<number, Promise<void>>();
  readonly #summoning = new Map<MessageId, Promise<void>>();
  readonly #feeding = new Set<string>();
  #timer: Timer | undefined;
  #timerAtMs = Number.POSITIVE_INFINITY;
  #isStopped = false;

  constructor(
    ctx: CustodyContext,
    forwarder: Forwarder,
    entries: OutboxEntries,
    rows: OutboxRows,
    deps: AwakeDeps,
  ) {
    this.#ctx = ctx;
    this.#forwarder = forwarder;
    this.#entries = entries;
    this.#rows = rows;
    this.#deps = deps;
  }

  /** Whether one more of a lane has its place in memory, behind those that came before. */
  hasRoom(lane: string): boolean {
    return !this.#backlog.hasReady(lane) && (this.#counts.get(lane) ?? 0) < this.#limitOf(lane);
  }

  /** Open, and in memory from now on. */
  add(live: Live): void {
    this.#entries.add(live);
    this.#count(laneOf(live.entry), 1);
  }

  /** Open, and on the disk from now on. Whoever holds it lets go of it first. */
  park({ entry, order }: Live, relayed?: Relayed): void {
    this.#entries.noteStored(entry, order);
    const { remainingMs, atRunMs = 0, size } = entry;
    this.#backlog.add(laneOf(entry), { order, remainingMs, atRunMs, size, relayed });
    const leftMs = remainingMs - this.#ctx.time.ageMs(entry.atRunMs);
    this.#sweepBy(Math.min(this.#nowMs() + leftMs, relayed?.wakeAtMs || Number.POSITIVE_INFINITY));
  }

  /** It is open no more, or in the backlog: there may be room for others. */
  left(entry: OutboxEntry): void {
    const lane = laneOf(entry);
    this.#count(lane, -1);
    this.feed(lane);
  }

  /** What an earlier row does not say of a message in the backlog. */
  relayed(entry: OutboxEntry, order: number): Relayed | undefined {
    return this.#backlog.relayed(laneOf(entry), order);
  }

  /** A neighbour took it: where many wait for their receipts, this one waits on the disk. Those that waited first show that some are missing. */
  onAcknowledged(live: Live, holding: Holding, by: NodeId): void {
    const waiting = this.#forwarder.awaitingCount(by, holding.header.destination);
    if (waiting > this.#ctx.limits.outboxAwakeMax / 2) this.#layDown(live, holding);
    this.feed(laneOf(live.entry));
  }

  /** Routes to a destination changed. */
  onRoute(destination: NodeId): void {
    if (this.#isReachable(destination)) return this.#feedAll((address) => this.#means(address, destination));
    // Those that came last go first.
    for (const holding of [...this.#forwarder.toward(destination)].reverse()) {
      const live = holding.messageId === undefined ? undefined : this.#entries.get(holding.messageId);
      if (
        live === undefined ||
        (this.#counts.get(laneOf(live.entry)) ?? 0) <= this.#ctx.limits.outboxUnreachableMax
      )
        continue;
      this.#layDown(live, holding);
    }
  }

  /** Names or records changed, or the way to everybody. */
  onDirectory(): void {
    this.#feedAll(() => true);
  }

  /** What a neighbour had taken may be gone, or, with `destination`, its receipts for what was sent to it are asked for. */
  onReturned(neighbour: NodeId, destination?: NodeId): void {
    for (const lane of [...this.#backlog.lanes])
      if (destination === undefined || this.#means(addressOf(lane), destination))
        if (this.#backlog.giveBack(lane, neighbour)) this.feed(lane);
  }

  /** A bundle of a message on the disk came back: another way is to be tried now. */
  onBundleBack(bundle: BundleId): void {
    const order = this.#entries.storedOrder(bundle);
    const lane = order === undefined ? undefined : this.#backlog.wake(order);
    if (lane !== undefined) this.feed(lane);
  }

  /** Time off was confirmed: lives end sooner. */
  onTimePassed(): void {
    if (this.#backlog.count > 0) this.#sweepBy(0);
  }

  /**
   * Those of these messages that the outbox has, and that were not delivered, are in memory when it resolves. Answers the ones that it brought there, with
   * what the backlog knew of them: whoever has no use for one gives it back by `dismiss`. Rejects with GODWIT_STORE_FAILED.
   */
  async summon(ids: readonly MessageId[]): Promise<Map<Live, Parked | undefined>> {
    const brought = new Map<Live, Parked | undefined>();
    for (let missing = this.#missing(ids); missing.length > 0;) {
      const others = missing.flatMap((id) => this.#summoning.get(id) ?? []);
      if (others.length > 0) await Promise.allSettled(others);
      else {
        const reading = this.#bring(missing, brought);
        for (const id of missing) this.#summoning.set(id, reading);
        try {
          await reading;
        } finally {
          for (const id of missing) this.#summoning.delete(id);
        }
        return brought;
      }
      missing = this.#missing(ids);
    }
    return brought;
  }

  /** As it was before `summon`. */
  dismiss(live: Live, parked: Parked | undefined): void {
    const { entry } = live;
    if (this.#entries.get(entry.id) !== live) return;
    // Somebody else had a use for it meanwhile.
    const isHeld = entry.targets.some(({ bundle }) => this.#forwarder.get(bundle) !== undefined);
    if (isHeld || this.#deps.isBusy(live)) return;
    this.#entries.store(live);
    if (finalStates.includes(entry.state)) return;
    this.park(live, parked?.relayed);
    this.left(entry);
  }

  /** Fetches what has room, in the order of arrival. */
  feed(lane: string): void {
    if (this.#isStopped || this.#feeding.has(lane) || !this.#backlog.hasReady(lane)) return;
    const limit = this.#limitOf(lane);
    const count = this.#counts.get(lane) ?? 0;
    const room = limit - count;
    if (room <= 0 || (count > 0 && room < limit / 4)) return;
    this.#feeding.add(lane);
    const parked = this.#backlog.takeReady(lane, Math.min(room, FETCH_MAX));
    this.#fetch(lane, parked, (live, { relayed }) => this.#deps.woken(live, relayed)).then(
      () => {
        this.#feeding.delete(lane);
        this.feed(lane);
      },
      () => {
        this.#feeding.delete(lane);
        this.#retry(lane);
      },
    );
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
  }

  #missing(ids: readonly MessageId[]): MessageId[] {
    return ids.filter((id) => this.#entries.get(id) === undefined);
  }

  async #bring(ids: readonly MessageId[], brought: Map<Live, Parked | undefined>): Promise<void> {
    const elsewhere: Promise<void>[] = [];
    for (const { key, meta, order } of await this.#ctx.store.rows("outbox", ids)) {
      const fetching = order === undefined ? undefined : this.#fetching.get(order);
      if (fetching !== undefined) elsewhere.push(fetching);
      if (fetching !== undefined || this.#entries.get(key as MessageId) !== undefined) continue;
      const entry = this.#deps.decode(key, meta);
      if (entry === undefined || entry.state === "delivered" || order === undefined) continue;
      const parked = this.#backlog.take(laneOf(entry), order);
      const live = this.#rise(entry, order, parked?.relayed);
      brought.set(live, parked);
    }
    await Promise.allSettled(elsewhere);
  }

  /** In memory, and counted if it is open. What is about to be written is newer than the row. */
  #rise(entry: OutboxEntry, order: number, relayed: Relayed | undefined): Live {
    const live = this.#rows.late(entry.id) ?? { entry, order };
    if (relayed !== undefined) live.entry.state = "relayed";
    if (finalStates.includes(live.entry.state)) this.#entries.add(live);
    else this.add(live);
    return live;
  }

  /** `use` gets each in the order of arrival. Should the store fail, those that were not read are in the backlog again. */
  async #fetch(
    lane: string,
    parked: readonly Parked[],
    use: (live: Live, parked: Parked) => void,
  ): Promise<void> {
    const left = new Map(parked.map((one) => [one.order, one]));
    const reading = this.#readAll(lane, left, use);
    for (const { order } of parked) this.#fetching.set(order, reading);
    try {
      await reading;
    } finally {
      for (const { order } of parked) this.#fetching.delete(order);
      for (const one of left.values()) this.#backlog.add(lane, one);
    }
  }

  async #readAll(
    lane: string,
    left: Map<number, Parked>,
    use: (live: Live, parked: Parked) => void,
  ): Promise<void> {
    const take = ({ key, meta, order }: SlottedRow): void => {
      const parked = left.get(order);
      if (parked === undefined) return;
      left.delete(order);
      const entry = this.#deps.decode(key, meta);
      if (entry !== undefined) use(this.#rise(entry, order, parked.relayed), parked);
      else this.#deps.gone(parked);
    };
    const { store } = this.#ctx;
    const last = Math.max(...left.keys());
    for (let after = Math.min(...left.keys()) - 1; left.size > 0 && after < last;) {
      const limit = Math.min(Math.max(left.size, PAGE_ROWS_MIN), PAGE_ROWS_MAX);
      const rows = await store.page("outbox", { order: "oldest-first", after, limit, group: lane });
      rows.forEach(take);
      after = rows.at(-1)?.order ?? last;
    }
    // Those of an earlier release are in no group.
    for (const order of [...left.keys()]) {
      const [row] = await store.page("outbox", { order: "oldest-first", after: order - 1, limit: 1 });
      const parked = left.get(order)!;
      if (row?.order === order) take(row);
      else this.#deps.gone(parked);
      left.delete(order);
    }
  }

  /** Out of memory, if nothing is under way with it. Of what goes to several machines each copy has a state of its own: it stays. */
  #layDown(live: Live, holding: Holding): void {
    const { entry } = live;
    const isIdle = holding.state === "ready" || holding.state === "paused" || holding.state === "relayed";
    if (!isIdle || entry.targets.length !== 1 || this.#deps.isBusy(live)) return;
    const { relays = 0, relayedTo, wakeAtMs, state } = holding;
    this.#forwarder.remove(holding.id);
    this.#entries.delete(entry.id);
    this.#count(laneOf(entry), -1);
    const isWaiting = state === "relayed";
    this.park(
      live,
      relays === 0 ? undefined : { via: relayedTo, relays, wakeAtMs: isWaiting ? wakeAtMs : 0 },
    );
  }

  #count(lane: string, by: number): void {
    const count = (this.#counts.get(lane) ?? 0) + by;
    if (count > 0) this.#counts.set(lane, count);
    else this.#counts.delete(lane);
  }

  #limitOf(lane: string): number {
    const { outboxAwakeMax, outboxUnreachableMax } = this.#ctx.limits;
    // Asked for few only: it is the many that must not be in memory for nothing.
    if ((this.#counts.get(lane) ?? 0) < outboxUnreachableMax && !this.#backlog.has(lane))
      return outboxUnreachableMax;
    const resolution = this.#ctx.directory.resolve(addressOf(lane), false);
    const isReachable =
      resolution.kind === "nodes" && resolution.nodes.some((node) => this.#isReachable(node));
    return isReachable ? outboxAwakeMax : outboxUnreachableMax;
  }

  #isReachable(destination: NodeId): boolean {
    if (destination === this.#ctx.self) return true;
    const bundle = { destination, arrivedFrom: undefined, bytes: 0 };
    return this.#ctx.carrier.nextHop(bundle, () => false, undefined).kind === "forward";
  }

  #means(address: string, node: NodeId): boolean {
    const resolution = this.#ctx.directory.resolve(address, true);
    return resolution.kind === "nodes" && resolution.nodes.includes(node);
  }

  #feedAll(isMeant: (address: string) => boolean): void {
    for (const lane of [...this.#backlog.lanes]) if (isMeant(addressOf(lane))) this.feed(lane);
  }

  #retry(lane: string): void {
    if (!this.#isStopped) this.#ctx.clock.after(FETCH_RETRY_MS, () => this.feed(lane));
  }

  #nowMs(): number {
    return this.#ctx.clock.monotonicMs();
  }

  #sweepBy(atMs: number): void {
    if (this.#isStopped || atMs >= this.#timerAtMs || !Number.isFinite(atMs)) return;
    this.#timer?.cancel();
    this.#timerAtMs = atMs;
    // Many that end one after the other cost one look.
    this.#timer = this.#ctx.clock.after(Math.max(SWEEP_MS, atMs - this.#nowMs()), () => this.#sweep());
  }

  #sweep(): void {
    this.#timerAtMs = Number.POSITIVE_INFINITY;
    const { time } = this.#ctx;
    const leftMs = (remainingMs: number, atRunMs: number): number => remainingMs - time.ageMs(atRunMs);
    const { swept, nextMs } = this.#backlog.sweep(this.#nowMs(), leftMs, FETCH_MAX);
    for (const [lane, { over, hasReady }] of swept) {
      if (over.length > 0)
        this.#fetch(lane, over, (live) => this.#deps.over(live)).catch(() => this.#sweepBy(this.#nowMs()));
      if (hasReady) this.feed(lane);
    }
    this.#sweepBy(nextMs);
  }
}
