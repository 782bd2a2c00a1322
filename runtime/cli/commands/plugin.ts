/** `godwit plugin ...`: packages of third parties. Works without a node; a running one picks changes up by `godwit reload`. */
import { resolve } from "node:path";
import { loadConfig } from "../../config/load.ts";
import { loadOrCreatePublisher } from "../../identity/keystore.ts";
import { godwitError } from "../../kernel/errors.ts";
import { systemRandom } from "../../kernel/random.ts";
import { addPackage, listPlugins } from "../../node/plugins.ts";
import { readPackage, removeInstalled, trustPublisher } from "../../plugin/installed.ts";
import { bundleFolder, compareBundle, writePackage } from "../../plugin/package/pack.ts";
import type { PluginPackage } from "../../plugin/package/package.ts";
import { checkPermissions, checkTested, checkTypes } from "../author/checks.ts";
import { type CommandContext, type CommandModule, exitCodes } from "../command.ts";
import { safeText } from "../render.ts";
import { table } from "../table-text.ts";
import { running } from "./offers.ts";

const stateDirOf = async (context: CommandContext): Promise<string> =>
  (await loadConfig({ path: context.option("config"), env: context.env })).node.stateDir;

/** `value` for `--json`, else the lines. */
function answer({ io, isJson }: CommandContext, value: unknown, ...lines: readonly string[]): number {
  io.stdout(isJson ? `${JSON.stringify(value)}\n` : lines.map((line) => `${safeText(line)}\n`).join(""));
  return exitCodes.fine;
}

function describe({ manifest, publisher, hash }: PluginPackage) {
  const { id, namespace, version, sdk, permissions } = manifest;
  return { id, namespace, version, sdk, permissions, publisher, sha256: hash };
}

export const pack: CommandModule = {
  async run(context) {
    const key = resolve(context.option("key") ?? "godwit-publisher.key");
    const folder = resolve(context.args[0] ?? ".");
    const bundle = await bundleFolder(folder);
    checkPermissions(bundle.manifest);
    const note = await compareBundle(bundle, context.io.clock);
    if (note !== undefined) context.io.stderr(`${safeText(note)}\n`);
    if (bundle.manifest.runtime !== "exec" && !context.isSet("unchecked")) {
      checkTested(folder, bundle.manifest);
      await checkTypes(folder, context.env);
    }
    const { identity: publisher, created } = loadOrCreatePublisher(key, systemRandom);
    const path = writePackage(bundle, publisher, context.option("out"));
    const made = `made the key ${key}: one serves all plugins of a publisher; to sign with another: --key FILE`;
    return answer(
      context,
      { path, publisher: publisher.id, key, key_created: created },
      path,
      `publisher ${publisher.id}`,
      ...(created ? [made] : []),
    );
  },
};

export const inspect: CommandModule = {
  async run(context) {
    const found = describe(readPackage(context.args[0]!));
    return answer(
      context,
      found,
      `${found.namespace} "${found.id}" ${found.version}, for SDK ${found.sdk}`,
      `publisher ${found.publisher}`,
      `sha256 ${found.sha256}`,
      `asks for ${found.permissions.join(", ") || "nothing"}`,
    );
  },
};

export const trust: CommandModule = {
  async run(context) {
    const publisher = await trustPublisher(await stateDirOf(context), context.args[0]!);
    return answer(context, { publisher }, `packages of ${publisher} are taken`);
  },
};

export const add: CommandModule = {
  async run(context) {
    const found = describe(await addPackage(await stateDirOf(context), context.args[0]!));
    return answer(context, found, `installed ${found.namespace} "${found.id}" ${found.version}`);
  },
};

export const list: CommandModule = {
  async run(context) {
    if (context.isSet("running")) return running.run(context);
    const found = (await listPlugins(await stateDirOf(context))).map((one) => ({
      id: one.id,
      version: one.version,
      namespace: one.package?.manifest.namespace ?? null,
      publisher: one.package?.publisher ?? null,
      reason: one.reason ?? null,
    }));
    const rows = found.map(({ id, version, namespace, reason }) => [
      id,
      version,
      namespace ?? "-",
      reason ?? "",
    ]);
    const text =
      rows.length === 0
        ? "no plugins are installed: godwit plugin add FILE\n"
        : table(["ID", "VERSION", "KIND", "WHY IT CANNOT RUN"], rows, context.paint);
    context.io.stdout(context.isJson ? `${JSON.stringify({ plugins: found })}\n` : text);
    return exitCodes.fine;
  },
};

export const remove: CommandModule = {
  async run(context) {
    const [id, version] = context.args;
    if (!(await removeInstalled(await stateDirOf(context), id!, version)))
      throw godwitError("GODWIT_NOT_FOUND", `no such plugin is installed: ${id} ${version ?? ""}`.trimEnd());
    return answer(context, { id, version: version ?? null }, `removed ${id}`);
  },
};
