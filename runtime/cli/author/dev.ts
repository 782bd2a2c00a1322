/**
 * `godwit plugin dev`: three real nodes in this process, in a row a - b - c, with the author's plugin on each. The plugin
 * goes the way it will go everywhere: packed, signed, verified, loaded at its trust level. A save packs it anew; nodes
 * keep what they have when that fails. Owns a temporary folder and the nodes, and leaves nothing of either.
 */
import { watch } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Clock, Random } from "@godwit/sdk";
import type { MessageView, NodeEvent } from "../../view/contract/node.ts";
import { loadConfig } from "../../config/load.ts";
import type { Identity } from "../../identity/keys.ts";
import { loadOrCreatePublisher } from "../../identity/keystore.ts";
import { sleep } from "../../kernel/clock.ts";
import { asGodwitError, godwitError } from "../../kernel/errors.ts";
import { createLog } from "../../kernel/log.ts";
import { RecentLog } from "../../kernel/recent-log.ts";
import { type GodwitNode, startNode } from "../../node/node.ts";
import { addPackage } from "../../node/plugins.ts";
import { removeInstalled, trustPublisher } from "../../plugin/installed.ts";
import type { PluginManifest } from "../../plugin/package/package.ts";
import { bundleFolder, readFolderManifest, writePackage } from "../../plugin/package/pack.ts";

export const DEV_FILE = "dev.toml";
/** Saves come in bursts: an editor writes, renames, and writes again. */
const SETTLE_MS = 100;
const DELIVERY_MS = 10_000;
const LINK_MS = 5_000;
const POLL_MS = 20;
const NAMES = ["a", "b", "c"] as const;
type Name = (typeof NAMES)[number];
const sections = {
  transport: "transports",
  discovery: "discovery",
  service: "services",
  engine: "engines",
  "heal-action": "heal",
} as const;
/** Name of the plugin's table, and of what links the nodes when the plugin does not. */
const [INSTANCE, WIRE] = ["dev", "wire"] as const;

export interface DevOptions {
  readonly folder: string;
  readonly trust: "trusted" | "contained" | "untrusted";
  readonly clock: Clock;
  readonly random: Random;
  readonly version: string;
  /** One line for the author. */
  say(line: string): void;
  /** Ends it. */
  readonly signal: AbortSignal;
}

interface DevNode {
  readonly name: Name;
  readonly stateDir: string;
  peers: readonly string[];
  node: GodwitNode | undefined;
}

/** Resolves when the signal aborts and all is gone. Rejects when the very first packing or start fails. */
export async function runDevMesh(options: DevOptions): Promise<void> {
  const root = await mkdtemp(join(tmpdir(), "godwit-dev-"));
  const mesh = new DevMesh(options, root);
  try {
    await mesh.run();
  } finally {
    await mesh.stop();
    await rm(root, { recursive: true, force: true });
  }
}

class DevMesh {
  readonly #options: DevOptions;
  readonly #root: string;
  readonly #publisher: Identity;
  readonly #nodes: readonly DevNode[];
  #tables: Readonly<Record<string, unknown>> = {};
  #manifest: PluginManifest | undefined;

  constructor(options: DevOptions, root: string) {
    this.#options = options;
    this.#root = root;
    this.#publisher = loadOrCreatePublisher(join(root, "publisher.key"), options.random).identity;
    this.#nodes = NAMES.map((name) => ({ name, stateDir: join(root, name), peers: [], node: undefined }));
  }

  async run(): Promise<void> {
    const { signal, say, folder, clock } = this.#options;
    const saves = new Saves(folder);
    try {
      for (const { stateDir } of this.#nodes) await trustPublisher(stateDir, this.#publisher.id);
      await this.#rebuild();
      await this.#show();
      say(`waiting for changes in ${folder}; Ctrl-C ends it`);
      for (;;) {
        const path = await saves.next(clock, signal);
        if (path === undefined) return;
        say(`${path} changed`);
        await this.#again();
      }
    } finally {
      saves.close();
    }
  }

  async #again(): Promise<void> {
    const { say } = this.#options;
    try {
      await this.#rebuild();
      await this.#show();
    } catch (error) {
      say(`! ${asGodwitError(error).message}`);
      say("! the nodes keep what they had");
    }
  }

  async stop(): Promise<void> {
    for (const { node } of this.#nodes.toReversed()) await node?.stop();
  }

  /** Packs the folder, installs it on every node, and starts or reloads them along the row. */
  async #rebuild(): Promise<void> {
    const { folder, clock, say } = this.#options;
    const startedMs = clock.monotonicMs();
    const manifest = readFolderManifest(folder);
    const tables = await this.#readTables();
    const before = this.#manifest;
    if (before !== undefined && (before.id !== manifest.id || before.namespace !== manifest.namespace))
      throw godwitError(
        "GODWIT_PLUGIN_CONFLICT",
        "another id or namespace is another plugin: start dev anew",
      );
    const bundle = await bundleFolder(folder);
    const file = writePackage(bundle, this.#publisher, join(this.#root, "plugin.gwp"));
    this.#manifest = manifest;
    this.#tables = tables;
    let endpoints: readonly string[] = [];
    for (const one of this.#nodes) {
      await removeInstalled(one.stateDir, manifest.id);
      await addPackage(one.stateDir, file);
      one.peers = endpoints;
      if (one.node === undefined) one.node = await this.#start(one);
      else await one.node.reload();
      endpoints = await this.#endpointsOf(one);
    }
    const tookMs = Math.round(clock.monotonicMs() - startedMs);
    say(`${manifest.namespace} "${manifest.id}" ${manifest.version} runs on a, b and c (${tookMs} ms)`);
  }

  async #readTables(): Promise<Readonly<Record<string, unknown>>> {
    let text: string;
    try {
      text = await readFile(join(this.#options.folder, DEV_FILE), "utf8");
    } catch {
      return {};
    }
    try {
      return Bun.TOML.parse(text) as Record<string, unknown>;
    } catch (error) {
      throw godwitError("GODWIT_CONFIG_INVALID", `${DEV_FILE} is not TOML: ${String(error)}`, error);
    }
  }

  #start(one: DevNode): Promise<GodwitNode> {
    const { clock, random, version, say } = this.#options;
    const sink = { write: (line: string) => say(`${one.name}  ${line}`) };
    const recent = new RecentLog(clock);
    const log = createLog({ level: "warn", format: "text", clock, sink, recent }).child({});
    const readConfig = () => loadConfig({ text: this.#configOf(one), format: "json", env: {} });
    return readConfig().then(async (config) => {
      const parts = { clock, random, log: hushed(log), recent, version };
      // Its lines are shown as warnings are, whatever a table says.
      const node = await startNode({ config, readConfig, applyLog() {}, ...parts });
      node.view.subscribe((event) => this.#onEvent(one, event));
      return node;
    });
  }

  /** What an operator would have written; JSON with the same keys. */
  #configOf({ name, stateDir, peers }: DevNode): string {
    const { id, namespace } = this.#manifest!;
    const table = this.#tables[name];
    const { trust } = this.#options;
    // What the manifest asks for is granted, but for places: those only an operator can name.
    const grant = this.#manifest!.permissions.filter((one) => !one.startsWith("files."));
    const own = {
      ...(typeof table === "object" ? table : {}),
      type: id,
      trust,
      ...(trust === "trusted" ? {} : { grant }),
    };
    const isTransport = namespace === "transport";
    const isDiscovery = namespace === "discovery";
    const config: Record<string, Record<string, unknown>> = {
      node: { callsign: `DEV-${name.toUpperCase()}`, network: "dev", state_dir: stateDir },
      api: { listen: false },
      peers: { links_wanted: 0 },
      transports: isTransport ? {} : { [WIRE]: { type: "memory", listen: `dev-${name}` } },
      // A discovery plugin has to find the others by itself.
      discovery: isDiscovery ? {} : { [WIRE]: { type: "static", peers } },
    };
    const section = sections[namespace];
    config[section] = { ...config[section], [INSTANCE]: own };
    return JSON.stringify(config);
  }

  /** Where the next node of the row dials this one. */
  async #endpointsOf({ node, name }: DevNode): Promise<readonly string[]> {
    const listen = () =>
      node!.view.status().transports.find((one) => one.name === INSTANCE || one.name === WIRE)?.listen ?? [];
    const isThere = await this.#until(() => listen().length > 0, LINK_MS);
    if (!isThere) this.#options.say(`! ${name} publishes no endpoint, so nobody can dial it`);
    return listen();
  }

  /** A message from a to c, and what became of it. */
  async #show(): Promise<void> {
    const { say, clock, signal } = this.#options;
    const from = this.#nodes[0]!.node!.view;
    const startedMs = clock.monotonicMs();
    // Held by name until the row stands: nobody knows DEV-C before.
    const { id } = await from.send({
      to: "DEV-C",
      body: new TextEncoder().encode("hello from a"),
      ttlSeconds: 60,
    });
    let message: MessageView = await from.message(id);
    await this.#until(async () => {
      message = await from.message(id);
      return message.state !== "queued" && message.state !== "relayed";
    }, DELIVERY_MS);
    if (signal.aborted) return;
    const tookMs = Math.round(clock.monotonicMs() - startedMs);
    if (message.state === "delivered") {
      const way = message.trace.map(({ callsign, node }) => nameOf(callsign ?? node)).join(" -> ");
      return say(`a message went ${way} and its receipt came back, ${tookMs} ms`);
    }
    say(
      `! a message from a to c is ${message.state} after ${tookMs} ms: ${message.reason ?? "no reason is known"}`,
    );
    for (const { name, node } of this.#nodes)
      for (const { name: instance, state, reason } of node!.view.status().transports)
        if (state !== "running") say(`! ${name}  ${instance} is ${state}: ${reason ?? "no reason given"}`);
  }

  #onEvent({ name }: DevNode, { family, type, data }: NodeEvent): void {
    const { say } = this.#options;
    if (family === "link") say(`${name}  ${type}  ${String(data["endpoint"])}${because(data["reason"])}`);
    else if (family === "plugin" && data["name"] === INSTANCE)
      say(`${name}  ${String(data["type"])} is ${String(data["state"])}${because(data["reason"])}`);
    else if (type === "discovery.hint") say(`${name}  hint  ${String(data["endpoint"])}`);
  }

  /** Polls, because a test of an author may break anything. False: not within the time. */
  async #until(isTrue: () => boolean | Promise<boolean>, withinMs: number): Promise<boolean> {
    const { clock, signal } = this.#options;
    const endMs = clock.monotonicMs() + withinMs;
    while (!(await isTrue())) {
      if (clock.monotonicMs() >= endMs || signal.aborted) return false;
      await sleep(clock, POLL_MS, signal).catch(() => {});
    }
    return true;
  }
}

/** Watches a folder from the moment it is made; bursts of saves count as one. */
class Saves {
  readonly #watcher;
  #changed: string | undefined;
  #wake = () => {};

  constructor(folder: string) {
    this.#watcher = watch(folder, { recursive: true }, (_, path) => {
      if (path === null || /(^|\/)(\.|node_modules(\/|$))|\.(gwp|key|new)$|~$/.test(path)) return;
      this.#changed = path;
      this.#wake();
    });
  }

  /** Name of a file that was saved since the last call; undefined once the signal has aborted. */
  async next(clock: Clock, signal: AbortSignal): Promise<string | undefined> {
    const onAbort = () => this.#wake();
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      if (this.#changed === undefined && !signal.aborted)
        await new Promise<void>((resolve) => (this.#wake = resolve));
      await sleep(clock, SETTLE_MS, signal).catch(() => {});
      const path = this.#changed;
      this.#changed = undefined;
      return signal.aborted ? undefined : path;
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  close(): void {
    this.#watcher.close();
  }
}

const nameOf = (callsign: string): string => callsign.replace(/^DEV-/, "").toLowerCase();
const because = (reason: unknown): string => (typeof reason === "string" ? `: ${reason}` : "");

/** Every node here is of an open mesh: three warnings at each start would teach nothing. */
function hushed(log: ReturnType<typeof createLog>): ReturnType<typeof createLog> {
  return { ...log, warn: (event, fields) => (event === "open mesh" ? undefined : log.warn(event, fields)) };
}
