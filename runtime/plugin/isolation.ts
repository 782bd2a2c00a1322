/**
 * Where a plugin runs: in the node (`trusted`), in a Worker (`contained`), or in a process that the kernel locks in
 * (`untrusted`). Decides by its table and its origin, and makes the isolated look like any other plugin to the host. Must
 * never run a plugin with more rights than its table says. Specified by docs/plugins.md, "Trust".
 */
import type { Plugin, PluginContext } from "@godwit/sdk";
import { godwitError } from "../kernel/errors.ts";
import type { PluginInstance } from "./host.ts";
import { GUEST_COMMAND, launchProcess, launchWorker, selfCommand } from "./launch.ts";
import type { PluginPackage } from "./package.ts";
import { allowAll, grantedOf, netPolicyOf, type NetPolicy } from "./permissions.ts";
import { type Launched, remotePlugin } from "./remote.ts";
import type { SandboxOrder } from "./sandbox/order.ts";

/** Private memory of an untrusted plugin's process; its data segment is bounded by the kernel as well. */
const MEMORY_BYTES_MAX = 256 * 2 ** 20;

export type TrustLevel = "trusted" | "contained" | "untrusted";

/** A plugin of a third party, with the code that was verified. */
export interface InstalledCode extends Plugin {
  readonly package: PluginPackage;
}

export const isInstalled = (plugin: Plugin): plugin is InstalledCode => "package" in plugin;

export const levelOf = (plugin: Plugin, { trust }: Pick<PluginInstance, "trust">): TrustLevel =>
  trust ?? (isInstalled(plugin) ? "untrusted" : "trusted");

/** The plugin itself when it is trusted. Throws GODWIT_CONFIG_INVALID for what cannot run outside of the node. */
export function isolate(plugin: Plugin, instance: PluginInstance): Plugin {
  const level = levelOf(plugin, instance);
  const isForeign = isInstalled(plugin) && plugin.package.manifest.runtime === "exec";
  if (level === "trusted" && !isForeign) return plugin;
  if (!isInstalled(plugin))
    throw godwitError(
      "GODWIT_CONFIG_INVALID",
      `"${plugin.id}" is a part of Godwit and runs trusted; take trust out of its table`,
    );
  const { code } = plugin.package;
  if (level === "untrusted")
    return remotePlugin(plugin, {
      level,
      code: isForeign ? new Uint8Array(0) : code,
      launch: (ctx) => launchUntrusted(plugin, instance, ctx),
    });
  if (isForeign)
    throw godwitError(
      "GODWIT_CONFIG_INVALID",
      `"${plugin.id}" is a program of its own and runs untrusted only; take trust out of its table`,
    );
  return remotePlugin(plugin, { level: "contained", code, launch: async () => launchWorker() });
}

/** What `ctx.net` may open: all for a trusted plugin, for others what was granted. */
export const pluginNetPolicy = (plugin: Plugin, instance: PluginInstance): NetPolicy =>
  levelOf(plugin, instance) === "trusted"
    ? allowAll
    : netPolicyOf(grantedOf(plugin.permissions, instance.grant ?? []));

async function launchUntrusted(
  { permissions, package: found }: InstalledCode,
  { grant = [], acceptMissing = [] }: PluginInstance,
  ctx: PluginContext,
): Promise<Launched> {
  const isExec = found.manifest.runtime === "exec";
  const order: SandboxOrder = {
    folder: await ctx.folder(),
    granted: grantedOf(permissions, grant),
    acceptMissing,
    nodePid: process.pid,
    ...(isExec ? { exec: await writeExecutable(ctx, found) } : {}),
  };
  const ungranted = permissions.length > 0 && grant.length === 0;
  if (ungranted) ctx.log.info("plugin runs without grants", { asked: permissions.join(", ") });
  return await launchProcess({
    command: [...selfCommand(), GUEST_COMMAND, JSON.stringify(order)],
    log: ctx.log,
    clock: ctx.clock,
    memoryBytesMax: MEMORY_BYTES_MAX,
  });
}

async function writeExecutable(_ctx: PluginContext, _found: PluginPackage): Promise<string> {
  throw godwitError("GODWIT_PLUGIN_FAILED", "programs are not run yet");
}
