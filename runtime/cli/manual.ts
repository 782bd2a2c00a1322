/** The manual page, made from the table of commands, in the macros of man(7) that groff and mandoc have in common. */
import type { CommandSpec, OptionSpec } from "./command.ts";
import { globalOptions } from "./row.ts";
import { wrap } from "./table-text.ts";
import { commandsOf, TASKS } from "./tasks.ts";

/** When what is written here by hand was last changed. */
const WRITTEN = "2026-11-30";

/** Characters of a line, before hyphens are escaped. */
const LINE = 66;

const EXIT_CODES: readonly (readonly [string, string])[] = [
  ["0", "fine; for health: ok"],
  ["1", "failed; for health: down"],
  ["2", "wrong use"],
  ["3", "health: degraded"],
  ["78", "bad configuration, of which a restart changes nothing"],
];

const VARIABLES: readonly (readonly [string, string])[] = [
  ["GODWIT_CONFIG", "the configuration file, where --config says none"],
  ["GODWIT_SOCKET", "the node's socket, where --socket says none"],
  ["GODWIT_SECTION__KEY", "a key of the configuration, such as GODWIT_NODE__CALLSIGN; counts above the file"],
  [
    "NO_COLOR, FORCE_COLOR",
    "no colours, or colours also into a pipe; --color and --no-color count above them",
  ],
];

const FILES: readonly (readonly [string, string])[] = [
  ["/etc/godwit/godwit.toml", "the configuration of the system's node"],
  ["~/.config/godwit/godwit.toml", "that of another user's"],
  ["/var/lib/godwit", "identity, messages and socket, unless node.state_dir says otherwise"],
];

/** All commands, or those of `only`: one command, or those that begin with a word. */
export function manual(all: readonly CommandSpec[], version: string, only?: readonly CommandSpec[]): string {
  const name = only === undefined ? "godwit" : `godwit-${commonName(only).replaceAll(" ", "-")}`;
  const summary = only?.length === 1 ? only[0]!.summary : "a mesh node in one file";
  const lines = [
    `.TH ${name.toUpperCase()} 1 ${WRITTEN} "Godwit ${version}" "User Commands"`,
    ".SH NAME",
    `${text(name)} \\- ${text(summary)}`,
    ".SH SYNOPSIS",
    ...(only === undefined
      ? [".B godwit", ".I COMMAND", "[\\fIARGUMENTS\\fR] [\\fIOPTIONS\\fR]"]
      : only.flatMap((command, index) => [
          ...(index === 0 ? [] : [".br"]),
          `${usage(command)} [\\fIOPTIONS\\fR]`,
        ])),
    ".SH DESCRIPTION",
    ...(only === undefined ? OVERVIEW.flatMap(prose) : []),
    ...(only === undefined
      ? TASKS.flatMap(([task, names]) => [`.SS ${text(task)}`, ...commandsOf(all, names).flatMap(described)])
      : only.flatMap(described)),
    ".SH OPTIONS OF EVERY COMMAND",
    ...terms(optionTerms(globalOptions)),
    ".SH EXIT STATUS",
    ...terms(EXIT_CODES),
    ".SH ENVIRONMENT",
    ...terms(VARIABLES),
    ".SH FILES",
    ...terms(FILES),
    ...(only === undefined ? [] : [".SH SEE ALSO", ".BR godwit (1)"]),
  ];
  return `${lines.join("\n")}\n`;
}

const OVERVIEW = [
  "A Godwit node carries messages, streams and packets over whatever links there are, and keeps what cannot go on yet.",
  "The commands ask a node that runs on this machine, by its socket, but for those that set one up.",
];

const commonName = (only: readonly CommandSpec[]): string =>
  only.length === 1 ? only[0]!.name : only[0]!.name.split(" ")[0]!;

const usage = ({ name, args }: CommandSpec): string =>
  `\\fBgodwit ${text(name)}\\fR${args === "" ? "" : ` \\fI${text(args)}\\fR`}`;

function described(command: CommandSpec): string[] {
  const own = optionTerms(command.options);
  return [
    ".TP",
    usage(command),
    ...prose(command.summary),
    ...(own.length === 0 ? [] : [".RS", ...terms(own), ".RE"]),
  ];
}

const optionTerms = (options: Readonly<Record<string, OptionSpec>>): (readonly [string, string])[] =>
  Object.entries(options).map(([name, { value, short, help }]) => [
    `${short === undefined ? "" : `-${short}, `}--${name}${value === undefined ? "" : ` ${value}`}`,
    help,
  ]);

const terms = (rows: readonly (readonly [string, string])[]): string[] =>
  rows.flatMap(([term, said]) => [".TP", `\\fB${text(term)}\\fR`, ...prose(said)]);

/** In lines of the source that are short, as both programs want them. */
const prose = (words: string): string[] => wrap(words, LINE).map(text);

/** As it stands: a hyphen that can be pasted, no escapes, no request at the beginning of a line. */
const text = (words: string): string =>
  words
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replace(/^([.'])/, "\\&$1");
