/** The schema told to people and tools: JSON Schema, `godwit config explain`, and the manual page. Not needed to boot. */
import * as z from "zod";
import { godwitError } from "../kernel/errors.ts";
import type { Config } from "./load.ts";
import { valueAt } from "../kernel/schema-words.ts";
import { effectWords } from "./effect.ts";
import { describeFound } from "./problems.ts";
import { coreOf, definitionOf, expectationOf } from "./schema-problems.ts";
import { configSchema } from "./schema.ts";
import { SECRET_REFERENCE } from "@godwit/sdk/secret";
import { didYouMean } from "./suggest.ts";

export interface ConfigKey {
  /** `node.callsign`; NAME stands for an instance, [] for each of a list: `transports.NAME.type`, `api.tokens[].scopes`. */
  readonly path: string;
  readonly type: string;
  readonly expected: string;
  /** As written in the file; undefined when there is none. */
  readonly default: string | undefined;
  readonly meaning: string;
  /** When a change counts: "on reload", or "at the next start, because ...". */
  readonly effect: string;
}

export interface ExplainedKey extends ConfigKey {
  /** Effective value as written, secrets only as references; undefined when unset and without default. */
  readonly value: string | undefined;
  readonly source: "default" | "file" | "env";
  /** With source env: the variable. */
  readonly variable: string | undefined;
}

/** Sections that a key without one is looked for in, as an answer names them. */
const MEANT_MAX = 3;

/** JSON Schema (draft 2020-12) of the file, for editors. */
export function configJsonSchema(): Record<string, unknown> {
  const schema = z.toJSONSchema(configSchema, { io: "input", unrepresentable: "any" });
  return { ...schema, title: "Godwit configuration" };
}

/** Every key of the schema, in its order. */
export const configKeys = (): ConfigKey[] =>
  Object.entries(configSchema.shape).flatMap(([section, schema]) => keysBelow(section, schema));

function keysBelow(path: string, schema: z.ZodType): ConfigKey[] {
  const definition = definitionOf(coreOf(schema));
  // A list of tables: [[api.tokens]].
  if (definition.type === "array" && definitionOf(definition.element!).shape !== undefined)
    return keysBelow(`${path}[]`, definition.element!);
  if (definition.type === "record" && definitionOf(definition.valueType!).shape !== undefined)
    return keysBelow(`${path}.NAME`, definition.valueType!);
  if (definition.shape !== undefined)
    return Object.entries(definition.shape).flatMap(([key, child]) => keysBelow(`${path}.${key}`, child));
  const expectation = expectationOf(schema);
  return [
    {
      path,
      type: expectation?.type ?? definition.type,
      expected: expectation?.expected ?? definition.type,
      default: defaultOf(schema) ?? expectation?.defaultText,
      meaning: schema.description ?? "",
      effect: effectWords(path)!,
    },
  ];
}

function defaultOf(schema: z.ZodType): string | undefined {
  const definition = schema.def as unknown as { type: string; defaultValue?: unknown };
  return definition.type === "default" || definition.type === "prefault"
    ? JSON.stringify(definition.defaultValue)
    : undefined;
}

/**
 * One key, one section, or everything; with a config also the effective values and where they come from.
 * @throws GODWIT_USAGE for a path that is no key.
 */
export function explainConfig(path?: string, config?: Config): ExplainedKey[] {
  const explained = configKeys().flatMap((key) => withValues(key, config));
  if (config !== undefined) explained.push(...pluginKeys(config));
  if (path === undefined) return explained;
  const chosen = explained.filter(
    (key) => isAtOrBelow(key.path, path) || generalised(key.path) === generalised(path),
  );
  if (chosen.length > 0) return chosen;
  const keys = explained.map((key) => key.path);
  // The file has a key below the name of its section, so that is what people have in mind.
  const inSections = keys.filter((key) => key.endsWith(`.${path}`)).slice(0, MEANT_MAX);
  const meant = inSections.length > 0 ? `; did you mean ${inSections.join(" or ")}?` : didYouMean(path, keys);
  throw godwitError("GODWIT_USAGE", `no key ${JSON.stringify(path)} in the configuration${meant}`);
}

const isAtOrBelow = (path: string, parent: string) =>
  path === parent || path.startsWith(`${parent}.`) || path.startsWith(`${parent}[`);

/** transports.lan.type and transports.NAME.type are the same key of the schema. */
const generalised = (path: string) =>
  path.replace(/^(transports|discovery|services|engines|heal)\.[^.]+/, "$1.NAME").replace(/\[\d*\]/g, "[]");

function withValues(key: ConfigKey, config: Config | undefined): ExplainedKey[] {
  if (config === undefined || !/NAME|\[\]/.test(key.path)) return [withValue(key, key.path, config)];
  const { document } = config.origin;
  if (key.path.startsWith("api.tokens[]")) {
    const tokens = valueAt(document, ["api", "tokens"]);
    const count = Array.isArray(tokens) ? tokens.length : 0;
    if (count === 0) return [withValue(key, key.path, config)];
    return Array.from({ length: count }, (_, i) => withValue(key, key.path.replace("[]", `[${i}]`), config));
  }
  const names = Object.keys((document[key.path.split(".")[0]!] as object | undefined) ?? {});
  if (names.length === 0) return [withValue(key, key.path, config)];
  return names.map((name) => withValue(key, key.path.replace("NAME", name), config));
}

function withValue(key: ConfigKey, path: string, config: Config | undefined): ExplainedKey {
  const raw = config === undefined ? undefined : valueAt(config.origin.document, partsOf(path));
  if (raw === undefined || config === undefined)
    return { ...key, path, value: effectiveDefault(key, config), source: "default", variable: undefined };
  return { ...key, path, value: shown(path, raw), ...sourceOf(path, config) };
}

/** Defaults that depend on the machine are known once there is a config. */
function effectiveDefault(key: ConfigKey, config: Config | undefined): string | undefined {
  if (config !== undefined) {
    if (key.path === "node.state_dir") return JSON.stringify(config.node.stateDir);
    if (key.path === "api.socket") return JSON.stringify(config.api.socket);
    if (key.path === "node.location") return JSON.stringify(config.node.location);
    if (key.path === "node.network_secret") return undefined;
  }
  return key.default;
}

const partsOf = (path: string): (string | number)[] =>
  path
    .split(/[.[\]]+/)
    .filter((part) => part !== "")
    .map((part) => (/^\d+$/.test(part) ? Number(part) : part));

function sourceOf(path: string, config: Config): Pick<ExplainedKey, "source" | "variable"> {
  for (const [at, variable] of config.origin.variables)
    if (isAtOrBelow(path, at) || isAtOrBelow(at, path)) return { source: "env", variable };
  if (path.startsWith("transports.") && config.origin.isDefaultTransport)
    return { source: "default", variable: undefined };
  return { source: "file", variable: undefined };
}

/** What each instance sets beyond the frame; only the plugin knows what it means. */
function pluginKeys(config: Config): ExplainedKey[] {
  return (["transports", "discovery", "services", "engines", "heal"] as const).flatMap((section) =>
    config[section].flatMap(({ name, type, options }) =>
      Object.entries(options).map(([key, value]) => {
        const path = `${section}.${name}.${key}`;
        return {
          path,
          type: `set by ${type}`,
          expected: `what the plugin ${type} accepts`,
          default: undefined,
          meaning: `Belongs to the plugin ${type}.`,
          effect: effectWords(path)!,
          value: shown(path, value),
          ...sourceOf(path, config),
        };
      }),
    ),
  );
}

const SECRET_WORD = /secret|password|passwd|token|private|psk|(^|_)key$/i;

function shown(path: string, value: unknown): string {
  const isSecret = SECRET_WORD.test(path.split(".").at(-1)!);
  if (!isSecret)
    return JSON.stringify(value, (key, inner: unknown) => (SECRET_WORD.test(key) ? hidden(inner) : inner));
  return Array.isArray(value)
    ? `[${value
        .map(hidden)
        .map((one) => JSON.stringify(one))
        .join(", ")}]`
    : JSON.stringify(hidden(value));
}

const hidden = (value: unknown): unknown =>
  typeof value === "string" && SECRET_REFERENCE.test(value) ? value : describeFound(value, true);
