/** What is asked and answered of a profile. */
import { z } from "zod";
import { PROFILE_SECONDS_MAX } from "../kernel/profile.ts";

const count = z.number().nonnegative();

export const profileQuery = z.strictObject({
  seconds: z.coerce.number().positive().max(PROFILE_SECONDS_MAX).default(10),
});

export const profile = z.object({
  seconds: z.number(),
  cpu: z
    .object({ nodes: z.array(z.looseObject({})), startTime: z.number(), endTime: z.number() })
    .loose()
    .describe("as the developer tools of browsers read it from a file .cpuprofile"),
  heap: z.object({
    bytes: count,
    capacityBytes: count,
    extraBytes: count.describe("held by objects outside of the heap"),
    objects: count,
    byType: z.array(z.object({ type: z.string(), count })),
  }),
});
