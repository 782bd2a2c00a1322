/**
 * Plugins of third parties below `<state_dir>/plugins`: `<id>/<version>/package.gwp` and the publishers the operator
 * trusts. Owns what may be installed and which version counts; runs exactly the bytes that were verified, and nothing
 * before its table is started. Must never take a package of a publisher that is not trusted, and never lets one id be
 * two plugins. Specified by docs/plugins.md, "Installing".
 */
import { lstatSync, readFileSync } from "node:fs";
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { type Plugin, SDK_VERSION } from "@godwit/sdk";
import { checkNodeId } from "../identity/keys.ts";
import { asGodwitError, fileReason, godwitError } from "../kernel/errors.ts";
import { writeWhole } from "../kernel/whole-file.ts";
import { type NodeId, parseNodeId } from "../kernel/ids.ts";
import { importPlugin, startPlugin } from "./package/code.ts";
import type { InstalledCode } from "./isolation.ts";
import { requiresProblems } from "./package/requires.ts";
import { decodePackage, PACKAGE_BYTES_MAX, type PluginPackage, tableSchema } from "./package/package.ts";

const PACKAGE_FILE = "package.gwp";
const PUBLISHERS_FILE = "publishers";
const PUBLISHERS_MAX = 1_024;
const PUBLISHERS_BYTES_MAX = PUBLISHERS_MAX * 64;
/** More folders than this are somebody's mistake. */
const INSTALLED_MAX = 1_024;
const ID_PATTERN = /^[a-z][a-z0-9-]{0,63}$/;

const folderOf = (stateDir: string): string => join(stateDir, "plugins");

export interface InstalledPlugin {
  readonly id: string;
  readonly version: string;
  /** Undefined: it cannot be used, for `reason`. */
  readonly package: PluginPackage | undefined;
  readonly reason: string | undefined;
}

/** Bounded, and never through a link or from a pipe. Throws GODWIT_PLUGIN_PACKAGE. */
export const readPackageBytes = (path: string): Uint8Array => readBounded(path, PACKAGE_BYTES_MAX);

export const readPackage = (path: string): PluginPackage => decodePackage(readPackageBytes(path));

function readBounded(path: string, bytesMax: number): Uint8Array {
  try {
    const stat = lstatSync(path);
    if (!stat.isFile()) throw new Error("it is not a plain file");
    if (stat.size > bytesMax) throw new Error(`it has more than ${bytesMax} bytes`);
    return readFileSync(path);
  } catch (error) {
    throw godwitError("GODWIT_PLUGIN_PACKAGE", `cannot read ${path}: ${fileReason(error)}`, error);
  }
}

/** Whose packages may be installed and run. */
export function trustedPublishers(stateDir: string): NodeId[] {
  const path = join(folderOf(stateDir), PUBLISHERS_FILE);
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return [];
  const text = new TextDecoder().decode(readBounded(path, PUBLISHERS_BYTES_MAX));
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map(parseNodeId);
}

/** Idempotent. Throws GODWIT_ID_INVALID for what is no key, GODWIT_QUEUE_FULL when there are too many. */
export async function trustPublisher(stateDir: string, text: string): Promise<NodeId> {
  const key = parseNodeId(text);
  checkNodeId(key);
  const publishers = trustedPublishers(stateDir);
  if (publishers.includes(key)) return key;
  if (publishers.length >= PUBLISHERS_MAX)
    throw godwitError("GODWIT_QUEUE_FULL", `at most ${PUBLISHERS_MAX} publishers can be trusted`);
  await replaceFile(folderOf(stateDir), PUBLISHERS_FILE, `${[...publishers, key].join("\n")}\n`);
  return key;
}

/** Verifies and installs; nothing of it runs. `builtins` keep their ids. Throws the GODWIT_PLUGIN_ codes. */
export async function installPackage(
  stateDir: string,
  bytes: Uint8Array,
  builtins: readonly Pick<Plugin, "id">[],
): Promise<PluginPackage> {
  const found = decodePackage(bytes);
  const { id, version } = found.manifest;
  checkUsable(found, trustedPublishers(stateDir), builtins);
  const installed = await listInstalled(stateDir, builtins);
  for (const other of installed) {
    if (other.id !== id || other.package === undefined) continue;
    if (
      other.package.publisher !== found.publisher ||
      other.package.manifest.namespace !== found.manifest.namespace
    )
      throw godwitError(
        "GODWIT_PLUGIN_CONFLICT",
        `"${id}" is installed already as another plugin, of publisher ${other.package.publisher}; remove that first`,
      );
    if (other.version === version && other.package.hash !== found.hash)
      throw godwitError(
        "GODWIT_PLUGIN_CONFLICT",
        `"${id}" ${version} is installed with other contents; remove it, or raise the version`,
      );
  }
  const beside = installed.flatMap((one) => one.package ?? []);
  const others = newestOf(
    beside.filter(({ manifest }) => manifest.id !== id || isNewer(manifest.version, version)),
  );
  if (!others.has(id)) others.set(id, found);
  const problem = requiresProblems(
    [...others.values()].map(({ manifest }) => manifest),
    new Set(builtins.map((plugin) => plugin.id)),
  ).get(id);
  if (problem !== undefined) throw godwitError("GODWIT_PLUGIN_REQUIRES", problem);
  await replaceFile(join(folderOf(stateDir), id, version), PACKAGE_FILE, bytes);
  return found;
}

/** Answers whether there was one. All versions without `version`. */
export async function removeInstalled(stateDir: string, id: string, version?: string): Promise<boolean> {
  const versions = await versionsOf(stateDir, id);
  const gone = version === undefined ? versions : versions.filter((one) => one === version);
  const folder = join(folderOf(stateDir), id);
  for (const one of gone) await rm(join(folder, one), { recursive: true });
  if (gone.length > 0 && gone.length === versions.length) await rm(folder, { recursive: true });
  return gone.length > 0;
}

/** Each id's newest first. What cannot be used stands there with its reason. */
export async function listInstalled(
  stateDir: string,
  builtins: readonly Pick<Plugin, "id">[],
): Promise<InstalledPlugin[]> {
  const list: InstalledPlugin[] = [];
  const ids = (await foldersIn(folderOf(stateDir))).filter((id) => ID_PATTERN.test(id)).toSorted();
  if (ids.length === 0) return list;
  const publishers = trustedPublishers(stateDir);
  for (const id of ids) {
    for (const version of await versionsOf(stateDir, id)) {
      try {
        const found = readPackage(join(folderOf(stateDir), id, version, PACKAGE_FILE));
        if (found.manifest.id !== id || found.manifest.version !== version)
          throw godwitError("GODWIT_PLUGIN_PACKAGE", "its folder and its manifest disagree");
        checkUsable(found, publishers, builtins);
        list.push({ id, version, package: found, reason: undefined });
      } catch (error) {
        list.push({ id, version, package: undefined, reason: asGodwitError(error).message });
      }
    }
  }
  return withoutUnmet(list, builtins);
}

/** What the node can run beside its own: of what is installed the newest usable version of each. */
export function installedPlugins(list: readonly InstalledPlugin[]): InstalledChoice[] {
  const newest = newestOf(list.flatMap((one) => one.package ?? []));
  return [...newest.values()].map((found) => ({ hash: found.hash, plugin: pluginOf(found) }));
}

/** Of each id, from a list with each id's newest first. */
function newestOf(packages: readonly PluginPackage[]): Map<string, PluginPackage> {
  const newest = new Map<string, PluginPackage>();
  for (const found of packages) if (!newest.has(found.manifest.id)) newest.set(found.manifest.id, found);
  return newest;
}

const isNewer = (version: string, than: string): boolean => Bun.semver.order(version, than) > 0;

/** Takes out what requires a plugin that is not there, or that requires it in turn. */
function withoutUnmet(
  list: readonly InstalledPlugin[],
  builtins: readonly Pick<Plugin, "id">[],
): InstalledPlugin[] {
  const newest = newestOf(list.flatMap((one) => one.package ?? []));
  const problems = requiresProblems(
    [...newest.values()].map(({ manifest }) => manifest),
    new Set(builtins.map(({ id }) => id)),
  );
  if (problems.size === 0) return [...list];
  const fewer = list.map((one) => {
    const reason = newest.get(one.id) === one.package ? problems.get(one.id) : undefined;
    return reason === undefined || one.package === undefined ? one : { ...one, package: undefined, reason };
  });
  // An older version may be what counts now, and has requirements of its own. Each round takes one out at least.
  return withoutUnmet(fewer, builtins);
}

/** Ids of which nothing can be used, with the reason of the newest: their tables are down, the node is not. */
export function damagedPlugins(list: readonly InstalledPlugin[]): ReadonlyMap<string, string> {
  const usable = new Set(list.flatMap(({ id, package: found }) => (found === undefined ? [] : [id])));
  const damaged = new Map<string, string>();
  for (const { id, version, reason } of list)
    if (!usable.has(id) && !damaged.has(id) && reason !== undefined)
      damaged.set(id, `its installed version ${version} cannot be used: ${reason}`);
  return damaged;
}

export interface InstalledChoice {
  readonly hash: string;
  readonly plugin: InstalledCode;
}

function checkUsable(
  { manifest, publisher }: PluginPackage,
  publishers: readonly NodeId[],
  builtins: readonly Pick<Plugin, "id">[],
): void {
  if (builtins.some(({ id }) => id === manifest.id))
    throw godwitError("GODWIT_PLUGIN_CONFLICT", `"${manifest.id}" is a plugin of Godwit itself`);
  if (!Bun.semver.satisfies(SDK_VERSION, manifest.sdk))
    throw godwitError(
      "GODWIT_PLUGIN_SDK",
      `"${manifest.id}" ${manifest.version} needs SDK ${manifest.sdk}, this Godwit has ${SDK_VERSION}`,
    );
  if (!publishers.includes(publisher))
    throw godwitError(
      "GODWIT_PLUGIN_UNTRUSTED",
      `publisher ${publisher} is not trusted here; if you know whose key that is: godwit plugin trust ${publisher}`,
    );
}

/** The same shape as a built-in; its code is loaded when a table of it starts. */
function pluginOf(found: PluginPackage): InstalledCode {
  const { id, namespace, sdk: range, permissions } = found.manifest;
  return {
    id,
    namespace,
    sdk: range,
    permissions,
    package: found,
    requires: found.manifest.requires,
    config: tableSchema(found.manifest),
    async start(ctx, table) {
      await startPlugin(await importPlugin(found.manifest, found.code, found.hash), ctx, table);
    },
  };
}

/** Newest first. */
async function versionsOf(stateDir: string, id: string): Promise<string[]> {
  if (!ID_PATTERN.test(id)) return [];
  const versions = (await foldersIn(join(folderOf(stateDir), id))).filter((one) =>
    /^\d+\.\d+\.\d+/.test(one),
  );
  return versions.toSorted((a, b) => Bun.semver.order(b, a));
}

async function foldersIn(path: string): Promise<string[]> {
  try {
    const entries = await readdir(path, { withFileTypes: true });
    return entries
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name)
      .slice(0, INSTALLED_MAX);
  } catch {
    return [];
  }
}

/** Whole or not at all. */
async function replaceFile(folder: string, name: string, contents: string | Uint8Array): Promise<void> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    writeWhole(join(folder, name), contents, 0o600);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw godwitError("GODWIT_STATE_UNUSABLE", `cannot write to ${folder}: ${reason}`, error);
  }
}
