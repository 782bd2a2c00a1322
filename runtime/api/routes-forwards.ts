/** TCP ports of this node that lead to targets at others. */
import * as z from "zod";
import { godwitError } from "../kernel/errors.ts";
import type { ForwardView } from "../view/contract/node.ts";
import { defineRoute, emptyResponse, jsonResponse, type Route } from "./route.ts";

const operate = { scope: "operate" } as const;
const address = z.string().min(3).max(300);
const body = z.strictObject({
  listen: address.describe("IP:PORT here; port 0 lets the system choose"),
  to: z.string().min(1).max(64).describe("a node id or a callsign"),
  target: address.describe("HOST:PORT as the far node sees it"),
});
const forward = z.object({
  id: z.string(),
  listen: z.string(),
  to: z.string(),
  target: z.string(),
  source: z.enum(["configuration", "api"]),
  connections: z.int(),
  connections_total: z.int(),
  bytes_sent: z.int(),
  bytes_received: z.int(),
  failures: z.int(),
  listening: z.boolean(),
  last_error: z.string().nullable(),
}) satisfies z.ZodType<ForwardView>;

export function forwardRoutes(): Route[] {
  return [
    defineRoute({
      method: "get",
      path: "/forwards",
      operation: "listForwards",
      summary: "Forwards with their connections and bytes.",
      access: operate,
      answers: [{ status: 200, description: "forwards", schema: z.object({ forwards: z.array(forward) }) }],
      handle: ({ parts }) => jsonResponse({ forwards: parts.forwards.list() }),
    }),
    defineRoute({
      method: "post",
      path: "/forwards",
      operation: "addForward",
      summary:
        "Listens here and leads connections to a target at another node, until removed or the node stops.",
      access: operate,
      body,
      answers: [{ status: 201, description: "listening", schema: forward }],
      handle: ({ parts, body: asked }) => jsonResponse(parts.forwards.add(asked), 201),
    }),
    defineRoute({
      method: "delete",
      path: "/forwards/{id}",
      operation: "removeForward",
      summary: "Stops listening and resets the connections.",
      access: operate,
      answers: [{ status: 204, description: "removed" }],
      handle({ parts, params }) {
        if (!parts.forwards.remove(params["id"]!))
          throw godwitError("GODWIT_NOT_FOUND", `no forward "${params["id"]!.slice(0, 60)}"`);
        return emptyResponse();
      },
    }),
  ];
}
