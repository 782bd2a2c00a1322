/**
 * From a token to a configuration on disk: what `godwit join` and the first start of `godwit run --join` share. Writes
 * the secrets (0600) before the configuration that names them, so that a power cut leaves either all or a machine that
 * can try again; the invitation lets the same machine in twice.
 */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Clock, Log, Random } from "@godwit/sdk";
import { parseConfig } from "../config/load.ts";
import { parseCallsign } from "../identity/address.ts";
import { parseToken } from "../identity/token.ts";
import { godwitError } from "../kernel/errors.ts";
import type { NodeId } from "../kernel/ids.ts";
import { keepGranted } from "../closed/secrets.ts";
import { defaultConfigPath, starterConfig, writeConfig } from "./starter.ts";
import { joinMesh } from "../node/join.ts";

const SECRET_FILE = "network.key";
/** What a configuration takes: one, and the one it replaces. */
const SECRETS_WRITTEN_MAX = 2;

export interface JoinWish {
  readonly token: string;
  readonly configPath: string;
  readonly callsign: string | undefined;
  readonly stateDir: string | undefined;
  /** As of `godwit init`. */
  readonly listen?: readonly string[];
  readonly apiListen?: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly signal: AbortSignal;
}

export interface JoinOutcome {
  readonly id: NodeId;
  readonly callsign: string | null;
  readonly network: string;
  readonly member: NodeId;
  readonly config: string;
  readonly state_dir: string;
  readonly secrets: readonly string[];
  readonly peers: readonly string[];
}

/** Where the configuration goes: as named, else where `init` would put it. */
export const joinConfigPath = (
  named: string | undefined,
  env: Readonly<Record<string, string | undefined>>,
): string => resolve(named ?? (env["GODWIT_CONFIG"] || defaultConfigPath(env)));

/** Throws what `joinMesh` and `parseToken` throw; nothing but the identity was written then. */
export async function joinByToken(wish: JoinWish): Promise<JoinOutcome> {
  const { configPath, env, stateDir } = wish;
  const token = parseToken(wish.token);
  if (existsSync(configPath)) throw godwitError("GODWIT_JOIN_REFUSED", `${configPath} is there already`);
  const callsign = chosenCallsign(wish.callsign, token.callsign);
  const { listen = [], apiListen } = wish;
  const parts = { callsign, network: token.network, stateDir, listen, apiListen };
  const draft = parseConfig(starterConfig({ ...parts, peers: [] }), {
    path: configPath,
    env,
    format: "toml",
  });
  const joined = await joinMesh({ ...wish, token, callsign, config: draft });
  const ownFolder = { stateDir: draft.node.stateDir, network: token.network };
  const configured = keepGranted(ownFolder, joined.secrets, joined.lives);
  const secrets = configured.slice(0, SECRETS_WRITTEN_MAX).map((secret, index) => {
    const path = join(draft.node.stateDir, index === 0 ? SECRET_FILE : `${SECRET_FILE}.${index + 1}`);
    writeConfig(path, fileOf(secret), 0o600);
    return path;
  });
  const { id, member, peers } = joined;
  const text = starterConfig({ ...parts, networkSecrets: secrets.map((path) => `file:${path}`), peers });
  // Judged as the node will judge it, before it is there.
  parseConfig(text, { path: configPath, env, format: "toml" });
  writeConfig(configPath, text);
  return {
    id,
    callsign: callsign ?? null,
    network: token.network,
    member,
    config: configPath,
    state_dir: draft.node.stateDir,
    secrets,
    peers,
  };
}

function chosenCallsign(wanted: string | undefined, offered: string | undefined): string | undefined {
  if (wanted === undefined) return offered;
  const callsign = parseCallsign(wanted);
  if (callsign === undefined) throw godwitError("GODWIT_USAGE", "--callsign is LOCATION-MACHINE, like DUN-A");
  return callsign;
}

/** Reading drops one line end, so one is added, except where the last byte would be taken for a part of it. */
function fileOf(secret: Uint8Array): Uint8Array {
  if (secret.at(-1) === 0x0d) return secret;
  const out = new Uint8Array(secret.length + 1);
  out.set(secret);
  out[secret.length] = 0x0a;
  return out;
}
