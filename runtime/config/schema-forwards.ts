/** The tables of forwards: `[[forwards]]` here and `[[forward_allow]]` at the far side. Part of schema.ts. */
import * as z from "zod";
import type { NodeId } from "../kernel/ids.ts";
import { isTarget, isTargetPattern } from "./parts.ts";
import { expectations } from "./schema-values.ts";

/** The pieces of schema.ts that these tables are made of, handed in because that module is still being made. */
export function forwardTables(parts: {
  readonly callsign: z.ZodType<string>;
  readonly nodeId: z.ZodType<NodeId>;
  readonly listenAddress: z.ZodType<string>;
}) {
  const { callsign, nodeId, listenAddress } = parts;
  const forwardTarget = z.string().max(300).refine(isTarget).register(expectations, {
    type: "HOST:PORT",
    expected: 'HOST:PORT like "127.0.0.1:80", "[::1]:80" or "localhost:80"',
  });

  const forwards = z
    .array(
      z.strictObject({
        listen: listenAddress
          .register(expectations, {
            type: "IP:PORT",
            expected: 'IP:PORT like "127.0.0.1:8080" or "[::1]:8080"',
          })
          .describe("Where connections are taken here."),
        to: z
          .union([callsign, nodeId])
          .register(expectations, {
            type: "callsign or node id",
            expected: "a callsign like LON-B, or a node id of 52 characters",
          })
          .describe("The node at whose end the target is."),
        target: forwardTarget.describe("Where that node connects to; its own configuration must allow it."),
      }),
    )
    .max(64)
    .register(expectations, { type: "tables", expected: "tables [[forwards]], at most 64" })
    .prefault([])
    .describe("TCP ports of this node that lead to targets at other nodes, sealed end to end.");

  const forwardAllow = z
    .array(
      z.strictObject({
        from: z
          .array(
            z.union([z.literal("trusted"), callsign, nodeId]).register(expectations, {
              type: "callsign, node id or trusted",
              expected: 'a callsign, a node id, or "trusted"',
            }),
          )
          .min(1)
          .max(1_024)
          .register(expectations, { type: "list", expected: 'a list of callsigns, node ids, or "trusted"' })
          .describe(
            'Who may: node ids, callsigns that [names], the authority or `godwit names resolve` binds, or "trusted" for all nodes that the configuration or the operator trusts. A name pinned at first sight and a node promoted for being linked long are nobody here.',
          ),
        targets: z
          .array(
            z.string().max(300).refine(isTargetPattern).register(expectations, {
              type: "HOST:PORT",
              expected: 'HOST:PORT, ADDRESS/BITS:PORT like "10.0.0.0/8:22", with * for any port',
            }),
          )
          .min(1)
          .max(1_024)
          .register(expectations, {
            type: "list",
            expected: "a list of HOST:PORT or ADDRESS/BITS:PORT, with * for any port",
          })
          .describe("Where to. A name matches only as it is written; an address matches by its bits."),
      }),
    )
    .max(256)
    .register(expectations, { type: "tables", expected: "tables [[forward_allow]], at most 256" })
    .prefault([])
    .describe("What other nodes may reach through this one. Nothing, unless a table says so.");
  return { forwards, forwardAllow };
}
