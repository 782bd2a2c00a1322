/**
 * A radio in a node's configuration: which tables name it already, which are to be added, and adding them to the file. Nothing else of the file changes. What a
 * start would refuse is refused before anything is written.
 */
import { chownSync, existsSync, realpathSync, statSync } from "node:fs";
import { resolve } from "node:path";
import {
  type Config,
  defaultConfigPaths,
  loadConfig,
  parseConfig,
  type PluginConfig,
} from "../config/load.ts";
import { godwitError } from "../kernel/errors.ts";
import { defaultConfigPath, writeConfig } from "./starter.ts";

export interface RadioTables {
  /** The file of the node. */
  readonly path: string;
  readonly isThere: boolean;
  /** Tables to be added; empty: it has them. */
  readonly text: string;
  /** Of the radio's channel, as chosen, as its table says, else the fallback; undefined: its table says none, which is the primary one. */
  readonly channel: string | undefined;
  /** Names of the tables that it has, or will have. */
  readonly service: string;
  readonly transport: string;
  /** The whole of the file with them; undefined: they cannot be added to it, as it is no TOML or is not there. */
  readonly whole: string | undefined;
}

export interface TablesWish {
  /** As `connect` is written. */
  readonly connect: string;
  /** Of the radio's channel, where somebody chose it. */
  readonly channel: string | undefined;
  /** Where neither that nor the configuration says one. */
  readonly fallback: string;
  /** Of both tables; undefined: "radio" and "lora", or with a number behind. */
  readonly name: string | undefined;
  /** Whether a `connect` of the configuration is this radio. */
  readonly isIt: (connect: string) => boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly config: string | undefined;
}

/** Throws what `loadConfig` throws, and GODWIT_USAGE for a name that is taken. */
export async function tablesFor(wish: TablesWish): Promise<RadioTables> {
  const { env, connect, fallback } = wish;
  const path = configPath(wish.config, env);
  const isThere = existsSync(path);
  const config = isThere ? await loadConfig({ path, env }) : undefined;
  const known = config?.services.find(
    ({ type, options }) =>
      type === "radio" && typeof options["connect"] === "string" && wish.isIt(options["connect"]),
  );
  const users = (config?.transports ?? []).filter(
    ({ type, options }) => type === "meshtastic" && known !== undefined && options["radio"] === known.name,
  );
  const channelOf = ({ options }: PluginConfig) =>
    typeof options["channel"] === "string" ? options["channel"] : undefined;
  const user = wish.channel === undefined ? users[0] : users.find((one) => channelOf(one) === wish.channel);
  const channel = user === undefined ? (wish.channel ?? fallback) : channelOf(user);
  const service = known?.name ?? freeName(wish.name ?? "radio", config?.services, wish.name !== undefined);
  const transport = user?.name ?? freeName(wish.name ?? "lora", config?.transports, wish.name !== undefined);
  const text = [
    // The default one stands in only where there is none.
    ...(config?.origin.isDefaultTransport === true ? [DEFAULT_TRANSPORT] : []),
    ...(known === undefined
      ? [`[services.${service}]\ntype = "radio"\nconnect = ${JSON.stringify(connect)}\n`]
      : []),
    ...(user === undefined
      ? [
          `[transports.${transport}]\ntype = "meshtastic"\nradio = "${service}"\nchannel = ${JSON.stringify(channel)}\n`,
        ]
      : []),
  ].join("\n");
  const needsText = known === undefined || user === undefined;
  const whole =
    config === undefined || config.origin.format !== "toml"
      ? undefined
      : `${config.origin.text.trimEnd()}\n\n${text}`;
  return { path, isThere, text: needsText ? text : "", channel, service, transport, whole };
}

const DEFAULT_TRANSPORT = '[transports.lan]\ntype = "tcp"\nlisten = ["[::]:4860"]\n';

/** The file with the tables in it. Throws GODWIT_USAGE where they cannot be added. */
export function wholeOf({ path, whole }: RadioTables): string {
  if (whole !== undefined) return whole;
  throw godwitError(
    "GODWIT_USAGE",
    existsSync(path)
      ? `${path} is not in TOML: add the tables by hand`
      : `there is no configuration at ${path} yet: godwit init makes one, then again`,
  );
}

/** Answers warnings. Throws ConfigError, with the file as it was, and GODWIT_USAGE. */
export async function writeTables(
  tables: RadioTables,
  env: Readonly<Record<string, string | undefined>>,
): Promise<string[]> {
  const { path } = tables;
  const whole = wholeOf(tables);
  const { checkConfig } = await import("../node/node.ts");
  const warnings = await checkConfig(parseConfig(whole, { path, env, format: "toml" }));
  const target = realpathSync(path);
  const { mode, uid, gid } = statSync(target);
  writeConfig(target, whole, mode & 0o777);
  if (process.getuid?.() === 0) chownSync(target, uid, gid);
  return warnings;
}

/** The file that the node here reads, or would. */
function configPath(named: string | undefined, env: Readonly<Record<string, string | undefined>>): string {
  const found = named ?? (env["GODWIT_CONFIG"] || defaultConfigPaths(env).find(existsSync));
  return resolve(found ?? defaultConfigPath(env));
}

function freeName(wanted: string, taken: Config["services"] | undefined, isChosen: boolean): string {
  const isTaken = (name: string) => taken?.some((one: PluginConfig) => one.name === name) === true;
  if (isChosen && isTaken(wanted))
    throw godwitError(
      "GODWIT_USAGE",
      `the configuration has a table of the name ${wanted} already: choose another with --name`,
    );
  for (let n = 1; ; n++) {
    const name = n === 1 ? wanted : `${wanted}_${n}`;
    if (!isTaken(name)) return name;
  }
}
