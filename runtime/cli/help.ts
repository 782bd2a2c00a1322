/** The help texts, made from the table so that only commands that exist are told of. */
import type { CommandSpec, OptionSpec } from "./command.ts";
import { commands } from "./table.ts";
import { wrap } from "./table-text.ts";
import { commandsOf, TASKS } from "./tasks.ts";

const HEAD = "godwit: a mesh node in one file\n\nusage: godwit COMMAND [ARGUMENTS] [OPTIONS]\n";

const task = ([name, names]: (typeof TASKS)[number], room: number | undefined): string =>
  `\n${name}:\n${rows(commandsOf(commands, names), room)}`;

/** `room`: columns of the terminal; undefined: as wide as it needs. */
export const overview = (room: number | undefined): string =>
  `${HEAD}${TASKS.map((one) => task(one, room)).join("")}\n${paragraphs(
    [
      "Every command takes --help, --json, --utc, and --config PATH or --socket PATH; lists take --watch.",
      "Exit codes: 0 fine, 1 failed, 2 wrong use, 3 degraded (health), 78 bad configuration.",
    ],
    room,
  )}`;

/** For who typed nothing more: what does not scroll away. */
export const firstSteps = (room: number | undefined): string =>
  `${HEAD}${task(TASKS[0]!, room)}\n${paragraphs(
    [
      "A node of its own: godwit init, or godwit join with an invitation; then godwit run.",
      "All commands: godwit --help. One of them: godwit COMMAND --help.",
    ],
    room,
  )}`;

export const groupHelp = (below: readonly CommandSpec[], room: number | undefined): string =>
  rows(below, room);

export function commandHelp(
  command: CommandSpec,
  globals: Readonly<Record<string, OptionSpec>>,
  room: number | undefined,
): string {
  const usage = `usage: godwit ${command.name} ${command.args}`.trimEnd();
  const told = (options: Readonly<Record<string, OptionSpec>>): string =>
    columns(
      Object.entries(options).map(([name, spec]) => [optionName(name, spec), spec.help]),
      room,
    );
  const own = Object.keys(command.options).length === 0 ? "" : `${told(command.options)}\n`;
  return `${paragraphs([command.summary], room)}\n${usage} [OPTIONS]\n\n${own}${told(globals)}`;
}

const optionName = (name: string, { value, short }: OptionSpec) =>
  `${short === undefined ? "" : `-${short}, `}--${name}${value === undefined ? "" : ` ${value}`}`;

const paragraphs = (lines: readonly string[], room: number | undefined): string =>
  lines.map((line) => `${wrap(line, room).join("\n")}\n`).join("");

const rows = (listed: readonly CommandSpec[], room: number | undefined): string =>
  columns(
    listed
      .filter(({ isHidden }) => isHidden !== true)
      .map(({ name, args, summary }) => [`${name} ${args}`.trimEnd(), summary]),
    room,
  );

/** Columns of what a thing is named by; a name that is longer has a line of its own. */
const LEFT = 26;

function columns(lines: readonly (readonly [string, string])[], room: number | undefined): string {
  const margin = " ".repeat(LEFT + 4);
  return lines
    .map(([left, right]) => {
      const said = wrap(right, room === undefined ? undefined : room - margin.length).join(`\n${margin}`);
      return left.length > LEFT ? `  ${left}\n${margin}${said}\n` : `  ${left.padEnd(LEFT)}  ${said}\n`;
    })
    .join("");
}
