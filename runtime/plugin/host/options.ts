/** Options of a plugin's table, judged by the schema that the plugin brings. */
import type { Plugin } from "@godwit/sdk";

/** What Standard Schema answers; `keys` is zod's list of unknown keys. */
export interface ValidationResult {
  readonly value?: unknown;
  readonly issues?: readonly {
    readonly message: string;
    readonly path?: readonly unknown[];
    readonly keys?: readonly string[];
    /** Of `secretField`: the value may be a secret and must not be shown; what was found is said instead. */
    readonly params?:
      { readonly isSecret?: unknown; readonly found?: unknown; readonly suggestion?: unknown } | undefined;
  }[];
}

export async function validateOptions(plugin: Plugin, options: unknown): Promise<ValidationResult> {
  return (await plugin.config["~standard"].validate(options)) as ValidationResult;
}

/** Standard Schema paths hold keys or `{key}` segments. */
export const keyOf = (segment: unknown): string =>
  typeof segment === "object" && segment !== null && "key" in segment ? String(segment.key) : String(segment);
