/** `[services.NAME] type = "telex"`: what may stand there. A telex port that strangers can reach does not start. */
import { z } from "zod/mini";
import { type Listen, isLoopback, parseListen, parsePrefix, type Prefix } from "./address.ts";
import { type Secret, secretField } from "@godwit/sdk/secret";

const KIB = 1024;
const SIZES: Readonly<Record<string, number>> = { B: 1, KiB: KIB, MiB: KIB * KIB, kB: 1000, MB: 1_000_000 };
const DURATIONS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** Checks, reads and answers a problem instead, in words that complete "expected ...". */
function text<T>(expected: string, parse: (value: string) => T | undefined) {
  return z.pipe(
    z.string(),
    z.transform((value, ctx): T => {
      const parsed = parse(value);
      if (parsed !== undefined) return parsed;
      ctx.issues.push({ code: "custom", message: `expected ${expected}`, input: value });
      return z.NEVER;
    }),
  );
}

function withUnit(units: Readonly<Record<string, number>>, from: number, to: number, expected: string) {
  return text(expected, (value) => {
    const match = /^(\d{1,9})\s*([A-Za-z]+)$/.exec(value);
    const unit = units[match?.[2] ?? ""];
    const number = unit === undefined ? undefined : Number(match![1]) * unit;
    return number !== undefined && number >= from && number <= to ? number : undefined;
  });
}

const listen = text('IP:PORT, like "127.0.0.1:8023" or "[::1]:8023"', parseListen);
/** Bytes. People type it, perhaps on a teletype; guesses are slow and few. */
export const PASSWORD_BYTES_MIN = 8;
const PASSWORD_BYTES_MAX = 256;
const password = secretField(
  `a password of ${PASSWORD_BYTES_MIN} to ${PASSWORD_BYTES_MAX} bytes on one line`,
  {
    bytesMin: PASSWORD_BYTES_MIN,
    bytesMax: PASSWORD_BYTES_MAX,
    judge: (bytes) =>
      bytes.some((byte) => byte < 0x20 || byte === 0x7f)
        ? "with control characters"
        : // A line that begins so is a program's.
          bytes[0] === 0x7b
          ? "that begins with a brace"
          : undefined,
  },
);

export const telexConfig = z
  .strictObject({
    /** Where the console listens. */
    listen: z._default(listen, { host: "127.0.0.1", port: 8023 }),
    /** `file:/path`, `env:NAME` or `credential:NAME`: whoever calls must say it first. */
    password: z.optional(password),
    /** Addresses and prefixes that may call; everybody else is cut off. */
    allow_from: z.optional(
      z
        .array(text('an address or prefix like "10.0.0.0/8" or "fd00::/8", its last bits zero', parsePrefix))
        .check(z.minLength(1), z.maxLength(256)),
    ),
    max_connections: z._default(
      z.int().check(
        z.refine((value) => value >= 1 && value <= 4096, {
          error: "expected a whole number from 1 to 4096",
        }),
      ),
      100,
    ),
    /** The longest body, in bytes of UTF-8. */
    message_max: z._default(
      withUnit(SIZES, 256, 1024 * KIB, 'a size from "256B" to "1MiB", a number with its unit'),
      64 * KIB,
    ),
    /** A connection that sends no line for so long is closed; 0s: never. */
    idle_timeout: z._default(
      withUnit(DURATIONS, 0, 7 * 86_400_000, 'a duration from "0s" (never) to "7d", a number with its unit'),
      3_600_000,
    ),
    /** A caller who says nothing for so long is a person and gets the banner; programs begin before. */
    greeting_delay: z._default(
      withUnit(DURATIONS, 0, 10_000, 'a duration from "0s" to "10s", a number with its unit'),
      1_000,
    ),
  })
  .check(
    z.superRefine((value, ctx) => {
      if (isLoopback(value.listen.host) || value.password !== undefined || value.allow_from !== undefined)
        return;
      ctx.addIssue({
        code: "custom",
        path: ["listen"],
        message: `expected an address of this machine alone ("127.0.0.1:8023"), because there is neither password = "file:/path" nor allow_from = ["10.0.0.0/8"]: beyond loopback everybody could send in this node's name`,
        input: value.listen,
      });
    }),
  );

export interface TelexConfig {
  readonly listen: Listen;
  readonly password?: Secret | undefined;
  readonly allow_from?: readonly Prefix[] | undefined;
  readonly max_connections: number;
  readonly message_max: number;
  readonly idle_timeout: number;
  readonly greeting_delay: number;
}
