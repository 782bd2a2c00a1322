/**
 * From a file and the environment to a checked `Config`. Owns reading, merging and the defaults that depend on the
 * machine; must never start anything and never keeps a secret in text. Reference: docs/configuration.md, generated from
 * `schema.ts`.
 */
import { existsSync, statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { godwitError } from "../kernel/errors.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { LogLevel } from "../kernel/log.ts";
import { readOverrides, referencedVariables } from "./env.ts";
import { type ConfigFormat, withLines } from "./lines.ts";
import { type ListenAddress, SECRET_BYTES_MIN, TOKEN_BYTES_MAX, upperCase } from "./parts.ts";
import { ConfigError, type ConfigProblem, describeFound, formatPath } from "./problems.ts";
import { judgeQuickly, REFUSED } from "./quick.ts";
import type { ConfigTokenScope, Settings } from "./schema.ts";
import { schemas } from "./schemas.ts";
import { settingsShape } from "./shapes.ts";
import { type Environment, readSecret, Secret, type SecretBounds } from "@godwit/sdk/secret";
import { type Document, formatOf, parseDocument } from "./text.ts";

export { ConfigError, type ConfigProblem, formatConfigProblems } from "./problems.ts";
export { type ListenAddress, parseListenAddress } from "./parts.ts";
export { type ConfigFormat } from "./lines.ts";
export { runnerVariables } from "./env.ts";

/** One `[transports.NAME]`, `[discovery.NAME]` or `[services.NAME]`. */
export interface PluginConfig {
  /** NAME: lower-case letters, digits, single underscores. */
  readonly name: string;
  readonly type: string;
  readonly enabled: boolean;
  /** Undefined: what its origin implies. */
  readonly trust: "trusted" | "contained" | "untrusted" | undefined;
  readonly grant: readonly string[];
  readonly acceptMissing: readonly string[];
  /** The plugin's own keys, not yet checked: its own schema does that. */
  readonly options: Readonly<Record<string, unknown>>;
}

export interface Config {
  readonly node: {
    /** Upper case, `DUN-A`. */
    readonly callsign: string | undefined;
    /** Upper case, `DUN`. */
    readonly location: string | undefined;
    readonly network: string;
    /** None: the mesh is open. Two: one replaces the other, the first is what we use ourselves. */
    readonly networkSecrets: readonly Secret[];
    /** As written: `auto` stands for what is found. */
    readonly tags: readonly string[];
    /** Absolute; need not exist yet. */
    readonly stateDir: string;
    /** Whether the wall clock is believed without anybody who confirms it. */
    readonly clock: "auto" | "trusted";
    readonly logLevel: LogLevel;
    readonly logFormat: "auto" | "json" | "text";
  };
  readonly transports: readonly PluginConfig[];
  readonly discovery: readonly PluginConfig[];
  readonly services: readonly PluginConfig[];
  readonly engines: readonly PluginConfig[];
  readonly heal: readonly PluginConfig[];
  readonly api: {
    /** Empty: no TCP listener. */
    readonly listen: readonly ListenAddress[];
    /** What needs no token on loopback needs none from elsewhere. */
    readonly publicRead: boolean;
    /** Absolute path, short enough for a unix socket. */
    readonly socket: string;
    /** Profiles are made over TCP as well. */
    readonly isProfiled: boolean;
    readonly tokens: readonly {
      readonly secret: Secret;
      readonly scopes: readonly ConfigTokenScope[];
      readonly label: string;
    }[];
  };
  /** Callsign in upper case to node id. */
  readonly names: ReadonlyMap<string, NodeId>;
  readonly trust: {
    readonly trusted: readonly NodeId[];
    readonly blocked: readonly NodeId[];
    readonly rules: Settings["trust"]["rules"];
    /** Undefined: nobody is promoted. */
    readonly promoteAfterMs: number | undefined;
    readonly promoteOnionsAfterMs: number | undefined;
    readonly reviewMs: number;
  };
  /** Links that the node seeks of its own accord; 0: none. */
  readonly peers: { readonly linksWanted: number; readonly dialNetworks: readonly string[] };
  readonly network: {
    readonly authority: NodeId | undefined;
    readonly rotate: "authority" | "members" | "nobody";
    readonly secretOverlapMs: number;
  };
  readonly forwards: Settings["forwards"];
  readonly forwardAllow: Settings["forward_allow"];
  readonly delivery: {
    readonly lifetimeMs: number;
    readonly overdueAfterMs: number;
    readonly failoverDelayMs: number;
    readonly outboxMessagesMax: number;
    readonly outboxBytesMax: number;
    readonly transitMessagesMax: number;
    readonly transitBytesMax: number;
    /** Fraction of the transit quota, 0.01 to 1. */
    readonly neighbourShare: number;
    readonly inboxMessagesMax: number;
    readonly inboxBytesMax: number;
    readonly inboxRetentionMs: number;
  };
  readonly routing: {
    /** Added to each path through this node, in ms; fractions allowed. */
    readonly hopCostMs: number;
    readonly destinationsMax: number;
  };
  /** Of the machine, where Godwit is PID 1, which reads it by itself (machine.ts): here only to tell that it changed. */
  readonly machine: Settings["machine"];
  /** Where each value came from; for `explain` and `diff`, not for the node. */
  readonly origin: ConfigOrigin;
}

export interface ConfigOrigin {
  /** Undefined when there is no file. */
  readonly path: string | undefined;
  /** File and environment merged, keys and units as written, secrets as references. */
  readonly document: Readonly<Document>;
  /** Path of a key (`node.callsign`) to the variable that set it. */
  readonly variables: ReadonlyMap<string, string>;
  /** Nobody configured a transport, so the default one stands in the document. */
  readonly isDefaultTransport: boolean;
  /** The text as it was read, for the places of what turns out to be wrong later. Holds no secret. */
  readonly text: string;
  readonly format: ConfigFormat;
}

/** Problems of a configuration that was read, with where each comes from: its line, or the variable that set it. */
export function configError(
  { path, text, format, variables }: Pick<ConfigOrigin, "path" | "text" | "format" | "variables">,
  problems: readonly ConfigProblem[],
): ConfigError {
  const named = problems.map((one) => ({ one, variable: variableOf(one.path, variables) }));
  const placed = withLines(
    named.flatMap(({ one, variable }) => (variable === undefined ? one : [])),
    text,
    format,
  );
  return new ConfigError(
    path ?? "the configuration",
    named.map(({ one, variable }) =>
      variable === undefined ? placed.shift()! : { ...one, path: `${one.path} (from ${variable})` },
    ),
  );
}

export interface LoadOptions {
  /** The file. Without it and without `text`: GODWIT_CONFIG, else the first of `defaultConfigPaths` that exists, else none. */
  readonly path?: string | undefined;
  /** Instead of a file. */
  readonly text?: string | undefined;
  readonly format?: ConfigFormat | undefined;
  readonly env: Environment;
  /** Whether the node runs as root; decides only the default of state_dir. */
  readonly isRoot?: boolean | undefined;
}

/** Used when no transport is configured at all. */
const DEFAULT_TRANSPORT = { name: "lan", type: "tcp", listen: ["[::]:4860"] } as const;

/** A configuration is written by hand; a larger file is the wrong one. */
const FILE_BYTES_MAX = 4 * 2 ** 20;
/** sun_path of sockaddr_un is 108 bytes with its end mark. */
const SOCKET_PATH_BYTES_MAX = 107;

/** Where a file is looked for when none is named. */
export const defaultConfigPaths = (env: Environment): string[] => [
  "/etc/godwit/godwit.toml",
  ...(env["XDG_CONFIG_HOME"] ? [`${env["XDG_CONFIG_HOME"]}/godwit/godwit.toml`] : []),
  ...(!env["XDG_CONFIG_HOME"] && env["HOME"] ? [`${env["HOME"]}/.config/godwit/godwit.toml`] : []),
];

/**
 * @throws ConfigError (GODWIT_CONFIG_INVALID) with every problem at once; GODWIT_CONFIG_UNREADABLE when the file cannot
 * be read.
 */
export async function loadConfig(options: LoadOptions): Promise<Config> {
  if (options.text !== undefined) return parseConfig(options.text, options);
  const path =
    options.path ?? (options.env["GODWIT_CONFIG"] || defaultConfigPaths(options.env).find(existsSync));
  if (path === undefined) return parseConfig("", { ...options, format: "toml" });
  return parseConfig(await readText(path), { ...options, path });
}

async function readText(path: string): Promise<string> {
  try {
    const stat = statSync(path);
    if (!stat.isFile()) throw new Error("it is not a plain file");
    if (stat.size > FILE_BYTES_MAX) throw new Error(`it has more than ${FILE_BYTES_MAX} bytes`);
    return new TextDecoder("utf-8", { fatal: true }).decode(await readFile(path));
  } catch (error) {
    const reason =
      error instanceof TypeError
        ? "it is not UTF-8 text"
        : error instanceof Error
          ? error.message
          : String(error);
    throw godwitError("GODWIT_CONFIG_UNREADABLE", `cannot read the configuration ${path}: ${reason}`, error);
  }
}

/** The same for text already at hand. Reads secret files, nothing else. */
export function parseConfig(text: string, options: Omit<LoadOptions, "text">): Config {
  const { env, path } = options;
  const format = options.format ?? formatOf(path, text);
  const document = parseDocument(text, format, path ?? "the configuration");
  const { overrides, problems } = readOverrides(env, referencedVariables([document, literalReferences(env)]));
  const variables = new Map<string, string>();
  const inFile = document["transports"];
  const fileHadSome = inFile !== undefined && !(isTable(inFile) && Object.keys(inFile).length === 0);
  for (const { variable, path: at, value } of overrides) {
    const refusal = assign(document, at, value);
    if (refusal === undefined) variables.set(formatPath(at), variable);
    else
      problems.push({
        path: `environment variable ${variable}`,
        expected: refusal,
        found: describeFound(value, true),
      });
  }
  const isDefaultTransport = addDefaultTransport(document, fileHadSome);
  const origin = { path, document, variables, isDefaultTransport, text, format };
  const judged = judge(document);
  if ("problems" in judged) throw configError(origin, [...problems, ...judged.problems]);
  const { settings } = judged;
  const secrets = new SecretReader(env, problems);
  const config = toConfig(settings, options, secrets, origin);
  crossCheck(config, settings, problems);
  if (problems.length > 0) throw configError(origin, problems);
  return config;
}

/** By shapes first; what they do not accept the schemas judge, which know why. */
function judge(
  document: Document,
): { readonly settings: Settings } | { readonly problems: readonly ConfigProblem[] } {
  const quick = judgeQuickly(settingsShape, document);
  if (quick !== REFUSED) return { settings: quick as Settings };
  const { configSchema, problemsOf } = schemas();
  // Judged once: compiling the schemas into functions first takes longer than that.
  const checked = configSchema.safeParse(document, { jitless: true });
  return checked.success
    ? { settings: checked.data }
    : { problems: problemsOf(checked.error.issues, document) };
}

/** Secrets named inside overrides, so that `GODWIT_NODE__NETWORK_SECRET=env:GODWIT_KEY` does not make GODWIT_KEY an error. */
const literalReferences = (env: Environment): string[] =>
  Object.entries(env).flatMap(([variable, text]) =>
    variable.startsWith("GODWIT_") ? (text?.match(/env:[A-Za-z_][A-Za-z0-9_]*/g) ?? []) : [],
  );

/** Sets one key, making tables on the way. Answers what was expected where there is something else in the way. */
function assign(document: Document, path: readonly string[], value: unknown): string | undefined {
  let table = document;
  for (const part of path.slice(0, -1)) {
    if (part === "__proto__") return "a name that is not reserved";
    if (!Object.hasOwn(table, part)) table[part] = {};
    const next = table[part];
    if (typeof next !== "object" || next === null || Array.isArray(next))
      return `a table at ${part}; to change a list, set the whole of it`;
    table = next as Document;
  }
  const last = path.at(-1)!;
  if (last === "__proto__") return "a name that is not reserved";
  table[last] = value;
  return undefined;
}

/**
 * The default transport stands in unless somebody configured one; `GODWIT_TRANSPORTS__LAN__LISTEN` alone changes it.
 * Answers whether it was added whole.
 */
function addDefaultTransport(document: Document, fileHadSome: boolean): boolean {
  const { name, type, listen } = DEFAULT_TRANSPORT;
  const tables = document["transports"] ?? {};
  if (fileHadSome || !isTable(tables)) return false;
  const names = Object.keys(tables);
  const lan = tables[name] ?? {};
  const isPartial = names.length === 1 && names[0] === name && isTable(lan) && lan["type"] === undefined;
  if (names.length > 0 && !isPartial) return false;
  document["transports"] = { [name]: { type, listen: [...listen], ...(isTable(lan) ? lan : {}) } };
  return names.length === 0;
}

const isTable = (value: unknown): value is Document =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Which variable a wrong value came from: nobody looks for it in the environment otherwise. */
function variableOf(about: string, variables: ReadonlyMap<string, string>): string | undefined {
  const isBelow = (path: string, parent: string) =>
    path.startsWith(`${parent}.`) || path.startsWith(`${parent}[`);
  return [...variables].find(([path]) => about === path || isBelow(about, path) || isBelow(path, about))?.[1];
}

const secretBounds: SecretBounds = {
  bytesMin: SECRET_BYTES_MIN,
  bytesMax: 4_096,
  suggestion: "make one with: godwit secret new --out FILE",
};

/** It travels in an Authorization header. */
const isTokenText = (bytes: Uint8Array): boolean =>
  bytes.length <= TOKEN_BYTES_MAX && bytes.every((byte) => byte >= 0x21 && byte <= 0x7e);

const tokenExpectation = {
  expected: `a token of ${SECRET_BYTES_MIN} to ${TOKEN_BYTES_MAX} bytes of printable ASCII without spaces, as a header carries it`,
  found: "one of other bytes, or longer (not shown)",
  suggestion: "make one with: openssl rand -hex 32",
};

/** Reads every secret and collects what is wrong with all of them. */
class SecretReader {
  readonly #env: Environment;
  readonly #problems: ConfigProblem[];

  constructor(env: Environment, problems: ConfigProblem[]) {
    this.#env = env;
    this.#problems = problems;
  }

  /** A placeholder after a failure: the problem in the list makes the whole load fail. */
  read(reference: string, path: string, isToken = false): Secret {
    const result = readSecret(reference, this.#env, secretBounds);
    if (result instanceof Secret) {
      if (isToken && !isTokenText(result.reveal())) this.#problems.push({ path, ...tokenExpectation });
      return result;
    }
    const { configSchema, expectations } = schemas();
    const expectation = expectations.get(
      configSchema.shape.api.unwrap().shape.tokens.unwrap().element.shape.secret,
    );
    this.#problems.push({ path, expected: expectation?.expected ?? "a secret", ...result });
    return new Secret(new Uint8Array());
  }
}

function toConfig(
  settings: Settings,
  options: Omit<LoadOptions, "text">,
  secrets: SecretReader,
  origin: ConfigOrigin,
): Config {
  const { node, api, trust, peers, network, delivery, routing } = settings;
  const stateDir = node.state_dir ?? defaultStateDir(options);
  const references = node.network_secret === undefined ? [] : [node.network_secret].flat();
  const isList = Array.isArray(node.network_secret);
  return {
    node: {
      callsign: node.callsign,
      location: node.location ?? node.callsign?.split("-")[0],
      network: node.network,
      networkSecrets: references.map((reference, index) =>
        secrets.read(reference, `node.network_secret${isList ? `[${index}]` : ""}`),
      ),
      tags: node.tags,
      stateDir,
      clock: node.clock,
      logLevel: node.log_level,
      logFormat: node.log_format,
    },
    transports: toPlugins(settings.transports),
    discovery: toPlugins(settings.discovery),
    services: toPlugins(settings.services),
    engines: toPlugins(settings.engines),
    heal: toPlugins(settings.heal),
    api: {
      listen: api.listen,
      publicRead: api.public_read,
      socket: api.socket ?? `${stateDir}/godwit.sock`,
      isProfiled: api.profile,
      tokens: api.tokens.map(({ secret, scopes, label }, index) => ({
        secret: secrets.read(secret, `api.tokens[${index}].secret`, true),
        scopes: [...new Set(scopes)],
        label,
      })),
    },
    names: new Map(Object.entries(settings.names)),
    trust: {
      trusted: trust.trusted,
      blocked: trust.blocked,
      rules: trust.rules,
      promoteAfterMs: trust.promote_after === "never" ? undefined : trust.promote_after,
      promoteOnionsAfterMs: trust.promote_onions_after === "never" ? undefined : trust.promote_onions_after,
      reviewMs: trust.review_every,
    },
    peers: { linksWanted: peers.links_wanted, dialNetworks: peers.dial_networks },
    network: {
      authority: network.authority,
      rotate: network.rotate,
      secretOverlapMs: network.secret_overlap,
    },
    forwards: settings.forwards,
    forwardAllow: settings.forward_allow,
    delivery: {
      lifetimeMs: delivery.lifetime,
      overdueAfterMs: delivery.overdue_after,
      failoverDelayMs: delivery.failover_delay,
      outboxMessagesMax: delivery.outbox_messages_max,
      outboxBytesMax: delivery.outbox_bytes_max,
      transitMessagesMax: delivery.transit_messages_max,
      transitBytesMax: delivery.transit_bytes_max,
      neighbourShare: delivery.neighbour_share,
      inboxMessagesMax: delivery.inbox_messages_max,
      inboxBytesMax: delivery.inbox_bytes_max,
      inboxRetentionMs: delivery.inbox_retention,
    },
    routing: { hopCostMs: routing.hop_cost, destinationsMax: routing.destinations_max },
    machine: settings.machine,
    origin,
  };
}

const toPlugins = (tables: Settings["transports"]): PluginConfig[] =>
  Object.entries(tables).map(
    ([name, { type, enabled, trust, grant, accept_missing: acceptMissing, ...options }]) => ({
      name,
      type,
      enabled,
      trust,
      grant,
      acceptMissing,
      options,
    }),
  );

function defaultStateDir({ env, isRoot }: Omit<LoadOptions, "text">): string {
  // systemd.exec(5), StateDirectory=: the first of a list with colons.
  const given = env["STATE_DIRECTORY"]?.split(":")[0];
  if (given?.startsWith("/") === true) return given;
  if (isRoot ?? process.getuid?.() === 0) return "/var/lib/godwit";
  const stateHome = env["XDG_STATE_HOME"] || (env["HOME"] ? `${env["HOME"]}/.local/state` : undefined);
  return stateHome === undefined ? "/var/lib/godwit" : `${stateHome}/godwit`;
}

/** What one key alone cannot tell. */
function crossCheck(config: Config, settings: Settings, problems: ConfigProblem[]): void {
  const { callsign, location, networkSecrets } = config.node;
  if (callsign !== undefined && location !== callsign.split("-")[0])
    problems.push({
      path: "node.location",
      expected: `${callsign.split("-")[0]}, the location of the callsign ${callsign}`,
      found: JSON.stringify(location),
      suggestion: "leave location out",
    });
  if (
    networkSecrets.length === 2 &&
    networkSecrets[0]!.byteLength > 0 &&
    networkSecrets[0]!.equals(networkSecrets[1])
  )
    problems.push({
      path: "node.network_secret[1]",
      expected: "another secret than the first",
      found: "the same bytes twice",
      suggestion: "list it once",
    });
  const socketBytes = Buffer.byteLength(config.api.socket);
  if (socketBytes > SOCKET_PATH_BYTES_MAX)
    problems.push({
      path: "api.socket",
      expected: `a path of at most ${SOCKET_PATH_BYTES_MAX} bytes, the limit of the system for sockets`,
      found: `${config.api.socket}, ${socketBytes} bytes`,
      suggestion: 'a shorter one, like socket = "/run/godwit.sock"',
    });
  const written = config.origin.document["names"];
  const namesWritten = isTable(written) ? Object.keys(written).length : 0;
  if (config.names.size !== namesWritten) problems.push(...namesTwice(Object.keys(written as Document)));
  for (const [index, id] of settings.trust.blocked.entries())
    if (settings.trust.trusted.includes(id))
      problems.push({
        path: `trust.blocked[${index}]`,
        expected: "a node in one of the two lists",
        found: `${id}, which trust.trusted has as well`,
      });
}

/** Each callsign that was written before, in another case. */
function namesTwice(written: readonly string[]): ConfigProblem[] {
  return written.flatMap((name, index) => {
    const same = written.slice(0, index).find((other) => upperCase(other) === upperCase(name));
    if (same === undefined) return [];
    const found = `${JSON.stringify(name)}, which is ${JSON.stringify(same)} in another case`;
    return [{ path: formatPath(["names", name]), expected: "each callsign once", found }];
  });
}
