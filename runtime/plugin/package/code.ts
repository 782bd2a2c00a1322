/**
 * A package's code becomes a plugin: imports exactly the bytes it was given, with the SDK of this Godwit. Used in the node for
 * trusted plugins and at the far end of a channel for all others.
 */
import type { Plugin } from "@godwit/sdk";
import { godwitError } from "../../kernel/errors.ts";
import { inWords } from "../../kernel/schema-words.ts";
import { MANIFEST_FILE } from "./package.ts";
import { bindSdk } from "./sdk-modules.ts";

/** Of a word out of a plugin's code, in a message. */
const SHOWN_CHARACTERS_MAX = 200;

/** A module cannot be registered twice under one name, and its contents are its name here. */
const registered = new Set<string>();

/** What was said of a plugin before its code was seen; permissions where they are to be compared as well. */
type Announced = Pick<Plugin, "id" | "namespace"> & Partial<Pick<Plugin, "permissions">>;

/**
 * `hash` names the code. Rejects with GODWIT_PLUGIN_PACKAGE when it is not the plugin that was announced; what the code says of
 * its permissions counts for nothing in a node, which goes by the manifest.
 */
export async function importPlugin(
  announced: Pick<Plugin, "id" | "namespace">,
  code: Uint8Array,
  hash: string,
): Promise<Plugin> {
  const plugin = await importDefault(code, hash);
  const { id, namespace } = announced;
  const differences = differencesOf({ id, namespace }, plugin);
  if (differences.length > 0)
    throw godwitError(
      "GODWIT_PLUGIN_PACKAGE",
      `the code of "${id}" is not the plugin of its manifest: ${differences.join("; ")}`,
    );
  return plugin as Plugin;
}

/** What a module exports by default; runs it. Rejects with what it throws. */
export async function importDefault(code: Uint8Array, hash: string): Promise<unknown> {
  const name = `godwit-plugin:${hash}`;
  if (!registered.has(name)) {
    const contents = new TextDecoder().decode(code);
    Bun.plugin({
      name,
      setup(build) {
        if (registered.size === 0) bindSdk(build);
        build.module(name, () => ({ contents, loader: "js" }));
      },
    });
    registered.add(name);
  }
  const { default: found } = (await import(name)) as { readonly default?: unknown };
  return found;
}

/** Where manifest and code disagree, and what to change where; empty where they do not. `plugin` may be anything. */
export function differencesOf(announced: Announced, plugin: unknown): string[] {
  const found = Object(plugin) as Partial<Record<keyof Plugin, unknown>>;
  if (typeof found.start !== "function" || found.config === undefined)
    return ["it does not export a plugin by default; write `export default definePlugin({ ... })`"];
  const differences = (["id", "namespace"] as const).flatMap((key) =>
    found[key] === announced[key]
      ? []
      : `its ${key} is ${shown(found[key])} in the code and ${shown(announced[key])} in ${MANIFEST_FILE}; make both the same`,
  );
  // Code that is silent about them asks for nothing else than its manifest.
  if (announced.permissions === undefined || !Array.isArray(found.permissions)) return differences;
  const inCode: readonly unknown[] = found.permissions;
  for (const one of inCode)
    if (!(announced.permissions as readonly unknown[]).includes(one))
      differences.push(`the code asks for ${shown(one)}; add it to permissions in ${MANIFEST_FILE}`);
  for (const one of announced.permissions)
    if (!inCode.includes(one))
      differences.push(
        `${MANIFEST_FILE} asks for ${shown(one)} and the code does not; take it out there, or add it to permissions in the code`,
      );
  return differences;
}

/** The code may hold anything. */
const shown = (value: unknown): string =>
  typeof value === "string" ? `"${value.slice(0, SHOWN_CHARACTERS_MAX)}"` : "missing";

/** Rejects with GODWIT_CONFIG_INVALID in the words of the plugin's own schema. */
export async function startPlugin(
  plugin: Plugin,
  ctx: Parameters<Plugin["start"]>[0],
  table: unknown,
): Promise<void> {
  const result = (await plugin.config["~standard"].validate(table)) as {
    value?: unknown;
    issues?: readonly { readonly message: string }[];
  };
  if (result.issues !== undefined)
    throw godwitError("GODWIT_CONFIG_INVALID", result.issues.map((issue) => inWords(issue)).join("; "));
  await plugin.start(ctx, result.value);
}
