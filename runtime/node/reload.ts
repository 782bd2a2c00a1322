/**
 * A changed configuration on a running node: the plugin instances that changed are rebuilt, everything else stays as it
 * is, links included. What needs a restart is named, not half done.
 */
import type { Log, PluginNamespace } from "@godwit/sdk";
import type { ReloadView } from "../view/contract/node.ts";
import { diffConfig, type InstanceChange } from "../config/diff.ts";
import type { Config } from "../config/load.ts";
import type { PluginHost } from "../plugin/host/host.ts";
import type { PluginInstance } from "../plugin/host/instance.ts";

const namespaces: Readonly<Record<InstanceChange["section"], PluginNamespace>> = {
  transports: "transport",
  discovery: "discovery",
  services: "service",
  engines: "engine",
  heal: "heal-action",
};

export function pluginInstances(config: Config): PluginInstance[] {
  return (Object.keys(namespaces) as InstanceChange["section"][]).flatMap((section) =>
    config[section]
      .filter((table) => table.enabled)
      .map(({ name, type, options, trust, grant, acceptMissing }) => ({
        namespace: namespaces[section],
        name,
        type,
        options,
        grant,
        acceptMissing,
        ...(trust === undefined ? {} : { trust }),
      })),
  );
}

/** A configuration read anew, and the plugin types whose code is another now. */
export interface ReadConfig {
  readonly config: Config;
  readonly replaced: ReadonlySet<string>;
}

/** Tables that did not change while the code behind them did. */
function runningOf(
  replaced: ReadonlySet<string>,
  config: Config,
  edited: readonly InstanceChange[],
): InstanceChange[] {
  return (Object.keys(namespaces) as InstanceChange["section"][]).flatMap((section) =>
    config[section]
      .filter(({ name, type, enabled }) => {
        const isEdited = edited.some((one) => one.section === section && one.name === name);
        return enabled && replaced.has(type) && !isEdited;
      })
      .map(({ name }) => ({ section, name, change: "changed" as const })),
  );
}

/** One reload after the other; a bad configuration rejects and changes nothing. */
export class Reloader {
  readonly #host: PluginHost;
  readonly #log: Log;
  readonly #read: () => Promise<ReadConfig>;
  #config: Config;
  #last: Promise<unknown> = Promise.resolve();

  /** `read` reads the configuration anew and checks it, the tables of plugins too. */
  constructor(host: PluginHost, config: Config, read: () => Promise<ReadConfig>, log: Log) {
    this.#host = host;
    this.#config = config;
    this.#read = read;
    this.#log = log;
  }

  reload(): Promise<ReloadView> {
    const next = this.#last.catch(() => {}).then(() => this.#reload());
    this.#last = next;
    return next;
  }

  async #reload(): Promise<ReloadView> {
    const { config: after, replaced } = await this.#read();
    const { keys, instances: edited } = diffConfig(this.#config, after);
    const renewed = runningOf(replaced, after, edited);
    const instances = [...edited, ...renewed];
    this.#config = after;
    const isIn =
      (changes: readonly InstanceChange[]) =>
      ({ namespace, name }: PluginInstance) =>
        changes.some((change) => namespaces[change.section] === namespace && change.name === name);
    for (const { section, name } of edited) await this.#host.remove(namespaces[section], name);
    await this.#host.start(pluginInstances(after).filter(isIn(edited)));
    for (const instance of pluginInstances(after).filter(isIn(renewed))) await this.#host.replace(instance);
    const report: ReloadView = { changed: [...instances], restart_needed: keys.map(settingName) };
    this.#log.info("configuration reloaded", {
      changed: instances.map(({ section, name, change }) => `${section}.${name} ${change}`).join(", "),
      restart_needed: keys.join(", "),
    });
    return report;
  }
}

/** `node.logLevel` as the operator wrote it: `node.log_level`. */
const settingName = (key: string): string =>
  key
    .replace(/Ms$/, "")
    .replace(/networkSecrets$/, "networkSecret")
    .replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
