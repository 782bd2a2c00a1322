/**
 * The real tor, a private network: three members that are nowhere but at onion addresses, and a newcomer behind a SOCKS proxy whose machine lets no
 * UDP out. It knows one onion address, finds all others in the DHT through the member there, links to them and trusts them for dialling.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import { NetLab } from "../../scripts/netlab.ts";
import { TorNet, whyNoTorNet } from "../tor/tor-net.ts";

const why = whyNoTorNet();
const title = `a newcomer without UDP over the real tor${why === undefined ? "" : ` [skipped: ${why}]`}`;

const DHT_PORT = 4862;
const MEMBERS = ["DUN-A", "LON-B", "NYC-C"];

interface Hints {
  readonly hints: readonly { readonly source: string; readonly endpoint: string }[];
}
interface Peers {
  readonly peers: readonly {
    readonly callsign: string | null;
    readonly trust: string;
    readonly links: readonly unknown[];
  }[];
}

describe.skipIf(why !== undefined && process.env["CI"] !== "true")(title, () => {
  let net: NetLab;
  let tor: TorNet;
  let lab: Lab;
  let newcomer: LabNode;
  const members: LabNode[] = [];
  const onions: string[] = [];

  beforeAll(async () => {
    if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
    net = NetLab.create();
    const [host, far] = [net.host("tor"), net.host("far")];
    const cable = net.link(host, far, { families: "v4" });
    const proxy = `${cable.a.addresses.v4!}:9050`;
    tor = new TorNet(host);
    tor.start();
    const daemon = tor.client("daemon", { socks: 9050, control: 9051 });
    const door = tor.client("door", { socks: proxy, control: 9061 });
    lab = await Lab.create();
    const secret = join(lab.dir, "network.key");
    await writeFile(
      secret,
      `${Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("base64url")}\n`,
      { mode: 0o600 },
    );
    const nodeExtra = `network_secret = "file:${secret}"`;
    await tor.ready();
    daemon.start();
    door.start();
    for (const [n, callsign] of MEMBERS.entries()) {
      const dht = `[discovery.dht]\ntype = "dht"\nlisten = ["127.0.0.${2 + n}:${DHT_PORT}"]\nbootstrap = ["127.0.0.2:${DHT_PORT}"]\n`;
      const extra = `[transports.tor]\ntype = "tor"\ncontrol = "127.0.0.1:9051"\n${dht}`;
      const node = await lab.add({
        callsign,
        namespace: host.namespace,
        listen: [],
        nodeExtra,
        extra,
        linksWanted: 4,
      });
      members.push(node);
      await node.start();
    }
    for (const node of members) onions.push(await onionOf(node));
    // A datagram that would get out is counted, and does not.
    far.nft(
      "inet",
      "no-udp",
      `counter lost {}
       chain out { type filter hook output priority 0; policy accept; meta l4proto udp counter name lost drop; }
       chain in { type filter hook input priority 0; policy accept; meta l4proto udp drop; }`,
    );
    newcomer = await lab.add({
      ...{ callsign: "FAR-N", namespace: far.namespace, listen: [], nodeExtra, linksWanted: 8 },
      peers: [onions[0]!],
      extra: `[transports.tor]\ntype = "tor"\nsocks = "${proxy}"\n[discovery.dht]\ntype = "dht"\nbootstrap = ["${cable.a.addresses.v4!}:${DHT_PORT}"]\n[[trust.rules]]\ntransports = ["tor"]\nlevel = "trusted"\n`,
    });
  }, 150_000);

  afterAll(async () => {
    await lab?.close();
    await tor?.close();
    await net?.close();
  });

  async function onionOf(node: LabNode): Promise<string> {
    let listen: readonly string[] = [];
    const look = async () => {
      const { transports } = await node.json<{ transports: { type: string; listen: string[] }[] }>(
        "/mesh/status",
      );
      listen = transports.find(({ type }) => type === "tor")?.listen ?? [];
      return listen.length === 1;
    };
    await node.until("its onion address", look, 90_000, 100);
    return listen[0]!;
  }

  const hinted = async (node: LabNode): Promise<string[]> =>
    (await node.json<Hints>("/mesh/discovery")).hints.flatMap(({ source, endpoint }) =>
      source === "discovery.dht" ? [endpoint] : [],
    );

  const linked = async (node: LabNode) =>
    (await node.json<Peers>("/mesh/peers")).peers.filter(({ links }) => links.length > 0);

  test("it finds all others, links to them through the proxy, and trusts them", async () => {
    // They were told of nobody: the DHT alone brought them together.
    for (const node of members)
      await node.until(
        "links to the other members",
        async () => (await linked(node)).length === 2,
        90_000,
        100,
      );
    await newcomer.start();
    const startedMs = performance.now();
    await newcomer.until(
      "hints at all members",
      async () => {
        const found = await hinted(newcomer);
        return onions.every((onion) => found.includes(onion));
      },
      120_000,
      100,
    );
    console.log(
      `  all members found ${((performance.now() - startedMs) / 1_000).toFixed(1)} s after the start`,
    );
    const all = async () => (await linked(newcomer)).length === MEMBERS.length;
    await newcomer.until("links to all", all, 120_000, 100);
    const isTrusted = async () => (await linked(newcomer)).every(({ trust }) => trust === "trusted");
    await newcomer.until("trust in all", isTrusted, 150_000, 200);
    expect((await linked(newcomer)).map(({ callsign }) => callsign).sort()).toEqual(MEMBERS);
    // UDP was tried, and got nowhere.
    const { namespace } = net.hosts.find(({ name }) => name === "far")!;
    const rules = Bun.spawnSync([
      "ip",
      "netns",
      "exec",
      namespace,
      "nft",
      "list",
      "counters",
    ]).stdout.toString();
    expect(Number(/packets (\d+)/.exec(rules)![1])).toBeGreaterThan(0);
  }, 300_000);
});
