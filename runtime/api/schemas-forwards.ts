/** Requests and answers of routes-forwards.ts, held to view/contract/node.ts by `satisfies`. */
import * as z from "zod";
import type { ForwardView } from "../view/contract/node.ts";

const address = z.string().min(3).max(300);
export const forwardBody = z.strictObject({
  listen: address.describe("IP:PORT here; port 0 lets the system choose"),
  to: z.string().min(1).max(64).describe("a node id or a callsign"),
  target: address.describe("HOST:PORT as the far node sees it"),
});
export const forward = z.object({
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
export const forwards = z.object({ forwards: z.array(forward) });
