/** What is wrong with a configuration, all of it at once, in words that say what to write instead. What the schemas find: schema-problems.ts. */
import { errorCodes, GodwitError } from "../kernel/errors.ts";
import { SECRET_REFERENCE } from "@godwit/sdk/secret";

export interface ConfigProblem {
  /** As in the file: `api.tokens[0].secret`. For text that does not parse: `line 3, column 5`. */
  readonly path: string;
  readonly expected: string;
  /** Never a secret: at most its reference. */
  readonly found: string;
  readonly suggestion?: string;
  /** In the file, from 1: of the key, or of the table that it is missing in. None: not of the file, or it says so by its path. */
  readonly line?: number;
}

/** GODWIT_CONFIG_INVALID with its list. The message is the rendered list, so that plain printing is already useful. */
export class ConfigError extends GodwitError {
  readonly problems: readonly ConfigProblem[];
  /** What was read: a path, or words such as "the environment". */
  readonly source: string;

  constructor(source: string, problems: readonly ConfigProblem[], cause?: unknown) {
    const { kind, retry } = errorCodes.GODWIT_CONFIG_INVALID;
    super("GODWIT_CONFIG_INVALID", formatConfigProblems(problems, source), { kind, retry, cause });
    this.problems = problems;
    this.source = source;
  }
}

/** More than this many are cut: the first ones usually explain the rest. */
const PROBLEMS_SHOWN_MAX = 50;

/** The list as a person reads it; ends without a newline. */
export function formatConfigProblems(problems: readonly ConfigProblem[], source: string): string {
  const lines = [`${problems.length} problem${problems.length === 1 ? "" : "s"} in ${source}`];
  for (const one of problems.slice(0, PROBLEMS_SHOWN_MAX)) {
    const at = one.line === undefined ? "" : `, line ${one.line}`;
    lines.push("", `  ${one.path}${at}`, `    expected  ${one.expected}`, `    found     ${one.found}`);
    if (one.suggestion !== undefined) lines.push(`    try       ${one.suggestion}`);
  }
  if (problems.length > PROBLEMS_SHOWN_MAX)
    lines.push("", `  and ${problems.length - PROBLEMS_SHOWN_MAX} more`);
  return lines.join("\n");
}

export type Path = readonly PropertyKey[];

/** `api.tokens[0].secret`; keys that are not bare in TOML are quoted. */
export function formatPath(path: Path): string {
  let out = "";
  for (const part of path) {
    if (typeof part === "number") out += `[${part}]`;
    else {
      const key = String(part);
      const shown = /^[A-Za-z0-9_-]+$/.test(key) ? key : JSON.stringify(key.slice(0, 80));
      out += out === "" ? shown : `.${shown}`;
    }
  }
  return out === "" ? "the whole configuration" : out;
}

const FOUND_CHARS_MAX = 80;

/** A value in the words of the file, cut short; what may be a secret shows only its kind. */
export function describeFound(value: unknown, isSecret: boolean): string {
  if (value === undefined) return "nothing";
  if (isSecret && !(typeof value === "string" && SECRET_REFERENCE.test(value)))
    return `${kindOf(value)} (not shown, it may be a secret)`;
  const text =
    Array.isArray(value) || isTable(value) ? kindOf(value) : (JSON.stringify(value) ?? kindOf(value));
  const shown = text.length > FOUND_CHARS_MAX ? `${text.slice(0, FOUND_CHARS_MAX)}...` : text;
  return typeof value === "number" ? `${value}, a number` : shown;
}

const isTable = (value: unknown) =>
  typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype;

function kindOf(value: unknown): string {
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (isTable(value)) return "a table";
  if (typeof value === "string") return "text";
  return typeof value === "object" ? "a date" : `a ${typeof value}`;
}
