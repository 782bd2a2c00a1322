/** Hosts in namespaces, each with a node whose links run through WireGuard alone, and what the tests look at. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { loadOrCreateIdentity } from "../../runtime/identity/keystore.ts";
import { systemRandom } from "../../runtime/kernel/random.ts";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";
import { command, type NetHost, NetLab, whyNoNetLab } from "../../scripts/netlab.ts";

export const whyNoWireguard =
  whyNoNetLab() ??
  ["wireguard-go", "wg"]
    .map((name) => (Bun.which(name) === null ? `no ${name}: apt install it` : undefined))
    .find(Boolean);
export const label = (name: string): string =>
  `${name}${whyNoWireguard === undefined ? "" : ` [skipped: ${whyNoWireguard}]`}`;

export const WG_PORT = 51_820;

export interface WgNode {
  readonly node: LabNode;
  readonly host: NetHost;
  readonly id: string;
  /** Text of its key as `wg` prints it. */
  publicKey(): string;
  privateKey(): string;
  readonly interfaceName: string;
  readonly folder: string;
  /** Address inside the tunnel. */
  readonly address: string;
}

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
    const text = `[transports.wg]\ntype = "wireguard"\nmode = "userspace"\n${table}\n${extra}`;
    const node = await this.lab.add({
      callsign,
      namespace: host.namespace,
      listen: [],
      network: "lab",
      extra: text,
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
    const wide = `fd${digest("godwit wireguard network", "lab").slice(0, 10)}${digest("godwit wireguard node", "lab", id).slice(0, 16)}0001`;
    const made: WgNode = {
      node,
      host,
      id,
      folder,
      privateKey,
      publicKey: () => command(["wg", "pubkey"], `${privateKey()}\n`).trim(),
      interfaceName: `gwg${createHash("sha256").update(`${id}\0wg`).digest("hex").slice(0, 10)}`,
      address: new URL(`http://[${wide.match(/.{4}/g)!.join(":")}]`).hostname.slice(1, -1),
    };
    this.nodes.push(made);
    return made;
  }

  async close(): Promise<void> {
    await this.lab.close();
    await this.net.close();
  }
}

/** What stands in a static list: `wg://KEY/host:port#ID`. */
export function entry({ publicKey, id }: WgNode, ...hosts: string[]): string {
  const key = Buffer.from(publicKey(), "base64").toString("base64url");
  const places = hosts.map((host) => (host.includes(":") ? `[${host}]:${WG_PORT}` : `${host}:${WG_PORT}`));
  return `wg://${key}${places.length > 0 ? `/${places.join(",")}` : ""}#${id}`;
}

export async function delivers(from: LabNode, to: LabNode, timeoutMs = 40_000): Promise<void> {
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
