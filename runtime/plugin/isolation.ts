/**
 * Where a plugin runs: in the node (`trusted`), in a Worker (`contained`), or in a process that the kernel locks in
 * (`untrusted`). Decides by its table and its origin, and makes the isolated look like any other plugin to the host. Must
 * never run a plugin with more rights than its table says. Specified by docs/plugins.md, "Trust".
 */
import { lstatSync, readFileSync } from "node:fs";
import { lstat, opendir } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { Plugin, PluginContext } from "@godwit/sdk";
import { godwitError } from "../kernel/errors.ts";
import { writeWhole } from "../kernel/whole-file.ts";
import { GUEST_COMMAND, launchProcess, launchWorker, selfCommand } from "./remote/launch.ts";
import type { PluginPackage } from "./package/package.ts";
import {
  allowAll,
  type DoorPolicy,
  doorPolicyOf,
  enginePolicyOf,
  type EnginePolicy,
  grantedOf,
  netPolicyOf,
  type NetPolicy,
  type SerialPolicy,
  serialPolicyOf,
  pagesReachOf,
  type RegisterPolicy,
  registerPolicyOf,
  withMissingGrant,
} from "./permissions.ts";
import type { Launched, RemoteOptions } from "./remote/remote.ts";
import type { SandboxOrder } from "./sandbox/order.ts";
import { FOLDER_BYTES_MAX, FOLDER_ENTRIES_MAX } from "./sandbox/protections.ts";
import type { PluginInstance, RequiringPlugin } from "./host/instance.ts";

/** Private memory of an untrusted plugin's process; its data segment is bounded by the kernel as well. */
const MEMORY_BYTES_MAX = 256 * 2 ** 20;

/** For everybody to read and run, for nobody to change. */
const PROGRAM_MODE = 0o555;

export type TrustLevel = "trusted" | "contained" | "untrusted";

/** A plugin of a third party, with the code that was verified. */
export interface InstalledCode extends RequiringPlugin {
  readonly package: PluginPackage;
}

/** Most nodes have none: what speaks with it is loaded when one starts. */
const remotePlugin = (plugin: Plugin, options: RemoteOptions): Plugin => ({
  ...plugin,
  async start(ctx, table) {
    const { remotePlugin: remote } = await import("./remote/remote.ts");
    await remote(plugin, options).start(ctx, table);
  },
});

export const isInstalled = (plugin: Plugin): plugin is InstalledCode => "package" in plugin;

export const levelOf = (plugin: Plugin, { trust }: Pick<PluginInstance, "trust">): TrustLevel =>
  trust ?? (isInstalled(plugin) ? "untrusted" : "trusted");

/**
 * Answers what runs in a plugin's place; `command` starts this program: itself when it is trusted. That throws GODWIT_CONFIG_INVALID for what cannot run as its
 * table says.
 */
export const createIsolation =
  (stateDir: string, command = selfCommand()) =>
  (plugin: Plugin, instance: PluginInstance): Plugin => {
    const level = levelOf(plugin, instance);
    const isProgram = isInstalled(plugin) && plugin.package.manifest.runtime === "exec";
    if (level === "trusted" && !isProgram) return plugin;
    if (!isInstalled(plugin))
      throw godwitError(
        "GODWIT_CONFIG_INVALID",
        `"${plugin.id}" is a part of Godwit and runs trusted; take trust out of its table`,
      );
    if (isProgram && level !== "untrusted")
      throw godwitError(
        "GODWIT_CONFIG_INVALID",
        `"${plugin.id}" is a program of its own and runs untrusted only; take trust out of its table`,
      );
    if (level === "contained")
      return remotePlugin(plugin, { level, code: plugin.package.code, launch: async () => launchWorker() });
    return remotePlugin(plugin, {
      level: "untrusted",
      explain: (reason) => withMissingGrant(reason, plugin.permissions, instance.grant ?? []),
      code: isProgram ? new Uint8Array(0) : plugin.package.code,
      launch: async (ctx) =>
        launchUntrusted(
          command,
          plugin,
          instance,
          ctx,
          isProgram ? writeProgram(stateDir, plugin.package) : undefined,
        ),
    });
  };

/** Which ports `ctx.serial` may open: all for a trusted plugin, for others what was granted. */
export const pluginSerialPolicy = (plugin: Plugin, instance: PluginInstance): SerialPolicy =>
  serialPolicyOf(
    plugin.permissions,
    levelOf(plugin, instance) === "trusted" ? undefined : (instance.grant ?? []),
  );

/** What `ctx.net` may open: all for a trusted plugin, for others what was granted. */
export const pluginNetPolicy = (plugin: Plugin, instance: PluginInstance): NetPolicy =>
  levelOf(plugin, instance) === "trusted" ? allowAll : netPolicyOf(plugin.permissions, instance.grant ?? []);

/** What it may register. */
export const pluginRegisterPolicy = (plugin: Plugin, instance: PluginInstance): RegisterPolicy =>
  registerPolicyOf(
    instance.namespace,
    plugin.permissions,
    levelOf(plugin, instance) === "trusted" ? undefined : (instance.grant ?? []),
  );

/** What it may do among the plugins of this node. */
export const pluginDoorPolicy = (plugin: Plugin, instance: PluginInstance): DoorPolicy =>
  doorPolicyOf(
    plugin.permissions,
    levelOf(plugin, instance) === "trusted" ? undefined : (instance.grant ?? []),
  );

/** What it may of the mesh when it is an engine. */
export const pluginEnginePolicy = (plugin: Plugin, instance: PluginInstance): EnginePolicy =>
  enginePolicyOf(
    levelOf(plugin, instance) === "trusted" ? undefined : grantedOf(plugin.permissions, instance.grant ?? []),
  );

/** Whether it may have pages: a trusted plugin may, and lets strangers in only where that was granted. */
export function pluginPagesReach(plugin: Plugin, instance: PluginInstance): "local" | "public" | undefined {
  const granted = pagesReachOf(grantedOf(plugin.permissions, instance.grant ?? []));
  return levelOf(plugin, instance) === "trusted" ? (granted ?? "local") : granted;
}

async function launchUntrusted(
  self: readonly string[],
  { permissions }: InstalledCode,
  { grant = [], acceptMissing = [] }: PluginInstance,
  ctx: PluginContext,
  program: string | undefined,
): Promise<Launched> {
  const folder = await ctx.folder();
  const order: SandboxOrder = {
    folder,
    granted: grantedOf(permissions, grant),
    acceptMissing,
    nodePid: process.pid,
    ...(program === undefined ? {} : { exec: program }),
  };
  if (permissions.length > 0 && grant.length === 0)
    ctx.log.info("plugin runs without grants", { asked: permissions.join(", ") });
  return await launchProcess({
    command: [...self, GUEST_COMMAND, JSON.stringify(order)],
    log: ctx.log,
    clock: ctx.clock,
    memoryBytesMax: MEMORY_BYTES_MAX,
    overuse: watchFolder(folder),
  });
}

/** The verified bytes, beside their package, for everybody to read and run: the plugin's user is no other's. */
function writeProgram(stateDir: string, { manifest, code, hash }: PluginPackage): string {
  const folder = join(resolve(stateDir), "plugins", manifest.id, manifest.version);
  const path = join(folder, `program-${hash.slice(0, 16)}`);
  try {
    // What is there already is not written again: a full disk would keep the plugin from starting.
    if (!isWritten(path, code)) writeWhole(path, code, PROGRAM_MODE);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw godwitError("GODWIT_STATE_UNUSABLE", `cannot write ${path}: ${why}`, cause);
  }
  return path;
}

function isWritten(path: string, code: Uint8Array): boolean {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  return (
    stat?.isFile() === true &&
    (stat.mode & 0o777) === PROGRAM_MODE &&
    stat.size === code.length &&
    Buffer.compare(readFileSync(path), code) === 0
  );
}

/** Looks into the plugin's folder in the background; answers what the last look found to be too much. */
function watchFolder(folder: string): () => string | undefined {
  let why: string | undefined;
  let isLooking = false;
  return () => {
    if (!isLooking) {
      isLooking = true;
      void judgeFolder(folder)
        .then((found) => {
          why = found;
        })
        .finally(() => {
          isLooking = false;
        });
    }
    return why;
  };
}

/** Why a plugin with this folder must end: it holds too much. Undefined: it does not. Reads all of it, which takes a while; never rejects. */
export async function judgeFolder(folder: string): Promise<string | undefined> {
  let bytes = 0;
  let entries = 0;
  const waiting = [folder];
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    try {
      for await (const entry of await opendir(path)) {
        if (++entries > FOLDER_ENTRIES_MAX) return `its folder holds more than ${FOLDER_ENTRIES_MAX} files`;
        const inner = join(path, entry.name);
        if (entry.isDirectory()) waiting.push(inner);
        else bytes += (await lstat(inner)).blocks * 512;
        if (bytes > FOLDER_BYTES_MAX)
          return `its folder ${folder} holds more than ${FOLDER_BYTES_MAX / 2 ** 20} MiB; make room in it`;
      }
    } catch {
      // Gone between two looks.
    }
  }
  return undefined;
}
