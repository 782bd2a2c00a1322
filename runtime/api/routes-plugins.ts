/** What the operator asks of one running plugin; the words and what they mean are the plugin's. */
import * as z from "zod";
import { defineRoute, jsonResponse, type Route } from "./route.ts";

const body = z.strictObject({
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
      method: "post",
      path: "/plugins/{plugin}/requests",
      operation: "askPlugin",
      summary: "Asks a running plugin (`wireguard`) something; `godwit wg` does.",
      access: { scope: "admin" },
      body,
      answers: [{ status: 200, description: "its answer", schema: z.unknown() }],
      handle: async ({ parts, params, body: { request, instance, input } }) =>
        jsonResponse(await parts.view.askPlugin(params["plugin"]!, instance, request, input)),
    }),
  ];
}
