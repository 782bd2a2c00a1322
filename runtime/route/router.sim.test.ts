/** Property simulation: no loop at any event, whatever is lost, late, cut, crashed or lied; then the cheapest routes. */
import { describe, expect, test } from "bun:test";
import { fastLink, SimMesh, type SimNode } from "./sim-mesh.ts";
import { seeds, buildMesh, settle, shake } from "./testing-sim.ts";

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
