/** `godwit init` and `godwit id`: what a machine needs before its node first runs. Works without a node. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { loadConfig, parseConfig } from "../../config/load.ts";
import { loadIdentity, loadOrCreateIdentity } from "../../identity/keystore.ts";
import { systemClock } from "../../kernel/clock.ts";
import { godwitError } from "../../kernel/errors.ts";
import { lanInterfaces, openHostNetwork } from "../../kernel/host-network.ts";
import { systemRandom } from "../../kernel/random.ts";
import { type CommandContext, type CommandModule, exitCodes } from "../command.ts";
import { safeText, short } from "../render.ts";
import { facts } from "../table-text.ts";
import { defaultConfigPath, placeOf, starterConfig, writeConfig } from "../starter.ts";

export const init: CommandModule = {
  async run(context) {
    const path = resolve(
      context.option("config") ?? (context.env["GODWIT_CONFIG"] || defaultConfigPath(context.env)),
    );
    const isNew = !existsSync(path);
    if (!isNew && !context.isSet("force") && hasSettings(context))
      throw godwitError(
        "GODWIT_USAGE",
        `${path} is there already; edit it, or replace it with --force (the identity is kept either way)`,
      );
    // Without --force an existing file is used as it is: running init twice is no mistake.
    const writes = isNew || context.isSet("force");
    const text = writes
      ? starterConfig({
          callsign: context.option("callsign"),
          network: context.option("network"),
          stateDir: placeOf(context),
          listen: context.options("listen"),
          apiListen: context.option("api"),
          peers: context.options("peer"),
          hasMdns: context.isSet("mdns"),
        })
      : undefined;
    const config =
      text === undefined
        ? await loadConfig({ path, env: context.env })
        : parseConfig(text, { path, env: context.env, format: "toml" });
    if (text !== undefined) {
      // All that a start would refuse, before there is a file that says it.
      const { checkConfig } = await import("../../node/node.ts");
      for (const warning of await checkConfig(config))
        if (!context.isJson) context.io.stderr(`warning: ${safeText(warning)}\n`);
      writeConfig(path, text);
    }
    const { identity } = loadOrCreateIdentity(config.node.stateDir, systemRandom);
    const { discovery } = config;
    const isOnLan = discovery.some(({ type, enabled }) => enabled && type === "mdns");
    const lan = isOnLan ? [] : lanHere();
    const found = {
      id: identity.id,
      callsign: config.node.callsign ?? null,
      config: path,
      state_dir: config.node.stateDir,
      mdns: isOnLan,
      lan,
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
          )}${lan.length === 0 ? "" : offer(lan)}next: godwit run --config ${path}\n`,
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

/** Interfaces of a LAN that multicast DNS would be spoken on. */
function lanHere(): string[] {
  const machine = openHostNetwork(systemClock);
  try {
    return lanInterfaces(machine.addresses());
  } finally {
    machine.close();
  }
}

const offer = (lan: readonly string[]): string =>
  `this machine is on a LAN (${lan.join(", ")}): with [discovery.lan] type = "mdns", or godwit init --mdns, nodes there find each other\n`;

const hasSettings = (context: CommandContext) =>
  ["callsign", "network", "state-dir", "listen", "api", "peer", "mdns"].some((name) => context.isSet(name));
