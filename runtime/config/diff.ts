/** What changed between two configurations, for a reload: which keys, and which plugin instances have to be rebuilt. */
import { Secret } from "@godwit/sdk/secret";
import type { Config, PluginConfig } from "./load.ts";

export interface InstanceChange {
  readonly section: "transports" | "discovery" | "services" | "engines" | "heal";
  readonly name: string;
  readonly change: "added" | "removed" | "changed";
}

export interface ConfigDiff {
  /** Sections other than plugins whose meaning changed, as `node.logLevel` or `delivery.lifetimeMs`. A renewed secret counts. */
  readonly keys: readonly string[];
  /** An instance that is disabled does not exist here: disabling one is `removed`. */
  readonly instances: readonly InstanceChange[];
}

export function diffConfig(before: Config, after: Config): ConfigDiff {
  const keys: string[] = [];
  for (const section of ["node", "api", "trust", "peers", "network", "delivery", "routing"] as const) {
    const old = before[section] as Readonly<Record<string, unknown>>;
    const now = after[section] as Readonly<Record<string, unknown>>;
    for (const key of Object.keys(now)) if (!isSame(old[key], now[key])) keys.push(`${section}.${key}`);
  }
  if (!isSame([...before.names].sort(), [...after.names].sort())) keys.push("names");
  if (!isSame(before.forwards, after.forwards)) keys.push("forwards");
  if (!isSame(before.forwardAllow, after.forwardAllow)) keys.push("forwardAllow");
  const instances = (["transports", "discovery", "services", "engines", "heal"] as const).flatMap((section) =>
    diffInstances(section, enabled(before[section]), enabled(after[section])),
  );
  return { keys, instances };
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
