/** Property simulation: no loop at any event, whatever is lost, late, cut, crashed or lied; then the cheapest routes. */
import { describe, expect, test } from "bun:test";
import type { Random } from "../kernel/random.ts";
import {
  appendUpdateEntry,
  beginUpdate,
  decodeUpdateHeader,
  readUpdateEntry,
  UNREACHABLE,
  UpdateKind,
  updateKind,
  type PlaneRoute,
} from "../wire/route-messages.ts";
import { FrameType } from "../wire/constants.ts";
import type { LinkCost } from "./neighbour.ts";
import { fastLink, randomEdges, SimMesh, type SimLink, type SimNode } from "./sim-mesh.ts";

const NO_HYSTERESIS = { switchRatio: 1, switchUnits: 0, switchSustainMs: 0, switchSteadyMs: 0 };
/** GODWIT_SIM_SEED=n repeats one seed; GODWIT_SIM_RUNS=n runs that many, as the suite `routes` does: seed 10 alone takes 8 s. */
const firstSeed = Number(process.env["GODWIT_SIM_SEED"] ?? 1);
const runs = process.env["GODWIT_SIM_SEED"] === undefined ? Number(process.env["GODWIT_SIM_RUNS"] ?? 3) : 1;
const seeds = Array.from({ length: runs }, (_, i) => firstSeed + i);

function randomCost(random: Random): LinkCost {
  const kind = random.float();
  const cost = 1 + random.below(kind < 0.7 ? 40 : 4_000);
  if (kind < 0.7) return { cost, mtu: 1_200 + random.below(60_000), bottleneck: 0, profile: "fast" };
  return { cost, mtu: 400 + random.below(1_000), bottleneck: kind < 0.9 ? 1 : 2, profile: "medium" };
}

function buildMesh(
  seed: number,
  liar?: (frame: Uint8Array, random: Random) => Uint8Array | undefined,
): SimMesh {
  const nodeCount = 5 + (seed % 10 === 0 ? 45 : (seed * 7) % 16);
  const mesh = new SimMesh(nodeCount, {
    seed,
    limits: { ...NO_HYSTERESIS, holdMs: 60_000 },
    deliverStale: seed % 3 === 0,
    ...(liar === undefined ? {} : { lie: liar }),
  });
  const { random } = mesh;
  for (const [a, b] of randomEdges(nodeCount, Math.floor(nodeCount * (1 + random.float())), random))
    mesh.connect(a, b, [randomCost(random), randomCost(random)], {
      lossShare: random.float() < 0.5 ? 0 : random.float() * 0.3,
      latencyMs: random.float() < 0.5 ? [1, 2] : [1, 1 + random.below(400)],
    });
  for (const link of mesh.links) mesh.openLink(link, 50);
  return mesh;
}

function oneFault(mesh: SimMesh): void {
  const { random } = mesh;
  const link = mesh.links[random.below(mesh.links.length)]!;
  const node = mesh.nodes[random.below(mesh.nodes.length)]!;
  const side = random.below(2) as 0 | 1;
  switch (random.below(8)) {
    case 0:
      return mesh.cutLink(link, 2_000);
    case 1:
      return mesh.cutLink(link, 1);
    case 2:
    case 3:
      return healLink(mesh, link);
    case 4:
      return flapOneSide(mesh, link, side);
    case 5:
      return crashOrRestart(mesh, node);
    default:
      return mesh.setCost(link, side, {
        ...link.costs[side],
        cost: 1 + random.below(random.float() < 0.5 ? 30 : 4_000),
      });
  }
}

function healLink(mesh: SimMesh, link: SimLink): void {
  link.isUp = true;
  if (link.ends.every((end) => mesh.nodes[end]!.isAlive)) mesh.openLink(link, 400);
}

/** One end gives up and comes back; the other never notices. */
function flapOneSide(mesh: SimMesh, link: SimLink, side: 0 | 1): void {
  const session = link.sessions[side];
  const far = mesh.nodes[link.ends[1 - side]!]!;
  const node = mesh.nodes[link.ends[side]]!;
  if (session === 0 || session !== link.sessions[1 - side] || !far.isAlive || !link.isUp) return;
  mesh.closeSide(link, side);
  mesh.later(mesh.random.float() * 100, () => {
    if (!node.isAlive || !far.isAlive || link.sessions[side] !== 0 || link.sessions[1 - side] !== session)
      return;
    link.sessions[side] = session;
    node.router.neighbourUp(far.id, { bootId: `${far.life}`, cost: link.costs[side] });
  });
}

function crashOrRestart(mesh: SimMesh, node: SimNode): void {
  if (node.isLiar) return;
  if (!node.isAlive) return mesh.restart(node, mesh.random.float() < 0.7);
  mesh.crash(node);
  for (const link of node.links) {
    const side = link.ends[0] === node.index ? 1 : 0;
    const session = link.sessions[side];
    // Some neighbours notice the death, others only the next life.
    mesh.later(mesh.random.float() * 3_000, () => {
      if (link.sessions[side] === session && mesh.random.float() < 0.5) mesh.closeSide(link, side);
    });
  }
  mesh.later(mesh.random.float() * 2_000, () => {
    if (!node.isAlive) mesh.restart(node, mesh.random.float() < 0.7);
  });
}

/** Ends every fault and gives the mesh `forMs` to find the cheapest routes. */
function settle(mesh: SimMesh, forMs: number): void {
  for (const node of mesh.nodes) if (!node.isAlive) mesh.restart(node, true);
  for (const link of mesh.links) {
    link.isUp = true;
    link.lossShare = Math.min(link.lossShare, 0.1);
    mesh.openLink(link);
  }
  mesh.runFor(forMs);
}

function shake(mesh: SimMesh, faults: number): void {
  mesh.runFor(mesh.random.below(3_000));
  for (let i = 0; i < faults; i++) {
    oneFault(mesh);
    mesh.runFor(mesh.random.float() < 0.3 ? 0 : mesh.random.float() * 1_500);
  }
}

describe("no loop at any event, then the cheapest routes", () => {
  test.each(seeds)(
    "seed %i",
    (seed) => {
      const mesh = buildMesh(seed);
      shake(mesh, 60);
      settle(mesh, 240_000);
      const faults = mesh.faults();
      mesh.close();
      expect(faults).toEqual([]);
      expect(mesh.checks).toBeGreaterThan(100);
    },
    60_000,
  );
});

function twist(route: PlaneRoute, random: Random): PlaneRoute {
  const kind = random.below(5);
  if (kind === 0) return { seqno: route.seqno, metric: 0, mtu: 65_535, bottleneck: 0 };
  if (kind === 1) return { ...route, metric: random.below(50) };
  if (kind === 2) return { ...route, metric: random.below(2 ** 32 - 1) };
  if (kind === 3) return { ...route, seqno: route.seqno + random.below(3) };
  return route;
}

/** An insider that rewrites every metric, some numbers, and now and then sends plain garbage. */
function lie(frame: Uint8Array, random: Random): Uint8Array | undefined {
  if (random.float() < 0.02) return random.bytes(random.below(200));
  if (random.float() < 0.02) {
    const torn = frame.slice(0, 1 + random.below(frame.length));
    torn[random.below(torn.length)] = random.below(256);
    return torn;
  }
  if (frame[0] !== FrameType.routeUpdate || updateKind(frame) !== UpdateKind.table) return frame;
  const { tag, serial, entries } = decodeUpdateHeader(frame);
  const writer = beginUpdate(tag, serial, 2 * frame.length + 200);
  while (entries.remaining > 0) {
    const entry = readUpdateEntry(entries);
    const any = entry.any === UNREACHABLE && random.float() < 0.5 ? UNREACHABLE : twist(entry.any, random);
    if (any.metric >= 2 ** 32 - 1)
      appendUpdateEntry(writer, entry.destination, UNREACHABLE, UNREACHABLE, entry.proof);
    else
      appendUpdateEntry(
        writer,
        entry.destination,
        any,
        any.bottleneck === 2 ? UNREACHABLE : any,
        entry.proof,
      );
  }
  return writer.finish();
}

describe("liars cannot make honest nodes loop", () => {
  test.each(seeds.slice(0, Math.ceil(runs / 3)))(
    "seed %i",
    (seed) => {
      const mesh = buildMesh(seed + 1_000, lie);
      for (let i = 0; i < 1 + mesh.nodes.length / 8; i++)
        mesh.nodes[mesh.random.below(mesh.nodes.length)]!.isLiar = true;
      shake(mesh, 60);
      settle(mesh, 20_000);
      mesh.close();
      expect(mesh.checks).toBeGreaterThan(100);
    },
    60_000,
  );
});

describe("convergence", () => {
  function ring(nodeCount: number): SimMesh {
    const mesh = new SimMesh(nodeCount, { seed: nodeCount });
    for (let i = 0; i < nodeCount; i++) mesh.connect(i, (i + 1) % nodeCount, [fastLink(10), fastLink(10)]);
    return mesh;
  }
  const isConnected = (mesh: SimMesh) =>
    mesh.nodes.every((a) => mesh.nodes.every((b) => a === b || a.router.reachable(b.id)));
  function timeUntilConnected(mesh: SimMesh, limitMs: number): number {
    const startMs = mesh.clock.monotonicMs();
    while (mesh.clock.monotonicMs() < startMs + limitMs) {
      mesh.runFor(5);
      if (isConnected(mesh)) return mesh.clock.monotonicMs() - startMs;
    }
    return Number.POSITIVE_INFINITY;
  }

  test("ring of 10 starts within 0.5 s", () => {
    const mesh = ring(10);
    for (const link of mesh.links) mesh.openLink(link);
    expect(timeUntilConnected(mesh, 5_000)).toBeLessThanOrEqual(500);
    mesh.runFor(10_000);
    expect(mesh.faults(1.25)).toEqual([]);
    mesh.close();
  });

  test("ring of 10 goes the other way within 0.3 s of a cut, with hysteresis on", () => {
    const mesh = ring(10);
    for (const link of mesh.links) mesh.openLink(link);
    mesh.runFor(10_000);
    mesh.cutLink(mesh.links[0]!, 0);
    expect(timeUntilConnected(mesh, 5_000)).toBeLessThanOrEqual(300);
    mesh.close();
  });

  test("a feasible alternate takes over without a packet", () => {
    const mesh = new SimMesh(4, { seed: 3 });
    // 0 reaches 3 over 1 (cheap) and over 2 (dear, but nearer to 3 than 0 ever was).
    mesh.connect(0, 1, [fastLink(10), fastLink(10)]);
    mesh.connect(0, 2, [fastLink(40), fastLink(40)]);
    mesh.connect(1, 3, [fastLink(10), fastLink(10)]);
    mesh.connect(2, 3, [fastLink(10), fastLink(10)]);
    for (const link of mesh.links) mesh.openLink(link);
    mesh.runFor(5_000);
    const [source, relay, spare, target] = mesh.nodes as [SimNode, SimNode, SimNode, SimNode];
    const hops = () => source.router.nextHops(target.id, "any").map(({ neighbour }) => neighbour);
    expect(hops()).toEqual([relay.id, spare.id]);
    mesh.closeSide(mesh.links[0]!, 0);
    expect(hops()).toEqual([spare.id]);
    mesh.close();
  });

  test("an idle mesh sends digests only", () => {
    const mesh = ring(6);
    for (const link of mesh.links) mesh.openLink(link);
    mesh.runFor(200_000);
    const before = mesh.frames;
    mesh.runFor(600_000);
    // 12 ends, a digest each in 60 to 66 s.
    expect(mesh.frames - before).toBeLessThanOrEqual(12 * 10);
    expect(mesh.frames - before).toBeGreaterThanOrEqual(12 * 9 - 12);
    mesh.close();
  });

  test("a node that lost its epoch climbs above what it once said", () => {
    const mesh = ring(5);
    for (const link of mesh.links) mesh.openLink(link);
    mesh.runFor(5_000);
    const node = mesh.nodes[2]!;
    node.epoch = 40;
    mesh.crash(node);
    mesh.restart(node, true);
    mesh.runFor(5_000);
    mesh.crash(node);
    mesh.restart(node, false);
    mesh.runFor(20_000);
    expect(node.epoch).toBeGreaterThan(41);
    expect(mesh.faults(1.25)).toEqual([]);
    mesh.close();
  });
});
