/** How a row of the table of commands is made. */
import type { CommandModule, CommandSpec, OptionSpec } from "./command.ts";

/** `count`: fewest and most arguments. */
export function row(
  name: string,
  args: string,
  count: readonly [number, number],
  summary: string,
  load: () => Promise<CommandModule>,
  options: Readonly<Record<string, OptionSpec>> = {},
): CommandSpec {
  return { name, args, argsMin: count[0], argsMax: count[1], summary, load, options };
}

/** Another spelling of `of`. */
export const hidden = (name: string, of: CommandSpec): CommandSpec => ({ ...of, name, isHidden: true });

/** No arguments. */
export const none = [0, 0] as const;

/** Of commands whose answer changes while one looks at it. */
export const watched: Readonly<Record<string, OptionSpec>> = {
  watch: { value: "[SECONDS]", bare: "2", help: "again every 2 seconds, or so many, until Ctrl-C" },
};

/** Of commands that list a box. */
export const paging: Readonly<Record<string, OptionSpec>> = {
  limit: { value: "N", help: "at most N messages, 1 to 500; 50 by default" },
  after: { value: "ID", help: "the page after this message" },
};

/** Of every command. */
export const globalOptions: Readonly<Record<string, OptionSpec>> = {
  config: { value: "PATH", help: "the configuration file" },
  socket: { value: "PATH", help: "the node's socket, instead of what the configuration says" },
  json: { help: "the API's answer on one line; errors as a problem document" },
  utc: { help: "exact times (RFC 3339) instead of how long ago" },
  color: { help: "colours, whatever NO_COLOR says and also into a pipe" },
  "no-color": { help: "no colours" },
  help: { help: "this text" },
};
