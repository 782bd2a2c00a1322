/**
 * Real nodes in network namespaces that were told one place of the DHT and nobody of their mesh: they find each other, link, and leave strangers
 * out. The binary, the kernel's UDP, no fakes.
 */
import { afterAll, expect } from "bun:test";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { LabNode } from "../../scripts/lab.ts";
import { closeMeshes, type NetMesh, report, scenario } from "../net/net-mesh.ts";
import { clockOf1970, whyNoFaketime } from "./faketime.ts";

afterAll(closeMeshes);

const PORT = 4862;

export const dhtTable = (...bootstrap: string[]): string =>
  `[discovery.dht]\ntype = "dht"\nbootstrap = ${JSON.stringify(bootstrap)}\n`;

async function secretFile(mesh: NetMesh, name: string): Promise<string> {
  const path = join(mesh.dir, name);
  const secret = Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("base64url");
  await writeFile(path, `${secret}\n`, { mode: 0o600 });
  return `network_secret = "file:${path}"`;
}

async function metric(node: LabNode, name: string): Promise<number> {
  const text = await (await node.api("/metrics")).text();
  const lines = text.split("\n").filter((line) => line.startsWith(name));
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
}

scenario(
  "two nodes that know one place of the DHT find each other and link; one of another secret does not",
  async (mesh) => {
    const wan = mesh.net.lan("wan");
    const [hostA, hostB, hostC] = ["DHT-A", "DHT-B", "DHT-C"].map((name) => mesh.net.host(name));
    const [portA] = [hostA!, hostB!, hostC!].map((host) => wan.join(host));
    const place = `${portA!.addresses.v4!}:${PORT}`;
    const ours = await secretFile(mesh, "ours.key");
    const theirs = await secretFile(mesh, "theirs.key");
    const options = { isPublic: true, extra: dhtTable(place), linksWanted: 4 };
    await mesh.start(hostA!, [], { ...options, nodeExtra: ours });
    const startedMs = performance.now();
    await mesh.start(hostB!, [], { ...options, nodeExtra: ours });
    const stranger = await mesh.start(hostC!, [], { ...options, nodeExtra: theirs });
    await mesh.untilLink("DHT-A", "DHT-B", true, 30_000);
    report(
      "from the start of the second node to its link",
      `${Math.round(performance.now() - startedMs)} ms`,
    );
    await mesh.exchange("DHT-A", "DHT-B", "found");
    // The stranger keeps their items, and can read none of them.
    const has = (name: string, count: number) =>
      stranger.until(`${count} ${name}`, async () => (await metric(stranger, name)) >= count, 30_000);
    await has("godwit_plugin_dht_nodes", 2);
    await has("godwit_plugin_dht_kept", 1);
    expect(await metric(stranger, "godwit_plugin_dht_found")).toBe(0);
  },
);

const without = whyNoFaketime === undefined ? "" : ` [skipped: ${whyNoFaketime}]`;
if (without !== "") console.warn(`test/dht/mesh.test.ts${without}`);

const in1970 = whyNoFaketime === undefined || process.env["CI"] === "true" ? scenario : () => {};
in1970(
  `a node in 1970 that nobody can dial finds a mesh that is years ahead of it${without}`,
  async (mesh) => {
    const wan = mesh.net.lan("wan");
    const [hostA, hostB] = ["NOW-A", "OLD-B"].map((name) => mesh.net.host(name));
    const [portA] = [hostA!, hostB!].map((host) => wan.join(host));
    const options = {
      ...{ isPublic: true, linksWanted: 4, nodeExtra: await secretFile(mesh, "network.key") },
      extra: dhtTable(`${portA!.addresses.v4!}:${PORT}`),
    };
    await mesh.start(hostA!, [], options);
    await mesh.start(hostB!, [], { ...options, isPublic: false, env: clockOf1970 });
    await mesh.untilLink("OLD-B", "NOW-A", true, 30_000);
    const { hints } = await mesh.node("OLD-B").json<{ hints: { source: string }[] }>("/mesh/discovery");
    expect(hints.map(({ source }) => source)).toContain("discovery.dht");
  },
);

scenario("the same over IPv6 alone", async (mesh) => {
  const wan = mesh.net.lan("wan");
  const hosts = ["SIX-A", "SIX-B", "SIX-C"].map((name) => mesh.net.host(name));
  const ports = hosts.map((host) => wan.join(host, { families: "v6" }));
  const place = `[${ports[0]!.addresses.v6!}]:${PORT}`;
  const nodeExtra = await secretFile(mesh, "six.key");
  const options = {
    isPublic: true,
    extra: dhtTable(place),
    linksWanted: 4,
    listen: ["[::]:4860"],
    nodeExtra,
  };
  for (const host of hosts) await mesh.start(host, [], options);
  for (const [one, other] of [
    ["SIX-A", "SIX-B"],
    ["SIX-B", "SIX-C"],
    ["SIX-C", "SIX-A"],
  ] as const)
    await mesh.untilLink(one, other, true, 30_000);
});
