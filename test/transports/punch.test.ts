/** Two nodes behind two NAT boxes find each other through the one that both reach. Needs root. */
import { afterEach, expect, test } from "bun:test";
import { freePort, Lab, type LabNode } from "../../scripts/lab.ts";
import { NetLab, whyNoNetLab } from "../../scripts/netlab.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const why = whyNoNetLab();
const UDP_PORT = 4_861;

interface PeersBody {
  readonly peers: readonly {
    readonly callsign: string | null;
    readonly links: readonly { readonly transport: string; readonly address: string }[];
  }[];
}

const linksOf = async (node: LabNode, callsign: string) =>
  (await node.json<PeersBody>("/mesh/peers")).peers.find((peer) => peer.callsign === callsign)?.links ?? [];

async function behindNats(kind: "cone" | "symmetric") {
  const net = NetLab.create();
  cleanups.push(() => net.close());
  const lab = await Lab.create();
  cleanups.push(() => lab.close());
  const wan = net.lan("wan");
  const hub = net.host("hub");
  const hubAddress = wan.join(hub).addresses.v4!;
  const extra = `[transports.other]\ntype = "udp"\nlisten = ["0.0.0.0:${UDP_PORT}"]\n`;
  const add = (callsign: string, namespace: string, peers: readonly string[]) =>
    lab.add({ callsign, namespace, peers, extra, listen: [`127.0.0.1:${freePort()}`], advertise: [] });
  const middle = await add("HUB-B", hub.namespace, []);
  await middle.start();
  const nodes: LabNode[] = [];
  const outside: string[] = [];
  for (const callsign of ["AAA-A", "CCC-C"]) {
    const host = net.host(callsign);
    const box = net.host(`box${callsign.slice(0, 1)}`, { forwards: true });
    const inside = net.link(host, box);
    host.ip("route", "add", "default", "via", inside.b.addresses.v4!);
    const port = wan.join(box);
    net.nat(box, port, kind);
    // As routers for homes do: what nobody asked for is dropped without an answer.
    const input = `chain in { type filter hook input priority filter; iifname "${port.device}" ct state new meta l4proto udp drop; }`;
    box.nft("inet", "shut", input);
    outside.push(port.addresses.v4!);
    nodes.push(await add(callsign, host.namespace, [`udp://${hubAddress}:${UDP_PORT}`]));
  }
  await Promise.all(nodes.map((node) => node.start()));
  const [a, c] = nodes as [LabNode, LabNode];
  return { a, c, middle, outside };
}

async function deliver(from: LabNode, to: LabNode): Promise<void> {
  const id = await from.send({ to: to.callsign, body: "through" });
  await from.until(
    "the delivery",
    async () => (await from.json<{ state: string }>(`/messages/${id}`)).state === "delivered",
    15_000,
  );
}

const name = (text: string) => text + (why === undefined ? "" : ` [skipped: ${why}]`);
const isSkipped = why !== undefined && process.env["CI"] !== "true";

test.skipIf(isSkipped)(
  name("two cone NATs: mail is relayed at once, and a direct link comes up"),
  async () => {
    const { a, c, middle, outside } = await behindNats("cone");
    await deliver(a, c);
    await a.until("a direct link", async () => (await linksOf(a, "CCC-C")).length > 0, 30_000);
    const [link] = await linksOf(a, "CCC-C");
    expect([link!.transport, link!.address]).toEqual(["udp", `udp://${outside[1]}:${UDP_PORT}`]);
    await middle.kill("SIGKILL");
    await deliver(c, a);
  },
  70_000,
);

test.skipIf(isSkipped)(
  name("two symmetric NATs: no direct link, mail stays relayed, and the tries are few"),
  async () => {
    const { a, c } = await behindNats("symmetric");
    await deliver(a, c);
    const calls = async (node: LabNode) =>
      Number(
        /^godwit_punches_total\{outcome="called"\} (\d+)/m.exec(
          await (await node.api("/metrics")).text(),
        )?.[1] ?? 0,
      );
    await a.until("a call", async () => (await calls(a)) + (await calls(c)) > 0, 20_000);
    await Bun.sleep(6_000); // longer than a handshake takes to give up
    expect(await linksOf(a, "CCC-C")).toEqual([]);
    expect((await calls(a)) + (await calls(c))).toBeLessThanOrEqual(4);
    await deliver(c, a);
  },
  70_000,
);
