/** Row 16: from exec to an API that answers and to the first encrypted peer. */
import { Lab } from "../../scripts/lab.ts";
import type { Bench, BenchOptions, Measure } from "./bench.ts";
import { follow, idOf } from "./probe.ts";

async function run({ runs, note }: BenchOptions): Promise<Measure[]> {
  const api = { first: [] as number[], again: [] as number[] };
  const peer = { first: [] as number[], again: [] as number[] };
  const lab = await Lab.create();
  try {
    const there = await lab.add({ callsign: "UPP-B" });
    await there.start();
    for (let i = 0; i < runs; i++) {
      const node = await lab.add({ callsign: "UPP-A", folder: `upp-${i}`, peers: [there.endpoint] });
      for (const boot of ["first", "again"] as const) {
        const up = Promise.withResolvers<{ id: string; atMs: number }>();
        const events = await follow(there, "peer", ({ type, data, atMs }) => {
          if (type === "peer.up") up.resolve({ id: String(data["id"]), atMs });
        });
        const startMs = performance.now();
        await node.start();
        api[boot].push(performance.now() - startMs);
        const { id, atMs } = await up.promise;
        if (id !== (await idOf(node))) throw new Error("another peer came up");
        peer[boot].push(atMs - startMs);
        events.close();
        await node.kill("SIGTERM");
        await there.until(
          "the peer to be gone",
          async () => {
            const { peers } = await there.json<{ peers: { connected: number } }>("/mesh/status");
            return peers.connected === 0;
          },
          10_000,
        );
        // Nobody dials a node that is off: a dial that meets the next start would hide its own.
        await Bun.sleep(300);
      }
      note(
        `start ${i + 1}/${runs}: ${Math.round(api.again.at(-1)!)} ms, ${Math.round(peer.again.at(-1)!)} ms`,
      );
    }
  } finally {
    await lab.close();
  }
  const line = (what: string, values: number[], atMost: number): Measure => ({
    what,
    unit: "ms",
    values,
    goal: { of: "p95", atMost },
  });
  return [
    line("exec to API, first boot", api.first, 120),
    line("exec to API, again", api.again, 120),
    line("exec to first encrypted peer, first boot", peer.first, 250),
    line("exec to first encrypted peer, again", peer.again, 250),
  ];
}

export const startup: Bench = {
  name: "startup",
  row: 16,
  how: "GET /health over the unix socket tried every 5 ms; the peer runs already and reports the link by its events",
  run,
};
