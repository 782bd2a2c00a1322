/** The kinds of values that several tables of the configuration have, each with what it expects in words. */
import * as z from "zod";
import { durationMs, sizeBytes, within } from "./parts.ts";
import { nearest } from "./suggest.ts";
import { DURATION_PATTERN, SIZE_PATTERN, suggestDuration, suggestSize } from "./units.ts";

/** What a reader of an error or of the manual is told about one key. */
export interface Expectation {
  /** Completes "expected ...". */
  readonly expected: string;
  /** One short word for a table of the manual. */
  readonly type: string;
  /** Where the default depends on the machine, its description. */
  readonly defaultText?: string;
  /** A value that would have been right, made from one that is not. */
  readonly suggest?: (value: unknown) => string | undefined;
  /** The value must never be printed unless it is a reference. */
  readonly isSecret?: true;
}

export const expectations = z.registry<Expectation>();

export const HOUR_MS = 3_600_000;

export const DAY_MS = 24 * HOUR_MS;

export const duration = (fromMs: number, from: string, toMs: number, to: string) =>
  z
    .string()
    .regex(DURATION_PATTERN)
    .transform(durationMs)
    .refine(within(fromMs, toMs))
    .register(expectations, {
      type: "duration",
      expected: `a duration from "${from}" to "${to}", a number with its unit: ms, s, m, h or d`,
      suggest: suggestDuration,
    });

export const size = (fromBytes: number, from: string) =>
  z
    .string()
    .regex(SIZE_PATTERN)
    .transform(sizeBytes)
    .refine(within(fromBytes, 2 ** 53))
    .register(expectations, {
      type: "size",
      expected: `a size of at least "${from}", a number with its unit: B, KiB, MiB, GiB, TiB (or kB, MB, GB, TB)`,
      suggest: suggestSize,
    });

export const count = (from: number, to: number) =>
  z
    .int()
    .min(from)
    .max(to)
    .register(expectations, { type: "number", expected: `a whole number from ${from} to ${to}` });

export function choice<const T extends readonly [string, ...string[]]>(...values: T) {
  return z.enum(values).register(expectations, {
    type: values.map((value) => `"${value}"`).join(", "),
    expected: `one of ${values.map((value) => `"${value}"`).join(", ")}`,
    suggest: (value) => {
      const near = typeof value === "string" ? nearest(value, values) : undefined;
      return near === undefined ? undefined : `"${near}"`;
    },
  });
}
