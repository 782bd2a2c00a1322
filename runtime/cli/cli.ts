/**
 * The command line: finds the command, reads its options, runs it, reports its failure. Owns the exit codes and the
 * one table of commands; each command's code is loaded when it is called and not before, so that `godwit health` in a
 * container costs milliseconds. Contract: docs/protocol/http.md and README.
 */
import { GodwitError, godwitError } from "../kernel/errors.ts";
import { escapeJson } from "../kernel/terminal.ts";
import { problemOf, type Problem } from "../api/problem.ts";
import { ApiClient, ApiProblem } from "./client.ts";
import { exitCodes, type CommandContext, type CommandSpec } from "./command.ts";
import type { CliIo } from "./io.ts";
import { createPaint, type Paint } from "./paint.ts";
import { safeText } from "./render.ts";
import { wantsColour } from "../kernel/colours.ts";
import { findSocket } from "./socket.ts";
import { globalOptions } from "./row.ts";
import { commands } from "./table.ts";
import { parseWords } from "./words.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** Never throws: every failure is reported on stderr and becomes the exit code. */
export async function runCli(argv: readonly string[], env: Environment, io: CliIo): Promise<number> {
  // Known before anything is parsed, because a wrong command line is reported in the form it asked for.
  const beforeEnd = argv.includes("--") ? argv.slice(0, argv.indexOf("--")) : argv;
  const isJson = beforeEnd.includes("--json");
  const code = await dispatch(argv, env, io, isJson).catch((error: unknown) =>
    io.signal.aborted ? exitCodes.failed : report(error, io, isJson),
  );
  const unwritten = await io.flush();
  if (unwritten === undefined) return code;
  // The one place where any command learns that what it said reached nobody.
  const failed = report(unwrittenError(unwritten), io, isJson);
  await io.flush();
  return code === exitCodes.fine ? failed : code;
}

const unwrittenError = (cause: Error): GodwitError =>
  godwitError(
    "GODWIT_OUTPUT_FAILED",
    `standard output did not take all of it: ${cause.message}; free some space and run it again`,
    cause,
  );

async function dispatch(
  argv: readonly string[],
  env: Environment,
  io: CliIo,
  isJson: boolean,
): Promise<number> {
  // What the GNU standards ask of every program ("Standards for Command Line Interfaces").
  const { command, words, rest } = findCommand(
    argv[0] === "--version" ? ["version", ...argv.slice(1)] : argv,
  );
  const beforeEnd = rest.includes("--") ? rest.slice(0, rest.indexOf("--")) : rest;
  const wantsHelp = beforeEnd.includes("--help") || beforeEnd.includes("-h") || words[0] === "help";
  if (command === undefined) {
    const topic = words[0] === "help" ? words.slice(1) : words;
    if (topic.length > 0) return helpOnTopic(topic, io, wantsHelp);
    const { firstSteps, overview } = await import("./help.ts");
    if (wantsHelp) io.stdout(overview(io.size?.columns));
    else io.stderr(firstSteps(io.size?.columns));
    return wantsHelp ? exitCodes.fine : exitCodes.usage;
  }
  if (wantsHelp) return await printHelp(command, io);
  const { values, positionals } = parseWords(command, rest);
  if (positionals.length < command.argsMin || positionals.length > command.argsMax)
    throw usage(`usage: godwit ${command.name} ${command.args}`.trimEnd());
  const text = (name: string) => [values[name]].flat().filter((value) => typeof value === "string");
  const contextFor = (output: CliIo): CommandContext => ({
    io: output,
    env,
    args: positionals,
    option: (name) => text(name).at(-1),
    options: text,
    isSet,
    isJson,
    commands,
    get paint() {
      return paintOf(output, env, isJson, isSet);
    },
    client: async () => {
      const socket = await findSocket(text("socket").at(-1), text("config").at(-1), env);
      const typed = positionals.length === 0 ? command.name : `${command.name} ...`;
      return new ApiClient(socket, typed, io.signal, io.clock);
    },
  });
  const isSet = (name: string) => values[name] !== undefined && values[name] !== false;
  const context = contextFor(isJson ? withSafeJson(io) : io);
  const module = await command.load();
  if (!isSet("watch") || command.options["watch"] === undefined) return await module.run(context);
  const { watch } = await import("./watch.ts");
  const tell = (error: unknown, output: CliIo) => void report(error, output, isJson);
  return await watch(context, { contextFor, module, report: tell });
}

function paintOf(io: CliIo, env: Environment, isJson: boolean, isSet: (name: string) => boolean): Paint {
  const chosen = isSet("no-color") ? false : isSet("color") ? true : undefined;
  return createPaint({
    isColoured: !isJson && wantsColour(io.isStdoutTty, env, chosen),
    columns: io.size?.columns,
    clock: io.clock,
    isUtc: isSet("utc"),
  });
}

/** What the API answers holds texts of other nodes. A message's bytes, which were asked for as they are, stay so. */
const withSafeJson = (io: CliIo): CliIo =>
  Object.create(io, {
    stdout: {
      value: (chunk: string | Uint8Array) => io.stdout(typeof chunk === "string" ? escapeJson(chunk) : chunk),
    },
  }) as CliIo;

/** The longest name of the table at the front, global options before it skipped. */
function findCommand(argv: readonly string[]) {
  const before: string[] = [];
  let at = 0;
  for (; at < argv.length && argv[at]!.startsWith("-"); at++) {
    before.push(argv[at]!);
    const name = argv[at]!.slice(2);
    if (globalOptions[name]?.value !== undefined && at + 1 < argv.length) before.push(argv[++at]!);
  }
  const words = argv.slice(at, at + 2).filter((word) => !word.startsWith("-"));
  for (let length = words.length; length > 0; length--) {
    const name = words.slice(0, length).join(" ");
    const command = commands.find((row) => row.name === name);
    if (command !== undefined) return { command, words, rest: [...before, ...argv.slice(at + length)] };
  }
  return { command: undefined, words, rest: [...before, ...argv.slice(at)] };
}

const usage = (message: string) => godwitError("GODWIT_USAGE", message);

/** `godwit token` and `godwit token --help` list what is below; anything else is unknown, with the nearest name. */
async function helpOnTopic(words: readonly string[], io: CliIo, wantsHelp: boolean): Promise<number> {
  const exact = commands.find(({ name }) => name === words.join(" ") || name === words[0]);
  if (exact !== undefined) return await printHelp(exact, io);
  const below = commands.filter(({ name, isHidden }) => name.startsWith(`${words[0]} `) && isHidden !== true);
  if (below.length > 0 && (wantsHelp || words.length === 1)) {
    const { groupHelp } = await import("./help.ts");
    if (wantsHelp) io.stdout(groupHelp(below, io.size?.columns));
    else io.stderr(groupHelp(below, io.size?.columns));
    return wantsHelp ? exitCodes.fine : exitCodes.usage;
  }
  const { nearest } = await import("../config/suggest.ts");
  const wanted = (below.length > 0 ? words : words.slice(0, 1)).join(" ");
  const near = nearest(
    wanted,
    (below.length > 0 ? below : commands).map(({ name }) => name),
  );
  const hint = near === undefined ? "see godwit --help" : `did you mean godwit ${near}?`;
  throw usage(`there is no command "${safeText(wanted.slice(0, 60))}"; ${hint}`);
}

async function printHelp(command: CommandSpec, io: CliIo): Promise<number> {
  const { commandHelp } = await import("./help.ts");
  io.stdout(commandHelp(command, globalOptions, io.size?.columns));
  return exitCodes.fine;
}

/** Of these a restart changes nothing. */
export const CONFIG_CODES: ReadonlySet<string> = new Set([
  "GODWIT_CONFIG_INVALID",
  "GODWIT_CONFIG_UNREADABLE",
  "GODWIT_SECRET_UNREADABLE",
]);

function report(error: unknown, io: CliIo, isJson: boolean): number {
  const isRemote = error instanceof ApiProblem;
  const problem = isRemote ? error.problem : localProblem(error);
  if (isJson) io.stderr(`${escapeJson(JSON.stringify(problem))}\n`);
  else {
    io.stderr(`godwit: ${safeText(problem.detail)}\n`);
    for (const field of isRemote ? (problem.errors ?? []).slice(1) : [])
      io.stderr(`  ${safeText(field.path)}: ${safeText(field.message)}\n`);
  }
  if (problem.code === "GODWIT_USAGE") return exitCodes.usage;
  return !isRemote && CONFIG_CODES.has(problem.code) ? exitCodes.config : exitCodes.failed;
}

/** There is no log to look into here, so a fault of ours says what it was; a bad configuration lists its problems. */
function localProblem(error: unknown): Problem {
  const problem = problemOf(error);
  const detail = error instanceof Error ? error.message : String(error);
  const hasList = error instanceof GodwitError && "problems" in error && Array.isArray(error.problems);
  return hasList
    ? { ...problem, detail, errors: error.problems as Problem["errors"] & object }
    : { ...problem, detail };
}
