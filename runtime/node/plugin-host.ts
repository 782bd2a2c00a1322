/** The plugin host of this node: the doors that plugins get, and what follows from what they do. */
import type { Pipe } from "@godwit/sdk";
import { deriveSeed } from "../identity/keys.ts";
import { asGodwitError } from "../kernel/errors.ts";
import { openHostNetwork } from "../kernel/host-network.ts";
import type { Scope } from "../kernel/scope.ts";
import type { Mesh } from "../mesh/mesh.ts";
import { PluginHost } from "../plugin/host/host.ts";
import { createIsolation, pluginDoorPolicy, pluginNetPolicy, pluginPagesReach } from "../plugin/isolation.ts";
import type { EventHub } from "../view/event-hub.ts";
import { createMeshBackend, type MessageSignals } from "../view/mesh-for-plugins.ts";
import { createPeersBackend, type PeerSignals } from "../view/peers-for-plugins.ts";
import type { Ground } from "./ground.ts";
import type { Handshakes } from "./handshakes.ts";
import type { PluginSource } from "./plugins.ts";

export interface HostSurroundings {
  readonly mesh: Mesh;
  readonly plugins: PluginSource;
  readonly handshakes: Handshakes;
  readonly hub: EventHub;
  readonly messages: MessageSignals;
  readonly peers: PeerSignals;
  readonly version: string;
}

/** Nothing is started yet. Stops with the scope. */
export function openPluginHost(ground: Ground, around: HostSurroundings, scope: Scope): PluginHost {
  const { config, identity, store, clock, random, log, metrics } = ground;
  const { stateDir, network, callsign, location } = config.node;
  const { mesh, plugins, handshakes, hub, messages, peers, version } = around;
  const { id } = identity;
  const hostNetwork = openHostNetwork(clock);
  scope.own(() => hostNetwork.close());
  const host = new PluginHost({
    get plugins() {
      return plugins.current.all;
    },
    network: hostNetwork,
    clock,
    random,
    log,
    metrics,
    store,
    stateDir,
    deriveSeed: (label) => deriveSeed(identity, label),
    peers: createPeersBackend({ id, callsign, network }, mesh, peers),
    isolate: createIsolation(stateDir),
    netPolicy: pluginNetPolicy,
    doorPolicy: pluginDoorPolicy,
    pagesReach: pluginPagesReach,
    mesh: createMeshBackend({ id, callsign, location, network, version }, mesh, messages),
    events: {
      pipe: (_instance, pipe) => admit(pipe, handshakes, mesh, ground, scope),
      listening: () => mesh.setEndpoints(host.endpoints),
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
  return host;
}

/** A pipe that somebody opened to this node. */
function admit(pipe: Pipe, handshakes: Handshakes, mesh: Mesh, { log }: Ground, scope: Scope): void {
  if (scope.isClosed) return pipe.close();
  scope.spawn("inbound handshake", async (signal) => {
    const session = await handshakes.open(pipe, undefined, signal).catch((error: unknown) => {
      log.debug("inbound handshake failed", { remote: pipe.remote, error: asGodwitError(error) });
    });
    if (session !== undefined) mesh.adopt(session);
  });
}
