/**
 * A package's code becomes a plugin: imports exactly the bytes it was given, with the SDK of this Godwit. Used in the node for
 * trusted plugins and at the far end of a channel for all others.
 */
import type { Plugin } from "@godwit/sdk";
import { godwitError } from "../../kernel/errors.ts";
import { bindSdk } from "./sdk-modules.ts";

/** A module cannot be registered twice under one name, and its contents are its name here. */
const registered = new Set<string>();

/** `hash` names the code. Rejects with GODWIT_PLUGIN_PACKAGE when it is not the plugin that was announced. */
export async function importPlugin(
  announced: Pick<Plugin, "id" | "namespace">,
  code: Uint8Array,
  hash: string,
): Promise<Plugin> {
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
  const { default: plugin } = (await import(name)) as { readonly default?: Partial<Plugin> };
  if (
    plugin?.id !== announced.id ||
    plugin.namespace !== announced.namespace ||
    typeof plugin.start !== "function" ||
    plugin.config === undefined
  )
    throw godwitError(
      "GODWIT_PLUGIN_PACKAGE",
      `the code of "${announced.id}" does not export the plugin of its manifest by default`,
    );
  return plugin as Plugin;
}

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
    throw godwitError("GODWIT_CONFIG_INVALID", result.issues.map(({ message }) => message).join("; "));
  await plugin.start(ctx, result.value);
}
