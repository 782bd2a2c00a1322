/**
 * Composition of the whole node from its configuration. Nothing but wiring and order lives here and in the steps beside
 * it: what opens first closes last, and a failure on the way up closes what was opened.
 */
import type { Clock, Log, Random } from "@godwit/sdk";
import type { PassedListener } from "../api/http.ts";
import type { ApiServers } from "../api/server.ts";
import { type Config, configError } from "../config/load.ts";
import { asGodwitError } from "../kernel/errors.ts";
import { Hub } from "../kernel/hub.ts";
import { shortId, type NodeId } from "../kernel/ids.ts";
import type { RecentLog } from "../kernel/recent-log.ts";
import { Scope } from "../kernel/scope.ts";
import type { Mesh } from "../mesh/mesh.ts";
import { tableWarnings } from "../plugin/check.ts";
import type { ReloadView } from "../view/contract/node.ts";
import { startForwards } from "../view/forwards.ts";
import { adviceOf, Loneliness } from "../view/lonely.ts";
import { fullnessTroubles } from "../view/fullness.ts";
import { overdueTroubles } from "../view/overdue.ts";
import { conflictTroubles } from "../view/conflicts.ts";
import { lifeTroubles } from "../view/lives.ts";
import { LiveView } from "../view/live-view.ts";
import { type HubEvents, NodeEvents } from "../view/node-events.ts";
import { createPluginDesk } from "../view/plugins.ts";
import { openApi } from "./api.ts";
import { undialable } from "./dialable.ts";
import { type Ground, openGround } from "./ground.ts";
import { DescriptorWatch } from "./descriptors.ts";
import { createHandshakes } from "./handshakes.ts";
import type { Knot } from "./knot.ts";
import { openClosedMesh, openMesh } from "./mesh.ts";
import { openPluginHost } from "./plugin-host.ts";
import { PluginSource, readPlugins } from "./plugins.ts";
import { checkSecrets } from "./secret-check.ts";
import { liveSettings } from "./live.ts";
import { pluginInstances, Reloader, restartView } from "./reload.ts";

export interface NodeDeps {
  readonly config: Config;
  /** Reads the configuration anew, for a reload. */
  readConfig(): Promise<Config>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** The last lines of `log`. */
  readonly recent: RecentLog;
  /** Changes level and format of `log`, by a reload. */
  applyLog(node: Config["node"]): void;
  readonly version: string;
  /** Listeners of the API that a service manager opened. */
  readonly passed?: readonly PassedListener[];
}

export interface GodwitNode {
  readonly id: NodeId;
  readonly view: LiveView;
  /** API addresses that are really open. */
  readonly api: ApiServers;
  /** Applies what changed and rebuilds the plugins whose tables did. Rejects with ConfigError, and then nothing changed. */
  reload(): Promise<ReloadView>;
  /** Ends links politely, finishes commits, releases everything. Idempotent. */
  stop(): Promise<void>;
}

/** What `config check` asks beyond the schema: the tables of plugins, endpoints, and the secrets. Answers what to warn of. Throws ConfigError. */
export async function checkConfig(config: Config): Promise<string[]> {
  const plugins = await readPlugins(config);
  const problems = await undialable(config);
  if (problems.length > 0) throw configError(config.origin, problems);
  return [...checkSecrets(config), ...(await tableWarnings(config, plugins.all))];
}

/** Throws ConfigError before anything is opened; other errors after closing what was. */
export async function startNode(deps: NodeDeps): Promise<GodwitNode> {
  const plugins = new PluginSource(await readPlugins(deps.config));
  const scope = new Scope("node");
  try {
    return await assemble(deps, plugins, scope);
  } catch (error) {
    await scope.close().catch(() => {});
    throw error;
  }
}

/** The steps of a start, in order. Whatever a step opened, the scope closes in reverse. */
async function assemble(deps: NodeDeps, plugins: PluginSource, scope: Scope): Promise<GodwitNode> {
  const { config, log, version } = deps;
  const hub = new Hub<HubEvents>((kind, error) =>
    log.error("event listener failed", { event: kind, error: asGodwitError(error) }),
  );
  const knot: Knot = {};

  await tellUndialable(config, log);
  const ground = await openGround(deps, hub, scope);
  const descriptors = new DescriptorWatch(ground);
  scope.own(() => descriptors.stop());
  const handshakes = createHandshakes(ground, knot);
  const mesh = (knot.mesh = await openMesh(ground, handshakes, hub, knot, scope));
  const closed = (knot.closed = openClosedMesh(ground, mesh, handshakes, hub, scope));
  const around = { mesh, plugins, handshakes, hub, version };
  const host = (knot.host = openPluginHost(ground, around, scope));
  // Before the transports go: neighbours hear a goodbye.
  scope.own(() => mesh.stop());
  const isOpen = ground.secrets.live.length === 0;
  const view = new LiveView(
    {
      ...{
        mesh,
        host,
        closed,
        hub,
        isOpen,
        version,
        ...seenOf(ground, mesh, knot, descriptors, new Loneliness(deps.clock, hub)),
      },
      reload: () => reloader.reload(),
      restart: () => restartView(reloader.waiting),
    },
    new NodeEvents(hub, deps.clock),
  );
  const forwards = (knot.forwards = startForwards({
    ...ground,
    mesh,
    hub,
    resolve: (node) => view.resolve(node),
  }));
  scope.own(() => forwards.stop());
  const shown = {
    view,
    forwards: forwards.table,
    plugins: createPluginDesk(host),
    pages: host.pages,
    version,
  };
  const {
    servers: api,
    tokens,
    publicRead,
  } = await openApi(ground, { ...shown, passed: deps.passed ?? [] }, scope);
  knot.api = api;
  const reloader: Reloader = new Reloader({
    host,
    config,
    log,
    signal: scope.signal,
    read: () => plugins.read(() => readAnew(deps)),
    apply: liveSettings({ ground, mesh, forwards, tokens, api, publicRead, applyLog: deps.applyLog }),
  });

  await host.start(pluginInstances(config));
  mesh.start();
  forwards.start();
  await ground.conversions.start().catch((error: unknown) => {
    log.warn("store conversion waits", { error: asGodwitError(error) });
  });
  const advice = adviceOf(mesh, host.running, ground.machine.addresses());
  announce(ground, { version, api, isOpen, advice });
  return { id: ground.identity.id, view, api, reload: () => reloader.reload(), stop: () => scope.close() };
}

/** For a reload: what is odd about it is told as at a start. */
async function readAnew({ readConfig, log }: NodeDeps): Promise<Config> {
  const config = await readConfig();
  for (const reason of checkSecrets(config)) log.warn("network secret looks made up", { reason });
  await tellUndialable(config, log);
  return config;
}

/** Said and no more: a node must not stay down for one peer of many. */
async function tellUndialable(config: Config, log: Log): Promise<void> {
  for (const { path, expected } of await undialable(config))
    log.warn("endpoint that nobody here can dial", { key: path, reason: `expected ${expected}` });
}

const asideAdvice = (file: string): string =>
  `mail is kept aside in ${file}: stop the node and run godwit store take-in ${file}`;

/** What the view shows of the ground. */
function seenOf(
  { config, identity, clock, time, metrics, store, conversions, aside, machine }: Ground,
  mesh: Mesh,
  knot: Knot,
  descriptors: DescriptorWatch,
  loneliness: Loneliness,
) {
  const { network, callsign, location } = config.node;
  const revoked = { name: "identity", reason: "this node is revoked: it needs a new identity" };
  return {
    ...{ self: identity.id, clock, time, metrics, network, callsign, location },
    advice: () => adviceOf(mesh, knot.host?.running ?? [], machine.addresses()),
    conversions: () => conversions.progress.filter(({ isThrough }) => !isThrough),
    troubles: () => [
      ...(knot.api?.waiting ?? []).map((reason) => ({ name: "api", reason })),
      ...(knot.forwards?.waiting ?? []).map((reason) => ({ name: "forwards", reason })),
      ...store.troubles.map((reason) => ({ name: "store", reason })),
      ...aside.map((file) => ({ name: "store", reason: asideAdvice(file), isNotice: true })),
      ...(descriptors.trouble === undefined ? [] : [{ name: "descriptors", reason: descriptors.trouble }]),
      ...(mesh.records.isRevoked(identity.id) ? [revoked] : []),
      ...lifeTroubles(mesh),
      ...loneliness.troubles(mesh),
      ...overdueTroubles(mesh),
      ...fullnessTroubles(mesh.custody.fills),
      ...conflictTroubles(mesh.names, callsign),
      ...mesh.fullTables.troubles,
    ],
  };
}

function announce(
  { log, identity, isNew, config }: Ground,
  facts: {
    readonly version: string;
    readonly api: ApiServers;
    readonly isOpen: boolean;
    readonly advice: readonly string[];
  },
): void {
  const { network, callsign } = config.node;
  if (isNew) log.info("identity created", { id: identity.id });
  if (facts.isOpen)
    log.warn("open mesh", { network, advice: "set node.network_secret to choose who may join" });
  const [why, ...ways] = facts.advice;
  if (why !== undefined) log.info("nobody is known", { reason: why, advice: ways.join("; or ") });
  log.info("node started", {
    id: shortId(identity.id),
    callsign,
    version: facts.version,
    api: facts.api.addresses,
  });
}
