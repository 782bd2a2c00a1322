/**
 * Checks the tables of plugins against the plugins' own schemas before anything starts, in the words of the rest of the
 * configuration: path, expectation, what was found, a suggestion.
 */
import type { Plugin, PluginNamespace } from "@godwit/sdk";
import { type Config, configError, type PluginConfig } from "../config/load.ts";
import { type ConfigProblem, formatPath } from "../config/problems.ts";
import { nearest } from "../config/suggest.ts";
import { valueAt } from "../kernel/schema-words.ts";
import { isInstalled } from "./isolation.ts";
import { grantedOf } from "./permissions.ts";
import { findPlugin } from "./host/instance.ts";
import { keyOf, keysKnownTo, validateOptions, type ValidationResult } from "./host/options.ts";

const sections: readonly {
  section: "transports" | "discovery" | "services" | "engines" | "heal";
  namespace: PluginNamespace;
}[] = [
  { section: "transports", namespace: "transport" },
  { section: "discovery", namespace: "discovery" },
  { section: "services", namespace: "service" },
  { section: "engines", namespace: "engine" },
  { section: "heal", namespace: "heal-action" },
];

/** Every table of a plugin, disabled ones among them, with where it stands and what it is of. */
export const pluginTables = (config: Config) =>
  sections.flatMap(({ section, namespace }) =>
    config[section].map((table) => ({ section, namespace, type: table.type, table })),
  );

export interface KnownPlugins {
  /** Loaded: those that a table names. */
  readonly builtin: readonly Plugin[];
  /** Of third parties. */
  readonly installed: readonly Plugin[];
  /** Those of Godwit that there are. */
  readonly offered: readonly Pick<Plugin, "id" | "namespace">[];
}

/** Throws ConfigError with the problems of all tables at once. Disabled tables are checked too: they wait to be used. */
export async function checkPluginTables(
  config: Config,
  { builtin, installed, offered }: KnownPlugins,
): Promise<void> {
  const problems: ConfigProblem[] = [];
  for (const { section, namespace, type, table } of pluginTables(config)) {
    const own = findPlugin(builtin, namespace, type);
    const plugin = own ?? findPlugin(installed, namespace, type);
    if (plugin === undefined) {
      problems.push(unknownType(section, namespace, table, [...offered, ...installed]));
      continue;
    }
    problems.push(...(await tableProblems(section, table, plugin)));
    if (own !== undefined) problems.push(...isolationProblems(section, table));
    // Of one that is damaged nobody knows what it asks for.
    if (isInstalled(plugin)) problems.push(...grantProblems(section, table, plugin));
  }
  if (problems.length > 0) throw configError(config.origin, problems);
}

/** What the plugins would have an operator know of tables that are right, each with where it stands. Those that are off say nothing. */
export async function tableWarnings(config: Config, plugins: readonly Plugin[]): Promise<string[]> {
  const found: string[] = [];
  for (const { section, namespace, type, table } of pluginTables(config)) {
    const plugin = table.enabled ? findPlugin(plugins, namespace, type) : undefined;
    if (plugin?.warnings === undefined) continue;
    const { value } = await validateOptions(plugin, table.options);
    found.push(...plugin.warnings(value).map((text) => `${formatPath([section, table.name])}: ${text}`));
  }
  return found;
}

/** Of what Godwit brings along. To run it with other rights than was asked for would be worse than not to run it. */
const isolationProblems = (section: string, { name, trust, grant }: PluginConfig): ConfigProblem[] => [
  ...(trust === undefined || trust === "trusted"
    ? []
    : [
        {
          path: formatPath([section, name, "trust"]),
          expected: "nothing: what Godwit brings along runs in the node",
          found: `"${trust}"`,
        },
      ]),
  ...(grant.length === 0
    ? []
    : [
        {
          path: formatPath([section, name, "grant"]),
          expected: "nothing: what Godwit brings along needs no grants",
          found: JSON.stringify(grant),
        },
      ]),
];

/** A grant that nobody asked for is a mistake of whoever wrote it. */
function grantProblems(section: string, { name, grant }: PluginConfig, plugin: Plugin): ConfigProblem[] {
  return grant.flatMap((text, index): ConfigProblem[] =>
    grantedOf(plugin.permissions, [text]).length > 0
      ? []
      : [
          {
            path: formatPath([section, name, "grant", index]),
            expected: `a permission that "${plugin.id}" asks for, or less: ${plugin.permissions.join(", ") || "it asks for none"}`,
            found: JSON.stringify(text),
          },
        ],
  );
}

function unknownType(
  section: string,
  namespace: PluginNamespace,
  { name, type }: PluginConfig,
  plugins: readonly Pick<Plugin, "id" | "namespace">[],
): ConfigProblem {
  const known = plugins.filter((one) => one.namespace === namespace).map(({ id }) => id);
  const near = nearest(type, known);
  return {
    path: formatPath([section, name, "type"]),
    expected: `a ${namespace} that is built in or usable in \`godwit plugin list\`: ${known.join(", ") || "there is none"}`,
    found: JSON.stringify(type),
    ...(near === undefined ? {} : { suggestion: `"${near}"` }),
  };
}

async function tableProblems(section: string, table: PluginConfig, plugin: Plugin): Promise<ConfigProblem[]> {
  const result = await validateOptions(plugin, table.options);
  return (result.issues ?? []).flatMap((issue): ConfigProblem[] => {
    const path = (issue.path ?? []).map(keyOf);
    const at = [section, table.name, ...path.map((key) => (/^\d+$/.test(key) ? Number(key) : key))];
    if (issue.keys !== undefined) {
      const known = path.length === 0 ? keysKnownTo(plugin) : [];
      const list = known.length === 0 ? "" : `: ${known.join(", ")}`;
      return issue.keys.map((key) => {
        const near = nearest(key, known);
        return {
          path: formatPath([...at, key]),
          expected: `a key of ${plugin.namespace} type "${plugin.id}"${list}`,
          found: "a key that it does not know",
          ...(near === undefined ? {} : { suggestion: `did you mean ${near}?` }),
        };
      });
    }
    return [
      {
        path: formatPath(at),
        expected: issue.message.replace(/^expected /, ""),
        ...foundOf(issue, path, table.options),
      },
    ];
  });
}

type Issue = NonNullable<ValidationResult["issues"]>[number];

function foundOf(
  { params }: Issue,
  path: readonly string[],
  options: unknown,
): Pick<ConfigProblem, "found" | "suggestion"> {
  if (params?.isSecret === true && typeof params.found === "string")
    return {
      found: params.found,
      ...(typeof params.suggestion === "string" ? { suggestion: params.suggestion } : {}),
    };
  return { found: isSecret(path.at(-1)) ? "a value that is not shown" : shown(valueAt(options, path)) };
}

/** Somebody may have written the secret itself where a reference belongs, and errors end up in logs. */
const isSecret = (key = ""): boolean => /passw|passphrase|secret|token|psk/i.test(key);

const shown = (value: unknown): string =>
  value === undefined ? "nothing" : (JSON.stringify(value) ?? "nothing").slice(0, 200);
