/**
 * What a node stands on before it has a mesh: its state directory, identity, store and network secrets. What is damaged
 * here ends the start with an error that says what to do; nothing is made anew in its place.
 */
import { mkdir } from "node:fs/promises";
import type { Clock, Log, Random } from "@godwit/sdk";
import { NetworkSecrets } from "../closed/secrets.ts";
import type { Config } from "../config/load.ts";
import { type Identity, verifySignature } from "../identity/keys.ts";
import { loadOrCreateIdentity } from "../identity/keystore.ts";
import { godwitError } from "../kernel/errors.ts";
import { type HostNetworkWatch, openHostNetwork } from "../kernel/host-network.ts";
import { Metrics } from "../kernel/metrics.ts";
import type { Scope } from "../kernel/scope.ts";
import { openSqliteStore } from "../store/sqlite.ts";
import { watchStore } from "../store/watched.ts";

export interface GroundDeps {
  readonly config: Config;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export interface Ground extends GroundDeps {
  readonly metrics: Metrics;
  readonly identity: Identity;
  /** The identity was made by this start. */
  readonly isNew: boolean;
  readonly store: ReturnType<typeof watchStore>;
  readonly secrets: NetworkSecrets;
  /** The machine's addresses. */
  readonly machine: HostNetworkWatch;
}

/** The store closes with the scope. Throws GODWIT_STATE_UNUSABLE and what the store throws. */
export async function openGround(deps: GroundDeps, scope: Scope): Promise<Ground> {
  const { config, clock, random, log } = deps;
  const { stateDir, network, networkSecrets } = config.node;
  const metrics = new Metrics();
  await makeStateDir(stateDir);
  const { identity, created } = loadOrCreateIdentity(stateDir, random);
  const store = watchStore(await openSqliteStore({ path: `${stateDir}/godwit.db`, log, clock, metrics }));
  scope.own(() => store.close());
  const secrets = new NetworkSecrets({
    stateDir,
    network,
    configured: networkSecrets.map((secret) => secret.reveal()),
    authority: config.network.authority,
    policy: config.network.rotate,
    overlapMs: config.network.secretOverlapMs,
    clock,
    log,
    verify: verifySignature,
  });
  const machine = openHostNetwork(clock);
  scope.own(() => machine.close());
  return { ...deps, metrics, identity, isNew: created, store, secrets, machine };
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
