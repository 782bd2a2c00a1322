/** Requests and answers of routes-join.ts, held to view/contract/node.ts by `satisfies`. */
import { z } from "zod";
import type { DiscoveryView, InviteRequest, InviteView, JoinView } from "../view/contract/node.ts";
import { nodeId } from "./schemas.ts";

export const hintVerdicts = [
  "linked",
  "dialling",
  "waiting",
  "backing_off",
  "unreachable",
  "refused",
  "ignored",
] as const;

export const discovery = z.object({
  hints: z.array(
    z.object({
      endpoint: z.string(),
      id: nodeId.nullable().describe("as the source claims, or as a handshake proved"),
      source: z.string().describe("the discovery plugin, or `book` (met before), or `join`"),
      age_seconds: z.int().nonnegative(),
      expires_in_seconds: z.int().nonnegative().nullable().describe("null: until it is withdrawn"),
      verdict: z.enum(hintVerdicts),
      reason: z.string().nullable(),
      next_try_seconds: z.int().nonnegative().nullable(),
    }),
  ),
}) satisfies z.ZodType<DiscoveryView>;

export const inviteBody = z.strictObject({
  ttl_seconds: z
    .int()
    .min(60)
    .max(30 * 86_400)
    .optional()
    .describe("default one hour"),
  uses: z.int().min(1).max(255).optional().describe("nodes that may join by it; default 1"),
  callsign: z.string().max(17).optional().describe("what the newcomer is to be called"),
}) satisfies z.ZodType<InviteRequest>;

export const invite = z.object({
  token: z.string(),
  network: z.string(),
  open: z
    .boolean()
    .describe("the mesh is open: the token holds addresses and nothing secret, and never expires"),
  invite: z.string().nullable().describe("its id, 16 hex digits"),
  expires_at: z.string().nullable().describe("ISO 8601"),
  uses: z.int().nullable(),
  addresses: z.array(z.string()),
  note: z.string().nullable().describe("what limits it"),
}) satisfies z.ZodType<InviteView>;

export const joinBody = z.strictObject({ token: z.string().min(1).max(6_000) });
export const joinAnswer = z.object({ network: z.string(), hints: z.int() }) satisfies z.ZodType<JoinView>;
