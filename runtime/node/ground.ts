/**
 * What a node stands on before it has a mesh: its state directory, identity, store and network secrets. What is damaged
 * here ends the start with an error that says what to do; nothing is made anew in its place, but for a store of which a part can be read.
 */
import { statfsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import type { Clock, Log, Random } from "@godwit/sdk";
import { NetworkSecrets } from "../closed/secrets.ts";
import type { Config } from "../config/load.ts";
import { type Identity, verifySignature } from "../identity/keys.ts";
import { loadOrCreateIdentity } from "../identity/keystore.ts";
import { judgeStateFolder } from "../identity/state-folder.ts";
import { godwitError } from "../kernel/errors.ts";
import type { Teller } from "../kernel/hub.ts";
import { type HostNetworkWatch, openHostNetwork } from "../kernel/host-network.ts";
import type { RecentLog } from "../kernel/recent-log.ts";
import { Metrics } from "../kernel/metrics.ts";
import type { Scope } from "../kernel/scope.ts";
import { asideFiles } from "../store/aside-file.ts";
import { Conversions } from "../store/conversions.ts";
import { openSqliteStore } from "../store/sqlite.ts";
import { restatement } from "../store/sqlite-restate.ts";
import { watchStore, type WatchedStore } from "../store/watched.ts";
import { exposeProcess } from "./process-facts.ts";
import { checkSecrets } from "./secret-check.ts";
import { secretSettingsOf } from "./settings.ts";
import { openNodeTime } from "../time/kept.ts";
import type { NodeTime } from "../time/node-time.ts";
import { machineTimeSource } from "../time/source.ts";
import type { HubEvents } from "../view/node-events.ts";

export interface GroundDeps {
  readonly config: Config;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** The last lines of `log`. */
  readonly recent: RecentLog;
  readonly version: string;
}

export interface Ground extends GroundDeps {
  /** The configuration that counts now. What it says of settings that wait for a start is not asked here. */
  readonly inForce: { config: Config };
  readonly metrics: Metrics;
  readonly identity: Identity;
  /** The identity was made by this start. */
  readonly isNew: boolean;
  readonly store: WatchedStore;
  /** Owners of rows register what they bring to another form, before the node starts. */
  readonly conversions: Conversions;
  /** Files of mail that an earlier release could not have read. */
  readonly aside: readonly string[];
  readonly time: NodeTime;
  readonly secrets: NetworkSecrets;
  /** Size of the disk that the state lies on; undefined where the file system does not say. */
  readonly diskBytes: number | undefined;
  /** The machine's addresses. */
  readonly machine: HostNetworkWatch;
}

/** The store closes with the scope. Throws GODWIT_STATE_UNUSABLE and what the store throws. */
export async function openGround(deps: GroundDeps, hub: Teller<HubEvents>, scope: Scope): Promise<Ground> {
  const { config, clock, random, log } = deps;
  const { stateDir, network } = config.node;
  const inForce = { config };
  const metrics = new Metrics();
  for (const reason of checkSecrets(config)) log.warn("network secret looks made up", { reason });
  await makeStateDir(stateDir);
  const { identity, created } = loadOrCreateIdentity(stateDir, random);
  for (const reason of judgeStateFolder(stateDir).warnings)
    log.warn("others may write to state_dir", { reason });
  const path = `${stateDir}/godwit.db`;
  exposeProcess({ metrics, clock, version: deps.version, stateDir, databasePath: path });
  const database = await openSqliteStore({ path, log, clock, metrics, readsAhead: true });
  const aside = asideFiles(path);
  for (const file of aside)
    log.warn("mail is kept aside", { file, advice: `stop the node and run godwit store take-in ${file}` });
  const store = watchStore(database, {
    log,
    metrics,
    room: (missingBytes) => hub.emit("storeRoom", missingBytes),
    damaged: (found) => found.forEach((row) => hub.emit("storeDamaged", row)),
  });
  scope.own(() => store.close());
  const conversions = new Conversions({
    store,
    clock,
    log,
    metrics,
    olderStays: () => database.olderStays(),
  });
  conversions.register(restatement(database));
  scope.own(() => conversions.stop());
  const machineTime = machineTimeSource(() => clock.wallMs());
  const vouched = () => (inForce.config.node.clock === "trusted" ? clock.wallMs() : machineTime());
  const time = await openNodeTime({ store, clock, log, vouched });
  scope.own(() => time.save(true));
  const secrets = new NetworkSecrets({
    stateDir,
    network,
    ...secretSettingsOf(config),
    authority: config.network.authority,
    clock,
    time,
    log,
    verify: verifySignature,
  });
  const machine = openHostNetwork(clock);
  scope.own(() => machine.close());
  return {
    ...deps,
    inForce,
    metrics,
    identity,
    isNew: created,
    store,
    conversions,
    aside,
    time,
    secrets,
    machine,
    diskBytes: diskBytesOf(stateDir),
  };
}

function diskBytesOf(path: string): number | undefined {
  try {
    const { blocks, bsize } = statfsSync(path);
    return blocks > 0 ? blocks * bsize : undefined;
  } catch {
    return undefined;
  }
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
