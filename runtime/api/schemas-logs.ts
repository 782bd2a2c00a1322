/** What is asked and answered of the log. */
import { z } from "zod";
import { logLevels } from "../kernel/log.ts";
import { LOG_WAIT_SECONDS_MAX } from "./bounds.ts";
import type { LogsView } from "../view/contract/node.ts";

export const logsQuery = z.strictObject({
  level: z.enum(logLevels).default("debug").describe("lines of this level and graver ones"),
  since_seconds: z.coerce.number().nonnegative().optional().describe("lines that are at most so old"),
  after: z.coerce.number().int().nonnegative().default(0).describe("lines with a higher number"),
  wait_seconds: z.coerce
    .number()
    .nonnegative()
    .max(LOG_WAIT_SECONDS_MAX)
    .default(0)
    .describe("where there is none: how long the answer waits for one"),
});

export const logs = z.object({
  lines: z.array(
    z.object({
      number: z.number().int().positive().describe("from 1 since the node started"),
      time: z.string(),
      level: z.enum(logLevels),
      event: z.string(),
      fields: z.record(z.string(), z.unknown()),
    }),
  ),
  started_at: z.string().describe("numbers are of one log while this stays the same"),
  last: z.number().int().nonnegative().describe("number of the newest line, wanted or not"),
  lost: z.number().int().nonnegative().describe("lines behind `after` that gave way to newer ones"),
}) satisfies z.ZodType<LogsView>;
