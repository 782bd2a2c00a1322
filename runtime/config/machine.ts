/**
 * The table `[machine]` alone, for PID 1, which needs it before the rest can be judged: secrets may lie on a disk that it
 * has yet to mount. Reads leniently: what is wrong is reported and its default holds, because a machine that is up can be
 * mended. The node judges the whole file strictly when it starts.
 */
import { existsSync, readFileSync, statSync } from "node:fs";
import type * as z from "zod";
import { readOverrides, referencedVariables } from "./env.ts";
import { problemsOf } from "./schema-problems.ts";
import { configSchema } from "./schema.ts";
import { type InterfacePlan, parseInterfacePlan } from "./machine-parts.ts";
import type { Environment } from "@godwit/sdk/secret";
import { type ConfigFormat, withLines } from "./lines.ts";
import { type Document, formatOf, parseDocument } from "./text.ts";

export { type InterfacePlan, parseTimeServer } from "./machine-parts.ts";

/** As that of load.ts. */
const FILE_BYTES_MAX = 4 * 2 ** 20;
const DEFAULT_STATE_DIR = "/var/lib/godwit";
const DEFAULT_API_LISTEN = "127.0.0.1:8000";

export interface MachineProgram {
  readonly name: string;
  readonly command: readonly string[];
  readonly needsClock: boolean;
}

export interface MachineConfig {
  readonly hostname: string;
  /** `/dev/...` or `LABEL=...`. */
  readonly state: string | undefined;
  readonly network: readonly InterfacePlan[];
  readonly nameServers: readonly string[];
  readonly timeServers: readonly string[];
  readonly modules: readonly string[];
  /** Undefined: no hardware watchdog. */
  readonly watchdogMs: number | undefined;
  readonly rescue: boolean;
  readonly programs: readonly MachineProgram[];
  /** Of `[node]` and `[api]`: where the node's control socket will be. */
  readonly stateDir: string;
  readonly socket: string;
  /** Addresses as written, for the screen; the node judges them. */
  readonly apiListen: readonly string[];
  /** What was wrong and is not in force, in words. */
  readonly problems: readonly string[];
}

export const configSections: readonly string[] = Object.keys(configSchema.shape);

/** Never throws. `path` undefined: there is no file. */
export function readMachineConfig(path: string | undefined, env: Environment): MachineConfig {
  const problems: string[] = [];
  const read = path === undefined ? undefined : readDocument(path, problems);
  const document = read?.document ?? {};
  // With what is in the file named as known, so that its `env:` references are no errors here.
  const { overrides } = readOverrides(env, referencedVariables([document]));
  for (const { path: at, value } of overrides) {
    const [section = "", key = ""] = at;
    const table = document[section];
    if (at.length !== 2 || !["machine", "node", "api"].includes(section) || key === "__proto__") continue;
    if (isTable(table)) table[key] = value;
    else document[section] = { [key]: value };
  }
  const machine = judge(document, problems, read);
  const text = (section: string, key: string): string | undefined => {
    const table = document[section];
    const value = isTable(table) ? table[key] : undefined;
    return typeof value === "string" ? value : undefined;
  };
  const stateDir = text("node", "state_dir") ?? DEFAULT_STATE_DIR;
  return {
    hostname: machine.hostname ?? hostnameOf(text("node", "callsign")),
    state: machine.state,
    network: machine.network.flatMap((line) => parseInterfacePlan(line) ?? []),
    nameServers: machine.name_servers,
    timeServers: machine.time_servers,
    modules: machine.modules,
    watchdogMs: machine.watchdog === "off" ? undefined : machine.watchdog,
    rescue: machine.rescue,
    programs: machine.programs.map(({ name, command, needs_clock }) => ({
      name,
      command,
      needsClock: needs_clock,
    })),
    stateDir,
    socket: text("api", "socket") ?? `${stateDir}/godwit.sock`,
    apiListen: listenOf(document["api"]),
    problems,
  };
}

/** The first of them that is there. */
export const firstExisting = (paths: readonly (string | undefined)[]): string | undefined =>
  paths.find((path) => path !== undefined && existsSync(path));

type Machine = z.output<typeof configSchema.shape.machine>;

/** Key by key: one that is wrong must not take the others with it. */
function judge(document: Document, problems: string[], read: Read | undefined): Machine {
  const given = isTable(document["machine"]) ? document["machine"] : {};
  const whole = configSchema.shape.machine.safeParse(given, { jitless: true });
  if (whole.success) return whole.data;
  problems.push(
    ...formatted(
      whole.error.issues.map((issue) => ({ ...issue, path: ["machine", ...issue.path] })),
      document,
      read,
    ),
  );
  const right = Object.fromEntries(
    Object.entries(given).filter(
      ([key, value]) => configSchema.shape.machine.safeParse({ [key]: value }, { jitless: true }).success,
    ),
  );
  return configSchema.shape.machine.parse(right);
}

function formatted(
  issues: Parameters<typeof problemsOf>[0],
  document: Document,
  read: Read | undefined,
): string[] {
  const found = problemsOf(issues, document);
  const placed = read === undefined ? found : withLines(found, read.text, read.format);
  return placed.map(
    (one) =>
      `${one.path}${one.line === undefined ? "" : ` (line ${one.line})`}: expected ${one.expected}, found ${one.found}`,
  );
}

interface Read {
  readonly document: Document;
  readonly text: string;
  readonly format: ConfigFormat;
}

function readDocument(path: string, problems: string[]): Read | undefined {
  try {
    if (statSync(path).size > FILE_BYTES_MAX) throw new Error(`it has more than ${FILE_BYTES_MAX} bytes`);
    const text = readFileSync(path, "utf8");
    const format = formatOf(path, text);
    return { document: parseDocument(text, format, path), text, format };
  } catch (error) {
    problems.push(error instanceof Error ? error.message : String(error));
    return undefined;
  }
}

function listenOf(api: unknown): string[] {
  const listen = isTable(api) ? (api["listen"] ?? DEFAULT_API_LISTEN) : DEFAULT_API_LISTEN;
  return [listen].flat().filter((one): one is string => typeof one === "string" && one !== "off");
}

const isTable = (value: unknown): value is Document =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const hostnameOf = (callsign: string | undefined): string =>
  callsign !== undefined && /^[A-Za-z0-9]{2,8}-[A-Za-z0-9]{1,8}$/.test(callsign)
    ? callsign.toLowerCase()
    : "godwit";
