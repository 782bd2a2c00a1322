/** Shapes of simulated meshes, drawn from a seed: who shares a medium with whom, and what the media are like. */
import type { Random } from "@godwit/sdk";
import { PROTOCOL_VERSION_MAX } from "../../runtime/wire/constants.ts";
import type { EdgeParams } from "./links.ts";

export interface PlannedEdge {
  readonly a: number;
  readonly b: number;
  readonly name: string;
  readonly params: EdgeParams;
}

/** Of a slow medium, bits per second and one way in ms: the middle presets of LoRa. */
const SLOW_RATE_BITS = [2_000, 10_000] as const;
const SLOW_DELAY_MS = [200, 2_000] as const;

export const shapes = ["line", "ring", "tree", "random", "grid", "clusters"] as const;
export type Shape = (typeof shapes)[number];

/** Connected, without self-loops; some pairs have two media. `datagrams`: share of edges that are datagram media. */
export function planEdges(nodes: number, shape: Shape, random: Random, datagrams: number): PlannedEdge[] {
  const pairs = new Map<string, [number, number]>();
  const add = (a: number, b: number) => {
    if (a === b || a >= nodes || b >= nodes || a < 0 || b < 0) return;
    const [low, high] = a < b ? [a, b] : [b, a];
    pairs.set(`${low}-${high}`, [low, high]);
  };
  skeleton(nodes, shape, random, add);
  const chords = shape === "line" ? 0 : Math.ceil(nodes / (shape === "random" ? 1 : 4));
  for (let i = 0; i < chords; i++) add(random.below(nodes), random.below(nodes));
  return [...pairs.values()].flatMap(([a, b]) => {
    // Either end may be the one that dials.
    const [from, to] = random.float() < 0.5 ? [a, b] : [b, a];
    const first = { a: from, b: to, name: "sima", params: drawParams(random, datagrams) };
    if (random.float() >= 0.1) return [first];
    return [first, { a: from, b: to, name: "simb", params: drawParams(random, datagrams) }];
  });
}

/**
 * One slow medium for each node from `first` on, to a node before it. As nothing else leads to such a leaf, it is an edge
 * node, and whoever is at the other end is its gateway, because all before `first` have faster media.
 */
export function planSlowLeaves(nodes: number, first: number, random: Random): PlannedEdge[] {
  return Array.from({ length: nodes - first }, (_, leaf) => {
    const ends = [first + leaf, random.below(first)] as const;
    const [a, b] = random.float() < 0.5 ? ends : [ends[1], ends[0]];
    // Every other leaf is of a release that knows no compact frames.
    const version = leaf % 2 === 1 ? 1 : PROTOCOL_VERSION_MAX;
    return { a, b, name: "slow", params: drawSlowParams(random, version) };
  });
}

/** At most so many nodes of one island; every third has one node, which has slow media alone. */
const ISLAND_NODES_MAX = 4;

export interface IslandsPlan {
  readonly edges: readonly PlannedEdge[];
  /** By node. */
  readonly islandOf: readonly number[];
}

/**
 * Fast islands that slow media alone join, in a ring with chords: so there are ways round over several slow links, of which none is in
 * a table before mail needs it, and a loop could close over any of them.
 */
export function planIslands(nodes: number, random: Random, datagrams: number): IslandsPlan {
  const edges: PlannedEdge[] = [];
  const islandOf: number[] = [];
  const firsts: number[] = [];
  while (islandOf.length < nodes) {
    const first = islandOf.length;
    const wanted = firsts.length % 3 === 1 ? 1 : 2 + random.below(ISLAND_NODES_MAX - 1);
    const count = Math.min(wanted, nodes - first);
    for (const edge of planEdges(count, "tree", random, datagrams))
      edges.push({ ...edge, a: edge.a + first, b: edge.b + first });
    for (let i = 0; i < count; i++) islandOf.push(firsts.length);
    firsts.push(first);
  }
  const count = firsts.length;
  const memberOf = (island: number) => {
    const first = firsts[island]!;
    return first + random.below((firsts[island + 1] ?? nodes) - first);
  };
  const chords = Math.ceil(count / 3);
  for (let i = 0; i < count + chords; i++) {
    const from = i < count ? i : random.below(count);
    const to = i < count ? (i + 1) % count : random.below(count);
    if (from === to) continue;
    const ends = { a: memberOf(from), b: memberOf(to) };
    edges.push({ ...ends, name: `slow${i}`, params: drawSlowParams(random, PROTOCOL_VERSION_MAX) });
  }
  return { edges, islandOf };
}

function drawSlowParams(random: Random, version: number): EdgeParams {
  const between = ([least, most]: readonly [number, number]) => least + random.float() * (most - least);
  const rateBitsPerSecond = between(SLOW_RATE_BITS);
  const delayMs = between(SLOW_DELAY_MS);
  const medium = { kind: "stream", linkClass: "slow", jitterMs: 0, loss: 0 } as const;
  return { ...medium, rateBitsPerSecond, delayMs, version };
}

function skeleton(nodes: number, shape: Shape, random: Random, add: (a: number, b: number) => void): void {
  const width = Math.max(2, Math.round(Math.sqrt(nodes)));
  for (let i = 1; i < nodes; i++) {
    switch (shape) {
      case "line":
      case "ring":
        add(i - 1, i);
        break;
      case "tree":
        add((i - 1) >> 1, i);
        break;
      case "random":
        add(random.below(i), i);
        break;
      case "grid":
        if (i % width !== 0) add(i - 1, i);
        add(i - width, i);
        break;
      case "clusters":
        // Groups of eight around a hub; hubs in a line.
        add(i % 8 === 0 ? i - 8 : i - (i % 8), i);
        if (i % 8 > 1) add(i - 1, i);
        break;
    }
  }
  if (shape === "ring") add(0, nodes - 1);
}

function drawParams(random: Random, datagrams: number): EdgeParams {
  const isDatagram = random.float() < datagrams;
  const kind = isDatagram ? "datagram" : "stream";
  const pick = random.float();
  const [linkClass, rateBitsPerSecond, delayMs] =
    pick < 0.6
      ? (["fast", 1e9, 0.1 + random.float()] as const)
      : pick < 0.9
        ? (["fast", 2e7, 5 + random.float() * 40] as const)
        : (["medium", 1e6, 100 + random.float() * 200] as const);
  return {
    kind,
    linkClass: isDatagram ? "fast" : linkClass,
    rateBitsPerSecond,
    delayMs,
    jitterMs: isDatagram ? delayMs : 0,
    loss: isDatagram ? random.float() * 0.05 : 0,
  };
}
