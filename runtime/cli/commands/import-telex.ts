/**
 * `godwit config import-telex`: a Project Telex node file and its `TELEX_*` environment as a Godwit file on standard
 * output. What has no counterpart stays as a comment, so that nothing is lost in silence. Never writes a file.
 * docs/telex.md "Moving from Project Telex".
 */
import { readFileSync, statSync } from "node:fs";
import { parseConfig } from "../../config/load.ts";
import { godwitError } from "../../kernel/errors.ts";
import { type CommandContext, type CommandModule, exitCodes } from "../command.ts";

const FILE_BYTES_MAX = 1024 * 1024;
const LINK_PORT = 4860;
const TELEX_PORT = 8023;

const PREFIX = "TELEX_";
/** Keys of Project Telex, each of which is a variable as well, with the prefix and in capitals; that of `neighbors` is JSON. */
export const telexKeys = [
  ...["node_id", "location_code", "machine_id", "listen_host", "listen_port", "max_connections"],
  ...["message_ttl_hours", "max_message_size", "database_path", "dedup_db_path"],
  ...["hardware_enabled", "serial_port", "gpio_pin", "log_level", "log_format", "neighbors"],
] as const;
const keyOfVariable = new Map<string, string>(telexKeys.map((key) => [PREFIX + key.toUpperCase(), key]));

export const importTelex: CommandModule = {
  async run(context) {
    const file = context.args[0];
    if (file === undefined && !context.isSet("env"))
      throw godwitError("GODWIT_USAGE", "name the Project Telex file, or --env for TELEX_* alone, or both");
    const text = telexConfig(
      file,
      context.isSet("env") ? context.env : undefined,
      context.options("allow-from"),
    );
    await verify(text, context);
    context.io.stdout(context.isJson ? `${JSON.stringify({ config: text })}\n` : text);
    return exitCodes.fine;
  },
};

/**
 * A Project Telex node file, and its variables above that, as a Godwit file. Throws GODWIT_CONFIG_UNREADABLE and GODWIT_CONFIG_INVALID.
 * `env` undefined: the file alone.
 */
export function telexConfig(
  file: string | undefined,
  env: CommandContext["env"] | undefined,
  allowFrom: readonly string[],
): string {
  const settings = {
    ...(file === undefined ? {} : readTelexFile(file)),
    ...(env === undefined ? {} : readTelexEnvironment(env)),
  };
  const source = [
    ...(file === undefined ? [] : [file]),
    ...(env === undefined ? [] : ["TELEX_* of the environment"]),
  ].join(" and ");
  return godwitConfig(settings, source, allowFrom);
}

/** What is printed must be accepted; what is not was wrong in the old file as well. */
async function verify(text: string, { env }: CommandContext): Promise<void> {
  // The old variables and ours of this shell have no say in what stands in the new file.
  const clean = env["HOME"] === undefined ? {} : { HOME: env["HOME"] };
  const { checkConfig } = await import("../../node/node.ts");
  await checkConfig(parseConfig(text, { env: clean, format: "toml", path: "the imported configuration" }));
}

function readTelexFile(path: string): Record<string, unknown> {
  let value: unknown;
  try {
    const stat = statSync(path);
    if (!stat.isFile() || stat.size > FILE_BYTES_MAX) throw new Error("it is no plain file of at most 1 MiB");
    value = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw godwitError(
      "GODWIT_CONFIG_UNREADABLE",
      `cannot read the Project Telex file ${path}: ${why}`,
      error,
    );
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw godwitError(
      "GODWIT_CONFIG_INVALID",
      `${path} is not a JSON object; expected a Project Telex node file`,
    );
  return value as Record<string, unknown>;
}

function readTelexEnvironment(env: CommandContext["env"]): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  for (const [variable, text] of Object.entries(env)) {
    if (!variable.startsWith(PREFIX) || text === undefined || text === "") continue;
    const key = keyOfVariable.get(variable) ?? variable;
    found[key] = key === "neighbors" ? parseNeighbours(text) : text;
  }
  return found;
}

function parseNeighbours(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw godwitError(
      "GODWIT_CONFIG_INVALID",
      "TELEX_NEIGHBORS: expected JSON, a list of {node_id, host, port}",
    );
  }
}

/** Reads keys one by one; what nobody asked for is left over. */
class OldSettings {
  readonly #values: Map<string, unknown>;

  constructor(values: Readonly<Record<string, unknown>>) {
    this.#values = new Map(Object.entries(values));
  }

  take(key: string): unknown {
    const value = this.#values.get(key);
    this.#values.delete(key);
    return value === null ? undefined : value;
  }

  text(key: string, pattern: RegExp, expected: string): string | undefined {
    const value = this.take(key);
    if (value === undefined) return undefined;
    if (typeof value !== "string" || !pattern.test(value)) throw wrong(key, expected, value);
    return value;
  }

  number(key: string, from: number, to: number): number | undefined {
    const value = this.take(key);
    if (value === undefined) return undefined;
    const number = typeof value === "string" && /^\d{1,12}$/.test(value) ? Number(value) : value;
    if (typeof number !== "number" || !Number.isInteger(number) || number < from || number > to)
      throw wrong(key, `a whole number from ${from} to ${to}`, value);
    return number;
  }

  get rest(): [string, unknown][] {
    return [...this.#values];
  }
}

function wrong(key: string, expected: string, value: unknown) {
  const shown = JSON.stringify(value)?.slice(0, 120) ?? "nothing";
  return godwitError("GODWIT_CONFIG_INVALID", `${key}: expected ${expected}, found ${shown}`);
}

/** The new file, whole. */
export function godwitConfig(
  values: Readonly<Record<string, unknown>>,
  source: string,
  allowFrom: readonly string[],
): string {
  const old = new OldSettings(values);
  const sections = [
    `# Made by godwit config import-telex from ${JSON.stringify(source)}.\n# Every key and its meaning: godwit config explain`,
    nodeSection(old),
    `[transports.lan]\ntype = "tcp"\nlisten = ["0.0.0.0:${LINK_PORT}"]   # links between nodes; callers keep the telex port below`,
    neighbourSection(old),
    telexSection(old, allowFrom),
    deliverySection(old),
    leftSection(old),
  ];
  return `${sections.filter((section) => section !== "").join("\n\n")}\n`;
}

function nodeSection(old: OldSettings): string {
  const nodeId = old.text("node_id", /^[\x20-\x7e]{1,64}$/, "a name");
  const location = old.text("location_code", /^[A-Za-z0-9]{2,8}$/, "a location such as DUN");
  const machine = old.text("machine_id", /^[A-Za-z0-9]{1,8}$/, "a machine such as A");
  const callsign =
    location !== undefined && machine !== undefined ? `${location}-${machine}` : callsignOf(nodeId ?? "");
  if (callsign === undefined)
    throw godwitError(
      "GODWIT_CONFIG_INVALID",
      "location_code and machine_id: expected both, or a node_id such as DUN-A or DUNA",
    );
  const level = old.text("log_level", /^(?:debug|info|warn(?:ing)?|error|critical)$/i, "a log level");
  const format = old.text("log_format", /^[a-z]{1,16}$/i, "json or text");
  const levels: Readonly<Record<string, string>> = { warning: "warn", critical: "error" };
  const word = level?.toLowerCase();
  return [
    "[node]",
    `callsign = ${JSON.stringify(callsign.toUpperCase())}`,
    'network = "telex"',
    '# network_secret = "file:/etc/godwit/network.key"   # closes the mesh to strangers; the same on every node',
    ...(word === undefined ? [] : [`log_level = ${JSON.stringify(levels[word] ?? word)}`]),
    ...(format === undefined ? [] : [`log_format = "${format.toLowerCase() === "json" ? "json" : "text"}"`]),
  ].join("\n");
}

function callsignOf(nodeId: string): string | undefined {
  if (/^[A-Za-z0-9]{2,8}-[A-Za-z0-9]{1,8}$/.test(nodeId)) return nodeId;
  return /^[A-Za-z0-9]{4}$/.test(nodeId) ? `${nodeId.slice(0, 3)}-${nodeId.slice(3)}` : undefined;
}

function neighbourSection(old: OldSettings): string {
  const neighbours = old.take("neighbors") ?? [];
  if (!Array.isArray(neighbours)) throw wrong("neighbors", "a list of {node_id, host, port}", neighbours);
  const lines = neighbours.map((neighbour: unknown, i) => {
    const entry = typeof neighbour === "object" && neighbour !== null ? neighbour : {};
    const one = new OldSettings(entry as Record<string, unknown>);
    const host = one.text("host", /^[A-Za-z0-9._:%-]{1,253}$/, "a host name or address");
    if (host === undefined) throw wrong(`neighbors[${i}].host`, "a host name or address", neighbour);
    const name = one.text("node_id", /^[\x20-\x7e]{1,64}$/, "a name") ?? "unnamed";
    const port = one.number("port", 1, 65_535) ?? TELEX_PORT;
    const peer = `tcp://${host.includes(":") ? `[${host}]` : host}:${LINK_PORT}`;
    const more = one.rest.map(([key, value]) => `, ${comment(key, value)}`).join("");
    return `  ${JSON.stringify(peer)},   # ${JSON.stringify(name)}, whose telex port was ${port}${more}`;
  });
  if (lines.length === 0) return "# No neighbours were listed: this node waits for others to call it.";
  return [
    `# Godwit nodes link on port ${LINK_PORT}; the old ports were those of the telex protocol.`,
    "[discovery.neighbours]",
    'type = "static"',
    "peers = [",
    ...lines,
    "]",
  ].join("\n");
}

function telexSection(old: OldSettings, allowFrom: readonly string[]): string {
  const host = old.text("listen_host", /^[0-9a-fA-F:.]{1,45}$|^localhost$/, "an IP address");
  const port = old.number("listen_port", 0, 65_535) ?? TELEX_PORT;
  const connections = old.number("max_connections", 1, 1_000_000);
  const size = old.number("max_message_size", 1, 2 ** 40);
  const wanted = host ?? "0.0.0.0";
  const isLocal = /^(127\.|localhost$|::1$)/.test(wanted);
  const listen = (address: string) => `${address.includes(":") ? `[${address}]` : address}:${port}`;
  const opening =
    isLocal || allowFrom.length > 0
      ? [
          `listen = "${listen(wanted)}"`,
          ...(allowFrom.length > 0 ? [`allow_from = ${JSON.stringify(allowFrom)}`] : []),
        ]
      : [
          `listen = "127.0.0.1:${port}"`,
          `# It listened on ${listen(wanted)} and took messages from everybody. Beyond this machine it now takes one of:`,
          `# listen = "${listen(wanted)}"`,
          '# allow_from = ["10.0.0.0/8"]                       # who may call (import with --allow-from does this)',
          '# password = "file:/etc/godwit/telex.password"      # what they must say first',
        ];
  const bounded = (value: number, from: number, to: number) => Math.min(Math.max(value, from), to);
  return [
    "[services.telex]",
    'type = "telex"',
    ...opening,
    ...(connections === undefined ? [] : [`max_connections = ${bounded(connections, 1, 4096)}`]),
    ...(size === undefined ? [] : [`message_max = "${bounded(size, 256, 1024 * 1024)}B"`]),
  ].join("\n");
}

function deliverySection(old: OldSettings): string {
  const hours = old.number("message_ttl_hours", 1, 1_000_000);
  if (hours === undefined) return "";
  const most = 720;
  const note = hours > most ? `   # was ${hours}h; 30 days are the most` : "";
  return `[delivery]\nlifetime = "${Math.min(hours, most)}h"${note}`;
}

/** Said in comments, because there is nothing else to do with it. */
function leftSection(old: OldSettings): string {
  const lines: string[] = [];
  for (const key of ["database_path", "dedup_db_path"]) {
    const value = old.take(key);
    if (value !== undefined)
      lines.push(
        `# ${comment(key, value)}: messages are not carried over; Godwit keeps its own in node.state_dir`,
      );
  }
  const hardware = ["hardware_enabled", "serial_port", "gpio_pin"].map(
    (key) => [key, old.take(key)] as const,
  );
  for (const [key, value] of hardware)
    if (value !== undefined && !/^"?(?:false|0|no)"?$/i.test(JSON.stringify(value)))
      lines.push(
        `# ${comment(key, value)}: connect a teletype by a program that bridges its line to the telex port`,
      );
  for (const [key, value] of old.rest) lines.push(`# unknown: ${comment(key, value)}`);
  return lines.join("\n");
}

/** On one line whatever is in it. */
const comment = (key: string, value: unknown): string =>
  `${JSON.stringify(key).slice(1, -1)} = ${JSON.stringify(value)?.slice(0, 400) ?? "null"}`.replace(
    /[\u007f-\u009f\u2028\u2029]/g,
    "?",
  );
