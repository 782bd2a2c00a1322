/** The words behind a command's name, by its row of the table. Owns how an option may be written; knows no command. */
import { parseArgs } from "node:util";
import { godwitError } from "../kernel/errors.ts";
import type { CommandSpec, OptionSpec } from "./command.ts";
import { globalOptions } from "./row.ts";

/** Throws GODWIT_USAGE, with what to look at. */
export function parseWords(command: CommandSpec, args: readonly string[]) {
  const specs = { ...command.options, ...globalOptions };
  const options = Object.fromEntries(
    Object.entries(specs).map(([name, { value, repeats, short }]) => [
      name,
      {
        type: value === undefined ? ("boolean" as const) : ("string" as const),
        multiple: repeats === true,
        ...(short === undefined ? {} : { short }),
      },
    ]),
  );
  try {
    return parseArgs({ args: withBare(args, specs), options, allowPositionals: true, strict: true });
  } catch (error) {
    const words = error instanceof Error ? error.message.split(". ")[0]! : String(error);
    throw godwitError(
      "GODWIT_USAGE",
      `${words.charAt(0).toLowerCase()}${words.slice(1)}; see godwit ${command.name} --help`,
    );
  }
}

/** `--watch` and `--watch 5` as what a parser knows: `--watch=2`, `--watch=5`. */
function withBare(args: readonly string[], specs: Readonly<Record<string, OptionSpec>>): string[] {
  const out: string[] = [];
  for (let at = 0; at < args.length; at++) {
    const word = args[at]!;
    if (word === "--") return [...out, ...args.slice(at)];
    const bare = word.startsWith("--") ? specs[word.slice(2)]?.bare : undefined;
    if (bare === undefined) out.push(word);
    else out.push(`${word}=${/^\d+(\.\d+)?$/.test(args[at + 1] ?? "") ? args[++at]! : bare}`);
  }
  return out;
}
