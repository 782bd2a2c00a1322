/** The transports' suite over real interfaces of wireguard-go, two at a time in the namespace of this process. */
import { test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { PeerFacts } from "@godwit/sdk";
import { FakePeers, transportConformance } from "@godwit/sdk/testkit";
import { formatWgEndpoint } from "../../plugins/transport-wireguard/endpoint.ts";
import plugin from "../../plugins/transport-wireguard/index.ts";
import { clamped, keyText, publicKeyOf } from "../../plugins/transport-wireguard/keys.ts";
import { label, whyNoWireguard } from "./wg-net.ts";

const INSTANCES_MAX = 4;
let runs = 0;

/** A mesh of its own, so that no two checks share an address. Each instance knows the others by their records. */
function setup() {
  const folder = mkdtempSync(join(tmpdir(), "godwit-wg-"));
  const network = `conformance-${process.pid}-${++runs}`;
  const nodes = Array.from({ length: INSTANCES_MAX }, (_, i) => {
    const secret = clamped(crypto.getRandomValues(new Uint8Array(32)));
    const own = join(folder, `${i}`);
    const publicKey = keyText(publicKeyOf(secret));
    return { id: `${i}${runs}`.padEnd(52, "a"), own, secret, publicKey };
  });
  const facts: PeerFacts[] = nodes.map(({ id, publicKey }) => ({
    id,
    callsign: undefined,
    endpoints: [formatWgEndpoint({ publicKey, hosts: [] })],
    isLinked: false,
    via: undefined,
  }));
  return {
    plugin,
    listenConfig: { port: 0, mode: "userspace" },
    dialConfig: { port: 0, mode: "userspace" },
    badEndpoints: ["wg://", "wg://a/b:1", `wg://${"A".repeat(43)}/a:0`, `wg://${"_".repeat(43)}`],
    badConfigs: [
      { port: 70_000 },
      { interface: "far too long a name" },
      { ipv4_pool: "10.0.0.1/24" },
      { mode: "other" },
      { mtu: 576 },
    ],
    clockStepMs: "real time" as const,
    nobodyStepMs: 5,
    hostOptions(number: number) {
      const node = nodes[number]!;
      Bun.spawnSync(["mkdir", "-p", node.own]);
      writeFileSync(join(node.own, "private.key"), keyText(node.secret.reveal()), { mode: 0o600 });
      const peers = new FakePeers({ id: node.id, network });
      peers.set(facts.filter(({ id }) => id !== node.id));
      return { folder: node.own, peers };
    },
    dispose: () => rmSync(folder, { recursive: true, force: true }),
  };
}

if (whyNoWireguard === undefined) transportConformance({ name: "wireguard", kind: "stream", setup });
else test.skipIf(true)(label("transport conformance: wireguard"), () => {});
