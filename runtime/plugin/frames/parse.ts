/** What a plugin sends, held against a schema. */
import type * as z from "zod";
import { godwitError } from "../../kernel/errors.ts";
import { inWords } from "../../kernel/schema-words.ts";
import { decodeParts, PLUGIN_JSON_BYTES_MAX } from "./frames.ts";

/** Throws GODWIT_DECODE. */
export const parseBody = <T>(schema: z.ZodType<T>, body: Uint8Array): T =>
  parseJson(schema, decodeParts(body, PLUGIN_JSON_BYTES_MAX).json);

/** Throws GODWIT_DECODE. */
export function parseJson<T>(schema: z.ZodType<T>, json: unknown): T {
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw godwitError(
    "GODWIT_DECODE",
    `plugin frame: ${issue?.path.join(".") || "its JSON"}: ${issue === undefined ? "" : inWords(issue)}`,
  );
}
