/**
 * The context of the SDK as the host hands it to one life of one plugin. Everything registered here ends with that life's
 * scope; what the node lacks (a store, an identity, the mesh) is refused when it is asked for, not before.
 */
import type {
  EngineContext,
  HealContext,
  Log,
  Plugin,
  PluginHealth,
  ServiceContext,
  Services,
} from "@godwit/sdk";
import { godwitError } from "../../kernel/errors.ts";
import { signedLog } from "../../kernel/log.ts";
import { openMembersDoor } from "./members-door.ts";
import { openMeshDoor } from "./mesh-door.ts";
import { openPluginNet } from "./net.ts";
import type { Offers } from "./offers.ts";
import type { Pages } from "../pages/pages.ts";
import { openPluginSerial } from "./serial.ts";
import { openPeersDoor } from "./peers-door.ts";
import { openSelfDoor } from "./self-door.ts";
import { openEngineStreams } from "./streams-door.ts";
import { allowAll, enginePolicyOf, registerPolicyOf, serialPolicyOf } from "../permissions.ts";
import { checkRegister, openTransportDoor } from "./transport-door.ts";
import { derivePluginSeed, openPluginFolder, openPluginStorage } from "./storage.ts";
import { type HostDeps, type Running, sourceOf } from "./instance.ts";

/** What the context tells the host. */
export interface ContextHooks {
  services(log: Log): Services;
  health(health: PluginHealth): void;
  hintDropped(): void;
  /** It asked for something that was not granted. */
  refused(why: string): void;
}

/** What the plugins of one host share. */
interface Shared {
  readonly offers: Offers;
  readonly pages: Pages;
  /** Whether a transport of another type dials this scheme. */
  isOthers(scheme: string, running: Running): boolean;
}

export function createHostContext(
  deps: HostDeps,
  shared: Shared,
  running: Running,
  plugin: Plugin,
  hooks: ContextHooks,
): ServiceContext & EngineContext & HealContext & Pick<ContextHooks, "refused"> {
  const { clock, random, metrics, events, mesh, network, store } = deps;
  const { offers, pages } = shared;
  const { instance, scope } = running;
  const log = signedLog(deps.log, { plugin: sourceOf(instance) });
  const metricName = (name: string) => `godwit_plugin_${plugin.id.replaceAll("-", "_")}_${name}` as const;
  const door =
    instance.namespace === "service" && mesh !== undefined
      ? openMeshDoor({ backend: mesh, scope, clock, log })
      : undefined;
  const storage = store === undefined ? undefined : openPluginStorage(store, sourceOf(instance), scope);
  const { stateDir, deriveSeed, peers, netPolicy } = deps;
  const netGrants = netPolicy?.(plugin, instance) ?? allowAll;
  const register =
    deps.registerPolicy?.(plugin, instance) ??
    registerPolicyOf(instance.namespace, plugin.permissions, undefined);
  const kind = `${instance.namespace}.${plugin.id}`;
  const http =
    instance.namespace === "service"
      ? pages.door({
          instance: instance.name,
          reach: deps.pagesReach === undefined ? "local" : deps.pagesReach(plugin, instance),
          asked: plugin.permissions,
          scope,
          log,
        })
      : undefined;
  const engineDoors =
    instance.namespace === "engine" ? openEngineDoors(deps, running, plugin, log) : undefined;
  const peersDoor =
    peers === undefined ? undefined : openPeersDoor({ backend: peers, plugin: kind, scope, clock, log });
  const selfDoor =
    deps.self === undefined ? undefined : openSelfDoor({ backend: deps.self, plugin: kind, scope, log });
  return {
    net: openPluginNet(scope, netGrants),
    serial: openPluginSerial(
      scope,
      deps.serialPolicy?.(plugin, instance) ?? serialPolicyOf(plugin.permissions, undefined),
      clock,
    ),
    deriveSeed: async (purpose) => {
      if (deriveSeed === undefined)
        throw godwitError("GODWIT_PLUGIN_FAILED", "there is no identity to derive from here");
      return derivePluginSeed(deriveSeed, sourceOf(instance), purpose);
    },
    folder: async () => {
      if (stateDir === undefined) throw godwitError("GODWIT_PLUGIN_FAILED", "there is no folder here");
      return await openPluginFolder(stateDir, sourceOf(instance));
    },
    get self() {
      if (selfDoor === undefined) throw godwitError("GODWIT_PLUGIN_FAILED", "there is no node here");
      return selfDoor;
    },
    get peers() {
      if (peersDoor === undefined) throw godwitError("GODWIT_PLUGIN_FAILED", "there are no peers here");
      return peersDoor;
    },
    get storage() {
      if (storage === undefined) throw godwitError("GODWIT_PLUGIN_FAILED", "there is no store here");
      return storage;
    },
    get mesh() {
      if (door === undefined) throw godwitError("GODWIT_PLUGIN_FAILED", "only a service has ctx.mesh");
      return door;
    },
    get members() {
      if (engineDoors === undefined)
        throw godwitError("GODWIT_PLUGIN_FAILED", "only an engine has ctx.members");
      return engineDoors.members;
    },
    get streams() {
      if (engineDoors === undefined)
        throw godwitError("GODWIT_PLUGIN_FAILED", "only an engine has ctx.streams");
      return engineDoors.streams;
    },
    services: hooks.services(log),
    get http() {
      if (http === undefined) throw godwitError("GODWIT_PLUGIN_FAILED", "only a service has ctx.http");
      return http;
    },
    ...offers.doors(instance.name, scope, (what) => checkRegister(register, what)),
    instance: instance.name,
    clock,
    random,
    log,
    network: {
      addresses: () => network.addresses(),
      refusal: (address) => network.refusal(address),
      onChange: (fn) => {
        if (!scope.isClosed) scope.own(network.watch(fn));
      },
    },
    signal: scope.signal,
    spawn: (name, task) => scope.spawn(name, task),
    own: (dispose) => scope.own(dispose),
    health: (health) => {
      if (!scope.isClosed) hooks.health(health);
    },
    refused: (why) => hooks.refused(why),
    onRequest: (handler) => void (running.onRequest = handler),
    counter: (name, help, labels) => metrics.pluginCounter(`${metricName(name)}_total`, help, labels),
    gauge: (name, help, labels) => metrics.pluginGauge(metricName(name), help, labels),
    ...openTransportDoor({
      running,
      register,
      net: netGrants,
      events,
      log,
      isOthers: (scheme, own) => shared.isOthers(scheme, own),
      hintDropped: () => hooks.hintDropped(),
    }),
  };
}

/** What an engine gets of the mesh. */
function openEngineDoors(
  { engines, enginePolicy, clock }: HostDeps,
  { instance, scope }: Running,
  plugin: Plugin,
  log: Log,
): Pick<EngineContext, "members" | "streams"> | undefined {
  if (engines === undefined) return undefined;
  const { mayReadMembers, mayStream } = enginePolicy?.(plugin, instance) ?? enginePolicyOf(undefined);
  const { members, streams } = engines;
  return {
    members: openMembersDoor({ backend: members, isAllowed: mayReadMembers, scope, clock, log }),
    streams: openEngineStreams({ backend: streams, isAllowed: mayStream, plugin: plugin.id, scope, log }),
  };
}
