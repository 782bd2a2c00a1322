/** The help texts, made from the table so that only commands that exist are told of. */
import type { CommandSpec, OptionSpec } from "./command.ts";
import { commands } from "./table.ts";

/** Tasks, in the order of the help: names of commands, or their first words. A name in two would be told twice. */
export const TASKS: readonly (readonly [task: string, names: readonly string[]])[] = [
  [
    "Every day",
    ["status", "health", "members", "send", "inbox", "outbox", "message", "ping", "why", "forward"],
  ],
  ["Set up a node", ["init", "join", "run", "install", "id", "config", "reload", "completion", "version"]],
  ["Look closer", ["peers", "trace", "routes", "discovery", "events", "logs", "names"]],
  ["Who may do what", ["invite", "trust", "token", "secret", "authority", "revoke", "revocations", "list"]],
  ["Plugins", ["plugin", "heal", "engine", "wg", "serf"]],
  ["The store of a stopped node", ["store"]],
];

/** The commands of a task, in its order. */
export const commandsOf = (names: readonly string[]): CommandSpec[] =>
  names.flatMap((name) =>
    commands.filter((row) => row.isHidden !== true && (row.name === name || row.name.split(" ")[0] === name)),
  );

export function overview(): string {
  const tasks = TASKS.map(([task, names]) => `${task}:\n${rows(commandsOf(names))}`);
  return (
    "godwit: a mesh node in one file\n\n" +
    `usage: godwit COMMAND [ARGUMENTS] [OPTIONS]\n\n${tasks.join("\n")}\n` +
    "Every command takes --help, --json, and --config PATH or --socket PATH.\n" +
    "Exit codes: 0 fine, 1 failed, 2 wrong use, 3 degraded (health), 78 bad configuration.\n"
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

const optionName = (name: string, { value, short }: OptionSpec) =>
  `${short === undefined ? "" : `-${short}, `}--${name}${value === undefined ? "" : ` ${value}`}`;

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
