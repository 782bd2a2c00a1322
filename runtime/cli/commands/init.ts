/** `godwit init` and `godwit id`: what a machine needs before its node first runs. Works without a node. */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import { dirname, resolve } from "node:path";
import { loadConfig, parseConfig } from "../../config/load.ts";
import { loadIdentity, loadOrCreateIdentity } from "../../identity/keystore.ts";
import { godwitError } from "../../kernel/errors.ts";
import { systemRandom } from "../../kernel/random.ts";
import { type CommandContext, type CommandModule, exitCodes } from "../command.ts";
import { facts, short } from "../render.ts";

export const init: CommandModule = {
  async run(context) {
    const path = resolve(
      context.option("config") ?? (context.env["GODWIT_CONFIG"] || defaultPath(context.env)),
    );
    const isNew = !existsSync(path);
    if (!isNew && !context.isSet("force") && hasSettings(context))
      throw godwitError(
        "GODWIT_USAGE",
        `${path} is there already; edit it, or replace it with --force (the identity is kept either way)`,
      );
    // Without --force an existing file is used as it is: running init twice is no mistake.
    const writes = isNew || context.isSet("force");
    const text = writes ? starterConfig(context) : undefined;
    const config =
      text === undefined
        ? await loadConfig({ path, env: context.env })
        : parseConfig(text, { path, env: context.env, format: "toml" });
    if (text !== undefined) writeWhole(path, text);
    const { identity } = loadOrCreateIdentity(config.node.stateDir, systemRandom);
    const found = {
      id: identity.id,
      callsign: config.node.callsign ?? null,
      config: path,
      state_dir: config.node.stateDir,
    };
    context.io.stdout(
      context.isJson
        ? `${JSON.stringify(found)}\n`
        : `${facts(
            [
              ["id", found.id],
              ["callsign", found.callsign ?? "-"],
              ["config", `${path}${writes ? "" : " (was there, is unchanged)"}`],
              ["state", found.state_dir],
            ],
            context.paint,
          )}next: godwit run --config ${path}\n`,
    );
    return exitCodes.fine;
  },
};

export const id: CommandModule = {
  async run(context) {
    const { node } = await loadConfig({ path: context.option("config"), env: context.env });
    const identity = loadIdentity(node.stateDir);
    if (identity === undefined)
      throw godwitError(
        "GODWIT_STATE_UNUSABLE",
        `no identity in ${node.stateDir} yet: godwit init makes one`,
      );
    const found = { id: identity.id, short: short(identity.id), callsign: node.callsign ?? null };
    context.io.stdout(context.isJson ? `${JSON.stringify(found)}\n` : `${found.id}\n`);
    return exitCodes.fine;
  },
};

const hasSettings = (context: CommandContext) =>
  ["callsign", "network", "state-dir", "peer"].some((name) => context.isSet(name));

/** As root the system's place, else the user's. */
function defaultPath(env: CommandContext["env"]): string {
  const home = env["XDG_CONFIG_HOME"] || (env["HOME"] ? `${env["HOME"]}/.config` : undefined);
  return process.getuid?.() === 0 || home === undefined
    ? "/etc/godwit/godwit.toml"
    : `${home}/godwit/godwit.toml`;
}

/** Only what was asked for is set; the rest stands as comments, for the next person with an editor. */
function starterConfig(context: CommandContext): string {
  const setting = (key: string, option: string, example: string) => {
    const value = context.option(option);
    return value === undefined
      ? `# ${key} = ${JSON.stringify(example)}`
      : `${key} = ${JSON.stringify(value)}`;
  };
  const peers = context.options("peer");
  const discovery = [
    "[discovery.neighbours]",
    'type = "static"',
    `peers = [${(peers.length === 0 ? ["tcp://192.0.2.1:4860"] : peers).map((peer) => JSON.stringify(peer)).join(", ")}]`,
  ].map((line) => (peers.length === 0 ? `# ${line}` : line));
  return [
    "# Every key and its meaning: godwit config explain",
    "",
    "[node]",
    setting("callsign", "callsign", "DUN-A"),
    setting("network", "network", "godwit"),
    '# network_secret = "file:/etc/godwit/network.key"   # closes the mesh to strangers',
    setting("state_dir", "state-dir", "/var/lib/godwit"),
    "",
    "[transports.lan]",
    'type = "tcp"',
    'listen = ["0.0.0.0:4860"]',
    "",
    ...discovery,
    "",
    "[api]",
    'listen = "127.0.0.1:8000"',
    "",
  ].join("\n");
}

/** All of it or nothing, and no half-written file after a power cut. */
function writeWhole(path: string, text: string): void {
  const temporary = `${path}.${process.pid}.new`;
  try {
    mkdirSync(dirname(path), { recursive: true });
    const handle = openSync(temporary, "wx", 0o644);
    try {
      writeSync(handle, text);
      fsyncSync(handle);
    } finally {
      closeSync(handle);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    const reason = error instanceof Error ? error.message : String(error);
    throw godwitError(
      "GODWIT_CONFIG_UNREADABLE",
      `cannot write ${path}: ${reason}; choose a place with --config`,
      error,
    );
  }
}
