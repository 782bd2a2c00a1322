/** The commands by what people want to do, in the order in which they are told of: the help and the manual follow it. */
import type { CommandSpec } from "./command.ts";

/** Names of commands, or their first words. A name in two would be told twice. */
export const TASKS: readonly (readonly [task: string, names: readonly string[]])[] = [
  [
    "Every day",
    ["status", "health", "members", "send", "inbox", "outbox", "message", "ping", "why", "forward"],
  ],
  [
    "Set up a node",
    ["init", "join", "run", "install", "id", "config", "reload", "completion", "man", "version"],
  ],
  ["Look closer", ["peers", "trace", "routes", "discovery", "events", "logs", "profile", "names"]],
  ["Who may do what", ["invite", "trust", "token", "secret", "authority", "revoke", "revocations", "list"]],
  ["Plugins", ["plugin", "heal", "engine", "wg", "serf", "radio"]],
  ["The store of a stopped node", ["store"]],
];

/** The commands of a task, in its order. */
export const commandsOf = (all: readonly CommandSpec[], names: readonly string[]): CommandSpec[] =>
  names.flatMap((name) =>
    all.filter((row) => row.isHidden !== true && (row.name === name || row.name.split(" ")[0] === name)),
  );
