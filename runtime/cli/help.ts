/** The help texts, made from the table so that only commands that exist are told of. */
import type { CommandSpec, OptionSpec } from "./command.ts";
import { commands } from "./table.ts";

export function overview(): string {
  return (
    "godwit: a mesh node in one file\n\n" +
    `usage: godwit COMMAND [ARGUMENTS] [OPTIONS]\n\n${rows(commands)}\n` +
    "Every command takes --help, --json, and --config PATH or --socket PATH.\n" +
    "Exit codes: 0 fine, 1 failed, 2 wrong use, 78 bad configuration.\n"
  );
}

export const groupHelp = (below: readonly CommandSpec[]): string => rows(below);

export function commandHelp(command: CommandSpec, globals: Readonly<Record<string, OptionSpec>>): string {
  const usage = `usage: godwit ${command.name} ${command.args}`.trimEnd();
  const own = Object.entries(command.options);
  return (
    `${command.summary}\n\n${usage} [OPTIONS]\n\n` +
    columns([...own, ...Object.entries(globals)].map(([name, spec]) => [optionName(name, spec), spec.help]))
  );
}

const optionName = (name: string, { value }: OptionSpec) =>
  value === undefined ? `--${name}` : `--${name} ${value}`;

const rows = (listed: readonly CommandSpec[]): string =>
  columns(
    listed
      .filter(({ isHidden }) => isHidden !== true)
      .map(({ name, args, summary }) => [`${name} ${args}`.trimEnd(), summary]),
  );

function columns(lines: readonly (readonly [string, string])[]): string {
  const width = Math.max(...lines.map(([left]) => left.length));
  return lines.map(([left, right]) => `  ${left.padEnd(width)}  ${right}\n`).join("");
}
