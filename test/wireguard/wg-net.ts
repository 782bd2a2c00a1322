/** Hosts in namespaces, each with a node whose links run through WireGuard alone, and what the tests look at. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { loadOrCreateIdentity } from "../../runtime/identity/keystore.ts";
import { systemRandom } from "../../runtime/kernel/random.ts";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import { NetLab, whyNoNetLab } from "../../scripts/netlab.ts";
import { command, type NetHost, type NetLan, type NetPort } from "../../scripts/netlab-parts.ts";

export const whyNoWireguard =
  whyNoNetLab() ??
  ["wireguard-go", "wg"]
    .map((name) => (Bun.which(name) === null ? `no ${name}: apt install it` : undefined))
    .find(Boolean);
export const label = (name: string): string =>
  `${name}${whyNoWireguard === undefined ? "" : ` [skipped: ${whyNoWireguard}]`}`;

export const WG_PORT = 51_820;

/** A node with WireGuard, wherever it runs. */
export interface WgSelf {
  readonly node: LabNode;
  readonly id: string;
  /** Text of its key as `wg` prints it. */
  publicKey(): string;
  privateKey(): string;
  readonly interfaceName: string;
  readonly folder: string;
  /** Address inside the tunnel. */
  readonly address: string;
}

export interface WgNode extends WgSelf {
  readonly host: NetHost;
}

/** A node whose keys are made beforehand, so that others can be told of it. Not started. */
export async function nodeOf(
  lab: Lab,
  callsign: string,
  namespace: string | undefined,
  table: string,
  extra = "",
): Promise<WgSelf> {
  const node = await lab.add({
    callsign,
    ...(namespace === undefined ? {} : { namespace, listen: [] }),
    network: "lab",
    extra: `[transports.wg]\ntype = "wireguard"\nmode = "userspace"\n${table}\n${extra}`,
  });
  await mkdir(node.stateDir, { recursive: true, mode: 0o700 });
  const { id } = loadOrCreateIdentity(node.stateDir, systemRandom).identity;
  const folder = join(node.stateDir, "plugin-files", "transport.wg");
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await writeFile(join(folder, "private.key"), command(["wg", "genkey"]), { mode: 0o600 });
  const privateKey = () => readFileSync(join(folder, "private.key"), "utf8").trim();
  const digest = (...parts: string[]) =>
    createHash("sha256")
      .update(parts.map((part) => `${part}\0`).join(""))
      .digest("hex");
  const network = digest("godwit wireguard network", "lab").slice(0, 10);
  const wide = `fd${network}${digest("godwit wireguard node", "lab", id).slice(0, 16)}0001`;
  return {
    node,
    id,
    folder,
    privateKey,
    publicKey: () => command(["wg", "pubkey"], `${privateKey()}\n`).trim(),
    interfaceName: `gwg${sha256(`${id}\0wg`).slice(0, 10)}`,
    address: new URL(`http://[${wide.match(/.{4}/g)!.join(":")}]`).hostname.slice(1, -1),
  };
}

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

export class WgNet {
  readonly net: NetLab;
  readonly lab: Lab;
  readonly nodes: WgNode[] = [];

  private constructor(net: NetLab, lab: Lab) {
    this.net = net;
    this.lab = lab;
  }

  static async create(): Promise<WgNet> {
    if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
    const net = NetLab.create();
    try {
      return new WgNet(net, await Lab.create());
    } catch (error) {
      await net.close();
      throw error;
    }
  }

  /** A node on a host, with its keys made beforehand, so that others can be told of it. Not started. */
  async add(
    callsign: string,
    host: NetHost,
    { table = "", extra = "" }: { readonly table?: string; readonly extra?: string } = {},
  ): Promise<WgNode> {
    const made = { ...(await nodeOf(this.lab, callsign, host.namespace, table, extra)), host };
    this.nodes.push(made);
    return made;
  }

  async close(): Promise<void> {
    await this.lab.close();
    await this.net.close();
  }
}

/** What stands in a static list: `wg://KEY/host:port#ID`. */
export function entry(self: WgSelf, ...hosts: string[]): string {
  return entryAt(
    self,
    hosts.map((host) => (host.includes(":") ? `[${host}]:${WG_PORT}` : `${host}:${WG_PORT}`)),
  );
}

export function entryAt({ publicKey, id }: WgSelf, places: readonly string[]): string {
  const key = Buffer.from(publicKey(), "base64").toString("base64url");
  return `wg://${key}${places.length > 0 ? `/${places.join(",")}` : ""}#${id}`;
}

export async function delivers(
  from: LabNode,
  to: Pick<LabNode, "callsign">,
  timeoutMs = 40_000,
): Promise<void> {
  const id = await from.send({ to: to.callsign, body: "through the tunnel" });
  await from.until(
    `a message to ${to.callsign}`,
    async () => (await from.json<{ state: string }>(`/messages/${id}`)).state === "delivered",
    timeoutMs,
  );
}

interface Status {
  readonly transports: readonly {
    name: string;
    state: string;
    reason: string | null;
    listen: readonly string[];
  }[];
}
export const wgOf = async (node: LabNode) =>
  (await node.json<Status>("/mesh/status")).transports.find(({ name }) => name === "wg")!;

/** Pid of the wireguard-go of a node, from the file that its supervisor keeps. */
export function daemonPid({ folder }: WgNode): number {
  return Number(readFileSync(join(folder, "wireguard-go.pid"), "utf8").split(" ")[1]);
}

/** Interfaces of a host, by name. */
export function interfacesOf(host: NetHost): string[] {
  const found = JSON.parse(host.ip("-j", "link", "show")) as { ifname: string }[];
  return found.map(({ ifname }) => ifname).sort();
}

/** What `wg show` says of the peers of a node: by public key. */
export function peersOf({
  host,
  interfaceName,
}: WgNode): Map<
  string,
  { preshared: string; endpoint: string; allowed: string; handshake: number; keepalive: string }
> {
  const lines = host.exec("wg", "show", interfaceName, "dump").trim().split("\n").slice(1);
  return new Map(
    lines.map((line) => {
      const [key, preshared, endpoint, allowed, handshake, , , keepalive] = line.split("\t");
      return [
        key!,
        {
          preshared: preshared!,
          endpoint: endpoint!,
          allowed: allowed!,
          handshake: Number(handshake),
          keepalive: keepalive!,
        },
      ];
    }),
  );
}

/** Both hold the same preshared key for each other. */
export function haveAgreed(a: WgNode, b: WgNode): boolean {
  const [one, other] = [peersOf(a).get(b.publicKey())?.preshared, peersOf(b).get(a.publicKey())?.preshared];
  return one !== undefined && one !== "(none)" && one === other;
}

/** Three nodes on one segment that know each other from their static lists alone. Started. */
export async function meshOnSegment(
  w: WgNet,
  table = "",
): Promise<{ nodes: [WgNode, WgNode, WgNode]; ports: NetPort[]; lan: NetLan }> {
  const lan = w.net.lan("sw");
  const hosts = ["a", "b", "c"].map((name) => w.net.host(name));
  const ports = hosts.map((host) => lan.join(host));
  const nodes = await Promise.all(
    hosts.map((host, i) => w.add(["AAA-A", "BBB-B", "CCC-C"][i]!, host, { table })),
  );
  await Promise.all(
    nodes.map(({ node }) =>
      node.configure(
        nodes.flatMap((other, i) => (other.node === node ? [] : [entry(other, ports[i]!.addresses.v4!)])),
      ),
    ),
  );
  await Promise.all(nodes.map(({ node }) => node.start()));
  return { nodes: nodes as [WgNode, WgNode, WgNode], ports, lan };
}
