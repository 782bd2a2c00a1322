/** What changed between two configurations, for a reload: which settings, and which plugin instances have to be rebuilt. */
import { Secret } from "@godwit/sdk/secret";
import { type LiveKey, type SettingKey, settings } from "./effect.ts";
import type { Config, PluginConfig } from "./load.ts";

export interface InstanceChange {
  readonly section: "transports" | "discovery" | "services" | "engines" | "heal";
  readonly name: string;
  readonly change: "added" | "removed" | "changed";
}

/** A setting whose new value counts from the next start. */
export interface Waiting {
  readonly key: SettingKey;
  /** Completes "at the next start, because ...". */
  readonly because: string;
}

export interface ConfigDiff {
  /** Settings that a reload applies, in the order of the table. A renewed secret counts. */
  readonly live: readonly LiveKey[];
  readonly waiting: readonly Waiting[];
  /** An instance that is disabled does not exist here: disabling one is `removed`. */
  readonly instances: readonly InstanceChange[];
}

/** `started` is what the node began with: what waits for a start is measured by it. `before` is what was applied last. */
export function diffConfig(started: Config, before: Config, after: Config): ConfigDiff {
  const live: LiveKey[] = [];
  const waiting: Waiting[] = [];
  for (const [name, { of, effect }] of Object.entries(settings)) {
    const key = name as SettingKey;
    const isOtherThan = (config: Config) => !isSame(of(config), of(after));
    if (effect.at === "start") {
      if (isOtherThan(started)) waiting.push({ key, because: effect.because });
    } else if (effect.at === "reload") {
      const because = "unless" in effect ? effect.unless(started, after) : undefined;
      if (because !== undefined) waiting.push({ key, because });
      else if (isOtherThan(before)) live.push(key as LiveKey);
    }
  }
  const instances = (["transports", "discovery", "services", "engines", "heal"] as const).flatMap((section) =>
    diffInstances(section, enabled(before[section]), enabled(after[section])),
  );
  return { live, waiting, instances };
}

const enabled = (plugins: readonly PluginConfig[]) =>
  new Map(plugins.filter((plugin) => plugin.enabled).map((plugin) => [plugin.name, plugin]));

function diffInstances(
  section: InstanceChange["section"],
  before: ReadonlyMap<string, PluginConfig>,
  after: ReadonlyMap<string, PluginConfig>,
): InstanceChange[] {
  const changes: InstanceChange[] = [];
  for (const name of before.keys()) if (!after.has(name)) changes.push({ section, name, change: "removed" });
  for (const [name, now] of after) {
    const old = before.get(name);
    if (old === undefined) changes.push({ section, name, change: "added" });
    else if (!isSame(old, now)) changes.push({ section, name, change: "changed" });
  }
  return changes;
}

/** Deep equality over what a checked configuration consists of; its depth is bounded by the parser. */
function isSame(a: unknown, b: unknown): boolean {
  if (a instanceof Secret && b instanceof Secret) return a.equals(b);
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const aKeys = Object.keys(a);
  if (aKeys.length !== Object.keys(b).length) return false;
  return aKeys.every(
    (key) =>
      Object.hasOwn(b, key) &&
      isSame((a as Record<string, unknown>)[key], (b as Record<string, unknown>)[key]),
  );
}
