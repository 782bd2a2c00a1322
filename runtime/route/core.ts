/**
 * What the parts of the router share: the table, the neighbours, and the one way in which a change of the table becomes
 * work (who must be told, how soon, what the rest of the node hears). Must never decode a frame or send one.
 */
import { Quota } from "../kernel/quota.ts";
import type { Regard, Share } from "../kernel/room.ts";
import type { Clock, Log, Random, Timer } from "@godwit/sdk";
import type { NodeId } from "../kernel/ids.ts";
import type { CounterMetric, Metrics } from "../kernel/metrics.ts";
import { METRIC_INFINITE, UNREACHABLE, type PlaneRoute } from "../wire/route-messages.ts";
import { profileTimers, type RouteLimits } from "./limits.ts";
import type { LinkCost, Neighbour } from "./neighbour.ts";
import { NO_ROW } from "./candidates.ts";
import { Change, isPassedOver, select } from "./select.ts";
import { planeNames, RouteTable, type Destination, type PlaneName } from "./table.ts";

export interface RouteChange {
  readonly destination: NodeId;
  readonly reachable: boolean;
}

export interface KnownRecord {
  /** First 8 bytes of SHA-256 of `bytes`. */
  readonly hash: Uint8Array;
  readonly bytes: Uint8Array;
}

/** A source of strangers has three times what is left: one alone three quarters, and there is room for the next. */
const SOURCE_FACTOR = 3;
/** Destinations without a way that are looked at for one that gives way. */
const GONE_LOOKED_AT_MAX = 64;

export interface RouterDeps {
  readonly self: NodeId;
  readonly network: string;
  /** 24 bits, persisted by the caller, larger at each boot. */
  readonly bootEpoch: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics?: Metrics;
  readonly limits?: Partial<RouteLimits>;
  /** 64 bytes, owned by the router. */
  sign(bytes: Uint8Array): Uint8Array;
  verify(id: NodeId, bytes: Uint8Array, signature: Uint8Array): boolean;
  /** So many bytes of frames were read or made; the caller may want to look at its heap. */
  spend?(bytes: number): void;
  /** To a neighbour on the control lane of its best link; may be lost. The frame belongs to the callee. Must not throw. */
  send(to: NodeId, frame: Uint8Array): void;
  /** What an update of the neighbour said behind its turn breaks the protocol: its links must end. */
  malformed(from: NodeId, error: unknown): void;
  /** Next hops appeared, vanished or switched; the table already shows it. */
  onChange(change: RouteChange): void;
  /** This node's signed record; undefined while it has none. */
  ownRecord(): Uint8Array | undefined;
  knownRecord(destination: NodeId): KnownRecord | undefined;
  /** Verifies and keeps a record (borrowed bytes); false: invalid. */
  onRecord(destination: NodeId, bytes: Uint8Array, teller: NodeId): boolean;
  /** Whom this node knows, and by whose word neighbours bring destinations; without it each neighbour is a source of its own. */
  readonly regard?: Regard;
  /** Mail waited for a way to the destination; if it does still, `Router.wantPath` is to be called again. */
  onWaiting?(destination: NodeId): void;
  /** Another life of this node signed a number of this epoch: the epoch to go on from, durable soon; undefined: say nothing. */
  outrun(epoch: number): number | undefined;
}

export type DropReason =
  | "stale"
  | "bad-proof"
  | "no-proof"
  | "proof-budget"
  | "update-budget"
  | "pace"
  | "table-full"
  | "gave-way"
  | "wrong-tag"
  | "unknown-neighbour"
  | "unknown-kind"
  | "record-unasked"
  | "record-invalid"
  | "airtime"
  | "path-unasked";

export class RouteCore {
  readonly deps: RouterDeps;
  limits: RouteLimits;
  readonly table: RouteTable;
  readonly neighbours = new Map<NodeId, Neighbour>();
  readonly self: Destination;
  /** Destinations by the source that brought them. */
  readonly #quota: Quota<NodeId>;
  /** Those that nothing leads to, longest first: they give way before anybody is refused. */
  readonly #gone = new Set<Destination>();
  /** Forgets one that gives way. Set by the router. */
  evict: (destination: Destination) => void = (destination) => this.forget(destination);
  /** Destinations whose next hops changed since the last settle. */
  readonly touched = new Set<Destination>();
  /** Neighbours that must hear something before this event is over. */
  readonly urgent = new Set<Neighbour>();
  /** Called whenever what is said of a destination has changed, behind the selection. */
  readonly watchers: ((destination: Destination) => void)[] = [];
  /** Set by updates.ts: something waits for the neighbour; start its timer. */
  scheduleFlush: (neighbour: Neighbour, delayMs: number) => void = () => {};
  scheduleLazy: (neighbour: Neighbour) => void = () => {};
  readonly #dropped: CounterMetric | undefined;
  readonly #waiting = new Set<Destination>();
  #waitingTimer: Timer | undefined;
  /** Runs a timer's work as one event of the router, so that its results leave. Set by the router. */
  runEvent: (work: () => void) => void = (work) => work();

  constructor(deps: RouterDeps, limits: RouteLimits) {
    this.deps = deps;
    this.limits = limits;
    this.table = new RouteTable(() => this.limits.destinationsMax);
    const countMax = () => this.limits.destinationsMax;
    this.#quota = new Quota({
      get countMax() {
        return countMax();
      },
      bytesMax: 1,
      oneShare: 1,
      strangersShare: 1,
      sourceFactor: SOURCE_FACTOR,
    });
    this.self = this.table.add(deps.self, deps.clock.monotonicMs());
    this.#dropped = deps.metrics?.counter("godwit_route_dropped_total");
  }

  setDestinationsMax(destinationsMax: number): void {
    this.limits = { ...this.limits, destinationsMax };
  }

  now(): number {
    return this.deps.clock.monotonicMs();
  }

  after(delayMs: number, work: () => void): Timer {
    return this.deps.clock.after(delayMs, () => this.runEvent(work));
  }

  /** What all neighbours say of all destinations. */
  get candidates(): number {
    let rows = 0;
    for (const neighbour of this.neighbours.values()) rows += neighbour.rows;
    return rows;
  }

  drop(reason: DropReason): void {
    this.#dropped?.add(1, { reason });
  }

  /** Whether a destination that `from` brings finds a place. A neighbour itself, and whom this node knows, always does. */
  hasRoomFor(id: NodeId, from: NodeId): boolean {
    if (id === from || this.#isKept(id)) return true;
    return this.#quota.refusal(from, this.#shareOf(from), 0) === undefined && this.#makeRoom();
  }

  /** A new destination, brought by a neighbour; its slot may have had another owner. */
  addDestination(id: NodeId, from: NodeId): Destination {
    this.#makeRoom();
    const destination = this.table.add(id, this.now());
    this.#quota.add(id, from, this.#shareOf(from), 0);
    this.#gone.add(destination);
    for (const neighbour of this.neighbours.values()) neighbour.resetSlot(destination.slot);
    return destination;
  }

  /** Call after any change to a candidate, a link or a feasibility distance of the destination. */
  reselect(destination: Destination): void {
    this.#reselect(destination, NO_ROW);
  }

  /** What the neighbour advertises for the destination, `row` being its first row or NO_ROW, as `find` answered just now. */
  put(
    destination: Destination,
    neighbour: Neighbour,
    row: number,
    serial: number,
    any: PlaneRoute,
    bulk: PlaneRoute,
  ): void {
    const { candidates } = this.table;
    const wasPassedOver = row === NO_ROW || this.#isPassedOver(destination, row);
    const first = candidates.put(destination.list, neighbour, row, serial, any, bulk);
    this.#reselect(destination, wasPassedOver ? first : NO_ROW);
  }

  /** Forgets what the neighbour said of the destination. */
  dropCandidate(destination: Destination, neighbour: Neighbour): void {
    const { candidates } = this.table;
    const row = candidates.find(destination.list, neighbour);
    if (row === NO_ROW) return;
    const wasPassedOver = this.#isPassedOver(destination, row);
    if (!candidates.drop(destination.list, neighbour)) return;
    if (wasPassedOver) this.#tellWatchers(destination);
    else this.reselect(destination);
  }

  /** The way to the neighbour costs something else now, and with it whatever lies behind. */
  reprice(neighbour: Neighbour, link: LinkCost): void {
    const before = neighbour.link;
    for (const destination of this.table.values()) {
      const row = this.table.candidates.find(destination.list, neighbour);
      if (row === NO_ROW) continue;
      neighbour.link = before;
      const wasPassedOver = this.#isPassedOver(destination, row);
      neighbour.link = link;
      this.#reselect(destination, wasPassedOver ? row : NO_ROW);
    }
    neighbour.link = link;
  }

  #isPassedOver(destination: Destination, row: number): boolean {
    const { candidates } = this.table;
    return planeNames.every((plane) => isPassedOver(candidates, destination, row, plane, false));
  }

  /** `row`: it alone is new or changed, and the last selection passed over what was there. NO_ROW: anything may have changed. */
  #reselect(destination: Destination, row: number): void {
    if (destination === this.self) return;
    const wasReachable = destination.isReachable;
    const nowMs = this.now();
    const { candidates } = this.table;
    for (const plane of planeNames)
      if (row === NO_ROW || !isPassedOver(candidates, destination, row, plane, true))
        this.#reselectPlane(destination, plane, nowMs);
    const isReachable = destination.isReachable;
    if (isReachable && !wasReachable) {
      destination.reachableSinceMs = nowMs;
      this.#gone.delete(destination);
    } else if (!isReachable && wasReachable) {
      destination.unreachableSinceMs = nowMs;
      this.#gone.add(destination);
    }
    this.#awaitSwitch(destination);
    this.#tellWatchers(destination);
  }

  #tellWatchers(destination: Destination): void {
    for (const watcher of this.watchers) watcher(destination);
  }

  #reselectPlane(destination: Destination, plane: PlaneName, nowMs: number): void {
    const state = destination[plane];
    const before = state.primary;
    const change = select(this.table.candidates, destination, plane, nowMs, this.limits);
    if (change === Change.none) return;
    this.touched.add(destination);
    const after = state.primary;
    // Split horizon: what these two are told depends on who is primary, even if the route looks the same.
    if (before !== after) {
      this.tellSoon(destination, before);
      this.tellSoon(destination, after);
    }
    if (change === Change.hops) return;
    for (const neighbour of this.neighbours.values()) {
      if (change === Change.decrease) this.tellLazily(destination, neighbour);
      else if (change === Change.soon) this.tellSoon(destination, neighbour);
      else this.tellNow(destination, neighbour);
    }
  }

  tellNow(destination: Destination, neighbour: Neighbour): void {
    if (!neighbour.hasTable) return;
    neighbour.markSoon(destination.slot);
    this.urgent.add(neighbour);
  }

  tellSoon(destination: Destination, neighbour: Neighbour | undefined): void {
    if (neighbour === undefined || !neighbour.hasTable) return;
    neighbour.markSoon(destination.slot);
    this.scheduleFlush(neighbour, this.coalesceMs(neighbour));
  }

  tellLazily(destination: Destination, neighbour: Neighbour): void {
    if (!neighbour.hasTable) return;
    neighbour.markLazy(destination.slot);
    this.scheduleLazy(neighbour);
  }

  /** Lets the neighbour know of a newer sequence number than it advertises, unless it says so itself meanwhile. */
  hintProof(destination: Destination, neighbour: Neighbour): void {
    if (destination.proof === undefined || !neighbour.hasTable || neighbour.holdsProof(destination.slot))
      return;
    neighbour.markHint(destination.slot);
    this.scheduleLazy(neighbour);
  }

  /** The proof of the destination was replaced: nobody is known to hold this one yet. */
  onNewProof({ slot }: Destination): void {
    for (const neighbour of this.neighbours.values()) neighbour.forgetProof(slot);
  }

  coalesceMs(neighbour: Neighbour): number {
    return profileTimers[neighbour.link.profile].coalesceMs * (1 + this.deps.random.float() / 2);
  }

  /** What the neighbour is to be told of one plane. */
  exported(destination: Destination, plane: PlaneName, neighbour: Neighbour): PlaneRoute {
    const state = destination[plane];
    if (state.selected.metric >= METRIC_INFINITE) return UNREACHABLE;
    if (destination.id === neighbour.id || state.primary === neighbour) return UNREACHABLE;
    // Without a proof nobody else would believe the sequence number.
    if (destination.proof === undefined || destination.proof.seqno < state.selected.seqno) return UNREACHABLE;
    return state.selected;
  }

  /** A better route inside its hysteresis: look again when that is over. */
  #awaitSwitch(destination: Destination): void {
    const waits =
      !Number.isNaN(destination.any.betterSinceMs) || !Number.isNaN(destination.bulk.betterSinceMs);
    if (!waits) {
      this.#waiting.delete(destination);
      return;
    }
    this.#waiting.add(destination);
    this.#waitingTimer ??= this.after(this.limits.switchSustainMs, () => {
      this.#waitingTimer = undefined;
      for (const waiting of [...this.#waiting]) this.reselect(waiting);
    });
  }

  /**
   * False: every place is taken by what something leads to. Who gives way loses its feasibility distance early: packets for a
   * stranger that is gone may circle until their hops are over, and nobody else's.
   */
  #makeRoom(): boolean {
    if (!this.table.isFull) return true;
    let looks = GONE_LOOKED_AT_MAX;
    for (const destination of this.#gone) {
      if (looks-- === 0) return false;
      if (this.#isKept(destination.id)) continue;
      this.drop("gave-way");
      this.evict(destination);
      return true;
    }
    return false;
  }

  #isKept(id: NodeId): boolean {
    return this.neighbours.has(id) || this.deps.regard?.worthOf(id) === "kept";
  }

  #shareOf(from: NodeId): Share {
    return this.deps.regard?.shareOf(from) ?? { by: from, isKnown: false };
  }

  forget(destination: Destination): void {
    this.#gone.delete(destination);
    this.#quota.drop(destination.id);
    this.#waiting.delete(destination);
    this.touched.delete(destination);
    this.table.remove(destination);
  }

  close(): void {
    this.#waitingTimer?.cancel();
    for (const neighbour of this.neighbours.values()) neighbour.cancelTimers();
  }
}
