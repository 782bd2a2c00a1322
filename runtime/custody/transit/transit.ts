/**
 * Bundles of other nodes in custody here: the durable half of relaying. Quotas per authenticated neighbour, and for all
 * strangers of a source address together (kernel/quota.ts); a full store refuses with a reason and the previous hop keeps its copy. Own receipts and claims travel
 * the same way. In memory is what can go on (custody/lanes.ts), and of every other one its id and its place.
 */
import { asGodwitError } from "../../kernel/errors.ts";
import type { BundleId, NodeId } from "../../kernel/ids.ts";
import { Quota } from "../../kernel/quota.ts";
import type { Share } from "../../kernel/room.ts";
import { commitSlices } from "../../store/sound.ts";
import { PAGE_ROWS_MAX, type SlottedRow, type StoreOp } from "../../store/types.ts";
import {
  bundleIdOf,
  encodeBundleHeader,
  RefuseReason,
  type BundleHeader,
  type Journey,
} from "../../wire/bundle.ts";
import type { BodyCache } from "../body-cache.ts";
import {
  deadlineOf,
  sealedBytesOf,
  type ArrivedBundle,
  type CustodyContext,
  type Holding,
  type Lifetime,
} from "../context.ts";
import { isWholeInMemory } from "../forwarding/arriving-body.ts";
import type { Forwarder } from "../forwarding/forwarder.ts";
import { Shelves } from "../forwarding/holdings.ts";
import { openPieces } from "../forwarding/pieces.ts";
import { addressOf, canReach, laneIn, Lanes } from "../lanes.ts";
import { Oldest } from "../oldest.ts";
import { PassedOn } from "./passed-on.ts";
import { TransitReader } from "./reader.ts";
import { readTransitMeta, readTransitRow, transitMeta, type TransitRow } from "./row.ts";

/** Own receipts and claims to whom this node knows may go past the bound for others' bundles by this much. */
const OWN_RESERVE = 10_000;
/** Own ones to all others: whoever sends something and goes leaves a receipt that nobody fetches. */
const ANSWERS: Share = { by: "answers", isKnown: false };

/** A message for this node itself that waits for claims. */
export interface OwnRow {
  readonly id: BundleId;
  readonly header: BundleHeader;
  readonly journey: Journey;
}

/** In memory, and with the forwarder. */
interface Held {
  readonly holding: Holding;
  readonly order: number;
}

function shared(all: Map<string, NodeId>, name: NodeId): NodeId {
  const one = all.get(name);
  if (one === undefined) all.set(name, name);
  return one ?? name;
}

/** In the store. */
const groupOf = ({ priority, destination }: BundleHeader): string => `${priority} ${destination}`;
const laneOf = ({ header, sealedBytes }: Pick<Holding, "header" | "sealedBytes">): string =>
  laneIn(groupOf(header), sealedBytes);
const destinationOf = (lane: string): NodeId => addressOf(lane) as NodeId;

export class Transit {
  readonly #ctx: CustodyContext;
  readonly #forwarder: Forwarder;
  readonly #cache: BodyCache;
  readonly passedOn: PassedOn;
  readonly reader: TransitReader;
  readonly #committing = new Map<BundleId, Promise<boolean>>();
  readonly #held = new Map<BundleId, Held>();
  readonly #bySource = new Shelves();
  /** Of all of them, wherever they are. */
  readonly #quota: Quota<BundleId>;
  readonly #lanes: Lanes;
  /** Place of the newest, or of one that was. */
  #last = 0;
  #isReconciling = false;

  constructor(ctx: CustodyContext, forwarder: Forwarder, cache: BodyCache) {
    this.#ctx = ctx;
    const { limits } = ctx;
    this.#quota = new Quota({
      get countMax() {
        return limits.transitMessagesMax;
      },
      get bytesMax() {
        return limits.transitBytesMax;
      },
      get oneShare() {
        return limits.neighbourShare;
      },
    });
    this.#forwarder = forwarder;
    this.#cache = cache;
    this.passedOn = new PassedOn(ctx);
    this.reader = new TransitReader(ctx, forwarder, {
      inMemory: (id) => this.#held.get(id)?.holding,
      asleep: (row) => this.#asleep(row),
    });
    this.#lanes = new Lanes(ctx, "transit", {
      isReachable: (lane) => canReach(ctx, destinationOf(lane)),
      fetched: (row, _, isOver) => this.#fetched(row, isOver),
      gone: () => void this.#reconcile(),
    });
    ctx.metrics.observedSets("godwit_queue_oldest_seconds", () => this.#oldest());
  }

  /** Rows for this node itself (messages that wait for claims) are answered; the rest goes to the forwarder, or waits on the disk. */
  async load(): Promise<OwnRow[]> {
    const { store, time, self } = this.#ctx;
    const own: OwnRow[] = [];
    const ops: StoreOp[] = [];
    // One string for each neighbour, not for each row.
    const neighbours = new Map<string, NodeId>();
    // Above every place in the database, of deleted rows as well that it still has: what finds its place taken gets another there.
    this.#last = (await store.totals("transit")).last;
    for await (const rows of this.#pages()) {
      for (const row of rows) {
        if (this.#sleepsOn(row, neighbours)) continue;
        const parsed = readTransitRow(row);
        if (parsed === undefined) {
          ops.push({ op: "set-aside", in: "transit", key: row.key });
          continue;
        }
        time.catchUp(parsed.lifetime.atRunMs ?? 0);
        // One of a release that counted no running time begins to age now.
        if (parsed.lifetime.atRunMs === undefined) ops.push(this.#dated(row, parsed));
        const { id, header, hops, trace } = parsed;
        const remainingMs = this.#leftMs(parsed.lifetime);
        if (header.destination === self) own.push({ id, header, journey: { remainingMs, hops, trace } });
        else if (remainingMs <= 0) ops.push({ op: "delete", in: "transit", key: id });
        else {
          const from = parsed.from === undefined ? undefined : shared(neighbours, parsed.from);
          this.#book(id, from, header.destination, parsed.sealedBytes);
          this.#settle({ ...parsed, from });
        }
      }
    }
    // Nobody waits for them: without room they stay where they are, and are found again at the next start.
    await commitSlices(store, ops).catch(() => {});
    return own;
  }

  #oldest(): ReturnType<Oldest["ages"]> {
    const { time } = this.#ctx;
    const oldest = new Oldest();
    for (const [lane, { ready }] of this.#lanes.backlog.oldest())
      if (ready !== undefined) oldest.noteToward(destinationOf(lane), ready);
    for (const { holding } of this.#held.values())
      oldest.noteToward(holding.header.destination, holding.lifetime?.atRunMs ?? time.runMs);
    const judge = (destination: string) =>
      canReach(this.#ctx, destination as NodeId) ? "turn" : ("way" as const);
    return oldest.ages("transit", judge, (sinceRunMs) => time.ageMs(sinceRunMs));
  }

  get count(): number {
    return this.#quota.count;
  }

  get bytes(): number {
    return this.#quota.bytes;
  }

  /** Durable here as a whole, in memory or on the disk alone; of this node itself as well. */
  holds(id: BundleId): boolean {
    const held = this.#forwarder.get(id);
    return held === undefined ? this.#quota.has(id) && !this.#committing.has(id) : held.isArriving !== true;
  }

  /** Drops what is carried from a node and for it; answers how many bundles that were. Never rejects. */
  async cutOff(id: NodeId): Promise<number> {
    const carried = [...this.#forwarder.toward(id)].filter(({ role }) => role === "relay");
    const dropped = new Set([...this.#bySource.under(id), ...carried]);
    for (const holding of dropped) {
      this.#forwarder.remove(holding.id);
      // What only arrives has no place here yet.
      if (this.#held.has(holding.id)) this.release(holding);
    }
    let count = dropped.size;
    try {
      for await (const rows of this.#pages())
        for (const row of rows) {
          const parsed = this.#asleep(row);
          if (parsed === undefined) continue;
          const { source, destination } = parsed.header;
          if (source !== id && destination !== id) continue;
          // One that is being fetched is found to be refused then.
          if (this.#lanes.backlog.take(laneOf(parsed), row.order) === undefined) continue;
          this.#forget(parsed.id, "delete");
          count++;
        }
    } catch (error) {
      // Those that are left are refused when they are fetched.
      this.#ctx.log.warn("transit not searched", { error: asGodwitError(error) });
    }
    return count;
  }

  /** A reason code when a bundle of `bytes` from a neighbour cannot be taken now. */
  refusal(from: NodeId, bytes: number): number | undefined {
    const refusal = this.#quota.refusal(from, this.#ctx.regard.shareOf(from), bytes);
    return refusal === undefined ? undefined : RefuseReason[refusal];
  }

  /**
   * Takes custody. True once durable (or held already); false when the store failed and nothing is held.
   * `ops` go into the same commit. `from` undefined: made here.
   */
  take(
    bundle: ArrivedBundle,
    journey: Journey,
    from: NodeId | undefined,
    ops: readonly StoreOp[] = [],
  ): Promise<boolean> {
    const committing = this.#committing.get(bundle.id);
    if (committing !== undefined) return committing;
    if (this.holds(bundle.id)) return Promise.resolve(true);
    if (from === undefined && !this.#hasRoomForOwn(bundle)) return Promise.resolve(false);
    const taking = this.#commit(bundle, journey, from, ops).finally(() => this.#committing.delete(bundle.id));
    this.#committing.set(bundle.id, taking);
    return taking;
  }

  /** The op that holds a bundle for this node itself until it is delivered. */
  holdOp(bundle: ArrivedBundle, journey: Journey, from: NodeId | undefined, isInSession = false): StoreOp {
    const { time, clock } = this.#ctx;
    const now = { atRunMs: time.runMs, atWallMs: clock.wallMs() };
    const meta = transitMeta(bundle.header, journey, from, now, isInSession);
    const slot = { order: ++this.#last, group: groupOf(bundle.header) };
    const put = { op: "put", in: "transit", key: bundle.id, meta, slot } as const;
    return "sealed" in bundle
      ? { ...put, body: bundle.sealed }
      : { ...put, head: bundle.head, body: bundle.rest };
  }

  /** The next hop has it, or its life is over. Nobody waits for the commit: a repeat is harmless. */
  release(holding: Holding): void {
    this.#drop(holding, "delete");
  }

  /** Routes to a destination changed. */
  onRoute(destination: NodeId): void {
    if (canReach(this.#ctx, destination))
      return this.#lanes.feedAll((lane) => destinationOf(lane) === destination);
    // Those that came last go first.
    for (const holding of [...this.#forwarder.toward(destination)].reverse()) {
      const held = this.#held.get(holding.id);
      const isIdle = holding.state === "ready" || holding.state === "paused";
      if (held?.holding !== holding || !isIdle) continue;
      const lane = laneOf(holding);
      if (this.#lanes.countOf(lane) <= this.#ctx.limits.laneUnreachableMax) continue;
      this.#forwarder.remove(holding.id);
      this.#letGo(holding);
      this.#lanes.count(lane, -1);
      this.#park(held.order, holding);
    }
  }

  /** A way appeared to every destination that has no route of its own. */
  onDefaultRoute(): void {
    this.#lanes.feedAll(() => true);
  }

  /** Time off was confirmed: what is on the disk ends sooner. */
  onTimePassed(): void {
    this.#lanes.onTimePassed();
  }

  stop(): void {
    this.#lanes.stop();
  }

  /** Every row, oldest first. Rejects with GODWIT_STORE_FAILED. */
  async *#pages(): AsyncGenerator<SlottedRow[], void> {
    for (let after = 0, isMore = true; isMore;) {
      const page = { order: "oldest-first", limit: PAGE_ROWS_MAX, after } as const;
      const rows = await this.#ctx.store.page("transit", page);
      yield rows;
      isMore = rows.length === PAGE_ROWS_MAX;
      after = rows.at(-1)?.order ?? after;
    }
  }

  #leftMs({ remainingMs, atRunMs }: Lifetime): number {
    return remainingMs - this.#ctx.time.ageMs(atRunMs ?? this.#ctx.time.runMs);
  }

  /** Most rows of a full store: what the start needs of them is little. False: it is to be looked at as a whole. */
  #sleepsOn({ key, meta, group, order, bodyBytes }: SlottedRow, neighbours: Map<string, NodeId>): boolean {
    const lane = laneIn(group, bodyBytes);
    if (group === "" || destinationOf(group) === this.#ctx.self || this.#lanes.hasRoom(lane)) return false;
    const read = readTransitMeta(meta);
    if (read?.atRunMs === undefined) return false;
    const { remainingMs, atRunMs, from } = read;
    this.#ctx.time.catchUp(atRunMs);
    if (this.#leftMs({ remainingMs, atRunMs }) <= 0) return false;
    const id = key as BundleId;
    const by = from === null ? undefined : shared(neighbours, from);
    this.#book(id, by, destinationOf(group), bodyBytes);
    this.#lanes.park(lane, { order, remainingMs, atRunMs, size: bodyBytes });
    return true;
  }

  #dated(row: SlottedRow, { header }: TransitRow): StoreOp {
    const meta = JSON.stringify({ ...readTransitMeta(row.meta), atRunMs: this.#ctx.time.runMs });
    const slot = { order: row.order, group: groupOf(header) };
    return { op: "put", in: "transit", key: row.key, meta, slot };
  }

  /** A row that is neither in memory nor for this node itself; undefined: it is, or is damaged, or is on its way out. */
  #asleep(row: SlottedRow): TransitRow | undefined {
    const id = row.key as BundleId;
    if (this.#held.has(id) || !this.holds(id)) return undefined;
    return readTransitRow(row);
  }

  #drop(holding: Holding, op: "delete" | "set-aside"): void {
    this.#letGo(holding);
    this.#forget(holding.id, op);
    const lane = laneOf(holding);
    this.#lanes.count(lane, -1);
    this.#lanes.feed(lane);
  }

  /** Not in memory any more. */
  #letGo(holding: Holding): void {
    this.#held.delete(holding.id);
    this.#bySource.take(holding.header.source, holding);
    this.#cache.delete(holding.id);
  }

  /** Not here any more. */
  #forget(id: BundleId, op: "delete" | "set-aside"): void {
    this.#quota.drop(id);
    this.#ctx.store.commit([{ op, in: "transit", key: id }]).catch((error: unknown) => {
      this.#ctx.log.warn("transit row not deleted", {
        error: error instanceof Error ? error : String(error),
      });
    });
  }

  async #commit(
    bundle: ArrivedBundle,
    journey: Journey,
    from: NodeId | undefined,
    ops: readonly StoreOp[],
  ): Promise<boolean> {
    const { header, id } = bundle;
    const sealedBytes = sealedBytesOf(bundle);
    this.#book(id, from, header.destination, sealedBytes);
    const put = this.holdOp(bundle, journey, from);
    const order = this.#last;
    const { remainingMs, hops, trace } = journey;
    const lifetime = { remainingMs: Math.floor(remainingMs), atRunMs: this.#ctx.time.runMs };
    try {
      await this.#ctx.store.commit([put, ...ops]);
    } catch (error) {
      this.#quota.drop(id);
      this.#ctx.log.warn("bundle not stored", { error: error instanceof Error ? error : String(error) });
      return false;
    }
    // Revoked while it was being written: whoever cut it off did not find it.
    if (this.#isCutOff(header)) {
      this.#forget(id, "delete");
      return true;
    }
    const sums = "sealed" in bundle ? undefined : bundle.sums;
    this.#settle({ id, order, header, hops, trace, lifetime, from, sealedBytes, sums }, () => {
      if ("sealed" in bundle) this.#cache.put(id, bundle.sealed);
    });
    return true;
  }

  /** In memory where its lane has room, and where it goes on already; else on the disk. */
  #settle(row: TransitRow, hold: () => void = () => {}): void {
    const lane = laneOf(row);
    if (this.#forwarder.get(row.id) === undefined && !this.#lanes.hasRoom(lane)) {
      this.#park(row.order, row);
      return this.#lanes.feed(lane);
    }
    hold();
    this.#hold(row);
  }

  #park(order: number, holding: Pick<Holding, "header" | "lifetime" | "sealedBytes">): void {
    const { remainingMs, atRunMs = this.#ctx.time.runMs } = holding.lifetime!;
    this.#lanes.park(laneOf(holding), { order, remainingMs, atRunMs, size: holding.sealedBytes });
  }

  #fetched(row: SlottedRow, isOver: boolean): void {
    const id = row.key as BundleId;
    const parsed = readTransitRow(row);
    // The hop before or the source will offer a damaged one again.
    if (parsed === undefined) return this.#forget(id, "set-aside");
    if (isOver || this.#isCutOff(parsed.header)) return this.#forget(id, "delete");
    this.#hold(parsed);
  }

  #isCutOff({ source, destination }: BundleHeader): boolean {
    return this.#ctx.isRefused(source) || this.#ctx.isRefused(destination);
  }

  /** Rows were lost: what they held is not here, and may come again. Never rejects. */
  async #reconcile(): Promise<void> {
    if (this.#isReconciling) return;
    this.#isReconciling = true;
    const lost = new Set(this.#quota.keys());
    try {
      for await (const rows of this.#pages()) for (const { key } of rows) lost.delete(key as BundleId);
      for (const id of lost) if (!this.#held.has(id) && !this.#committing.has(id)) this.#quota.drop(id);
    } catch (error) {
      this.#ctx.log.warn("transit not counted", { error: asGodwitError(error) });
    } finally {
      this.#isReconciling = false;
    }
  }

  #hold(row: TransitRow): void {
    const arriving = this.#forwarder.get(row.id);
    const made = this.#holding(row);
    // What goes on already stays where it is, and is what every other is from now on.
    const holding =
      arriving === undefined
        ? made
        : Object.assign(arriving, {
            isArriving: false,
            load: made.load,
            pieces: made.pieces,
            sums: made.sums,
          });
    // First, because the forwarder may find at once that its life is over.
    this.#held.set(holding.id, { holding, order: row.order });
    this.#bySource.put(holding.header.source, holding);
    this.#lanes.count(laneOf(holding), 1);
    if (arriving === undefined) this.#forwarder.add(holding);
    else this.#forwarder.onWhole(holding);
  }

  #holding({ id, header, hops, trace, lifetime, from, sealedBytes, sums }: TransitRow): Holding {
    const before = this.passedOn.before(id);
    const holding: Holding = {
      id,
      header,
      sealedBytes,
      role: "relay",
      ...(from === undefined ? {} : { arrivedFrom: from }),
      ...(before === undefined ? {} : { relayedTo: before }),
      trace,
      hops,
      lifetime,
      deadlineMs: deadlineOf(this.#ctx, lifetime),
      state: "ready",
      wakeAtMs: Number.POSITIVE_INFINITY,
      load: () => this.#cache.get(id) ?? this.#loadStored(id, header),
      sums,
      waitReason: undefined,
    };
    if (isWholeInMemory(sealedBytes)) return holding;
    const raw = (offset: number, length: number) => this.#ctx.store.piece("transit", id, offset, length);
    holding.pieces = () => openPieces(holding, raw, () => this.#onDamaged(holding));
    return holding;
  }

  /** What is not the bundle that was acknowledged is passed on to nobody: its source, which still has it, offers it again. */
  async #loadStored(id: BundleId, header: BundleHeader): Promise<Uint8Array | undefined> {
    const sealed = await this.#ctx.store.body("transit", id);
    if (sealed !== undefined && bundleIdOf(encodeBundleHeader(header), sealed) === id) return sealed;
    const held = this.#held.get(id);
    if (held !== undefined) this.#onDamaged(held.holding);
    return undefined;
  }

  #onDamaged(holding: Holding): void {
    if (this.#held.get(holding.id)?.holding !== holding) return; // released meanwhile
    this.#ctx.log.error("bundle damaged on this disk", { bundle: holding.id });
    this.#forwarder.remove(holding.id);
    this.#drop(holding, "set-aside");
  }

  #book(id: BundleId, from: NodeId | undefined, destination: NodeId, bytes: number): void {
    const share = from === undefined ? this.#ownShare(destination) : this.#ctx.regard.shareOf(from);
    this.#quota.add(id, from ?? share.by, share, bytes);
  }

  #hasRoomForOwn(bundle: ArrivedBundle): boolean {
    const share = this.#ownShare(bundle.header.destination);
    if (!share.isKnown) return this.#quota.refusal(share.by, share, sealedBytesOf(bundle)) === undefined;
    return this.#quota.count < this.#ctx.limits.transitMessagesMax + OWN_RESERVE;
  }

  #ownShare(destination: NodeId): Share {
    const { self, regard } = this.#ctx;
    return regard.isKnown(destination) ? { by: self, isKnown: true } : ANSWERS;
  }
}
