/**
 * Checks the tables of plugins against the plugins' own schemas before anything starts, in the words of the rest of the
 * configuration: path, expectation, what was found, a suggestion.
 */
import type { Plugin, PluginNamespace } from "@godwit/sdk";
import type { Config, PluginConfig } from "../config/load.ts";
import { ConfigError, type ConfigProblem, formatPath } from "../config/problems.ts";
import { nearest } from "../config/suggest.ts";
import { findPlugin, keyOf, validateOptions } from "./host.ts";

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

/**
 * Throws ConfigError with the problems of all tables at once. Disabled tables are checked too: they wait to be used.
 * `installed` are the plugins of third parties.
 */
export async function checkPluginTables(
  config: Config,
  builtins: readonly Plugin[],
  installed: readonly Plugin[],
): Promise<void> {
  const plugins = [...builtins, ...installed];
  const problems: ConfigProblem[] = [];
  for (const { section, namespace } of sections) {
    for (const table of config[section]) {
      problems.push(...(await tableProblems(section, namespace, table, plugins)));
      const isInstalled = findPlugin(installed, namespace, table.type) !== undefined;
      if ((table.trust ?? (isInstalled ? "untrusted" : "trusted")) !== "trusted")
        problems.push(isolationMissing(section, table));
    }
  }
  if (problems.length > 0) throw new ConfigError(config.origin.path ?? "the configuration", problems);
}

/** To run it with more rights than was asked for would be worse than not to run it. */
const isolationMissing = (section: string, { name, trust }: PluginConfig): ConfigProblem => ({
  path: formatPath([section, name, "trust"]),
  expected:
    '"trusted", because this version runs plugins only in its own process, where they can do whatever the node can',
  found: trust === undefined ? 'nothing, which means "untrusted" for an installed plugin' : `"${trust}"`,
});

async function tableProblems(
  section: string,
  namespace: PluginNamespace,
  table: PluginConfig,
  plugins: readonly Plugin[],
): Promise<ConfigProblem[]> {
  const plugin = findPlugin(plugins, namespace, table.type);
  if (plugin === undefined) {
    const known = plugins.filter((one) => one.namespace === namespace).map(({ id }) => id);
    const near = nearest(table.type, known);
    return [
      {
        path: formatPath([section, table.name, "type"]),
        expected: `a ${namespace} that is built in or usable in \`godwit plugin list\`: ${known.join(", ") || "there is none"}`,
        found: JSON.stringify(table.type),
        ...(near === undefined ? {} : { suggestion: `"${near}"` }),
      },
    ];
  }
  const result = await validateOptions(plugin, table.options);
  return (result.issues ?? []).flatMap((issue): ConfigProblem[] => {
    const path = (issue.path ?? []).map(keyOf);
    const at = [section, table.name, ...path.map((key) => (/^\d+$/.test(key) ? Number(key) : key))];
    if (issue.keys !== undefined) {
      return issue.keys.map((key) => ({
        path: formatPath([...at, key]),
        expected: `a key of ${namespace} type "${plugin.id}"`,
        found: "a key that it does not know",
      }));
    }
    return [
      {
        path: formatPath(at),
        expected: issue.message.replace(/^(?:Invalid input: )?expected /, ""),
        found: isSecret(path.at(-1)) ? "a value that is not shown" : shown(valueAt(table.options, path)),
      },
    ];
  });
}

function valueAt(options: unknown, path: readonly string[]): unknown {
  let value = options;
  for (const key of path)
    value = typeof value === "object" && value !== null ? (value as Record<string, unknown>)[key] : undefined;
  return value;
}

/** Somebody may have written the secret itself where a reference belongs, and errors end up in logs. */
const isSecret = (key = ""): boolean => /passw|passphrase|secret|token|psk/i.test(key);

const shown = (value: unknown): string =>
  value === undefined ? "nothing" : (JSON.stringify(value) ?? "nothing").slice(0, 200);
