/**
 * A changed configuration on a running node: settings are applied to the parts that use them, the plugin instances that changed are
 * rebuilt, everything else stays as it is, links included. What waits for the next start is named until then, not half done.
 */
import type { Log, PluginNamespace } from "@godwit/sdk";
import type { ReloadView, RestartView } from "../view/contract/node.ts";
import { diffConfig, type InstanceChange, type Waiting } from "../config/diff.ts";
import type { LiveKey } from "../config/effect.ts";
import type { Config } from "../config/load.ts";
import { godwitError } from "../kernel/errors.ts";
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
  /** From now on those are the plugins that there are. */
  take(): void;
}

export interface ReloaderDeps {
  readonly host: Pick<PluginHost, "remove" | "start" | "replace">;
  /** What the node started with. */
  readonly config: Config;
  readonly log: Log;
  /** Of the node: after it aborts nothing is opened that nobody would close. */
  readonly signal: AbortSignal;
  /** Reads the configuration anew and checks it, the tables of plugins too; tells of what is right and odd. */
  read(): Promise<ReadConfig>;
  /** Throws where a change cannot be made, having made none. */
  apply(changed: readonly LiveKey[], config: Config): void;
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
  readonly #deps: ReloaderDeps;
  #config: Config;
  #waiting: readonly Waiting[] = [];
  #last: Promise<unknown> = Promise.resolve();

  constructor(deps: ReloaderDeps) {
    this.#deps = deps;
    this.#config = deps.config;
  }

  /** Settings that the file says otherwise than the node runs with, until it is started anew. */
  get waiting(): readonly Waiting[] {
    return this.#waiting;
  }

  reload(): Promise<ReloadView> {
    const next = this.#last.catch(() => {}).then(() => this.#reload());
    this.#last = next;
    return next;
  }

  async #reload(): Promise<ReloadView> {
    const { host, log, signal, read, apply, config: started } = this.#deps;
    const { config: after, replaced, take } = await read();
    if (signal.aborted) throw godwitError("GODWIT_STOPPED", "the node is stopping; start it again");
    const { live, waiting, instances: edited } = diffConfig(started, this.#config, after);
    apply(live, after);
    take();
    this.#waiting = waiting;
    const renewed = runningOf(replaced, after, edited);
    const instances = [...edited, ...renewed];
    this.#config = after;
    const isIn =
      (changes: readonly InstanceChange[]) =>
      ({ namespace, name }: PluginInstance) =>
        changes.some((change) => namespaces[change.section] === namespace && change.name === name);
    for (const { section, name } of edited) await host.remove(namespaces[section], name);
    await host.start(pluginInstances(after).filter(isIn(edited)));
    for (const instance of pluginInstances(after).filter(isIn(renewed))) await host.replace(instance);
    for (const { key, because } of waiting)
      log.warn("setting counts from the next start", { setting: key, reason: because });
    log.info("configuration reloaded", {
      changed: instances.map(({ section, name, change }) => `${section}.${name} ${change}`).join(", "),
      applied: live.join(", "),
      restart_needed: waiting.map(({ key }) => key).join(", "),
    });
    return { changed: [...instances], applied: [...live], ...restartView(waiting) };
  }
}

/** As the API tells it. */
export const restartView = (waiting: readonly Waiting[]): RestartView => ({
  restart_needed: waiting.map(({ key }) => key),
  restart_because: Object.fromEntries(waiting.map(({ key, because }) => [key, because])),
});
