/** Requests and answers of routes-plugins.ts, held to view/contract/plugins.ts by `satisfies`. */
import * as z from "zod";
import type { EngineEntryView, PluginRow } from "../view/contract/plugins.ts";

const row = z.object({
  namespace: z.enum(["transport", "discovery", "service", "engine", "heal-action"]),
  name: z.string(),
  type: z.string(),
  state: z.enum(["starting", "running", "degraded", "down"]),
  reason: z.string().nullable(),
  guarantee: z.enum(["eventual", "quorum", "strong"]).nullable().describe("of an engine: what it promises"),
  actions: z.array(z.object({ name: z.string(), summary: z.string() })).describe("heal actions it offers"),
}) satisfies z.ZodType<PluginRow>;
export const entry = z.object({
  key: z.string(),
  value_base64: z.string(),
  revision: z.string(),
}) satisfies z.ZodType<EngineEntryView>;
export const writeBody = z.strictObject({
  value_base64: z.base64().max(90_000),
  expected: z
    .string()
    .max(128)
    .nullable()
    .optional()
    .describe("write only over this revision; null: only where nothing is"),
});
export const healBody = z.strictObject({
  dry_run: z.boolean().default(false).describe("say what would be done and change nothing"),
  steps: z.int().min(1).max(1_000).default(100),
  timeout_seconds: z.int().min(1).max(600).default(60),
});
export const healed = z.object({
  action: z.string(),
  dry_run: z.boolean(),
  steps: z.array(z.string()).describe("one sentence each"),
});

export const askBody = z.strictObject({
  request: z
    .string()
    .regex(/^[a-z][a-z-]{0,31}$/)
    .describe("what is asked, in the plugin's words"),
  instance: z.string().max(64).optional().describe("its name in the configuration, where there are several"),
  input: z.unknown().optional(),
});
export const plugins = z.object({ plugins: z.array(row) });
export const anything = z.unknown();
