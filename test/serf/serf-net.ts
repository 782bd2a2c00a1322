/**
 * Real agents of Serf and real nodes on one segment of a lab, each in a namespace of its own. Owns every process that it started. A machine without
 * `serf` (Debian's package) or namespaces says so; under CI that fails.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Subprocess } from "bun";
import type { SerfMember as OwnMember } from "../../runtime/cli/commands/serf.ts";
import { buildGodwit } from "../../scripts/build.ts";
import { binaryPath, Lab, type LabNode, type LabNodeOptions } from "../../scripts/lab.ts";
import { NetLab, whyNoNetLab } from "../../scripts/netlab.ts";
import { command, type NetHost, type NetLan, type NetPort } from "../../scripts/netlab-parts.ts";

/** Why there can be none here; undefined where there can. */
export const whyNoSerf = (): string | undefined =>
  whyNoNetLab() ?? (Bun.which("serf") === null ? "serf is not installed (Debian: serf)" : undefined);

export interface SerfMember {
  readonly name: string;
  readonly addr: string;
  readonly status: string;
  readonly tags: Readonly<Record<string, string>>;
}

export async function until(
  what: string,
  check: () => unknown,
  timeoutMs: number,
  everyMs = 50,
): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  let last: unknown;
  while (performance.now() < endMs) {
    try {
      const found = await check();
      if (found === true) return;
      last = found;
    } catch (error) {
      last = error;
    }
    await Bun.sleep(everyMs);
  }
  const seen = last instanceof Error ? last.message : JSON.stringify(last);
  throw new Error(`${what}: not within ${timeoutMs} ms; last ${seen}`);
}

/** One real agent. */
export class SerfAgent {
  readonly name: string;
  readonly host: NetHost;
  readonly port: NetPort;
  readonly log: string[] = [];
  readonly #config: string;
  readonly #options: Readonly<Record<string, unknown>>;
  #child: Subprocess<"ignore", "pipe", "pipe"> | undefined;

  constructor(folder: string, port: NetPort, name: string, options: Readonly<Record<string, unknown>> = {}) {
    this.name = name;
    this.port = port;
    this.host = port.host;
    this.#config = join(folder, `${port.host.name}.json`);
    this.#options = options;
  }

  get address(): string {
    return this.#options["v6"] === true ? this.port.addresses.v6! : this.port.addresses.v4!;
  }

  get pid(): number {
    return this.#child!.pid;
  }

  /** Words of the configuration beside those of the lab; `join` as addresses. */
  async start(more: Readonly<Record<string, unknown>> = {}): Promise<void> {
    const { v6, ...options } = this.#options;
    const bind = v6 === true ? `[${this.address}]:7946` : `${this.address}:7946`;
    const own = { node_name: this.name, bind, rpc_addr: "127.0.0.1:7373", log_level: "debug" };
    writeFileSync(this.#config, JSON.stringify({ ...own, ...options, ...more }), { mode: 0o600 });
    const child = Bun.spawn([...this.host.prefix, "serf", "agent", `-config-file=${this.#config}`], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    this.#child = child;
    void this.#read(child.stdout);
    void this.#read(child.stderr);
    await until(`${this.name} to answer`, () => this.members().length > 0, 10_000);
  }

  run(...words: string[]): string {
    return this.host.exec("serf", ...words);
  }

  members(): SerfMember[] {
    return (JSON.parse(this.run("members", "-format=json")) as { members: SerfMember[] }).members;
  }

  statusOf(name: string): string | undefined {
    return this.members().find((member) => member.name === name)?.status;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  async stop(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    this.#child?.kill(signal);
    await this.#child?.exited;
    this.#child = undefined;
  }

  async #read(stream: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      this.log.push(...decoder.decode(chunk).split("\n").filter(Boolean));
      if (this.log.length > 5_000) this.log.splice(0, 2_500);
    }
  }
}

/** A segment with agents and nodes. */
export class SerfNet {
  readonly net = NetLab.create();
  readonly lan: NetLan;
  readonly folder = mkdtempSync(join(tmpdir(), "godwit-serf-"));
  readonly agents: SerfAgent[] = [];
  readonly nodes: SerfNode[] = [];
  readonly lab: Lab;

  private constructor(lab: Lab) {
    this.lab = lab;
    this.lan = this.net.lan("lan");
  }

  static async open(): Promise<SerfNet> {
    if (!existsSync(binaryPath)) await buildGodwit(undefined, binaryPath);
    return new SerfNet(await Lab.create());
  }

  agent(name: string, options: Readonly<Record<string, unknown>> = {}): SerfAgent {
    const host = this.net.host(`s${this.agents.length + 1}`);
    const agent = new SerfAgent(this.folder, this.lan.join(host), name, options);
    this.agents.push(agent);
    return agent;
  }

  /** `table`: more lines of the plugin's table. */
  async node(
    callsign: string,
    table: string,
    options: Partial<LabNodeOptions> & { readonly v6?: boolean } = {},
  ): Promise<SerfNode> {
    const host = this.net.host(`g${this.nodes.length + 1}`);
    const port = this.lan.join(host);
    const node = await SerfNode.open(this.lab, port, callsign, table, options);
    this.nodes.push(node);
    return node;
  }

  file(name: string, text: string): string {
    const path = join(this.folder, name);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  }

  async close(): Promise<void> {
    await Promise.all(this.agents.map((agent) => agent.stop().catch(() => {})));
    await this.lab.close();
    await this.net.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A node with the plugin, as its operator sees it. */
export class SerfNode {
  readonly port: NetPort;
  readonly lab: LabNode;
  readonly name: string;
  readonly address: string;

  private constructor(port: NetPort, lab: LabNode, name: string, address: string) {
    this.port = port;
    this.lab = lab;
    this.name = name;
    this.address = address;
  }

  static async open(
    lab: Lab,
    port: NetPort,
    callsign: string,
    table: string,
    { v6 = false, ...options }: Partial<LabNodeOptions> & { readonly v6?: boolean },
  ): Promise<SerfNode> {
    const address = v6 ? port.addresses.v6! : port.addresses.v4!;
    const listen = v6 ? `[${address}]:7946` : `${address}:7946`;
    const own = table.includes("listen =") ? "" : `listen = "${listen}"`;
    const node = await lab.add({
      callsign,
      folder: port.host.name,
      ...port.host.nodeOptions,
      // No member list of ours helps: what links nodes here is Serf.
      linksWanted: 0,
      extra: `[discovery.cluster]\ntype = "serf"\n${own}\n${table}\n`,
      ...options,
    });
    const name = /name = "([^"]+)"/.exec(table)?.[1] ?? callsign;
    return new SerfNode(port, node, name, address);
  }

  start(): Promise<void> {
    return this.lab.start();
  }

  async ask<T>(request: string, input: object = {}): Promise<T> {
    return await this.lab.json<T>("/plugins/serf/requests", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ request, input }),
    });
  }

  async members(): Promise<OwnMember[]> {
    return (await this.ask<{ members: OwnMember[] }>("members")).members;
  }

  async statusOf(name: string): Promise<string | undefined> {
    return (await this.members()).find((member) => member.name === name)?.status;
  }

  /** State of the plugin, with its reason. */
  async health(): Promise<string> {
    const { plugins } = await this.lab.json<{
      plugins: { name: string; state: string; reason: string | null }[];
    }>("/mesh/plugins");
    const own = plugins.find(({ name }) => name === "cluster");
    return `${own?.state} ${own?.reason ?? ""}`.trim();
  }

  async links(): Promise<number> {
    const { peers } = await this.lab.json<{ peers: { links: unknown[] }[] }>("/mesh/peers");
    return peers.filter(({ links }) => links.length > 0).length;
  }

  cli(...words: string[]): string {
    return command([binaryPath, ...words, "--config", this.lab.configPath]);
  }
}

/** Whether all of them see exactly these states. */
export async function agree(
  net: Pick<SerfNet, "agents" | "nodes">,
  expected: Readonly<Record<string, string>>,
  among: { readonly agents?: readonly SerfAgent[]; readonly nodes?: readonly SerfNode[] } = {},
): Promise<unknown> {
  const wanted = JSON.stringify(Object.entries(expected).sort());
  const odd: Record<string, unknown> = {};
  for (const agent of among.agents ?? net.agents) {
    const seen = agent.members().map(({ name, status }) => [name, status]);
    if (JSON.stringify(seen.sort()) !== wanted) odd[agent.name] = seen;
  }
  for (const node of among.nodes ?? net.nodes) {
    const seen = (await node.members()).map(({ name, status }) => [name, status]);
    if (JSON.stringify(seen.sort()) !== wanted) odd[node.name] = seen;
  }
  return Object.keys(odd).length === 0 ? true : odd;
}
