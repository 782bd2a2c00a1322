/**
 * The router: which neighbour leads to which node, right now. Owns the table, the adjacencies with neighbours, this
 * node's sequence number, and the timers of all of them. Must never carry a packet (decide.ts says where one goes, the
 * node sends it), open a link, or trust a metric for more than a preference. Specified by docs/protocol/routing.md.
 *
 * An event (a frame, a link change, a timer) runs to its end here: candidates change, `table.ts` selects, `updates.ts`
 * and `requests.ts` send what cannot wait, and only then does the rest of the node hear of it.
 */
import type { NodeId } from "../kernel/ids.ts";
import { FrameType } from "../wire/constants.ts";
import { decodeError } from "../wire/bytes.ts";
import {
  decodeSeqnoRequest,
  METRIC_INFINITE,
  UNREACHABLE,
  UpdateKind,
  updateKind,
  type PlaneRoute,
} from "../wire/route-messages.ts";
import { Adjacencies } from "./adjacency.ts";
import { NO_ROW } from "./candidates.ts";
import { RouteCore, type RouterDeps } from "./core.ts";
import { sanitise } from "./cost.ts";
import type { NextHop } from "./decide.ts";
import { explainRoute, listRoutes, type RouteExplanation, type RouteRow } from "./explain.ts";
import { InboundUpdates } from "./inbound.ts";
import { routeLimits } from "./limits.ts";
import { Neighbour, type LinkCost } from "./neighbour.ts";
import { Origin } from "./origin.ts";
import { Paths } from "./paths.ts";
import { UpdateReceiver } from "./receive.ts";
import { RecordFetcher } from "./records.ts";
import { SeqnoRequests } from "./requests.ts";
import { SlowLinks } from "./slow.ts";
import { Sweep } from "./sweep.ts";
import type { Destination } from "./table.ts";
import { UpdateSender } from "./updates.ts";
import type { Plane } from "../wire/packet.ts";

export type { KnownRecord, RouteChange, RouterDeps } from "./core.ts";
export type { LinkProfile } from "./limits.ts";
export type { LinkCost } from "./neighbour.ts";

export interface Distance {
  readonly seqno: number;
  readonly metric: number;
}

const NO_HOPS: readonly NextHop[] = [];
/** Rounds of "sending changed something that must be sent at once"; more would be a bug, and the timers take over. */
const SETTLE_ROUNDS_MAX = 8;

export class Router {
  readonly #core: RouteCore;
  readonly #origin: Origin;
  readonly #updates: UpdateSender;
  readonly #adjacencies: Adjacencies;
  readonly #receiver: UpdateReceiver;
  readonly #inbound: InboundUpdates;
  readonly #requests: SeqnoRequests;
  readonly #records: RecordFetcher;
  readonly #slow: SlowLinks;
  readonly #paths: Paths;
  readonly #sweep: Sweep;
  /** Bounded by whoever judges (trust/quarantine.ts). */
  readonly #quarantined = new Set<NodeId>();
  #depth = 0;
  #isClosed = false;

  /** `onDefaultRoute`: an edge node got or lost a gateway, its way to every destination it has no route for. */
  constructor(deps: RouterDeps & { onDefaultRoute?(isThere: boolean): void }) {
    const core = new RouteCore(deps, { ...routeLimits, ...deps.limits });
    this.#core = core;
    core.runEvent = (work) => this.#event(work);
    core.evict = (destination) => this.#forget(destination);
    this.#origin = new Origin(core);
    this.#updates = new UpdateSender(core);
    this.#adjacencies = new Adjacencies(core, this.#updates);
    this.#receiver = new UpdateReceiver(core, this.#adjacencies, this.#origin);
    this.#inbound = new InboundUpdates(core, (from, frame) => this.#receiver.handleUpdate(from, frame));
    this.#adjacencies.onAnew = (neighbour) => this.#inbound.forget(neighbour);
    this.#slow = new SlowLinks(core, this.#origin, this.#receiver, (isThere) =>
      deps.onDefaultRoute?.(isThere),
    );
    const airtime = (neighbour: Neighbour, bytes: number) => this.#slow.mayUseAirtime(neighbour, bytes);
    this.#requests = new SeqnoRequests(core, this.#origin, airtime);
    this.#records = new RecordFetcher(core, airtime);
    this.#paths = new Paths(core, {
      origin: this.#origin,
      receiver: this.#receiver,
      requests: this.#requests,
      slow: this.#slow,
      updates: this.#updates,
    });
    deps.metrics?.observedGauge("godwit_route_destinations", () => core.table.size);
    deps.metrics?.observedGauge("godwit_route_candidates", () => core.candidates);
    this.#sweep = new Sweep(core, {
      holds: (destination) => this.#paths.holds(destination),
      forget: (destination) => this.#forget(destination),
    });
    this.#receiver.onTombstone = () => this.#sweep.arm();
    this.#receiver.onProof = (destination) => this.#records.want(destination);
  }

  /**
   * The first session to a neighbour is proven. With another `bootId` than before, all that the earlier life said is
   * gone when this returns. False: too many neighbours; nothing is routed over it.
   */
  neighbourUp(id: NodeId, { bootId, cost }: { bootId: string; cost: LinkCost }): boolean {
    return this.#event(() => {
      const known = this.#core.neighbours.get(id);
      if (known !== undefined) {
        if (known.bootId === bootId) {
          this.#changeCost(known, cost);
          return true;
        }
        this.#drop(known);
      }
      if (id === this.#core.self.id || this.#core.neighbours.size >= this.#core.limits.neighboursMax)
        return false;
      this.#add(id, bootId, cost);
      return true;
    });
  }

  /** The last session is gone: routes over it die now. */
  neighbourDown(id: NodeId): void {
    this.#event(() => {
      const neighbour = this.#core.neighbours.get(id);
      if (neighbour !== undefined) this.#drop(neighbour);
    });
  }

  /** Holds for who comes: a smaller table keeps what it has, and a larger one asks within some digests for what it had refused. */
  setDestinationsMax(destinationsMax: number): void {
    this.#core.setDestinationsMax(destinationsMax);
  }

  /** The best link to the neighbour is another one, or its cost has moved. */
  neighbourCost(id: NodeId, cost: LinkCost): void {
    this.#event(() => {
      const neighbour = this.#core.neighbours.get(id);
      if (neighbour !== undefined) this.#changeCost(neighbour, cost);
    });
  }

  /** One of several links died: what was under way goes out again. */
  linkLost(id: NodeId): void {
    this.#event(() => {
      const neighbour = this.#core.neighbours.get(id);
      if (neighbour !== undefined) this.#updates.resend(neighbour);
    });
  }

  /**
   * Mail to the destination that went through the neighbour is missing, or no longer is: from now on it is the last
   * resort there, or no longer is. False: it offers no route there.
   */
  suspect(id: NodeId, destinationId: NodeId, isSuspect: boolean): boolean {
    return this.#event(() => {
      const neighbour = this.#core.neighbours.get(id);
      const destination = this.#core.table.get(destinationId);
      if (neighbour === undefined || destination === undefined) return false;
      const { candidates } = this.#core.table;
      const row = candidates.find(destination.list, neighbour);
      if (row === NO_ROW) return false;
      candidates.setSuspect(destination.list, row, isSuspect);
      const isOffered = candidates.anyAt(row).metric < METRIC_INFINITE;
      this.#core.reselect(destination);
      return isOffered;
    });
  }

  /** The neighbour, in this adjacency and later ones, is the last resort to everything but itself; or no longer is. */
  quarantine(id: NodeId, isQuarantined: boolean): void {
    if (isQuarantined) this.#quarantined.add(id);
    else this.#quarantined.delete(id);
    this.#event(() => {
      const neighbour = this.#core.neighbours.get(id);
      if (neighbour === undefined) return;
      neighbour.isQuarantined = isQuarantined;
      this.#reselectAll(neighbour);
    });
  }

  /** What the neighbour advertises for the destination now, feasible or not, with the class of the link to it; undefined: nothing. */
  offerOf(id: NodeId, destinationId: NodeId): PlaneRoute | undefined {
    const neighbour = this.#core.neighbours.get(id);
    const destination = this.#core.table.get(destinationId);
    if (neighbour === undefined || destination === undefined) return undefined;
    const { candidates } = this.#core.table;
    const row = candidates.find(destination.list, neighbour);
    const route = row === NO_ROW ? UNREACHABLE : candidates.anyAt(row);
    if (route.metric >= METRIC_INFINITE) return undefined;
    return route.bottleneck >= neighbour.link.bottleneck
      ? route
      : { ...route, bottleneck: neighbour.link.bottleneck };
  }

  /**
   * Any routing frame of a neighbour (borrowed). Throws GODWIT_DECODE; what stood before the fault was used. A table update may be
   * read in a later turn, and what is wrong with it is told to `malformed` then.
   */
  handleFrame(from: NodeId, frame: Uint8Array): void {
    this.#event(() => {
      const neighbour = this.#core.neighbours.get(from);
      if (neighbour === undefined) return this.#core.drop("unknown-neighbour");
      this.#handle(neighbour, frame);
      this.#core.deps.spend?.(frame.length);
    });
  }

  /** Up to four, best first, all feasible now; empty: none. The array is shared and immutable. */
  nextHops(destination: NodeId, plane: Plane): readonly NextHop[] {
    const found = this.#core.table.get(destination);
    if (found !== undefined && found[plane].hops.length > 0) return found[plane].hops;
    return plane === "any" && destination !== this.#core.self.id ? this.#slow.defaultHops : NO_HOPS;
  }

  reachable(destination: NodeId): boolean {
    return destination === this.#core.self.id || this.nextHops(destination, "any").length > 0;
  }

  /** Somebody here has a use for the record of the destination now: it is asked for where it is advertised. */
  wantRecord(id: NodeId): void {
    const destination = this.#core.table.get(id);
    if (destination?.proof === undefined || destination === this.#core.self) return;
    this.#event(() => this.#records.want(destination));
  }

  /** Mail waits for the destination and nothing leads there: slow links are asked for a path; later where it is heard on a channel. */
  wantPath(destination: NodeId, isHeard: boolean): void {
    this.#event(() => this.#paths.want(destination, isHeard));
  }

  /** Mail for the destination was handed to the neighbour: a path that was found on demand lives on. */
  usePath(destination: NodeId, neighbour: NodeId): void {
    this.#event(() => this.#paths.use(destination, neighbour));
  }

  /** A neighbour over a shared channel was not heard there for long, or is again. */
  setThere(id: NodeId, isThere: boolean): void {
    this.#event(() => {
      this.#slow.setThere(id, isThere);
      if (!isThere) this.#paths.endAll(id);
    });
  }

  /** Asks a neighbour over a shared channel to say something on its link. False: there is no airtime, or it was asked just now. */
  askWhetherThere(id: NodeId): boolean {
    return this.#event(() => this.#slow.askNeighbour(id));
  }

  /** What is heard of a neighbour on a shared channel: where it is not what its link said, it is asked. */
  heardOnChannel(id: NodeId, isGateway: boolean): void {
    this.#event(() => this.#slow.doubt(id, isGateway));
  }

  /** Cost of this node's way into the faster mesh; undefined: it is no gateway. */
  get gatewayMetric(): number | undefined {
    return this.#slow.gatewayMetric;
  }

  /** A gateway of a slow link takes what this node has no route for. */
  get hasDefaultRoute(): boolean {
    return this.#slow.defaultHops.length > 0;
  }

  /** Neighbours by whom an edge node reaches everybody, cheapest first; none on a node that is no edge. */
  get gateways(): readonly NodeId[] {
    return this.#slow.defaultHops.map(({ neighbour }) => neighbour);
  }

  /** Of a node that has no other neighbours, those that questions may go to, the cheapest first; else none. */
  get slowNeighboursAlone(): readonly NodeId[] {
    for (const { hasTable } of this.#core.neighbours.values()) if (hasTable) return [];
    return this.#slow.askable(undefined).map(({ id }) => id);
  }

  /** All links to that neighbour are slow: no table goes over them. */
  isSlowNeighbour(id: NodeId): boolean {
    return this.#core.neighbours.get(id)?.hasTable === false;
  }

  /** Takes `bytes` of what control may use of a slow neighbour's airtime, an answer's of the part that `by`, else `id`, has; false: there is none now. */
  takeAirtime(id: NodeId, bytes: number, need: "control" | "answer" = "control", by?: NodeId): boolean {
    const neighbour = this.#core.neighbours.get(id);
    return neighbour !== undefined && this.#slow.takeAirtime(neighbour, bytes, need, by);
  }

  /** The node's own record has other bytes now: its hash goes out with a new sequence number. */
  recordChanged(): void {
    this.#event(() => this.#origin.recordChanged());
  }

  /** Once a run, when neighbours have said what they remember of this node: from here on its numbers are unlike those of any other life. */
  settle(): void {
    this.#event(() => this.#origin.settle());
  }

  routes(): RouteRow[] {
    return listRoutes(this.#core.table, this.#core.self);
  }

  explain(destination: NodeId): RouteExplanation {
    return explainRoute(this.#core, destination, this.#slow.defaultHops);
  }

  /** Destinations in the table, this node and retracted ones included. */
  get tableSize(): number {
    return this.#core.table.size;
  }

  get seqno(): number {
    return this.#origin.seqno;
  }

  /** For oracles: the distance that next hops are measured against; undefined: none yet. Own id: (seqno, -1). */
  feasibility(destination: NodeId, plane: Plane): Distance | undefined {
    const found = this.#core.table.get(destination);
    if (found === undefined) return undefined;
    if (found === this.#core.self) return { seqno: this.#origin.seqno, metric: -1 };
    const { fdSeqno, fdMetric } = found[plane];
    return fdSeqno < 0 ? undefined : { seqno: fdSeqno, metric: fdMetric };
  }

  /** For tests: sums over what a neighbour is believed to advertise. */
  receivedDigest(id: NodeId): Uint32Array | undefined {
    const neighbour = this.#core.neighbours.get(id);
    return neighbour === undefined ? undefined : this.#adjacencies.receivedSums(neighbour);
  }

  /** Stops every timer. Nothing is sent or reported after. */
  close(): void {
    this.#isClosed = true;
    this.#core.close();
    this.#inbound.close();
    this.#origin.close();
    this.#requests.close();
    this.#records.close();
    this.#slow.close();
    this.#paths.close();
    this.#sweep.close();
  }

  #handle(neighbour: Neighbour, frame: Uint8Array): void {
    const type = frame[0];
    if (!neighbour.hasTable) return this.#handleSlow(neighbour, frame);
    switch (type) {
      case FrameType.routeUpdate:
        return this.#handleUpdate(neighbour, frame);
      case FrameType.routeAck:
        return this.#updates.handleAck(neighbour, frame);
      case FrameType.seqnoRequest:
        if (this.#adjacencies.admit(neighbour, decodeSeqnoRequest(frame).tag))
          this.#requests.handle(neighbour, frame);
        return;
      case FrameType.routeDigest:
        return this.#adjacencies.handleDigest(neighbour, frame);
      case FrameType.routeResync:
        return this.#adjacencies.handleResync(neighbour, frame);
      case FrameType.recordRequest:
        return this.#records.handleRequest(neighbour, frame);
      case FrameType.record:
        return this.#records.handleReply(neighbour, frame);
      default:
        throw decodeError(`frame type ${type} is not for routing`);
    }
  }

  #handleUpdate(neighbour: Neighbour, frame: Uint8Array): void {
    const kind = updateKind(frame);
    if (kind === UpdateKind.table) this.#inbound.take(neighbour, frame);
    else if (kind === UpdateKind.pathQuestion) this.#paths.handleQuestion(neighbour, frame);
    else this.#core.drop("unknown-kind");
  }

  #handleSlow(neighbour: Neighbour, frame: Uint8Array): void {
    if (frame[0] === FrameType.seqnoRequest) return this.#requests.handle(neighbour, frame);
    if (frame[0] === FrameType.recordRequest) return this.#records.handleRequest(neighbour, frame);
    if (frame[0] === FrameType.record) return this.#records.handleReply(neighbour, frame);
    if (frame[0] !== FrameType.routeUpdate) return this.#core.drop("unknown-kind");
    const kind = updateKind(frame);
    if (kind === UpdateKind.beacon) this.#slow.handleBeacon(neighbour, frame);
    else if (kind === UpdateKind.proof) this.#slow.handleProof(neighbour, frame);
    else if (kind === UpdateKind.pathQuestion) this.#paths.handleQuestion(neighbour, frame);
    else if (kind === UpdateKind.pathAnswer) this.#paths.handleAnswer(neighbour, frame);
    else if (kind === UpdateKind.pathGone) this.#paths.handleGone(neighbour, frame);
    else this.#core.drop("unknown-kind");
  }

  #add(id: NodeId, bootId: string, cost: LinkCost): void {
    const ownTag = 1 + this.#core.deps.random.below(2 ** 32 - 1);
    const neighbour = new Neighbour(id, bootId, sanitise(cost), ownTag);
    neighbour.badProofAtMs = this.#core.now();
    neighbour.isQuarantined = this.#quarantined.has(id);
    this.#core.neighbours.set(id, neighbour);
    this.#core.table.candidates.enter(neighbour);
    if (neighbour.hasTable) this.#adjacencies.open(neighbour);
    else this.#slow.up(neighbour);
    this.#slow.chooseRole();
  }

  #drop(neighbour: Neighbour): void {
    this.#core.neighbours.delete(neighbour.id);
    this.#adjacencies.dropRows(neighbour);
    // Behind that: a selection tells whoever was primary.
    this.#core.urgent.delete(neighbour);
    neighbour.cancelTimers();
    this.#updates.forget(neighbour);
    this.#inbound.forget(neighbour);
    this.#core.table.candidates.leave(neighbour);
    this.#requests.forgetNeighbour(neighbour);
    this.#paths.forgetNeighbour(neighbour);
    this.#origin.forget(neighbour);
    this.#slow.down(neighbour);
    this.#slow.chooseRole();
    this.#sweep.arm();
  }

  #changeCost(neighbour: Neighbour, cost: LinkCost): void {
    const before = neighbour.link;
    const link = sanitise(cost);
    if ((before.profile === "slow") !== (link.profile === "slow")) {
      this.#drop(neighbour);
      return this.#add(neighbour.id, neighbour.bootId, link);
    }
    if (before.cost === link.cost && before.mtu === link.mtu && before.bottleneck === link.bottleneck)
      neighbour.link = link;
    else {
      this.#core.reprice(neighbour, link);
      this.#slow.chooseRole();
    }
  }

  #reselectAll(neighbour: Neighbour): void {
    for (const destination of this.#core.table.values())
      if (this.#core.table.candidates.has(destination.list, neighbour)) this.#core.reselect(destination);
  }

  /** Runs one event to its end. Re-entrant calls (from a callback) join the event that is running. */
  #event<T>(work: () => T): T {
    this.#depth++;
    try {
      return work();
    } finally {
      if (this.#depth === 1) this.#settle();
      this.#depth--;
    }
  }

  #settle(): void {
    if (this.#isClosed) return;
    const { urgent, touched, deps } = this.#core;
    for (let round = 0; round < SETTLE_ROUNDS_MAX; round++) {
      this.#requests.run();
      this.#records.run();
      this.#paths.run();
      for (const neighbour of urgent) {
        urgent.delete(neighbour);
        this.#updates.flush(neighbour);
      }
      if (touched.size === 0 && urgent.size === 0) break;
      const changed = [...touched];
      touched.clear();
      for (const destination of changed)
        deps.onChange({ destination: destination.id, reachable: this.reachable(destination.id) });
    }
  }

  #forget(destination: Destination): void {
    this.#core.table.candidates.clear(destination.list);
    this.#requests.forgetDestination(destination);
    this.#records.forgetDestination(destination);
    this.#paths.forgetDestination(destination);
    this.#core.forget(destination);
  }
}
