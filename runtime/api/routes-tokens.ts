/** Who may enter: listing, making and revoking tokens. */
import { godwitError } from "../kernel/errors.ts";
import { defineRoute, emptyResponse, jsonResponse, schemasOf, type Route } from "./route.ts";

const schemas = schemasOf(() => import("./schemas.ts"));
const admin = { scope: "admin" } as const;

export function tokenRoutes(): Route[] {
  return [
    defineRoute({
      method: "get",
      path: "/tokens",
      operation: "listTokens",
      summary: "Tokens without their secrets.",
      access: admin,
      answers: [{ status: 200, description: "tokens", schema: schemas.tokens }],
      handle: ({ parts }) => jsonResponse({ tokens: parts.tokens.list() }),
    }),
    defineRoute({
      method: "post",
      path: "/tokens",
      operation: "createToken",
      summary: "Makes a token; its secret is in this answer and nowhere else.",
      access: admin,
      body: schemas.tokenBody,
      answers: [{ status: 201, description: "made, durably", schema: schemas.tokenCreated }],
      async handle({ parts, body }) {
        return jsonResponse(await parts.tokens.create([...new Set(body.scopes)], body.label), 201);
      },
    }),
    defineRoute({
      method: "delete",
      path: "/tokens/{id}",
      operation: "revokeToken",
      summary: "Revokes a token at once.",
      access: admin,
      answers: [{ status: 204, description: "revoked" }],
      async handle({ parts, params }) {
        if (!(await parts.tokens.revoke(params["id"]!)))
          throw godwitError(
            "GODWIT_NOT_FOUND",
            `no token "${params["id"]!.slice(0, 60)}"; see godwit token list`,
          );
        return emptyResponse();
      },
    }),
  ];
}
