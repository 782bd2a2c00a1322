/** Plugins that run and what the operator asks of one, the keys of coordination engines, and heal actions. */
import * as z from "zod";
import { defineRoute, jsonResponse, type Route } from "./route.ts";
import type { EngineEntryView, PluginRow } from "../view/contract/plugins.ts";

const operate = { scope: "operate" } as const;
const row = z.object({
  namespace: z.enum(["transport", "discovery", "service", "engine", "heal-action"]),
  name: z.string(),
  type: z.string(),
  state: z.enum(["starting", "running", "degraded", "down"]),
  reason: z.string().nullable(),
  guarantee: z.enum(["eventual", "quorum", "strong"]).nullable().describe("of an engine: what it promises"),
  actions: z.array(z.object({ name: z.string(), summary: z.string() })).describe("heal actions it offers"),
}) satisfies z.ZodType<PluginRow>;
const entry = z.object({
  key: z.string(),
  value_base64: z.string(),
  revision: z.string(),
}) satisfies z.ZodType<EngineEntryView>;
const writeBody = z.strictObject({
  value_base64: z.base64().max(90_000),
  expected: z
    .string()
    .max(128)
    .nullable()
    .optional()
    .describe("write only over this revision; null: only where nothing is"),
});
const healBody = z.strictObject({
  dry_run: z.boolean().default(false).describe("say what would be done and change nothing"),
  steps: z.int().min(1).max(1_000).default(100),
  timeout_seconds: z.int().min(1).max(600).default(60),
});
const healed = z.object({
  action: z.string(),
  dry_run: z.boolean(),
  steps: z.array(z.string()).describe("one sentence each"),
});

const askBody = z.strictObject({
  request: z
    .string()
    .regex(/^[a-z][a-z-]{0,31}$/)
    .describe("what is asked, in the plugin's words"),
  instance: z.string().max(64).optional().describe("its name in the configuration, where there are several"),
  input: z.unknown().optional(),
});

export function pluginRoutes(): Route[] {
  return [
    defineRoute({
      method: "get",
      path: "/mesh/plugins",
      operation: "getPlugins",
      summary: "Plugins that run, with their state and what they offer.",
      access: { scope: "read", openOnLoopback: true },
      answers: [{ status: 200, description: "plugins", schema: z.object({ plugins: z.array(row) }) }],
      handle: ({ parts }) => jsonResponse({ plugins: parts.plugins.list() }),
    }),
    defineRoute({
      method: "get",
      path: "/engines/{engine}/keys/{key}",
      operation: "readKey",
      summary: "A key of a coordination engine.",
      access: operate,
      answers: [{ status: 200, description: "entry", schema: entry }],
      handle: async ({ parts, params }) =>
        jsonResponse(await parts.plugins.read(params["engine"]!, params["key"]!)),
    }),
    defineRoute({
      method: "post",
      path: "/engines/{engine}/keys/{key}",
      operation: "writeKey",
      summary: "Writes a key; with `expected` by compare and set, where the engine's guarantee holds it.",
      access: operate,
      body: writeBody,
      answers: [{ status: 200, description: "entry", schema: entry }],
      handle: async ({ parts, params, body }) =>
        jsonResponse(
          await parts.plugins.write(
            params["engine"]!,
            params["key"]!,
            Buffer.from(body.value_base64, "base64"),
            body.expected,
          ),
        ),
    }),
    defineRoute({
      method: "post",
      path: "/heal/{action}",
      operation: "heal",
      summary: "Runs a heal action within a budget, or says what it would do.",
      access: operate,
      body: healBody,
      answers: [{ status: 200, description: "what was done, or would be", schema: healed }],
      async handle({ parts, params, body, connection }) {
        connection.holdOpen?.();
        const action = params["action"]!;
        const steps = body.dry_run
          ? await parts.plugins.plan(action)
          : await parts.plugins.heal(action, body.steps, body.timeout_seconds * 1_000);
        return jsonResponse({ action, dry_run: body.dry_run, steps: [...steps] });
      },
    }),
    defineRoute({
      method: "post",
      path: "/plugins/{plugin}/requests",
      operation: "askPlugin",
      summary: "Asks a running plugin (`wireguard`) something; `godwit wg` does.",
      access: { scope: "admin" },
      body: askBody,
      answers: [{ status: 200, description: "its answer", schema: z.unknown() }],
      handle: async ({ parts, params, body: { request, instance, input } }) =>
        jsonResponse(await parts.view.askPlugin(params["plugin"]!, instance, request, input)),
    }),
  ];
}
