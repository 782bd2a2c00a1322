/**
 * A mesh of bare routers on one manual clock, for tests and benchmarks: sessions that die on one side first, frames that
 * are lost, overtaken and late, nodes that crash and come back without their memory. Owns the oracle that looks at every
 * next hop after every event. Signatures are a checksum: cheap, and good enough for a world without forgers of them.
 */
import { ManualClock } from "../kernel/clock.ts";
import { formatNodeId, type NodeId } from "../kernel/ids.ts";
import { silentLog } from "../kernel/log.ts";
import { seededRandom, type Random } from "../kernel/random.ts";
import type { NextHop } from "./decide.ts";
import type { RouteLimits } from "./limits.ts";
import type { LinkCost } from "./neighbour.ts";
import { Router, type RouterDeps } from "./router.ts";
import type { Plane } from "../wire/packet.ts";

export const planes: readonly Plane[] = ["any", "bulk"];

export interface SimLink {
  readonly ends: readonly [number, number];
  /** What each end believes the link costs, in the order of `ends`. */
  costs: [LinkCost, LinkCost];
  /** The wire carries frames. */
  isUp: boolean;
  lossShare: number;
  /** Uniform; more than the gap between two frames means reordering. */
  latencyMs: readonly [number, number];
  /** Session number per end; 0: this end believes the neighbour is down. */
  sessions: [number, number];
  /** The life of the far end that the session was made with. */
  farLives: [number, number];
}

export interface SimNode {
  readonly index: number;
  readonly id: NodeId;
  readonly links: SimLink[];
  router: Router;
  /** Counts restarts. */
  life: number;
  epoch: number;
  isAlive: boolean;
  isLiar: boolean;
  lastHops: Map<string, readonly NextHop[]>;
  lastDistances: Map<string, string>;
}

export interface SimOptions {
  readonly seed: number;
  readonly limits?: Partial<RouteLimits>;
  /** Frames of a closed session still arrive if the two have a newer one: nothing below routing stops them. */
  readonly deliverStale?: boolean;
  /** Rewrites what a liar sends; undefined drops it. */
  readonly lie?: (frame: Uint8Array, random: Random) => Uint8Array | undefined;
  readonly checkLoops?: boolean;
}

function checksum(bytes: Uint8Array, salt: number): Uint8Array {
  const signature = new Uint8Array(64);
  let hash = 0x811c9dc5 ^ salt;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  new DataView(signature.buffer).setUint32(0, hash);
  return signature;
}

export class SimMesh {
  readonly clock = new ManualClock();
  readonly random: Random;
  readonly nodes: SimNode[] = [];
  readonly links: SimLink[] = [];
  readonly byId = new Map<NodeId, SimNode>();
  readonly #options: SimOptions;
  #sessionCount = 0;
  /** Nodes that acted in the event that is running. */
  readonly #acted = new Set<SimNode>();
  frames = 0;
  bytes = 0;
  events = 0;
  checks = 0;
  verifications = 0;

  constructor(nodeCount: number, options: SimOptions) {
    this.#options = options;
    this.random = seededRandom(options.seed);
    for (let index = 0; index < nodeCount; index++) {
      const id = formatNodeId(this.random.bytes(32));
      const node: SimNode = {
        index,
        id,
        links: [],
        router: undefined as unknown as Router,
        life: 1,
        epoch: 1,
        isAlive: true,
        isLiar: false,
        lastHops: new Map(),
        lastDistances: new Map(),
      };
      this.nodes.push(node);
      this.byId.set(id, node);
      node.router = this.#boot(node);
    }
  }

  #boot(node: SimNode): Router {
    const { life } = node;
    const deps: RouterDeps = {
      self: node.id,
      network: "sim",
      bootEpoch: node.epoch,
      clock: {
        monotonicMs: () => this.clock.monotonicMs(),
        wallMs: () => this.clock.wallMs(),
        after: (delayMs, work) =>
          this.clock.after(delayMs, () => {
            this.#acted.add(node);
            work();
          }),
      },
      random: seededRandom(this.random.below(2 ** 32)),
      log: silentLog,
      ...(this.#options.limits === undefined ? {} : { limits: this.#options.limits }),
      sign: (bytes) => checksum(bytes, 7),
      verify: (_id, bytes, signature) => {
        this.verifications++;
        return Buffer.from(checksum(bytes, 7)).equals(signature);
      },
      send: (to, frame) => this.#send(node, life, to, frame),
      malformed: (from, error) => {
        if (!this.byId.get(from)!.isLiar) throw error;
      },
      onChange: () => {},
      ownRecord: () => undefined,
      knownRecord: () => undefined,
      onRecord: () => true,
      outrun: (epoch) => (node.epoch = Math.max(node.epoch, epoch + 1)),
    };
    return new Router(deps);
  }

  connect(a: number, b: number, costs: [LinkCost, LinkCost], link: Partial<SimLink> = {}): SimLink {
    const made: SimLink = {
      ends: [a, b],
      costs,
      isUp: true,
      lossShare: 0,
      latencyMs: [1, 2],
      sessions: [0, 0],
      farLives: [0, 0],
      ...link,
    };
    this.links.push(made);
    this.nodes[a]!.links.push(made);
    this.nodes[b]!.links.push(made);
    return made;
  }

  /** Both ends meet, one a little after the other. */
  openLink(link: SimLink, skewMs = 3): void {
    const session = ++this.#sessionCount;
    const lives = link.ends.map((end) => this.nodes[end]!.life);
    for (const side of [0, 1] as const) {
      this.later(this.random.float() * skewMs, () => {
        const node = this.nodes[link.ends[side]]!;
        const far = this.nodes[link.ends[1 - side]!]!;
        const isCurrent = node.life === lives[side] && far.life === lives[1 - side];
        if (!link.isUp || !node.isAlive || !isCurrent || link.sessions[side] > session) return;
        link.sessions[side] = session;
        link.farLives[side] = far.life;
        this.#acted.add(node);
        node.router.neighbourUp(far.id, { bootId: `${far.life}`, cost: link.costs[side] });
      });
    }
  }

  /** One end gives the other up; the other may notice at another time, or never. */
  closeSide(link: SimLink, side: 0 | 1): void {
    const node = this.nodes[link.ends[side]]!;
    if (link.sessions[side] === 0) return;
    link.sessions[side] = 0;
    if (!node.isAlive) return;
    this.#acted.add(node);
    node.router.neighbourDown(this.nodes[link.ends[1 - side]!]!.id);
  }

  cutLink(link: SimLink, detectMs: number): void {
    link.isUp = false;
    const { sessions } = link;
    const held: [number, number] = [sessions[0], sessions[1]];
    for (const side of [0, 1] as const)
      this.later(this.random.float() * detectMs, () => {
        if (link.sessions[side] === held[side]) this.closeSide(link, side);
      });
  }

  setCost(link: SimLink, side: 0 | 1, cost: LinkCost): void {
    link.costs[side] = cost;
    const node = this.nodes[link.ends[side]]!;
    if (!node.isAlive || link.sessions[side] === 0) return;
    this.#acted.add(node);
    node.router.neighbourCost(this.nodes[link.ends[1 - side]!]!.id, cost);
  }

  crash(node: SimNode): void {
    node.isAlive = false;
    node.router.close();
    node.lastHops.clear();
    node.lastDistances.clear();
    for (const link of node.links) link.sessions[link.ends[0] === node.index ? 0 : 1] = 0;
  }

  /** Everything but the epoch is lost; `keepsEpoch` false: that too. */
  restart(node: SimNode, keepsEpoch: boolean): void {
    node.life++;
    node.epoch = keepsEpoch ? node.epoch + 1 : 1;
    node.isAlive = true;
    node.router = this.#boot(node);
    for (const link of node.links) if (link.isUp) this.openLink(link);
  }

  #send(from: SimNode, life: number, toId: NodeId, frame: Uint8Array): void {
    const to = this.byId.get(toId)!;
    const link = from.links.find((each) => each.ends.includes(to.index))!;
    const side = link.ends[0] === from.index ? 0 : 1;
    const session = link.sessions[side];
    let bytes: Uint8Array | undefined = frame;
    if (from.isLiar && this.#options.lie !== undefined) bytes = this.#options.lie(frame, this.random);
    this.frames++;
    this.bytes += frame.length;
    if (bytes === undefined || !link.isUp || session === 0 || this.random.float() < link.lossShare) return;
    const [minMs, maxMs] = link.latencyMs;
    const sent = bytes;
    this.later(minMs + this.random.float() * (maxMs - minMs), () => {
      if (!to.isAlive || (from.life !== life && !this.#options.deliverStale)) return;
      const here = link.sessions[1 - side]!;
      if (here === 0 || (here !== session && !this.#options.deliverStale)) return;
      this.#acted.add(to);
      try {
        to.router.handleFrame(from.id, sent);
      } catch (error) {
        // Garbage is answered by closing the link, as the peer layer does.
        if (!from.isLiar) throw error;
      }
    });
  }

  later(delayMs: number, work: () => void): void {
    this.clock.after(delayMs, work);
  }

  /** Runs until `untilMs` (monotonic), checking after every event. */
  runUntil(untilMs: number): void {
    this.check();
    while (this.clock.runNext(untilMs)) {
      this.events++;
      this.check();
    }
    this.clock.jumpTo(untilMs);
  }

  runFor(durationMs: number): void {
    this.runUntil(this.clock.monotonicMs() + durationMs);
  }

  /** Looks at what the nodes that acted have changed. Throws with the loop. */
  check(): void {
    if (this.#options.checkLoops === false) return this.#acted.clear();
    for (const node of this.#acted) {
      if (!node.isAlive || node.isLiar) continue;
      for (const destination of this.nodes)
        for (const plane of planes)
          if (this.#hasChanged(node, destination, plane)) this.#checkGraph(destination, plane);
    }
    this.#acted.clear();
  }

  #hasChanged(node: SimNode, destination: SimNode, plane: Plane): boolean {
    const key = `${destination.index}${plane}`;
    const hops = node.router.nextHops(destination.id, plane);
    const distance = node.router.feasibility(destination.id, plane);
    const text = distance === undefined ? "" : `${distance.seqno}/${distance.metric}`;
    if (node.lastHops.get(key) === hops && node.lastDistances.get(key) === text) return false;
    node.lastHops.set(key, hops);
    node.lastDistances.set(key, text);
    return true;
  }

  /** The living edge to a hop: a session with an earlier life of it leads nowhere. */
  #edge(from: SimNode, hop: NextHop): SimNode | undefined {
    const to = this.byId.get(hop.neighbour)!;
    const link = from.links.find((each) => each.ends.includes(to.index))!;
    const side = link.ends[0] === from.index ? 0 : 1;
    return to.isAlive && !to.isLiar && link.farLives[side] === to.life ? to : undefined;
  }

  #checkGraph(destination: SimNode, plane: Plane): void {
    this.checks++;
    const { id } = destination;
    const state = new Uint8Array(this.nodes.length);
    for (const start of this.nodes) {
      if (state[start.index] !== 0 || !start.isAlive || start.isLiar) continue;
      const path: { node: SimNode; at: number }[] = [{ node: start, at: 0 }];
      state[start.index] = 1;
      while (path.length > 0) {
        const top = path[path.length - 1]!;
        const hops = top.node.router.nextHops(id, plane);
        const hop = hops[top.at++];
        if (hop === undefined) {
          state[top.node.index] = 2;
          path.pop();
          continue;
        }
        const next = this.#edge(top.node, hop);
        if (next === undefined) continue;
        this.#checkFalls(top.node, next, id, plane);
        if (state[next.index] === 1)
          throw new Error(
            `loop for ${destination.index} on ${plane}: ${path.map(({ node }) => node.index).join(" > ")} > ${next.index}`,
          );
        if (state[next.index] !== 0) continue;
        state[next.index] = 1;
        path.push({ node: next, at: 0 });
      }
    }
  }

  #checkFalls(from: SimNode, to: SimNode, id: NodeId, plane: Plane): void {
    const here = from.router.feasibility(id, plane);
    const there = to.router.feasibility(id, plane);
    if (here === undefined) return;
    const falls =
      there !== undefined &&
      (there.seqno > here.seqno || (there.seqno === here.seqno && there.metric < here.metric));
    if (!falls)
      throw new Error(
        `feasibility does not fall from ${from.index} (${here.seqno}/${here.metric}) to ${to.index} (${there?.seqno}/${there?.metric}) on ${plane}`,
      );
  }

  /** Slow reference: cheapest metric from every node to `destination` over links that are up, Infinity where none. */
  shortest(destination: SimNode, plane: Plane): number[] {
    const distances = this.nodes.map(() => Number.POSITIVE_INFINITY);
    distances[destination.index] = 0;
    for (let round = 0; round < this.nodes.length; round++) {
      let moved = false;
      for (const { ends, costs, isUp } of this.links) {
        if (!isUp) continue;
        for (const side of [0, 1] as const) {
          const cost = costs[side];
          const far = ends[1 - side]!;
          if (!this.nodes[ends[side]]!.isAlive || !this.nodes[far]!.isAlive) continue;
          if (plane === "bulk" && cost.bottleneck === 2) continue;
          const through = distances[far]! + cost.cost;
          if (through >= distances[ends[side]]!) continue;
          distances[ends[side]] = through;
          moved = true;
        }
      }
      if (!moved) break;
    }
    return distances;
  }

  /** What is still wrong, in words; empty: every living pair has the cheapest route and no more. */
  faults(slack = 1): string[] {
    const found: string[] = [];
    for (const destination of this.nodes) {
      if (!destination.isAlive) continue;
      for (const plane of planes) {
        const best = this.shortest(destination, plane);
        for (const node of this.nodes) {
          if (node === destination || !node.isAlive) continue;
          const metric = node.router.nextHops(destination.id, plane)[0]?.metric ?? Number.POSITIVE_INFINITY;
          const wanted = best[node.index]!;
          const isRight = Number.isFinite(wanted)
            ? metric >= wanted && metric <= wanted * slack + (slack > 1 ? 3 : 0)
            : metric === wanted;
          if (!isRight)
            found.push(`${node.index} to ${destination.index} on ${plane}: ${metric}, cheapest is ${wanted}`);
        }
      }
    }
    return found;
  }

  close(): void {
    for (const node of this.nodes) node.router.close();
  }
}

export const fastLink = (cost: number): LinkCost => ({ cost, mtu: 1_400, bottleneck: 0, profile: "fast" });

/** A random connected graph: a tree and some chords. */
export function randomEdges(nodeCount: number, edgeCount: number, random: Random): [number, number][] {
  const seen = new Set<number>();
  const edges: [number, number][] = [];
  const add = (a: number, b: number) => {
    const key = Math.min(a, b) * nodeCount + Math.max(a, b);
    if (a === b || seen.has(key)) return;
    seen.add(key);
    edges.push([a, b]);
  };
  for (let node = 1; node < nodeCount; node++) add(node, random.below(node));
  for (let tries = 0; edges.length < edgeCount && tries < 20 * edgeCount; tries++)
    add(random.below(nodeCount), random.below(nodeCount));
  return edges;
}
