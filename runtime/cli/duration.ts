/** A duration given as an option. */
import { parseDuration } from "../config/units.ts";
import { godwitError } from "../kernel/errors.ts";
import type { CommandContext } from "./command.ts";

const DAY_MS = 86_400_000;

/** Milliseconds; 0 needs no unit. Throws GODWIT_USAGE, also above `daysMax`. */
export function durationOf(
  context: CommandContext,
  name: string,
  { daysMax }: { readonly daysMax?: number } = {},
): number | undefined {
  const text = context.option(name);
  if (text === undefined) return undefined;
  const ms = text === "0" ? 0 : parseDuration(text);
  if (ms === undefined) {
    const meant = /^\d+$/.test(text) ? `; did you mean ${text}s, ${text}m or ${text}h?` : "";
    throw godwitError(
      "GODWIT_USAGE",
      `--${name} takes a duration with its unit, such as 90s, 30m, 72h or 7d, not "${text}"${meant}`,
    );
  }
  if (daysMax !== undefined && ms > daysMax * DAY_MS)
    throw godwitError("GODWIT_USAGE", `--${name} is at most ${daysMax}d, not ${text}`);
  return ms;
}
