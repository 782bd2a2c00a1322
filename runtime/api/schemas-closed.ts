/** Requests and answers of routes-closed.ts, held to view/contract/closed.ts by `satisfies`. */
import { z } from "zod";
import type { NodeId } from "../kernel/ids.ts";
import type { RevocationView, RotationView, SecretsView } from "../view/contract/closed.ts";

const nodeId = z.string().regex(/^[a-z2-7]{52}$/) as unknown as z.ZodType<NodeId>;
const count = z.number().int().nonnegative();
const base64 = z
  .string()
  .max(256)
  .regex(/^[A-Za-z0-9+/]*={0,2}$/, "not base64");

export const revocation = z.object({
  id: nodeId,
  by: nodeId.describe("who signed it: the node itself or the network's authority"),
  by_authority: z.boolean(),
  reason: z.string().nullable(),
}) satisfies z.ZodType<RevocationView>;
export const revocations = z.object({ revocations: z.array(revocation) });
export const revocationBody = z.strictObject({
  revocation: z
    .string()
    .min(1)
    .max(2_000)
    .describe("as `godwit revoke self` and `godwit authority revoke` print it"),
});

export const secrets = z.object({
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
export const rotateBody = z.strictObject({
  generation: z.int().min(1).max(0xffff_ffff).describe("higher than the one in force"),
  secret_base64: base64.describe("16 to 128 bytes"),
  signature_base64: base64.optional().describe("the authority's; needed unless network.rotate is members"),
  everyone: z.boolean().default(false).describe("also to nodes that nobody vouches for"),
});
export const rotated = z.object({
  epoch: z.string(),
  generation: count,
  sent: z.array(nodeId),
  left_out: z.array(z.object({ id: nodeId, reason: z.string() })),
}) satisfies z.ZodType<RotationView>;
export const retired = z.object({ retired: z.array(z.string()) });

export const adoptBody = z.strictObject({ proof: z.string().min(1).max(400) });
export const adopted = z.object({ name: z.string(), serial: count });
export const forgotten = z.object({ name: z.string() });
