/** A closed mesh: revocations, network secrets, proofs of names. */
import { z } from "zod";
import type { NodeId } from "../kernel/ids.ts";
import type { RevocationView, RotationView, SecretsView } from "../view/contract/closed.ts";
import { defineRoute, jsonResponse, type Route } from "./route.ts";

const readable = { scope: "read", openOnLoopback: true } as const;
const operate = { scope: "operate" } as const;
const admin = { scope: "admin" } as const;

const nodeId = z.string().regex(/^[a-z2-7]{52}$/) as unknown as z.ZodType<NodeId>;
const count = z.number().int().nonnegative();
const base64 = z
  .string()
  .max(256)
  .regex(/^[A-Za-z0-9+/]*={0,2}$/, "not base64");

const revocation = z.object({
  id: nodeId,
  by: nodeId.describe("who signed it: the node itself or the network's authority"),
  by_authority: z.boolean(),
  reason: z.string().nullable(),
}) satisfies z.ZodType<RevocationView>;
const revocations = z.object({ revocations: z.array(revocation) });
const revocationBody = z.strictObject({
  revocation: z
    .string()
    .min(1)
    .max(2_000)
    .describe("as `godwit revoke self` and `godwit authority revoke` print it"),
});

const secrets = z.object({
  rotate: z.enum(["authority", "members", "nobody"]),
  authority: nodeId.nullable(),
  network: z.string(),
  generation: count,
  epochs: z.array(
    z.object({
      epoch: z.string().describe("names the secret and gives nothing of it away"),
      state: z.enum(["current", "old"]),
      source: z.enum(["configured", "mesh"]),
      generation: count,
      links: count.describe("live links whose handshake used it"),
      retires_in_seconds: z.number().nonnegative().nullable(),
    }),
  ),
}) satisfies z.ZodType<SecretsView>;
const rotateBody = z.strictObject({
  generation: z.int().min(1).max(0xffff_ffff).describe("higher than the one in force"),
  secret_base64: base64.describe("16 to 128 bytes"),
  signature_base64: base64.optional().describe("the authority's; needed unless network.rotate is members"),
  everyone: z.boolean().default(false).describe("also to nodes that nobody vouches for"),
});
const rotated = z.object({
  epoch: z.string(),
  generation: count,
  sent: z.array(nodeId),
  left_out: z.array(z.object({ id: nodeId, reason: z.string() })),
}) satisfies z.ZodType<RotationView>;
const retired = z.object({ retired: z.array(z.string()) });

const adoptBody = z.strictObject({ proof: z.string().min(1).max(400) });
const adopted = z.object({ name: z.string(), serial: count });
const forgotten = z.object({ name: z.string() });

export const closedRoutes = (): Route[] => [...revocationRoutes(), ...secretRoutes(), ...nameRoutes()];

function revocationRoutes(): Route[] {
  return [
    defineRoute({
      method: "get",
      path: "/mesh/revocations",
      operation: "getRevocations",
      summary: "Nodes that were revoked for good.",
      access: readable,
      answers: [{ status: 200, description: "revocations", schema: revocations }],
      handle: ({ parts }) => jsonResponse({ revocations: parts.view.closed.revocations() }),
    }),
    defineRoute({
      method: "post",
      path: "/mesh/revocations",
      operation: "publishRevocation",
      summary: "Takes a signed revocation and tells the whole mesh. It cannot be taken back.",
      access: operate,
      body: revocationBody,
      answers: [{ status: 200, description: "in force here, durably", schema: revocation }],
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
      answers: [{ status: 200, description: "epochs", schema: secrets }],
      handle: ({ parts }) => jsonResponse(parts.view.closed.secrets()),
    }),
    defineRoute({
      method: "post",
      path: "/mesh/secrets/rotate",
      operation: "rotateSecret",
      summary: "Replaces the network secret and sends it, sealed, to every member that may have it.",
      access: admin,
      body: rotateBody,
      answers: [{ status: 200, description: "in force here, on its way to the others", schema: rotated }],
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
      answers: [{ status: 200, description: "epochs that went", schema: retired }],
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
      body: adoptBody,
      answers: [{ status: 200, description: "adopted, durably", schema: adopted }],
      handle: async ({ parts, body }) => jsonResponse(await parts.view.closed.adoptName(body.proof)),
    }),
    defineRoute({
      method: "post",
      path: "/mesh/names/{name}/forget",
      operation: "forgetName",
      summary: "Drops a name that was pinned at first sight; the next claim counts.",
      access: operate,
      answers: [{ status: 200, description: "forgotten, durably", schema: forgotten }],
      async handle({ parts, params }) {
        await parts.view.closed.forgetName(params["name"]!);
        return jsonResponse({ name: params["name"]! });
      },
    }),
  ];
}
