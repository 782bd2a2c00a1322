/**
 * Composition of the whole node from its configuration: identity, store, mesh, plugins, API. Nothing but wiring and
 * order lives here: what opens first closes last, and a failure on the way up closes what was opened.
 */
import { mkdir } from "node:fs/promises";
import type { Clock, Log, Pipe, Random } from "@godwit/sdk";
import type { PassedListener } from "../api/adopted.ts";
import { createApi } from "../api/app.ts";
import { startApiServers, type ApiServers } from "../api/server.ts";
import { openTokenStore } from "../api/tokens.ts";
import type { Config } from "../config/load.ts";
import { loadOrCreateIdentity } from "../identity/keystore.ts";
import { deriveSeed, verifySignature, type Identity } from "../identity/keys.ts";
import { openPrekeys } from "../identity/prekeys.ts";
import { createSealer } from "../identity/sealer.ts";
import { asGodwitError, godwitError } from "../kernel/errors.ts";
import { shortId, type NodeId } from "../kernel/ids.ts";
import { openHostNetwork } from "../kernel/host-network.ts";
import { Metrics } from "../kernel/metrics.ts";
import { Scope } from "../kernel/scope.ts";
import { HandshakeGuard } from "../link/guard.ts";
import { openSession } from "../link/handshake.ts";
import type { Session } from "../link/types.ts";
import { Mesh } from "../mesh/mesh.ts";
import { PluginHost } from "../plugin/host/host.ts";
import { createIsolation, pluginDoorPolicy, pluginNetPolicy } from "../plugin/isolation.ts";
import { type PluginCatalogue, readPlugins } from "./plugins.ts";
import { openSqliteStore } from "../store/sqlite.ts";
import type { ReloadView } from "../view/contract/node.ts";
import { ClosedMesh } from "../closed/closed-mesh.ts";
import { pluginInstances, Reloader } from "./reload.ts";
import { NetworkSecrets } from "../closed/secrets.ts";
import { createPeersBackend, PeerSignals } from "../view/peers-for-plugins.ts";
import { createMeshBackend, MessageSignals } from "../view/mesh-for-plugins.ts";
import { LiveView } from "../view/live-view.ts";
import { startForwards } from "../view/forwards.ts";
import { createPluginDesk } from "../view/plugins.ts";
import { watchStore } from "../store/watched.ts";
import { withPeerSignals, meshEvents } from "./events.ts";
import { limitsOf, trustOf } from "./settings.ts";
import { EventHub } from "../view/event-hub.ts";

export interface NodeDeps {
  readonly config: Config;
  /** Reads the configuration anew, for a reload. */
  readConfig(): Promise<Config>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly version: string;
  /** Listeners of the API that a service manager opened. */
  readonly passed?: readonly PassedListener[];
}

export interface GodwitNode {
  readonly id: NodeId;
  readonly view: LiveView;
  /** API addresses that are really open. */
  readonly api: ApiServers;
  /** Rebuilds the plugins whose tables changed. Rejects with ConfigError, and then nothing changed. */
  reload(): Promise<ReloadView>;
  /** Ends links politely, finishes commits, releases everything. Idempotent. */
  stop(): Promise<void>;
}

/** What `config check` asks beyond the schema: the tables of plugins. Throws ConfigError. */
export async function checkConfig(config: Config): Promise<void> {
  await readPlugins(config);
}

/** Throws ConfigError before anything is opened; other errors after closing what was. */
export async function startNode(deps: NodeDeps): Promise<GodwitNode> {
  const plugins = await readPlugins(deps.config);
  const scope = new Scope("node");
  try {
    return await assemble(deps, plugins, scope);
  } catch (error) {
    await scope.close().catch(() => {});
    throw error;
  }
}

async function assemble(
  { config, readConfig, clock, random, log, version, passed = [] }: NodeDeps,
  plugins: PluginCatalogue,
  scope: Scope,
): Promise<GodwitNode> {
  const metrics = new Metrics();
  const { stateDir, network, callsign, location } = config.node;
  await makeStateDir(stateDir);
  const { identity, created } = loadOrCreateIdentity(stateDir, random);
  const store = watchStore(await openSqliteStore({ path: `${stateDir}/godwit.db`, log, clock, metrics }));
  scope.own(() => store.close());
  const hub = new EventHub(clock);
  const signals = new MessageSignals();
  const peerSignals = new PeerSignals();
  const { authority, rotate: policy, secretOverlapMs: overlapMs } = config.network;
  const secrets = new NetworkSecrets({
    stateDir,
    network,
    configured: config.node.networkSecrets.map((secret) => secret.reveal()),
    authority,
    policy,
    overlapMs,
    clock,
    log,
    verify: verifySignature,
  });
  const guard = new HandshakeGuard(clock, random);
  let host: PluginHost | undefined;
  // The first prekey rotates in while the mesh is still opening; opening publishes it anyway.
  let opened: Mesh | undefined;
  let closed: ClosedMesh | undefined;

  const handshakeUnder = (
    live: readonly Uint8Array[],
    pipe: Pipe,
    remote: NodeId | undefined,
    signal: AbortSignal,
  ): Promise<Session> =>
    openSession(
      pipe,
      {
        role: pipe.direction === "outbound" ? "initiator" : "responder",
        identity,
        network,
        secrets: live,
        judgeInvite: (invite) => mesh.enrolment.judge(invite),
        clock,
        random,
        guard,
        isBlocked: (id) => mesh.isRefused(id),
        ...(pipe.isAnonymous === true ? { hideIdentity: true } : { sourceKey: sourceOf(pipe.remote) }),
        ...(remote === undefined ? {} : { remote }),
      },
      signal,
    );
  const handshake = (pipe: Pipe, remote: NodeId | undefined, signal: AbortSignal): Promise<Session> =>
    handshakeUnder(secrets.live, pipe, remote, signal);

  const mesh = await Mesh.open({
    identity,
    network,
    liveSecrets: () => secrets.epochs,
    authority,
    callsign,
    location,
    clock,
    random,
    log,
    metrics,
    store,
    limits: limitsOf(config),
    names: config.names,
    trust: trustOf(config),
    trustRules: config.trust.rules,
    promoteAfterMs: config.trust.promoteAfterMs,
    linksWanted: config.peers.linksWanted,
    canDial: (endpoint) => host?.canDial(endpoint) ?? false,
    destinationsMax: config.routing.destinationsMax,
    hopCostMs: config.routing.hopCostMs,
    verify: verifySignature,
    openSealing: async (recordOf) => {
      const prekeys = await openPrekeys({ store, random, clock, onRotate: () => opened?.onPrekey() });
      scope.own(() => prekeys.stop());
      return { prekeys, sealer: createSealer({ identity, prekeys, prekeyOf: (id) => recordOf(id)?.prekey }) };
    },
    dial: (endpoint, signal, expected) =>
      host === undefined
        ? Promise.reject(godwitError("GODWIT_ENDPOINT_INVALID", "no transport is running yet"))
        : host.dial(endpoint, signal, expected),
    dialTimeoutMs: (endpoint) => host?.dialTimeoutMs(endpoint),
    handshake,
    events: withPeerSignals(
      meshEvents(hub, signals, () => closed),
      peerSignals,
    ),
  });
  opened = mesh;
  closed = new ClosedMesh({
    self: identity.id,
    network,
    callsign,
    authority,
    policy,
    overlapMs,
    mesh,
    secrets,
    clock,
    random,
    log,
    metrics,
    verify: verifySignature,
    handshake: (pipe, remote, signal) => handshakeUnder(secrets.live.slice(0, 1), pipe, remote, signal),
    forgetSecrets: () => guard.forgetSecrets(),
  });
  scope.own(() => closed?.stop());
  exposeLinkCounters(metrics, guard);

  const hostNetwork = openHostNetwork(clock);
  scope.own(() => hostNetwork.close());
  host = new PluginHost({
    get plugins() {
      return plugins.all;
    },
    network: hostNetwork,
    clock,
    random,
    log,
    metrics,
    store,
    stateDir,
    deriveSeed: (label) => deriveSeed(identity, label),
    peers: createPeersBackend({ id: identity.id, callsign, network }, mesh, peerSignals),
    isolate: createIsolation(stateDir),
    netPolicy: pluginNetPolicy,
    doorPolicy: pluginDoorPolicy,
    mesh: createMeshBackend({ id: identity.id, callsign, location, network, version }, mesh, signals),
    events: {
      pipe: (_instance, pipe) => {
        if (scope.isClosed) return pipe.close();
        scope.spawn("inbound handshake", async (signal) => {
          const session = await handshake(pipe, undefined, signal).catch((error: unknown) => {
            log.debug("inbound handshake failed", { remote: pipe.remote, error: asGodwitError(error) });
          });
          if (session !== undefined) mesh.adopt(session);
        });
      },
      listening: () => mesh.setEndpoints(host?.endpoints ?? []),
      hint: (source, hint) => mesh.view.hint(source, hint),
      withdraw: (source, endpoint) => mesh.view.withdraw(source, endpoint),
      withdrawAll: (source) => mesh.view.withdrawAll(source),
      health: ({ instance, health }) =>
        hub.emit("plugin", "health", {
          name: instance.name,
          type: instance.type,
          state: health.state,
          reason: health.reason ?? null,
        }),
    },
  });
  scope.own(() => host.stop());
  // Before the transports go: neighbours hear a goodbye.
  scope.own(() => mesh.stop());

  const readChecked = async () => {
    const next = await readConfig();
    const before = plugins;
    plugins = await readPlugins(next);
    return { config: next, replaced: plugins.replacing(before) };
  };
  const reloader = new Reloader(host, config, readChecked, log);

  const view = new LiveView(
    {
      reload: () => reloader.reload(),
      self: identity.id,
      mesh,
      host,
      clock,
      random,
      metrics,
      version,
      network,
      isOpen: secrets.live.length === 0,
      closed,
      callsign,
      location,
      troubles: () => [
        ...(store.failure === undefined ? [] : [{ name: "store", reason: store.failure }]),
        ...(mesh.records.isRevoked(identity.id)
          ? [{ name: "identity", reason: "this node is revoked: it needs a new identity" }]
          : []),
      ],
    },
    hub,
  );
  const forwards = startForwards({ mesh, clock, random, log, config, resolve: (node) => view.resolve(node) });
  scope.own(() => forwards.stop());
  const tokens = await openTokenStore({
    store,
    random,
    clock,
    log,
    configured: config.api.tokens.map(({ secret, scopes, label }) => ({
      secret: secret.reveal(),
      scopes,
      label,
    })),
  });
  const app = createApi({
    view,
    tokens,
    forwards: forwards.table,
    plugins: createPluginDesk(host),
    clock,
    log,
    metrics,
    version,
    signal: scope.signal,
  });
  const api = await startApiServers(
    { app, clock, log, listen: config.api.listen, socketPath: config.api.socket, passed },
    scope,
  );
  await host.start(pluginInstances(config));
  mesh.start();
  forwards.start();
  announce(log, identity, config, { version, created, api, isOpen: secrets.live.length === 0 });
  return { id: identity.id, view, api, reload: () => reloader.reload(), stop: () => scope.close() };
}

function announce(
  log: Log,
  identity: Identity,
  config: Config,
  facts: { version: string; created: boolean; api: ApiServers; isOpen: boolean },
): void {
  if (facts.created) log.info("identity created", { id: identity.id });
  if (facts.isOpen) {
    log.warn("open mesh", {
      network: config.node.network,
      advice: "set node.network_secret to choose who may join",
    });
  }
  log.info("node started", {
    id: shortId(identity.id),
    callsign: config.node.callsign,
    version: facts.version,
    api: facts.api.addresses,
  });
}

async function makeStateDir(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw godwitError(
      "GODWIT_STATE_UNUSABLE",
      `cannot make the state directory ${path}: ${why}; set node.state_dir`,
      cause,
    );
  }
}

/** What half-open handshakes are counted by: the far end's address without its port. */
const sourceOf = (endpoint: string): string => endpoint.replace(/:\d+$/, "");

function exposeLinkCounters(metrics: Metrics, guard: HandshakeGuard): void {
  for (const name of Object.keys(guard.counters) as (keyof typeof guard.counters)[]) {
    const snake = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    metrics.observedCounter(
      `godwit_link_${snake}_total`,
      `link: ${snake.replaceAll("_", " ")}`,
      () => guard.counters[name],
    );
  }
  metrics.observedGauge("godwit_link_half_open", "handshakes under way", () => guard.halfOpen);
}
