/** Plugins that run and what the operator asks of one, the keys of coordination engines, and heal actions. */
import { defineRoute, jsonResponse, schemasOf, type Route } from "./route.ts";

const operate = { scope: "operate" } as const;
const schemas = schemasOf(() => import("./schemas-plugins.ts"));

export function pluginRoutes(): Route[] {
  return [
    defineRoute({
      method: "get",
      path: "/mesh/plugins",
      operation: "getPlugins",
      summary: "Plugins that run, with their state and what they offer.",
      access: { scope: "read", openOnLoopback: true },
      answers: [{ status: 200, description: "plugins", schema: schemas.plugins }],
      handle: ({ parts }) => jsonResponse({ plugins: parts.plugins.list() }),
    }),
    defineRoute({
      method: "get",
      path: "/engines/{engine}/keys/{key}",
      operation: "readKey",
      summary: "A key of a coordination engine.",
      access: operate,
      answers: [{ status: 200, description: "entry", schema: schemas.entry }],
      handle: async ({ parts, params }) =>
        jsonResponse(await parts.plugins.read(params["engine"]!, params["key"]!)),
    }),
    defineRoute({
      method: "post",
      path: "/engines/{engine}/keys/{key}",
      operation: "writeKey",
      summary: "Writes a key; with `expected` by compare and set, where the engine's guarantee holds it.",
      access: operate,
      body: schemas.writeBody,
      answers: [{ status: 200, description: "entry", schema: schemas.entry }],
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
      body: schemas.healBody,
      answers: [{ status: 200, description: "what was done, or would be", schema: schemas.healed }],
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
      body: schemas.askBody,
      answers: [{ status: 200, description: "its answer", schema: schemas.anything }],
      handle: async ({ parts, params, body: { request, instance, input } }) =>
        jsonResponse(await parts.view.askPlugin(params["plugin"]!, instance, request, input)),
    }),
  ];
}
