/** What ring.yaml is while all of its nodes run. */
import { expect } from "bun:test";
import type { Topology } from "./topology.ts";

export async function isRing(topology: Topology): Promise<void> {
  await topology.allHealthy();
  await topology.isConfined();
  await topology.isWhole();
  for (const service of topology.nodes) {
    const { out } = await topology.godwit(service, "status", "--json");
    const status = JSON.parse(out) as { peers: { connected: number }; open: boolean };
    expect(status.open).toBe(false);
    // Its neighbours on the ring and nobody else: it shares no network with the others.
    expect(status.peers.connected).toBe(2);
    expect(await topology.wayOut(service)).toBe("");
  }
}
