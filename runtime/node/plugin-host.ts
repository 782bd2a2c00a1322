/** The plugin host of this node: the doors that plugins get, and what follows from what they do. */
import type { Pipe } from "@godwit/sdk";
import { deriveSeed } from "../identity/keys.ts";
import { asGodwitError } from "../kernel/errors.ts";
import type { Hub } from "../kernel/hub.ts";
import type { Scope } from "../kernel/scope.ts";
import type { Mesh } from "../mesh/mesh.ts";
import { PluginHost } from "../plugin/host/host.ts";
import {
  createIsolation,
  pluginDoorPolicy,
  pluginEnginePolicy,
  pluginNetPolicy,
  pluginSerialPolicy,
  pluginPagesReach,
  pluginRegisterPolicy,
} from "../plugin/isolation.ts";
import { createMembersBackend } from "../view/members-for-plugins.ts";
import { createMeshBackend } from "../view/mesh-for-plugins.ts";
import type { HubEvents } from "../view/node-events.ts";
import { createPeersBackend } from "../view/peers-for-plugins.ts";
import { createSelfBackend } from "../view/self-for-plugins.ts";
import { createStreamsBackend } from "../view/streams-for-plugins.ts";
import type { Ground } from "./ground.ts";
import type { Handshakes } from "./handshakes.ts";
import type { PluginSource } from "./plugins.ts";
import { tagsOf } from "./tags.ts";

/** What a plugin asks about: named by a member, who is not said. */
const RUMOUR = [{ by: "member" }] as const;

export interface HostSurroundings {
  readonly mesh: Mesh;
  readonly plugins: PluginSource;
  readonly handshakes: Handshakes;
  readonly hub: Hub<HubEvents>;
  readonly version: string;
}

/** Nothing is started yet. Stops with the scope. */
export function openPluginHost(ground: Ground, around: HostSurroundings, scope: Scope): PluginHost {
  const { config, identity, store, clock, random, log, metrics, machine } = ground;
  const { stateDir, network, callsign, location } = config.node;
  const { mesh, plugins, handshakes, hub, version } = around;
  const { id } = identity;
  const host = new PluginHost({
    get plugins() {
      return plugins.current.all;
    },
    network: {
      addresses: () => machine.addresses(),
      watch: (fn) => machine.watch(fn),
      refusal: (address) => mesh.places.termsOf(RUMOUR).refusal(address),
    },
    clock,
    random,
    log,
    metrics,
    store,
    stateDir,
    deriveSeed: (label) => deriveSeed(identity, label),
    self: createSelfBackend(
      identity,
      { callsign, network, tags: tagsOf(config.node.tags) },
      ground.secrets,
      mesh,
      hub,
      () => host.sockets,
    ),
    peers: createPeersBackend({ id, callsign, network }, mesh, hub),
    isolate: createIsolation(stateDir),
    netPolicy: pluginNetPolicy,
    serialPolicy: pluginSerialPolicy,
    doorPolicy: pluginDoorPolicy,
    registerPolicy: pluginRegisterPolicy,
    enginePolicy: pluginEnginePolicy,
    pagesReach: pluginPagesReach,
    engines: { members: createMembersBackend(mesh, hub), streams: createStreamsBackend(mesh, "engine:") },
    mesh: createMeshBackend({ id, callsign, location, network, version }, mesh, hub),
    events: {
      screen: (datagram, remote) => handshakes.screen(datagram, remote),
      pipe: (_instance, pipe) => admit(pipe, handshakes, mesh, ground, scope),
      medium: (medium, schemes) => mesh.channels.open(medium, schemes),
      listening() {
        mesh.setEndpoints(host.endpoints);
        hub.emit("listeningChanged", undefined);
      },
      hint: (source, hint, isOperators) => mesh.hints.add(source, hint, isOperators ? "operator" : "plugin"),
      withdraw: (source, endpoint) => mesh.hints.withdraw(source, endpoint),
      withdrawAll: (source) => mesh.hints.withdrawAll(source),
      health: (plugin) => hub.emit("pluginHealth", plugin),
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
