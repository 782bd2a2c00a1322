/** TCP ports of this node that lead to targets at others. */
import { godwitError } from "../kernel/errors.ts";
import { defineRoute, emptyResponse, jsonResponse, schemasOf, type Route } from "./route.ts";

const operate = { scope: "operate" } as const;
const schemas = schemasOf(() => import("./schemas-forwards.ts"));

export function forwardRoutes(): Route[] {
  return [
    defineRoute({
      method: "get",
      path: "/forwards",
      operation: "listForwards",
      summary: "Forwards with their connections and bytes.",
      access: operate,
      answers: [{ status: 200, description: "forwards", schema: schemas.forwards }],
      handle: ({ parts }) => jsonResponse({ forwards: parts.forwards.list() }),
    }),
    defineRoute({
      method: "post",
      path: "/forwards",
      operation: "addForward",
      summary:
        "Listens here and leads connections to a target at another node, until removed or the node stops.",
      access: operate,
      body: schemas.forwardBody,
      answers: [{ status: 201, description: "listening", schema: schemas.forward }],
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
