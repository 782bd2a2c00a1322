/**
 * Which open messages of an outbox are in memory (custody/lanes.ts): those whose lane has room, those that a receipt or a withdrawal names, and no more of those
 * that wait for receipts than show whether some are missing. Changes no message and commits nothing. Must never have two of one message, nor one in
 * memory and in the backlog.
 */
import type { BundleId, MessageId, NodeId } from "../../kernel/ids.ts";
import type { SlottedRow } from "../../store/types.ts";
import type { Parked, Relayed } from "../backlog.ts";
import type { CustodyContext, Holding } from "../context.ts";
import type { Forwarder } from "../forwarding/forwarder.ts";
import { addressOf, canReach, laneIn, Lanes } from "../lanes.ts";
import { Oldest, type WaitsFor } from "../oldest.ts";
import type { OutboxEntries } from "./entries.ts";
import { finalStates, type Live, type OutboxEntry } from "./entry.ts";
import { type Overdue, OverdueMail } from "./overdue.ts";
import type { OutboxRows } from "./rows.ts";

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

/** Sealing adds so much to body and subject at most, bytes; where it adds more, what is hardly large stands with the small. */
const SEALED_EXTRA = 512;

/** In the store. */
export const groupOf = ({ priority, to }: Pick<OutboxEntry, "priority" | "to">): string =>
  `${priority} ${to}`;
export const laneOf = (entry: Pick<OutboxEntry, "priority" | "to" | "subject" | "size">): string =>
  laneIn(groupOf(entry), entry.size + entry.subject.length + SEALED_EXTRA);

export class Awake {
  readonly #ctx: CustodyContext;
  readonly #forwarder: Forwarder;
  readonly #entries: OutboxEntries;
  readonly #rows: OutboxRows;
  readonly #deps: AwakeDeps;
  readonly #lanes: Lanes;
  readonly #overdue: OverdueMail;
  readonly #summoning = new Map<MessageId, Promise<void>>();

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
    this.#lanes = new Lanes(ctx, "outbox", {
      isReachable: (lane) => this.#isReachable(addressOf(lane)),
      fetched: (row, parked, isOver) => this.#fetched(row, parked, isOver),
      gone: (parked) => deps.gone(parked),
    });
    const waitsFor = (address: string) => this.#waitsFor(address);
    this.#overdue = new OverdueMail(ctx, forwarder, {
      found: () => this.#oldest().found(waitsFor),
      nodesOf: (address) => this.#nodesOf(address),
    });
    ctx.metrics.observedSets("godwit_queue_oldest_seconds", () =>
      this.#oldest().ages("outbox", waitsFor, (sinceRunMs) => ctx.time.ageMs(sinceRunMs)),
    );
  }

  /** What waits for longer than it should, oldest first. */
  get overdue(): readonly Overdue[] {
    return this.#overdue.list;
  }

  /** Whether one more of a lane has its place in memory, behind those that came before. */
  hasRoom(lane: string): boolean {
    return this.#lanes.hasRoom(lane);
  }

  /** Open, and in memory from now on. */
  add(live: Live): void {
    this.#entries.add(live);
    this.#lanes.count(laneOf(live.entry), 1);
  }

  /** Open, and on the disk from now on. Whoever holds it lets go of it first. */
  park({ entry, order }: Live, relayed?: Relayed): void {
    this.#entries.noteStored(entry, order);
    const { remainingMs, atRunMs = 0, size } = entry;
    this.#lanes.park(laneOf(entry), { order, remainingMs, atRunMs, size, relayed });
  }

  /** It is open no more, or in the backlog: there may be room for others. */
  left(entry: OutboxEntry): void {
    const lane = laneOf(entry);
    this.#lanes.count(lane, -1);
    this.feed(lane);
  }

  /** What an earlier row does not say of a message in the backlog. */
  relayed(entry: OutboxEntry, order: number): Relayed | undefined {
    return this.#lanes.backlog.relayed(laneOf(entry), order);
  }

  /** A neighbour took it: where many wait for their receipts, this one waits on the disk. Those that waited first show that some are missing. */
  onAcknowledged(live: Live, holding: Holding, by: NodeId): void {
    this.#overdue.moved(holding.header.destination);
    const waiting = this.#forwarder.awaitingCount(by, holding.header.destination);
    if (waiting > this.#ctx.limits.laneAwakeMax / 2) this.#layDown(live, holding);
    this.feed(laneOf(live.entry));
  }

  /** Routes to a destination changed. */
  onRoute(destination: NodeId): void {
    if (canReach(this.#ctx, destination))
      return this.#lanes.feedAll((lane) => this.#means(addressOf(lane), destination));
    // Those that came last go first.
    for (const holding of [...this.#forwarder.toward(destination)].reverse()) {
      const live = holding.messageId === undefined ? undefined : this.#entries.get(holding.messageId);
      if (
        live === undefined ||
        this.#lanes.countOf(laneOf(live.entry)) <= this.#ctx.limits.laneUnreachableMax
      )
        continue;
      this.#layDown(live, holding);
    }
  }

  /** Names or records changed, or the way to everybody. */
  onDirectory(): void {
    this.#lanes.feedAll(() => true);
  }

  /** What a neighbour had taken may be gone, or, with `destination`, its receipts for what was sent to it are asked for. */
  onReturned(neighbour: NodeId, destination?: NodeId): void {
    const { backlog } = this.#lanes;
    for (const lane of [...backlog.lanes])
      if (destination === undefined || this.#means(addressOf(lane), destination))
        if (backlog.giveBack(lane, neighbour)) this.feed(lane);
  }

  /** A bundle of a message on the disk came back: another way is to be tried now. */
  onBundleBack(bundle: BundleId): void {
    const order = this.#entries.storedOrder(bundle);
    const lane = order === undefined ? undefined : this.#lanes.backlog.wake(order);
    if (lane !== undefined) this.feed(lane);
  }

  /** Time off was confirmed: lives end sooner. */
  onTimePassed(): void {
    this.#lanes.onTimePassed();
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
    this.#lanes.feed(lane);
  }

  stop(): void {
    this.#lanes.stop();
  }

  #missing(ids: readonly MessageId[]): MessageId[] {
    return ids.filter((id) => this.#entries.get(id) === undefined);
  }

  async #bring(ids: readonly MessageId[], brought: Map<Live, Parked | undefined>): Promise<void> {
    const elsewhere: Promise<void>[] = [];
    for (const { key, meta, order } of await this.#ctx.store.rows("outbox", ids)) {
      const fetching = order === undefined ? undefined : this.#lanes.fetchingOf(order);
      if (fetching !== undefined) elsewhere.push(fetching);
      if (fetching !== undefined || this.#entries.get(key as MessageId) !== undefined) continue;
      const entry = this.#deps.decode(key, meta);
      if (entry === undefined || entry.state === "delivered" || order === undefined) continue;
      const parked = this.#lanes.backlog.take(laneOf(entry), order);
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

  #fetched({ key, meta, order }: SlottedRow, parked: Parked, isOver: boolean): void {
    const entry = this.#deps.decode(key, meta);
    if (entry === undefined) return this.#deps.gone(parked);
    const live = this.#rise(entry, order, parked.relayed);
    if (isOver) this.#deps.over(live);
    else this.#deps.woken(live, parked.relayed);
  }

  /** Out of memory, if nothing is under way with it. Of what goes to several machines each copy has a state of its own: it stays. */
  #layDown(live: Live, holding: Holding): void {
    const { entry } = live;
    const isIdle = holding.state === "ready" || holding.state === "paused" || holding.state === "relayed";
    if (!isIdle || entry.targets.length !== 1 || this.#deps.isBusy(live)) return;
    const { relays = 0, relayedTo, wakeAtMs, state } = holding;
    this.#forwarder.remove(holding.id);
    this.#entries.delete(entry.id);
    this.#lanes.count(laneOf(entry), -1);
    const isWaiting = state === "relayed";
    this.park(
      live,
      relays === 0 ? undefined : { via: relayedTo, relays, wakeAtMs: isWaiting ? wakeAtMs : 0 },
    );
  }

  #oldest(): Oldest {
    const oldest = new Oldest();
    for (const [lane, { ready, relayed }] of this.#lanes.backlog.oldest()) {
      if (ready !== undefined) oldest.noteToward(addressOf(lane), ready);
      if (relayed !== undefined) oldest.note("receipt", addressOf(lane), relayed);
    }
    for (const { entry } of this.#entries.values()) {
      const { state, to, reason, atRunMs = 0 } = entry;
      if (state === "relayed") oldest.note("receipt", to, atRunMs);
      else if (state !== "queued") continue;
      else if (reason === null) oldest.noteToward(to, atRunMs);
      else oldest.note("address", to, atRunMs);
    }
    return oldest;
  }

  #waitsFor(address: string): WaitsFor {
    if (this.#isReachable(address)) return "turn";
    return this.#nodesOf(address).length > 0 ? "way" : "address";
  }

  #isReachable(address: string): boolean {
    return this.#nodesOf(address).some((node) => canReach(this.#ctx, node));
  }

  #nodesOf(address: string): readonly NodeId[] {
    const resolution = this.#ctx.directory.resolve(address, false);
    return resolution.kind === "nodes" ? resolution.nodes : [];
  }

  #means(address: string, node: NodeId): boolean {
    const resolution = this.#ctx.directory.resolve(address, true);
    return resolution.kind === "nodes" && resolution.nodes.includes(node);
  }
}
