/** The plugins a node can run, its own and the installed ones, and what the command line does with packages. */
import type { Plugin, PluginNamespace } from "@godwit/sdk";
import type { Config } from "../config/load.ts";
import { godwitError } from "../kernel/errors.ts";
import { loadNamed } from "../plugin/package/builtin.ts";
import { checkPluginTables, pluginTables } from "../plugin/check.ts";
import {
  damagedPlugins,
  type InstalledChoice,
  type InstalledPlugin,
  installedPlugins,
  installPackage,
  listInstalled,
  readPackageBytes,
} from "../plugin/installed.ts";
import { type PluginPackage } from "../plugin/package/package.ts";
import { builtinPlugins } from "../registry.ts";

export { loadRadioSetup } from "../registry.ts";
import type { ReadConfig } from "./reload.ts";

/** What can run: built-in plugins that the configuration names, and all others. Never changes: a reload reads another one. */
export class PluginCatalogue {
  readonly all: readonly Plugin[];
  readonly #hashes: ReadonlyMap<string, string>;

  constructor(all: readonly Plugin[], installed: readonly InstalledChoice[]) {
    this.all = all;
    this.#hashes = new Map(installed.map(({ hash, plugin }) => [plugin.id, hash]));
  }

  /** Ids whose code is another than in `before`. */
  replacing(before: PluginCatalogue): ReadonlySet<string> {
    return new Set(
      [...this.#hashes].filter(([id, hash]) => before.#hashes.get(id) !== hash).map(([id]) => id),
    );
  }
}

/** The catalogue that is in force; a reload puts another in its place. */
export class PluginSource {
  #current: PluginCatalogue;

  constructor(first: PluginCatalogue) {
    this.#current = first;
  }

  get current(): PluginCatalogue {
    return this.#current;
  }

  /** A configuration read anew and held against its plugins. Rejects with ConfigError. Nothing changes before it is taken. */
  async read(readConfig: () => Promise<Config>): Promise<ReadConfig> {
    const config = await readConfig();
    const next = await readPlugins(config);
    return { config, replaced: next.replacing(this.#current), take: () => void (this.#current = next) };
  }
}

/** The plugins for a configuration, which is held against them. Throws ConfigError. */
export async function readPlugins(config: Config): Promise<PluginCatalogue> {
  const { stateDir } = config.node;
  const builtin = await loadNamed(builtinPlugins, pluginTables(config));
  const list = await listInstalled(stateDir, builtinPlugins);
  const choices = installedPlugins(list);
  const damaged = [...damagedPlugins(list)].flatMap(damagedPlugin);
  const installed = [...choices.map(({ plugin }) => plugin), ...damaged];
  await checkPluginTables(config, { builtin, installed, offered: builtinPlugins });
  return new PluginCatalogue([...builtin, ...installed], choices);
}

/** What it is cannot be read: its table says. */
const namespaces = [
  "transport",
  "discovery",
  "service",
  "engine",
  "heal-action",
] as const satisfies PluginNamespace[];

/** In the place of what cannot be used: takes any table, of any kind, and fails with the reason. */
const damagedPlugin = ([id, reason]: readonly [string, string]): Plugin[] =>
  namespaces.map((namespace) => ({
    id,
    namespace,
    sdk: "*",
    permissions: [],
    config: { "~standard": { version: 1, vendor: "godwit", validate: (value: unknown) => ({ value }) } },
    start() {
      throw godwitError("GODWIT_PLUGIN_PACKAGE", reason);
    },
  }));

export const addPackage = (stateDir: string, path: string): Promise<PluginPackage> =>
  installPackage(stateDir, readPackageBytes(path), builtinPlugins);

export const listPlugins = (stateDir: string): Promise<InstalledPlugin[]> =>
  listInstalled(stateDir, builtinPlugins);
