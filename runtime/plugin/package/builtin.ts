/** Plugins that Godwit brings along: what is known of one before its code is loaded, which happens when a table names it. */
import type { Plugin, PluginNamespace } from "@godwit/sdk";
import { findPlugin } from "../host/instance.ts";

export interface BuiltinPlugin extends Pick<Plugin, "id" | "namespace"> {
  /** The same one each time. */
  load(): Promise<Plugin>;
}

/** Those that instances name, each once, in the order of the list. */
export async function loadNamed(
  builtins: readonly BuiltinPlugin[],
  named: readonly { readonly namespace: PluginNamespace; readonly type: string }[],
): Promise<Plugin[]> {
  const wanted = new Set(named.map(({ namespace, type }) => findPlugin(builtins, namespace, type)));
  return await Promise.all(builtins.filter((one) => wanted.has(one)).map((one) => one.load()));
}
