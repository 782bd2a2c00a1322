/**
 * A whole mesh from one seed: machines, media, faults, traffic and the oracles that watch them, in virtual time. Runs
 * the real peer, routing and delivery code (runtime/mesh/mesh.ts) and nothing of its own in its place.
 */
import type { Random } from "@godwit/sdk";
import { seededRandom } from "../../runtime/kernel/random.ts";
import type { Mesh } from "../../runtime/mesh/mesh.ts";
import { custodyLimitsDefault, type CustodyLimits } from "../../runtime/custody/context.ts";
import { checkBounds, checkPackets } from "./bounds.ts";
import { cheapIdentity, realIdentity } from "./crypto.ts";
import { Faults } from "./faults.ts";
import { Ledger } from "./ledger.ts";
import { Edge } from "./links.ts";
import { LoopChecker } from "./loops.ts";
import { OldDisks, type OldDiskKind } from "./old-disks.ts";
import { SimNode, type SimNodeEvents } from "./node.ts";
import { SimTime } from "./time.ts";
import { planEdges, planIslands, planSlowLeaves, shapes, type PlannedEdge, type Shape } from "./topology.ts";
import type { BundleId } from "../../runtime/kernel/ids.ts";
import { makeLiar } from "./liar.ts";
import { LARGE_BYTES_MAX, Workload } from "./workload.ts";

export interface SimOptions {
  readonly seed: number;
  readonly nodes: number;
  /** Virtual minutes of traffic and faults. */
  readonly minutes: number;
  /** Real signatures and seals: for small meshes. */
  readonly realCrypto?: boolean;
  readonly shape?: Shape;
  /** Share of media that are datagram ones. */
  readonly datagrams?: number;
  /** Messages a second over the whole mesh. */
  readonly messagesPerSecond?: number;
  /** Mean pause between faults, ms; 0: none. */
  readonly faultPauseMs?: number;
  readonly destroys?: boolean;
  /** Small quotas, so that refusals happen. */
  readonly tight?: boolean;
  /** Older copies of disks are put back. */
  readonly old?: boolean;
  /** Starts on other state than was left, beside the ordinary faults, of which disks that go for good are none then. */
  readonly oldDisks?: {
    readonly kinds: readonly OldDiskKind[];
    readonly restarts: number;
    readonly pauseMs: number;
  };
  /** The last fifth of the nodes are edge nodes, each behind one slow medium. */
  readonly slow?: boolean;
  /** Small fast islands that slow media alone join, so that mail between them needs paths over several slow links. */
  readonly islands?: boolean;
  /** Nodes that send and receive. */
  readonly talkers?: number;
  readonly bodyBytesMax?: number;
  /** Faults found before the run stops. */
  readonly faultsMax?: number;
  /** Plants a bug in each node that opens (tests of the checkers only). */
  readonly mutate?: (mesh: Mesh, node: SimNode) => void;
  readonly limits?: Partial<CustodyLimits>;
  /** Nodes that attract mail and drop it (liar.ts); give them nothing to say with `talkers`. */
  readonly liars?: readonly number[];
  /** Which bundles they drop; without it all. */
  readonly drops?: (id: BundleId) => boolean;
}

export interface SimResult {
  readonly seed: number;
  readonly nodes: number;
  readonly faults: readonly string[];
  readonly events: number;
  readonly virtualSeconds: number;
  readonly traceHash: string;
  readonly convergedInMs: number | undefined;
  readonly settledInMs: number | undefined;
  readonly outcomes: Readonly<Record<string, number>>;
  readonly struck: Readonly<Record<string, number>>;
  readonly loopSteps: number;
  readonly duplicatesExcused: number;
  readonly restarts: number;
  readonly quarantines: readonly SimQuarantine[];
}

/** Node indices, and virtual ms. */
export interface SimQuarantine {
  readonly by: number;
  readonly offender: number;
  readonly atMs: number;
}

const START_SPREAD_MS = 1_000;
const WARM_UP_MS = 20_000;
/** All pairs must have routes this long after the last fault, ms. Hold times and backoffs fit into it. */
const CONVERGENCE_MS = 180_000;
/** With slow media: some beacons, 30 s apart and then further, in which there was airtime for the proof. */
const SLOW_CONVERGENCE_MS = 600_000;
/** A machine that stood down for its copy looks after a quarter of an hour whether that is gone. */
const DOUBLE_CONVERGENCE_MS = 2_400_000;
/** A slow medium is there from some time in this span after the warm-up on, ms: mail waits for it. */
const SLOW_LATE_MS = 30_000;
const LEAF_SHARE = 1 / 5;
/** Every message must have ended this long after that, ms. */
const SETTLE_MS = 30 * 60_000;
/** Where mail goes over several slow media: paths are asked for again after an hour at most, and so is mail offered. */
const SLOW_SETTLE_MS = 12 * 3_600_000;
const POLL_MS = 1_000;

export class World {
  readonly time = new SimTime();
  readonly nodes: SimNode[] = [];
  readonly edges: Edge[] = [];
  readonly faults: string[] = [];
  readonly quarantines: SimQuarantine[] = [];
  readonly ledger: Ledger;
  readonly loops: LoopChecker;
  readonly workload: Workload;
  readonly disasters: Faults;
  /** Machines that run a copy of another one's state for a while; by index behind the nodes. */
  readonly clones: SimNode[] = [];
  readonly oldDisks: OldDisks | undefined;
  readonly limits: CustodyLimits;
  readonly #options: SimOptions;
  readonly #random: Random;
  /** By node; all are on one unless there are islands. */
  #islandOf: readonly number[] = [];
  #convergedInMs: number | undefined;
  #settledInMs: number | undefined;

  constructor(options: SimOptions) {
    this.#options = options;
    const random = seededRandom(options.seed);
    this.#random = random;
    this.limits = { ...limitsFor(options), ...options.limits };
    const shape = options.shape ?? shapes[random.below(shapes.length)]!;
    this.#makeNodes(random);
    this.#makeEdges(shape, random);
    this.ledger = new Ledger(
      () => this.time.nowMs,
      (text) => this.#fault(text),
    );
    this.loops = new LoopChecker(this.nodes, options.liars);
    if (options.oldDisks?.kinds.includes("clones") === true) this.#makeClones();
    this.workload = new Workload({
      nodes: this.nodes,
      random: seededRandom(random.below(2 ** 32)),
      time: this.time,
      ledger: this.ledger,
      fault: (text) => this.#fault(text),
      talkers: this.nodes.slice(0, options.talkers ?? this.nodes.length),
      bodyBytesMax: options.bodyBytesMax ?? LARGE_BYTES_MAX,
      isSlowBetween: (a, b) => a.isLeaf || b.isLeaf || !this.#isOneIsland(a, b),
    });
    this.disasters = new Faults({
      nodes: this.nodes,
      edges: this.edges,
      random: seededRandom(random.below(2 ** 32)),
      time: this.time,
      pauseMs: options.faultPauseMs ?? 3_000,
      durationMaxMs: 60_000,
      // Whoever is on another island is not told of the records of an earlier life.
      destroys: options.destroys ?? (options.oldDisks === undefined && options.islands !== true),
      ...(options.old === true ? { backups: seededRandom(options.seed * 31 + 7) } : {}),
    });
    if (options.oldDisks !== undefined)
      this.oldDisks = new OldDisks({
        ...options.oldDisks,
        nodes: this.nodes,
        clones: this.clones,
        random: seededRandom(options.seed * 37 + 11),
        time: this.time,
      });
    this.time.afterEvent = () => {
      // Two nodes under one id: who is meant by a next hop, nobody can say.
      if (this.clones.length > 0) return;
      this.loops.check();
      if (this.loops.cycles.length > 0) for (const cycle of this.loops.cycles.splice(0)) this.#fault(cycle);
    };
  }

  run(): SimResult {
    const { minutes, faultPauseMs } = this.#options;
    for (const node of this.nodes)
      this.time.after(START_SPREAD_MS * this.#random.float(), () => node.start());
    this.#advance(WARM_UP_MS);
    if (faultPauseMs !== 0) this.disasters.start();
    this.oldDisks?.start();
    this.#talk();
    this.#advance(Math.max(minutes * 60_000, this.oldDisks?.spanMs ?? 0));
    this.#isTalking = false;
    this.oldDisks?.healAll();
    this.disasters.healAll();
    this.#convergedInMs = this.#advance(this.#convergenceMs, () => this.#isConverged());
    if (this.#convergedInMs === undefined) this.#reportUnreached();
    const settleMs = this.#options.islands === true ? SLOW_SETTLE_MS : SETTLE_MS;
    this.#settledInMs = this.#advance(settleMs, () => this.ledger.open.length === 0);
    this.ledger.checkEnd();
    if (this.clones.length === 0) for (const text of this.loops.audit()) this.#fault(text);
    return this.#result();
  }

  /** Nodes that have other than slow media. */
  get #innerCount(): number {
    const { nodes, slow = false } = this.#options;
    return slow ? nodes - Math.ceil(nodes * LEAF_SHARE) : nodes;
  }

  get #convergenceMs(): number {
    if (this.clones.length > 0) return DOUBLE_CONVERGENCE_MS;
    return this.#options.slow === true ? SLOW_CONVERGENCE_MS : CONVERGENCE_MS;
  }

  #isTalking = true;

  /** Poisson arrivals. */
  #talk(): void {
    const perSecond = this.#options.messagesPerSecond ?? Math.min(20, this.nodes.length / 2);
    const pauseMs = (-Math.log(1 - this.#random.float()) * 1_000) / perSecond;
    this.time.after(pauseMs, () => {
      if (!this.#isTalking) return;
      this.workload.sendOne();
      this.#talk();
    });
  }

  /** Runs for `forMs`, or until `isDone` at a poll: then how long that took, else undefined. */
  #advance(forMs: number, isDone: () => boolean = () => false): number | undefined {
    const fromMs = this.time.nowMs;
    while (this.time.nowMs - fromMs < forMs && !this.#isBeyondHope) {
      this.time.run(this.time.nowMs + POLL_MS, () => this.#isBeyondHope);
      for (const node of this.nodes) {
        for (const text of checkBounds(node, this.limits)) this.#fault(text);
        for (const text of checkPackets(node)) this.#fault(text);
      }
      if (isDone()) return this.time.nowMs - fromMs;
    }
    return undefined;
  }

  get #isBeyondHope(): boolean {
    return this.faults.length >= (this.#options.faultsMax ?? 5);
  }

  #isConverged(): boolean {
    return this.nodes.every((node) => this.#unreached(node).length === 0);
  }

  /** Messages that are there, from another island. */
  get deliveredApart(): number {
    return [...this.ledger.messages.values()].filter(({ source, deliveries }) =>
      deliveries.some(({ node }) => !this.#isOneIsland(source, node)),
    ).length;
  }

  /** Of its own island: a way to another one is asked for when mail needs it. */
  #unreached(node: SimNode): SimNode[] {
    const router = node.mesh?.router;
    return this.nodes.filter(
      (other) => this.#isOneIsland(node, other) && router?.reachable(other.id) !== true,
    );
  }

  #isOneIsland(a: SimNode, b: SimNode): boolean {
    return this.#islandOf[a.index] === this.#islandOf[b.index];
  }

  #reportUnreached(): void {
    let count = 0;
    let example = "";
    for (const node of this.nodes) {
      for (const other of this.#unreached(node)) {
        if (count++ === 0)
          example = `n${node.index}${node.isUp ? "" : " (down)"} has no route to n${other.index}`;
      }
    }
    this.#fault(
      `not converged ${this.#convergenceMs / 1_000} s after the last fault: ${example}, and ${count - 1} more`,
    );
  }

  #fault(text: string): void {
    if (this.#isBeyondHope) return;
    this.faults.push(`${(this.time.nowMs / 1_000).toFixed(3)} s: ${text}`);
  }

  #makeNodes(random: Random): void {
    const { nodes: count, realCrypto = false, seed } = this.#options;
    const resolve = this.#resolve;
    for (let index = 0; index < count; index++) {
      const own = seededRandom(seed * 7_919 + index);
      // Machines of one location settle by claims who keeps a message: no edge node knows the others well enough.
      const [area, group] = index < this.#innerCount ? ["L", index >> 2] : ["S", index];
      const location = `${area}${String.fromCharCode(65 + (group % 26))}${String.fromCharCode(65 + Math.floor(group / 26))}`;
      this.nodes.push(
        new SimNode(
          {
            index,
            identity: realCrypto ? realIdentity(own) : cheapIdentity(own),
            callsign: `${location}-${String.fromCharCode(65 + (index & 3))}`,
            location,
            seed: seed * 10_007 + index,
            time: this.time,
            limits: this.limits,
            commitDelayMs: 0.2 + random.float() * 10,
          },
          resolve,
          (node) => this.#eventsOf(node),
        ),
      );
    }
  }

  readonly #resolve = (index: number): SimNode =>
    this.nodes[index] ?? this.clones[index - this.nodes.length]!;

  /** One for each node, with media to the same neighbours. */
  #makeClones(): void {
    const count = this.nodes.length;
    const own = seededRandom(this.#options.seed * 15_486_071 + 2);
    for (const node of this.nodes)
      this.clones.push(node.clone(count + node.index, this.#resolve, (clone) => this.#eventsOf(clone)));
    for (const edge of [...this.edges])
      for (const [index, other] of [
        [edge.a, edge.b],
        [edge.b, edge.a],
      ] as const)
        this.#addEdge(
          { params: edge.params, name: `${edge.name}+${index}`, a: count + index, b: other },
          own,
        );
  }

  #makeEdges(shape: Shape, random: Random): void {
    const { nodes, datagrams = 0.15 } = this.#options;
    if (this.#options.islands === true) {
      const plan = planIslands(nodes, random, datagrams);
      this.#islandOf = plan.islandOf;
      for (const edge of plan.edges) this.#addEdge(edge, random);
      return;
    }
    const inner = this.#innerCount;
    for (const plan of planEdges(inner, shape, random, datagrams)) this.#addEdge(plan, random);
    // A stream of its own, so that a world without slow media is what it always was.
    const own = seededRandom(this.#options.seed * 15_486_071 + 1);
    for (const plan of planSlowLeaves(nodes, inner, own)) {
      const edge = this.#addEdge(plan, own);
      edge.block("both");
      this.time.after(WARM_UP_MS + own.float() * SLOW_LATE_MS, () => edge.unblock("both"));
    }
  }

  #addEdge(plan: PlannedEdge, random: Random): Edge {
    const edge = new Edge({ ...plan, time: this.time, random: seededRandom(random.below(2 ** 32)) });
    this.edges.push(edge);
    this.#resolve(edge.a).edges.push(edge);
    this.#resolve(edge.b).edges.push(edge);
    return edge;
  }

  #eventsOf(node: SimNode): SimNodeEvents {
    return {
      delivered: (entry, body) => this.ledger.onDelivered(node, entry, body),
      changed: (entry) => this.ledger.onChanged(node, entry),
      quarantined: (offender) =>
        this.quarantines.push({
          by: node.index,
          offender: this.nodes.findIndex(({ id }) => id === offender),
          atMs: this.time.nowMs,
        }),
      routeChanged: (destination) => {
        if (node.original === undefined) this.loops.touch(node.index, destination);
      },
      opened: () => {
        if (node.original === undefined) this.loops.setLife(node.index, node.life!.number);
        this.ledger.onOpened(node).catch((error: unknown) => this.#fault(String(error)));
        if (this.#options.islands === true) this.#introduce(node);
      },
      lost: (before) => this.ledger.onLoss(before, this.nodes),
      lostKeys: () => this.ledger.onLostKeys(),
      broken: (reason) => this.#fault(`n${node.index} cannot start: ${reason}`),
      ended: () => {
        if (node.original === undefined) this.loops.setLife(node.index, 0);
      },
      mutate: (mesh: Mesh) => {
        if (this.#options.liars?.includes(node.index) === true) makeLiar(mesh, node, this.#options.drops);
        this.#options.mutate?.(mesh, node);
      },
    };
  }

  /** Nobody tells records over slow media: all know those of all, as from a file. */
  #introduce(node: SimNode): void {
    for (const { mesh } of this.nodes)
      if (mesh !== undefined && mesh !== node.mesh) {
        node.mesh!.records.offer(mesh.ownRecord.bytes);
        mesh.records.offer(node.mesh!.ownRecord.bytes);
      }
  }

  #result(): SimResult {
    const { seed, nodes } = this.#options;
    return {
      seed,
      nodes,
      faults: this.faults,
      events: this.time.events,
      virtualSeconds: this.time.nowMs / 1_000,
      traceHash: this.time.digest(),
      convergedInMs: this.#convergedInMs,
      settledInMs: this.#settledInMs,
      outcomes: this.ledger.outcomes,
      struck: Object.fromEntries([...this.disasters.counts, ...(this.oldDisks?.counts ?? [])]),
      loopSteps: this.loops.steps,
      duplicatesExcused: this.ledger.duplicatesExcused,
      restarts: this.oldDisks?.restarts ?? 0,
      quarantines: this.quarantines,
    };
  }
}

function limitsFor(options: SimOptions): CustodyLimits {
  const limits: CustodyLimits = {
    ...custodyLimitsDefault,
    // Wall clocks jump by decades here, and the inbox is what the oracle counts.
    inboxRetentionMs: 1e15,
    failoverDelayMs: 10_000,
    reofferFirstMs: 5_000,
    reofferCapMs: 60_000,
  };
  if (options.tight !== true) return limits;
  return {
    ...limits,
    transitMessagesMax: 60,
    transitBytesMax: 1024 * 1024,
    outboxMessagesMax: 200,
    outboxBytesMax: 8 * 1024 * 1024,
    // Nearly all mail of these worlds waits on the disk.
    laneAwakeMax: 4,
    laneUnreachableMax: 1,
  };
}
