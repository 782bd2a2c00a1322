/** How others come in and are found: invitations, joining, and what became of every hint. */
import { defineRoute, jsonResponse, schemasOf, type Route } from "./route.ts";

const schemas = schemasOf(() => import("./schemas-join.ts"));

export const joinRoutes = (): Route[] => [
  defineRoute({
    method: "get",
    path: "/mesh/discovery",
    operation: "getDiscovery",
    summary: "Every live hint of where a node may be, and what became of it.",
    access: { scope: "read", openOnLoopback: true },
    answers: [{ status: 200, description: "hints", schema: schemas.discovery }],
    handle: ({ parts }) => jsonResponse(parts.view.discovery()),
  }),
  defineRoute({
    method: "post",
    path: "/mesh/invites",
    operation: "createInvite",
    summary:
      "An invitation to this mesh as a one-line token. Whoever holds it can join: treat it like a key.",
    access: { scope: "admin" },
    body: schemas.inviteBody,
    answers: [{ status: 201, description: "the token, shown once", schema: schemas.invite }],
    handle: ({ parts, body }) => jsonResponse(parts.view.invite(body), 201),
  }),
  defineRoute({
    method: "post",
    path: "/mesh/join",
    operation: "takeInvite",
    summary: "Gives a running node the addresses of an invitation to its own mesh.",
    access: { scope: "admin" },
    body: schemas.joinBody,
    answers: [{ status: 200, description: "addresses taken as hints", schema: schemas.joinAnswer }],
    handle: ({ parts, body }) => jsonResponse(parts.view.join(body.token)),
  }),
];
