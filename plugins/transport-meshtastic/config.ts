/** `[transports.NAME] type = "meshtastic"`: what may stand there. */
import { z } from "zod/mini";

/** Among the private ones (256 to 511), of no known program. 256 and 257 are shared with others. */
export const PORT_DEFAULT = 413;

export const meshtasticConfig = z.strictObject({
  /** The table under [services] of type "radio" that has the radio. */
  radio: z.string().check(
    z.refine((value) => /^[a-z][a-z0-9_]{0,31}$/.test(value), {
      error: 'expected the NAME of a table [services.NAME] of type "radio", like "pi"',
    }),
  ),
  /** Name of the radio's channel to use. Both ends need the same name and key. None: its primary channel. */
  channel: z.optional(z.string().check(z.minLength(1), z.maxLength(12))),
  /** Private port number of Meshtastic, the same at both ends. */
  port: z._default(z.int().check(z.minimum(256), z.maximum(511)), PORT_DEFAULT),
  /** How often others may repeat a packet: 0 reaches whom this radio itself is heard by. */
  hops: z._default(z.int().check(z.minimum(0), z.maximum(7)), 0),
  /** Of all time, what this node sends at most on the average, percent. Half of what the region allows is the limit whatever stands here. */
  airtime_percent: z._default(z.number().check(z.minimum(0.1), z.maximum(10)), 1),
});

export type MeshtasticConfig = z.infer<typeof meshtasticConfig>;
