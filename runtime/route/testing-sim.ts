/** Meshes of routers by seed, and the faults that are done to them. For tests only. */
import type { Random } from "../kernel/random.ts";
import type { LinkCost } from "./neighbour.ts";
import { randomEdges, SimMesh, type SimLink, type SimNode } from "./sim-mesh.ts";

export const NO_HYSTERESIS = { switchRatio: 1, switchUnits: 0, switchSustainMs: 0, switchSteadyMs: 0 };
/** GODWIT_SIM_SEED=n repeats one seed; GODWIT_SIM_RUNS=n runs that many, as the suite `routes` does: seed 10 alone takes 8 s. */
export const firstSeed = Number(process.env["GODWIT_SIM_SEED"] ?? 1);
export const runs =
  process.env["GODWIT_SIM_SEED"] === undefined ? Number(process.env["GODWIT_SIM_RUNS"] ?? 3) : 1;
export const seeds = Array.from({ length: runs }, (_, i) => firstSeed + i);

export function randomCost(random: Random): LinkCost {
  const kind = random.float();
  const cost = 1 + random.below(kind < 0.7 ? 40 : 4_000);
  if (kind < 0.7) return { cost, mtu: 1_200 + random.below(60_000), bottleneck: 0, profile: "fast" };
  return { cost, mtu: 400 + random.below(1_000), bottleneck: kind < 0.9 ? 1 : 2, profile: "medium" };
}

export function buildMesh(
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

export function oneFault(mesh: SimMesh): void {
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

export function healLink(mesh: SimMesh, link: SimLink): void {
  link.isUp = true;
  if (link.ends.every((end) => mesh.nodes[end]!.isAlive)) mesh.openLink(link, 400);
}

/** One end gives up and comes back; the other never notices. */
export function flapOneSide(mesh: SimMesh, link: SimLink, side: 0 | 1): void {
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

export function crashOrRestart(mesh: SimMesh, node: SimNode): void {
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
export function settle(mesh: SimMesh, forMs: number): void {
  for (const node of mesh.nodes) if (!node.isAlive) mesh.restart(node, true);
  for (const link of mesh.links) {
    link.isUp = true;
    link.lossShare = Math.min(link.lossShare, 0.1);
    mesh.openLink(link);
  }
  mesh.runFor(forMs);
}

export function shake(mesh: SimMesh, faults: number): void {
  mesh.runFor(mesh.random.below(3_000));
  for (let i = 0; i < faults; i++) {
    oneFault(mesh);
    mesh.runFor(mesh.random.float() < 0.3 ? 0 : mesh.random.float() * 1_500);
  }
}
