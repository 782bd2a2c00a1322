/**
 * The newcomer on real transports, before its node runs: makes the identity, and dials with the configured transports.
 * Writes nothing but the identity; opens no store and listens nowhere. join/newcomer.ts does the rest.
 */
import type { Log } from "@godwit/sdk";
import type { Config } from "../config/load.ts";
import { loadOrCreateIdentity } from "../identity/keystore.ts";
import { deriveSeed } from "../identity/keys.ts";
import { openHostNetwork } from "../kernel/host-network.ts";
import { Metrics } from "../kernel/metrics.ts";
import { isLoopbackEndpoint, NamedPlaces } from "../kernel/named-places.ts";
import { loadNamed } from "../plugin/package/builtin.ts";
import { PluginHost } from "../plugin/host/host.ts";
import { builtinPlugins } from "../registry.ts";
import { type JoinDeps, type Joined, joinOver } from "../join/newcomer.ts";

/** Transports that listen unless they are told otherwise. */
const LISTENERS = ["tcp", "tor"];

export interface JoinMeshDeps extends Omit<JoinDeps, "places"> {
  /** Its transports dial, its state directory gets the identity. */
  readonly config: Config;
  readonly log: Log;
}

/**
 * Rejects with the first refusal that settles it (GODWIT_INVITE_USED), with GODWIT_INVITE_EXPIRED or GODWIT_INVITE_UNSURE when some
 * member said so and none did better, else with GODWIT_JOIN_UNREACHABLE naming each address with its reason.
 */
export async function joinMesh(deps: JoinMeshDeps): Promise<Joined> {
  const { config, clock, random, log } = deps;
  const metrics = new Metrics();
  const machine = openHostNetwork(clock);
  const places = new NamedPlaces({
    metrics,
    addresses: () => machine.addresses(),
    allowed: config.peers.dialNetworks,
    isOnThisMachine: () => false,
    // An invitation that knows no other machine is to a mesh of this one.
    isMachineAlone: () => deps.token.addresses.every(({ endpoint }) => isLoopbackEndpoint(endpoint)),
  });
  const { identity } = loadOrCreateIdentity(config.node.stateDir, random);
  const instances = config.transports
    .filter(({ enabled }) => enabled)
    .map(({ name, type, options }) => ({
      namespace: "transport" as const,
      name,
      type,
      // Nobody has a reason to call a machine that is no member yet, and the port may be another node's.
      options: "listen" in options || LISTENERS.includes(type) ? { ...options, listen: [] } : options,
    }));
  const host = new PluginHost({
    plugins: await loadNamed(builtinPlugins, instances),
    network: { addresses: () => [], watch: () => () => {}, refusal: () => undefined },
    stateDir: config.node.stateDir,
    deriveSeed: (label) => deriveSeed(identity, label),
    clock,
    random,
    log,
    metrics,
    events: {
      screen: () => undefined,
      pipe: (_, pipe) => pipe.close(),
      listening() {},
      hint: () => false,
      withdraw() {},
      withdrawAll() {},
      health() {},
    },
  });
  try {
    await host.start(instances);
    return await joinOver({ ...deps, places }, identity, host);
  } finally {
    await host.stop();
    machine.close();
  }
}
