/** A closed mesh: revocations, network secrets, proofs of names. */
import { defineRoute, jsonResponse, schemasOf, type Route } from "./route.ts";

const readable = { scope: "read", openOnLoopback: true } as const;
const operate = { scope: "operate" } as const;
const admin = { scope: "admin" } as const;

const schemas = schemasOf(() => import("./schemas-closed.ts"));

export const closedRoutes = (): Route[] => [...revocationRoutes(), ...secretRoutes(), ...nameRoutes()];

function revocationRoutes(): Route[] {
  return [
    defineRoute({
      method: "get",
      path: "/mesh/revocations",
      operation: "getRevocations",
      summary: "Nodes that were revoked for good.",
      access: readable,
      answers: [{ status: 200, description: "revocations", schema: schemas.revocations }],
      handle: ({ parts }) => jsonResponse({ revocations: parts.view.closed.revocations() }),
    }),
    defineRoute({
      method: "post",
      path: "/mesh/revocations",
      operation: "publishRevocation",
      summary: "Takes a signed revocation and tells the whole mesh. It cannot be taken back.",
      access: operate,
      body: schemas.revocationBody,
      answers: [{ status: 200, description: "in force here, durably", schema: schemas.revocation }],
      handle: async ({ parts, body }) =>
        jsonResponse(await parts.view.closed.publishRevocation(body.revocation)),
    }),
  ];
}

function secretRoutes(): Route[] {
  return [
    defineRoute({
      method: "get",
      path: "/mesh/secrets",
      operation: "getSecrets",
      summary: "Epochs of the network secret and who still uses them; never the secrets.",
      access: readable,
      answers: [{ status: 200, description: "epochs", schema: schemas.secrets }],
      handle: ({ parts }) => jsonResponse(parts.view.closed.secrets()),
    }),
    defineRoute({
      method: "post",
      path: "/mesh/secrets/rotate",
      operation: "rotateSecret",
      summary: "Replaces the network secret and sends it, sealed, to every member that may have it.",
      access: admin,
      body: schemas.rotateBody,
      answers: [
        {
          status: 200,
          description: "in force here, on its way to the others",
          schema: schemas.rotated,
        },
      ],
      handle: async ({ parts, body }) =>
        jsonResponse(
          await parts.view.closed.rotateSecret({
            generation: body.generation,
            secret: new Uint8Array(Buffer.from(body.secret_base64, "base64")),
            signature:
              body.signature_base64 === undefined
                ? undefined
                : new Uint8Array(Buffer.from(body.signature_base64, "base64")),
            everyone: body.everyone,
          }),
        ),
    }),
    defineRoute({
      method: "post",
      path: "/mesh/secrets/retire",
      operation: "retireSecrets",
      summary: "Ends the overlap on this node: old secrets open no link any more.",
      access: admin,
      answers: [{ status: 200, description: "epochs that went", schema: schemas.retired }],
      handle: ({ parts }) => jsonResponse({ retired: parts.view.closed.retireSecrets() }),
    }),
  ];
}

function nameRoutes(): Route[] {
  return [
    defineRoute({
      method: "post",
      path: "/mesh/names/adopt",
      operation: "adoptName",
      summary: "This node carries the authority's proof of its name from now on.",
      access: operate,
      body: schemas.adoptBody,
      answers: [{ status: 200, description: "adopted, durably", schema: schemas.adopted }],
      handle: async ({ parts, body }) => jsonResponse(await parts.view.closed.adoptName(body.proof)),
    }),
    defineRoute({
      method: "post",
      path: "/mesh/names/{name}/forget",
      operation: "forgetName",
      summary: "Drops a name that was pinned at first sight; the next claim counts.",
      access: operate,
      answers: [{ status: 200, description: "forgotten, durably", schema: schemas.forgotten }],
      async handle({ parts, params }) {
        await parts.view.closed.forgetName(params["name"]!);
        return jsonResponse({ name: params["name"]! });
      },
    }),
  ];
}
