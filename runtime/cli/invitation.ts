/**
 * Where an invitation comes from. It is a key until it is used, and what stands in an argument or in a variable of a unit is
 * there for every user of the machine to read: a file or standard input is not. Never repeats what it read.
 */
import { readFileSync, statSync } from "node:fs";
import { type Environment, readSecret, Secret, SECRET_REFERENCE } from "@godwit/sdk/secret";
import { TOKEN_CHARS_MAX } from "../identity/token.ts";
import { fileReason, godwitError } from "../kernel/errors.ts";
import type { CliIo } from "./io.ts";

/** Breaks that a mail program puts into the line are no part of it. */
const BYTES_MAX = 2 * TOKEN_CHARS_MAX;
const OTHERS_READ = 0o004;

/** The invitation itself, or `file:/path`, `env:NAME` or `credential:NAME`. Throws GODWIT_SECRET_UNREADABLE. */
export function readInvitation(given: string, env: Environment): string {
  if (!SECRET_REFERENCE.test(given)) return given;
  const read = readSecret(given, env, { bytesMin: 1, bytesMax: BYTES_MAX });
  if (read instanceof Secret) return read.revealText();
  const advice = read.suggestion === undefined ? "" : `: ${read.suggestion}`;
  throw godwitError("GODWIT_SECRET_UNREADABLE", `the invitation is named as ${read.found}${advice}`);
}

/**
 * Of the command line: an argument as above, `-` or nothing for standard input, or the file of `--file`. `note` is told where others may read it
 * too: whoever hands it over here has it in their hands, and is not turned away for that. Throws GODWIT_USAGE.
 */
export async function invitationOf(
  argument: string | undefined,
  file: string | undefined,
  io: CliIo,
  env: Environment,
  note: (words: string) => void,
): Promise<string> {
  if (argument !== undefined && file !== undefined)
    throw godwitError("GODWIT_USAGE", "give either an invitation or --file");
  if (file !== undefined && file !== "-") return readFile(file, note);
  if (argument !== undefined && argument !== "-") {
    if (!SECRET_REFERENCE.test(argument))
      note(
        "every user of this machine can read an argument, and shells keep it: better godwit join -, or --file PATH",
      );
    return readInvitation(argument, env);
  }
  if (argument === undefined && file === undefined && io.isStdinTty)
    throw godwitError("GODWIT_USAGE", "name an invitation: godwit join --file PATH, or - to type it in");
  let text = "";
  for await (const chunk of io.stdin()) {
    text += Buffer.from(chunk).toString("latin1");
    if (text.length > BYTES_MAX) break;
    // Whoever types it in ends it with the line.
    if (io.isStdinTty && text.includes("\n")) break;
  }
  return text;
}

function readFile(path: string, note: (words: string) => void): string {
  try {
    if ((statSync(path).mode & OTHERS_READ) !== 0)
      note(`every user of this machine may read ${path}: chmod 600 it, or delete it once it is used`);
    return readFileSync(path)
      .subarray(0, BYTES_MAX + 1)
      .toString("latin1");
  } catch (error) {
    throw godwitError("GODWIT_USAGE", `cannot read ${path}: ${fileReason(error)}`, error);
  }
}
