/** Options of a plugin's table, judged by the schema that the plugin brings. */
import type { Plugin } from "@godwit/sdk";
import { type Issue, whatFits } from "../../kernel/schema-words.ts";

/** What Standard Schema answers; `keys` is zod's list of unknown keys. */
export interface ValidationResult {
  readonly value?: unknown;
  readonly issues?: readonly (Issue & {
    readonly path?: readonly unknown[];
    readonly keys?: readonly string[] | undefined;
    /** Of `secretField`: the value may be a secret and must not be shown; what was found is said instead. */
    readonly params?:
      { readonly isSecret?: unknown; readonly found?: unknown; readonly suggestion?: unknown } | undefined;
  })[];
}

export async function validateOptions(plugin: Plugin, options: unknown): Promise<ValidationResult> {
  const result = (await plugin.config["~standard"].validate(options)) as ValidationResult;
  if (result.issues === undefined) return result;
  return { issues: result.issues.map((issue) => ({ ...issue, message: whatFits(issue) })) };
}

/** Keys that a table of the plugin may have; empty where its schema does not tell. */
export function keysKnownTo({ config }: Pick<Plugin, "config">): readonly string[] {
  const { shape } =
    (config as { readonly _zod?: { readonly def: { readonly shape?: object } } })._zod?.def ?? {};
  return Object.keys(shape ?? {});
}

/** Standard Schema paths hold keys or `{key}` segments. */
export const keyOf = (segment: unknown): string =>
  typeof segment === "object" && segment !== null && "key" in segment ? String(segment.key) : String(segment);
