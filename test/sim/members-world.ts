/**
 * Membership alone, at a scale where a whole mesh for each node is too heavy: real `Members`, `Gossip` and `Link` over
 * lossy streams on a virtual clock. The router is a model: a node reaches whoever its living links lead to, and hears
 * of changes a little later. Signatures are hashes. One seed gives one run.
 */
import type { Clock, Random, Timer } from "@godwit/sdk";
import { ManualClock } from "../../runtime/kernel/clock.ts";
import { formatNodeId, type NodeId } from "../../runtime/kernel/ids.ts";
import { seededRandom } from "../../runtime/kernel/random.ts";
import type { MemberState } from "../../runtime/membership/decide.ts";
import { Members } from "../../runtime/membership/members.ts";
import type { Link } from "../../runtime/peer/link.ts";
import { FrameType } from "../../runtime/wire/constants.ts";
import { decodeProbe, decodeProbeReply } from "../../runtime/wire/peer-messages.ts";
import { Connection, streamDelayMs } from "./members-link.ts";
import { SimMetrics } from "./metrics.ts";
import { noRegard } from "../../runtime/trust/testing.ts";

/** When the router of a node has heard of a change somewhere. */
const ROUTE_DELAY_MS = { least: 5, most: 80 } as const;
const REDIAL_MS = { least: 300, most: 1_200 } as const;
const PATH_HOPS = 3;
const PAUSE_EVERY_MS = 10_000;

export interface MembersWorldOptions {
  readonly seed: number;
  readonly nodes: number;
  /** Links of each node; all of them from `nodes - 1` on. */
  readonly degree: number;
  /** Share of packets lost. */
  readonly loss: number;
  /** Every node's event loop stands still now and then for up to this long, ms. */
  readonly pauseMs?: number;
  /** Everybody follows only so many nodes (the first ones), where everybody following all would not fit. */
  readonly followed?: number;
}

export class MemberNode {
  readonly index: number;
  readonly id: NodeId;
  readonly world: MembersWorld;
  readonly clock: Clock;
  readonly connections = new Map<MemberNode, Connection>();
  members: Members;
  isAlive = true;
  /** What keeps its event loop from running. */
  readonly #holds = new Set<"frozen" | "pause">();
  group = 0;
  #deferred: (() => void)[] = [];
  #lives = 0;

  constructor(world: MembersWorld, index: number) {
    this.world = world;
    this.index = index;
    const bytes = world.random.bytes(32);
    this.id = formatNodeId(bytes);
    const { time } = world;
    this.clock = {
      monotonicMs: () => time.monotonicMs(),
      wallMs: () => time.wallMs(),
      after: (delayMs: number, fn: () => void): Timer => {
        const life = this.#lives;
        let isCancelled = false;
        const timer = time.after(delayMs, () =>
          this.dispatch(() => {
            if (!isCancelled && life === this.#lives) fn();
          }),
        );
        return {
          cancel() {
            isCancelled = true;
            timer.cancel();
          },
        };
      },
    };
    this.members = this.#boot();
  }

  dispatch(fn: () => void): void {
    if (!this.isAlive) return;
    if (this.isFrozen) this.#deferred.push(fn);
    else fn();
  }

  onFrame(connection: Connection, link: Link, frame: Uint8Array): void {
    link.noteHeard();
    const from = connection.other(this);
    switch (frame[0]) {
      case FrameType.probe:
        return link.answerProbe(decodeProbe(frame));
      case FrameType.probeReply:
        return link.noteProbeReply(decodeProbeReply(frame));
      default:
        this.members.handleFrame(from.id, frame);
    }
  }

  onLinkDown(connection: Connection, how: "closed" | "silent"): void {
    const far = connection.other(this);
    if (this.connections.get(far) === connection) this.connections.delete(far);
    if (this.isAlive) this.members.neighbourDown(far.id, how);
  }

  kill(): void {
    this.isAlive = false;
    this.#holds.clear();
    this.#deferred = [];
    for (const connection of [...this.connections.values()]) connection.end(this, "closed");
  }

  leave(): void {
    this.members.leave();
    // What was said is under way; the process ends behind it.
    this.world.time.after(2_000, () => this.kill());
  }

  restart(): void {
    this.isAlive = true;
    this.members = this.#boot();
    for (const far of this.world.edgesOf(this)) this.world.connect(this, far);
  }

  get isFrozen(): boolean {
    return this.#holds.size > 0;
  }

  freeze(hold: "frozen" | "pause" = "frozen"): void {
    this.#holds.add(hold);
  }

  thaw(hold: "frozen" | "pause" = "frozen"): void {
    this.#holds.delete(hold);
    if (!this.isFrozen) for (const fn of this.#deferred.splice(0)) this.dispatch(fn);
  }

  sign(bytes: Uint8Array): Uint8Array {
    return signature(this.id, bytes);
  }

  #boot(): Members {
    const { world, id } = this;
    const { options } = world;
    return new Members({
      regard: noRegard,
      self: id,
      network: "sim",
      bootEpoch: ++this.#lives,
      clock: this.clock,
      random: world.random,
      metrics: new SimMetrics(),
      sign: (bytes) => this.sign(bytes),
      verify: (signer, bytes, given) =>
        (options.followed === undefined || world.isFollowed(signer)) &&
        Buffer.compare(signature(signer, bytes), given) === 0,
      send: (to, frame) => {
        const connection = this.connections.get(world.byId.get(to)!);
        if (connection === undefined) return;
        world.count(frame);
        connection.send(this, frame.slice());
      },
      sendRouted: (to, kind, payload) => world.route(this, world.byId.get(to)!, kind, payload.slice()),
      isReachable: (to) => world.byId.get(to)!.group === this.group,
      checkLink: (to) => this.connections.get(world.byId.get(to)!)?.links.get(this)?.check(),
      outrun: (epoch) => epoch + 1,
      changed: (row) => world.changed(this, world.byId.get(row.id)!, row.state),
      persist() {},
    });
  }
}

function signature(id: NodeId, bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(64);
  new DataView(out.buffer).setBigUint64(0, Bun.hash.wyhash(bytes, BigInt(Bun.hash.crc32(id))));
  return out;
}

export class MembersWorld {
  readonly options: MembersWorldOptions;
  readonly time = new ManualClock();
  readonly random: Random;
  readonly nodes: MemberNode[];
  readonly byId = new Map<NodeId, MemberNode>();
  readonly #edges: MemberNode[][];
  #isRegrouping = false;
  loss: number;
  /** Splits the world: connections between nodes for which this differs are cut. */
  side: (node: MemberNode) => number = () => 0;
  /** Changes of state as they happen. */
  changed: (at: MemberNode, of: MemberNode, state: MemberState) => void = () => {};
  news = { frames: 0, bytes: 0 };
  repair = { frames: 0, bytes: 0 };

  constructor(options: MembersWorldOptions) {
    this.options = options;
    this.loss = options.loss;
    this.random = seededRandom(options.seed);
    this.nodes = Array.from({ length: options.nodes }, (_, index) => new MemberNode(this, index));
    for (const node of this.nodes) this.byId.set(node.id, node);
    this.#edges = this.#topology();
  }

  /** Everybody dials; done when the event queue says so. */
  start(): void {
    for (const node of this.nodes)
      for (const far of this.edgesOf(node)) if (node.index < far.index) this.connect(node, far);
    this.#regroup();
    if (this.options.pauseMs !== undefined)
      for (const node of this.nodes) this.#pause(node, this.options.pauseMs);
  }

  run(forMs: number): void {
    const untilMs = this.time.monotonicMs() + forMs;
    while (this.time.runNext(untilMs));
    this.time.jumpTo(untilMs);
  }

  edgesOf(node: MemberNode): readonly MemberNode[] {
    return this.#edges[node.index]!;
  }

  isFollowed(id: NodeId): boolean {
    return this.byId.get(id)!.index < (this.options.followed ?? Number.POSITIVE_INFINITY);
  }

  connect(a: MemberNode, b: MemberNode): void {
    const isPossible = a.isAlive && b.isAlive && !a.isFrozen && !b.isFrozen && this.side(a) === this.side(b);
    if (!isPossible || a.connections.has(b) || b.connections.has(a)) {
      if (a.isAlive && b.isAlive && a.connections.get(b)?.isUp !== true) this.#redial(a, b);
      return;
    }
    const connection = new Connection([a, b], {
      clock: this.time,
      random: this.random,
      loss: () => this.loss,
      ended: () => {
        this.#soonRegroup();
        this.#redial(a, b);
      },
    });
    a.connections.set(b, connection);
    b.connections.set(a, connection);
    this.#soonRegroup();
    a.members.neighbourUp(b.id, "fast");
    b.members.neighbourUp(a.id, "fast");
  }

  /** Silence, not a reset, between the sides. */
  partition(side: (node: MemberNode) => number): void {
    this.side = side;
    for (const node of this.nodes)
      for (const [far, connection] of node.connections) if (side(node) !== side(far)) connection.isCut = true;
  }

  route(from: MemberNode, to: MemberNode, kind: "ping" | "pong", payload: Uint8Array): void {
    if (from.group !== to.group) return;
    this.time.after(streamDelayMs(this.random, this.loss, PATH_HOPS), () =>
      to.dispatch(() => {
        if (kind === "ping") to.members.handlePing(from.id, payload);
        else to.members.handlePong(from.id, payload);
      }),
    );
  }

  count(frame: Uint8Array): void {
    const isNews =
      frame[0] === FrameType.memberQuery || (frame[0] === FrameType.memberFacts && frame[1] === 0);
    const sum = isNews ? this.news : this.repair;
    sum.frames++;
    sum.bytes += frame.length;
  }

  /** What is wrong when nothing happens any more: a live node that is not alive to all, a dead one that is to some. */
  disagreements(): string[] {
    const wrong: string[] = [];
    for (const at of this.nodes) {
      if (!at.isAlive || at.isFrozen) continue;
      for (const of of this.nodes) {
        if (of === at || !this.isFollowed(of.id)) continue;
        const state = at.members.stateOf(of.id);
        // Dead nodes between them may really have parted the two.
        const isThere = of.isAlive && of.group === at.group;
        const isRight = isThere ? state === "alive" : state === "failed" || state === "left";
        if (!isRight) wrong.push(`${at.index} takes ${of.index} for ${state ?? "unknown"}`);
      }
    }
    return wrong;
  }

  #redial(a: MemberNode, b: MemberNode): void {
    this.time.after(REDIAL_MS.least + this.random.float() * (REDIAL_MS.most - REDIAL_MS.least), () => {
      if (a.isAlive && b.isAlive) this.connect(a, b);
    });
  }

  #pause(node: MemberNode, pauseMs: number): void {
    this.time.after(PAUSE_EVERY_MS * 2 * this.random.float(), () => {
      if (node.isFrozen || !node.isAlive) return this.#pause(node, pauseMs);
      node.freeze("pause");
      this.time.after(pauseMs * this.random.float(), () => {
        node.thaw("pause");
        this.#pause(node, pauseMs);
      });
    });
  }

  #soonRegroup(): void {
    if (this.#isRegrouping) return;
    this.#isRegrouping = true;
    this.time.after(1, () => {
      this.#isRegrouping = false;
      this.#regroup();
    });
  }

  /** Who reaches whom now; who hears of the change a little later judges by what is true then. */
  #regroup(): void {
    const before = this.nodes.map(({ group }) => group);
    for (const node of this.nodes) node.group = -1;
    for (const first of this.nodes) {
      if (first.group >= 0) continue;
      first.group = first.index;
      const open = [first];
      for (let node = open.pop(); node !== undefined; node = open.pop())
        for (const [far, { isUp }] of node.connections)
          if (isUp && far.group < 0) {
            far.group = first.index;
            open.push(far);
          }
    }
    const parts = new Map<string, MemberNode[]>();
    for (const node of this.nodes) {
      const key = `${before[node.index]}/${node.group}`;
      const part = parts.get(key);
      if (part === undefined) parts.set(key, [node]);
      else part.push(node);
    }
    const all = [...parts.entries()].map(([key, nodes]) => ({ key: key.split("/"), nodes }));
    for (const one of all)
      for (const other of all) {
        if (one === other) continue;
        const wasTogether = one.key[0] === other.key[0];
        const isTogether = one.key[1] === other.key[1];
        if (wasTogether !== isTogether) this.#tell(one.nodes, other.nodes);
      }
  }

  #tell(nodes: readonly MemberNode[], about: readonly MemberNode[]): void {
    const { least, most } = ROUTE_DELAY_MS;
    const news = about.filter(({ id }) => this.isFollowed(id));
    if (news.length === 0) return;
    for (const at of nodes)
      this.time.after(least + this.random.float() * (most - least), () =>
        at.dispatch(() => {
          for (const of of news) at.members.onRoute(of.id, at.group === of.group);
        }),
      );
  }

  /** A ring, so that it is whole, and random chords. */
  #topology(): MemberNode[][] {
    const { nodes, random } = this;
    const { degree } = this.options;
    const edges = nodes.map(() => new Set<MemberNode>());
    const join = (a: MemberNode, b: MemberNode) => {
      if (a === b) return;
      edges[a.index]!.add(b);
      edges[b.index]!.add(a);
    };
    if (degree >= nodes.length - 1) for (const a of nodes) for (const b of nodes) join(a, b);
    else {
      for (const node of nodes) join(node, nodes[(node.index + 1) % nodes.length]!);
      for (let i = 0; i < (nodes.length * (degree - 2)) / 2; i++)
        join(nodes[random.below(nodes.length)]!, nodes[random.below(nodes.length)]!);
    }
    return edges.map((set) => [...set]);
  }
}
