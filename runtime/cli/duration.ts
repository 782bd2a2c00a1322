/** A duration given as an option. */
import { parseDuration } from "../config/units.ts";
import { godwitError } from "../kernel/errors.ts";
import type { CommandContext } from "./command.ts";

/** Milliseconds; bare digits are seconds. Throws GODWIT_USAGE. */
export function durationOf(context: CommandContext, name: string): number | undefined {
  const text = context.option(name);
  if (text === undefined) return undefined;
  const ms = parseDuration(/^\d+$/.test(text) ? `${text}s` : text);
  if (ms === undefined)
    throw godwitError("GODWIT_USAGE", `--${name} takes a duration such as 90s, 30m, 72h or 7d`);
  return ms;
}
