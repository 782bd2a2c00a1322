/**
 * What twenty real nodes that found each other say to the DHT while nothing happens: the binary, a namespace each, counted by the kernel. What is
 * due once in 50 minutes is not in it: `limits.test.ts` has hours of that, without the library's own timers. Figures are printed; docs/dht.md has them.
 */
import { afterAll, expect } from "bun:test";
import type { NetHost } from "../../scripts/netlab-parts.ts";
import { closeMeshes, report, scenario } from "../net/net-mesh.ts";

afterAll(closeMeshes);

const NODES = 20;
const PORT = 4862;
const SETTLE_MS = 60_000;
const COUNT_MS = 120_000;
const BYTES_PER_SECOND_MAX = 60;

/** Of IP, both directions, since the rules were made. */
function bytesOf(host: NetHost): number {
  return Number(/bytes (\d+)/.exec(host.exec("nft", "list", "counter", "inet", "dht", "said"))![1]);
}

scenario(
  `twenty nodes, two minutes: at most ${BYTES_PER_SECOND_MAX} B/s a node`,
  async (mesh) => {
    const wan = mesh.net.lan("wan");
    const hosts = Array.from({ length: NODES }, (_, n) => mesh.net.host(`IDL-${n}`));
    const ports = hosts.map((host) => wan.join(host));
    const extra = `[discovery.dht]\ntype = "dht"\nbootstrap = ["${ports[0]!.addresses.v4!}:${PORT}"]\n`;
    for (const host of hosts)
      host.nft(
        "inet",
        "dht",
        `counter said {}
         chain in { type filter hook input priority 0; udp dport ${PORT} counter name said; }
         chain out { type filter hook output priority 0; udp sport ${PORT} counter name said; }`,
      );
    for (const host of hosts) await mesh.start(host, [], { isPublic: true, extra, linksWanted: 4 });
    for (const { name } of hosts) {
      const node = mesh.node(name);
      await node.until(
        "a way to all others",
        async () =>
          (await node.json<{ members: { alive: number } }>("/mesh/status")).members.alive >= NODES - 1,
        90_000,
        200,
      );
    }
    const spent = () => hosts.map(bytesOf);
    const whole = spent();
    await Bun.sleep(SETTLE_MS);
    const settled = spent();
    await Bun.sleep(COUNT_MS);
    const perSecond = spent().map((bytes, n) => (bytes - settled[n]!) / (COUNT_MS / 1_000));
    const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / NODES;
    report(
      `${NODES} nodes, bytes of each`,
      `${mean(whole).toFixed(0)} until all were found, ${(mean(settled) - mean(whole)).toFixed(0)} in the next ${SETTLE_MS / 1_000} s`,
    );
    report(
      `after that, idle for ${COUNT_MS / 1_000} s`,
      `${mean(perSecond).toFixed(1)} B/s a node, the most ${Math.max(...perSecond).toFixed(1)}`,
    );
    // The rules do count.
    expect(Math.min(...whole)).toBeGreaterThan(0);
    expect(mean(perSecond)).toBeLessThanOrEqual(BYTES_PER_SECOND_MAX);
  },
  400_000,
);
