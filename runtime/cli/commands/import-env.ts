/**
 * `godwit config import --env`: the variables of a replaced system as a Godwit file on standard output. What has no
 * counterpart stays as a comment with what there is instead; secrets are named and never shown. Never writes a file.
 */
import { parseConfig } from "../../config/load.ts";
import { oldVariables } from "../../config/old-variables.ts";
import { parseCallsign } from "../../identity/address.ts";
import { godwitError } from "../../kernel/errors.ts";
import { type CommandContext, type CommandModule, exitCodes } from "../command.ts";

type Environment = CommandContext["env"];

const API_PORT = 8000;
const LEVELS: Readonly<Record<string, string>> = { warning: "warn", critical: "error", trace: "debug" };
/** Of one variable, that of the list of peers. */
const PEERS_MAX = 64;

export const importEnv: CommandModule = {
  async run(context) {
    if (!context.isSet("env"))
      throw godwitError("GODWIT_USAGE", "say --env: the variables of this environment are read");
    const text = configOf(context.env);
    const { checkConfig } = await import("../../node/node.ts");
    const clean = context.env["HOME"] === undefined ? {} : { HOME: context.env["HOME"] };
    await checkConfig(parseConfig(text, { env: clean, format: "toml", path: "the imported configuration" }));
    context.io.stdout(context.isJson ? `${JSON.stringify({ config: text })}\n` : text);
    return exitCodes.fine;
  },
};

/** Throws GODWIT_USAGE where there is none of them, GODWIT_CONFIG_INVALID for a value that means nothing. */
export function configOf(env: Environment): string {
  const given = (name: string) => env[name] || undefined;
  const found = Object.keys(oldVariables).filter((name) => given(name) !== undefined);
  if (found.length === 0)
    throw godwitError("GODWIT_USAGE", `none of ${Object.keys(oldVariables).join(", ")} is set`);
  const sections = [
    `# Made by godwit config import --env from ${found.join(", ")}.\n# Every key and its meaning: godwit config explain`,
    nodeSection(given),
    apiSection(given("LISTEN_HOST"), given("LISTEN_PORT")),
    overlaySection(given("YGGDRASIL_PEERS")),
    found
      .flatMap((name) => {
        const { instead } = oldVariables[name]!;
        return instead === undefined ? [] : [`# ${name}: ${instead}`];
      })
      .join("\n"),
  ];
  return `${sections.filter((section) => section !== "").join("\n\n")}\n`;
}

function nodeSection(given: (name: string) => string | undefined): string {
  const called = given("NODE_ID") ?? given("AGENT_ID");
  const callsign = called === undefined ? undefined : callsignOf(called);
  const level = given("LOG_LEVEL")?.toLowerCase();
  if (level !== undefined && !/^(?:trace|debug|info|warn(?:ing)?|error|critical)$/.test(level))
    throw godwitError("GODWIT_CONFIG_INVALID", `LOG_LEVEL: expected a log level, found ${shown(level)}`);
  const database = given("DB_PATH");
  const lines = [
    ...(called === undefined
      ? []
      : [
          callsign === undefined
            ? `# callsign = "DUN-A"   # was ${shown(called)}, which is no LOCATION-MACHINE; the node's own id needs no name`
            : `callsign = ${JSON.stringify(callsign)}`,
        ]),
    ...(level === undefined ? [] : [`log_level = ${JSON.stringify(LEVELS[level] ?? level)}`]),
    ...(database === undefined
      ? []
      : [
          `# state_dir = "/var/lib/godwit"   # the database was ${shown(database)}; what is in it is not carried over`,
        ]),
  ];
  return lines.length === 0 ? "" : ["[node]", ...lines].join("\n");
}

/** As it is, or the four characters of a telex address; of other words nothing is made up. */
function callsignOf(text: string): string | undefined {
  const four = /^[A-Za-z0-9]{4}$/.test(text) ? `${text.slice(0, 3)}-${text.slice(3)}` : text;
  return parseCallsign(four.toUpperCase());
}

function apiSection(host: string | undefined, port: string | undefined): string {
  if (host === undefined && port === undefined) return "";
  const number = port === undefined ? API_PORT : Number(port);
  if (!/^\d{1,5}$/.test(port ?? "0") || number > 65_535)
    throw godwitError("GODWIT_CONFIG_INVALID", `LISTEN_PORT: expected a port, found ${shown(port ?? "")}`);
  const address = host ?? "127.0.0.1";
  if (!/^(?:[0-9.]{7,15}|[0-9a-fA-F:]{2,39}|localhost)$/.test(address))
    throw godwitError(
      "GODWIT_CONFIG_INVALID",
      `LISTEN_HOST: expected an IP address, found ${shown(address)}`,
    );
  const literal = address === "localhost" ? "127.0.0.1" : address.includes(":") ? `[${address}]` : address;
  return [
    "[api]",
    `listen = "${literal}:${number}"   # beyond loopback a token is asked for: godwit token --help`,
  ].join("\n");
}

function overlaySection(list: string | undefined): string {
  if (list === undefined) return "";
  const peers = peersIn(list);
  const wrong = peers.find(
    (peer) => !/^(?:tls|tcp|quic|ws|wss|socks|unix):\/\/[\x21-\x7e]{1,250}$/.test(peer),
  );
  if (wrong !== undefined || peers.length > PEERS_MAX)
    throw godwitError(
      "GODWIT_CONFIG_INVALID",
      `YGGDRASIL_PEERS: expected at most ${PEERS_MAX} peers such as tls://192.0.2.7:9001, found ${shown(wrong ?? list)}`,
    );
  return [
    "[transports.lan]",
    'type = "tcp"',
    'listen = ["[::]:4860"]',
    "",
    "[transports.overlay]",
    'type = "yggdrasil"   # the daemon that runs here; with mode = "supervised" one of the node\'s own',
    `peers = ${JSON.stringify(peers)}`,
  ].join("\n");
}

/** A JSON list, or words with commas or spaces between. */
function peersIn(list: string): string[] {
  try {
    const value: unknown = JSON.parse(list);
    if (Array.isArray(value)) return value.map(String);
  } catch {
    // Words, then.
  }
  return list.split(/[\s,]+/).filter(Boolean);
}

/** On one line whatever is in it. */
const shown = (text: string): string =>
  JSON.stringify(text.slice(0, 120)).replaceAll(/[\u007f-\u009f\u2028\u2029]/g, "?");
