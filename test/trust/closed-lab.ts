/** Real nodes of a closed mesh, and the command line that its operators use: the compiled binary for both. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { SecretsView, RevocationView } from "../../runtime/view/contract/closed.ts";
import type { NameView, PeerView, StatusView } from "../../runtime/view/contract/node.ts";
import { parseNodeId, type NodeId } from "../../runtime/kernel/ids.ts";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode } from "../../scripts/lab.ts";

export const NETWORK = "lab";
export const WAIT_MS = 20_000;

export interface CommandResult {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export class ClosedLab {
  readonly lab: Lab;
  readonly keyPath: string;
  readonly secretPath: string;
  authority: NodeId | undefined;

  private constructor(lab: Lab) {
    this.lab = lab;
    this.keyPath = join(lab.dir, "authority.key");
    this.secretPath = join(lab.dir, "network.key");
  }

  static async create(): Promise<ClosedLab> {
    if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
    const closed = new ClosedLab(await Lab.create());
    await closed.must(["secret", "new", "--out", closed.secretPath]);
    return closed;
  }

  async makeAuthority(): Promise<void> {
    const { out } = await this.must(["authority", "init", "--key", this.keyPath, "--json"]);
    this.authority = parseNodeId((JSON.parse(out) as { id: string }).id);
  }

  /** `network` is the body of the table [network]; the authority stands in it already. */
  add(
    callsign: string,
    peers: readonly LabNode[],
    options: { folder?: string; secretPath?: string; network?: string; node?: string } = {},
  ): Promise<LabNode> {
    const authority = this.authority === undefined ? "" : `authority = "${this.authority}"\n`;
    return this.lab.add({
      callsign,
      peers: peers.map((peer) => peer.endpoint),
      network: NETWORK,
      ...(options.folder === undefined ? {} : { folder: options.folder }),
      nodeExtra: `network_secret = "file:${options.secretPath ?? this.secretPath}"\n${options.node ?? ""}`,
      extra: `[network]\n${authority}${options.network ?? ""}`,
    });
  }

  async run(args: readonly string[]): Promise<CommandResult> {
    const child = Bun.spawn([binaryPath, ...args], {
      cwd: this.lab.dir,
      env: { PATH: process.env["PATH"] ?? "", HOME: this.lab.dir },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    const [out, err, code] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    return { code, out, err };
  }

  async must(args: readonly string[]): Promise<CommandResult> {
    const result = await this.run(args);
    if (result.code !== 0) throw new Error(`godwit ${args.join(" ")}: ${result.err}`);
    return result;
  }

  on(node: LabNode, args: readonly string[]): Promise<CommandResult> {
    return this.must([...args, "--socket", node.socketPath]);
  }

  /** The authority's proof, adopted by the running node. */
  async name(node: LabNode, serial = 1): Promise<string> {
    const { out } = await this.must([
      ...["authority", "sign-name", node.callsign, await idOf(node), "--serial", String(serial)],
      ...["--key", this.keyPath, "--network", NETWORK],
    ]);
    await this.on(node, ["names", "adopt", out.trim()]);
    return out.trim();
  }

  async revocationOf(id: NodeId, reason = "stolen"): Promise<string> {
    const args = ["authority", "revoke", id, "--reason", reason, "--key", this.keyPath];
    return (await this.must([...args, "--network", NETWORK])).out.trim();
  }

  file(name: string, text: string): string {
    const path = join(this.lab.dir, name);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  }
}

export const statusOf = (node: LabNode): Promise<StatusView> => node.json<StatusView>("/mesh/status");
export const idOf = async (node: LabNode): Promise<NodeId> => (await statusOf(node)).node.id;
export const secretsOf = (node: LabNode): Promise<SecretsView> => node.json<SecretsView>("/mesh/secrets");
export const peersOf = async (node: LabNode): Promise<PeerView[]> =>
  (await node.json<{ peers: PeerView[] }>("/mesh/peers?all=true")).peers;
export const namesOf = async (node: LabNode): Promise<NameView[]> =>
  (await node.json<{ names: NameView[] }>("/mesh/names")).names;
export const revokedOf = async (node: LabNode): Promise<NodeId[]> =>
  (await node.json<{ revocations: RevocationView[] }>("/mesh/revocations")).revocations.map(({ id }) => id);
export const connectedOf = async (node: LabNode): Promise<number> => (await statusOf(node)).peers.connected;

export async function metricOf(node: LabNode, name: string): Promise<number> {
  const text = await (await node.api("/metrics")).text();
  const lines = text.split("\n").filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`));
  return lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
}

export async function deliver(from: LabNode, to: LabNode, text: string): Promise<void> {
  await from.send({ to: to.callsign, body: text });
  await to.until(`"${text}" to arrive`, async () => (await bodies(to)).includes(text), WAIT_MS);
}

export async function bodies(node: LabNode): Promise<string[]> {
  const rows = await node.box<{ id: string }>("inbox");
  return await Promise.all(rows.map(async ({ id }) => await (await node.api(`/messages/${id}/body`)).text()));
}

/** All secrets that this process knows, to look for them where they must not be. */
export const secretIn = (path: string): string => readFileSync(path, "utf8").trim();
