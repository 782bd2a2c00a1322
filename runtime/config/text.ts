/** Text of a configuration file to a plain tree, with the place of a syntax error. Knows nothing of the schema. */
import { type ConfigFormat, withLines } from "./lines.ts";
import { ConfigError, type ConfigProblem, formatPath } from "./problems.ts";

export type Document = Record<string, unknown>;

/** Nothing in the schema is deeper; plugins get room to spare. */
const DEPTH_MAX = 32;
/**
 * Each try to find the place of a syntax error parses the text again. Bytes that may cost for the lines, and again for
 * the columns; where trying one by one would be dearer, halving must do.
 */
const PLACE_WORK_BYTES_MAX = 2 ** 19;

/** By extension, else by the first character that is not white space. */
export function formatOf(path: string | undefined, text: string): ConfigFormat {
  if (path?.endsWith(".json") === true) return "json";
  if (path?.endsWith(".toml") === true) return "toml";
  return text.trimStart().startsWith("{") ? "json" : "toml";
}

/** @throws ConfigError with one problem that names the line. */
export function parseDocument(text: string, format: ConfigFormat, source: string): Document {
  const parse = format === "toml" ? Bun.TOML.parse : JSON.parse;
  const clean = text.startsWith("\ufeff") ? text.slice(1) : text;
  let document: unknown;
  try {
    document = parse(clean);
  } catch (error) {
    throw new ConfigError(source, [syntaxProblem(clean, format, parse, error)], error);
  }
  if (typeof document !== "object" || document === null || Array.isArray(document))
    throw new ConfigError(source, [
      { path: "the whole configuration", expected: "a table of sections", found: typeof document },
    ]);
  const problems = shapeProblems(document);
  if (problems.length > 0) throw new ConfigError(source, withLines(problems, clean, format));
  return document as Document;
}

function syntaxProblem(
  text: string,
  format: ConfigFormat,
  parse: (text: string) => unknown,
  error: unknown,
): ConfigProblem {
  const { line, column } = placeOf(text, parse, messageOf(error), format);
  const lines = text.split("\n").slice(0, line);
  const isHidden = mayHoldSecret(lines);
  const all = messageOf(error).replace(/^(TOML|JSON) Parse error: /, "");
  // Parsers quote what they met.
  const words = isHidden ? all.replace(/:?\s*["'`].*$/s, "") : all;
  const hint = words.startsWith("Strings must be quoted")
    ? { suggestion: "put the value in double quotes" }
    : {};
  return {
    path: `line ${line}, column ${column}`,
    expected: `valid ${format.toUpperCase()}: ${words.charAt(0).toLowerCase()}${words.slice(1)}`,
    found: isHidden ? "a line that may hold a secret (not shown)" : (lines.at(-1)?.trim().slice(0, 80) ?? ""),
    ...hint,
  };
}

const KEY_LINE = /^[\s{[,]*(?:"[^"]*"|'[^']*'|[\w.-]+)\s*[=:]/;
const SECRET_WORD = /secret|password|token|key/i;
/** As bytes are written; of names of settings none has a digit. */
const LONG_WORD = /[A-Za-z0-9+/=_-]{16,}/g;
const isRandom = (text: string): boolean => text.match(LONG_WORD)?.some((word) => /\d/.test(word)) === true;

/** The last of these lines may hold anything, a misplaced password too; of a list the key stands above. */
function mayHoldSecret(lines: readonly string[]): boolean {
  const last = lines.at(-1) ?? "";
  const owner = lines.findLast((line) => KEY_LINE.test(line)) ?? "";
  return SECRET_WORD.test(last) || SECRET_WORD.test(owner) || isRandom(last);
}

/**
 * The parsers of Bun do not say where they stopped. The shortest beginning of the text that fails with the very same
 * words ends at the place; where cutting itself gives those words (an unclosed bracket), it is where it was opened.
 */
function placeOf(
  text: string,
  parse: (text: string) => unknown,
  message: string,
  format: ConfigFormat,
): { line: number; column: number } {
  const fails = (beginning: string) => {
    try {
      parse(beginning);
      return false;
    } catch (error) {
      return messageOf(error) === message;
    }
  };
  const lines = text.split("\n");
  // JSON is one bracket: every beginning of it ends too early, so only the end of the text is to blame.
  if (format === "json" && fails(lines[0]!) && lines.length > 1 && /EOF|end of/i.test(message))
    return { line: lines.length, column: lines.at(-1)!.length + 1 };
  const upTo = (count: number) => lines.slice(0, count).join("\n");
  const line = firstWhere(
    lines.length,
    text.length,
    (count) => fails(`${upTo(count)}\n`) || fails(upTo(count)),
  );
  const before = line === 1 ? "" : `${upTo(line - 1)}\n`;
  const content = lines[line - 1]!;
  const column = firstWhere(content.length + 1, before.length + content.length, (count) =>
    fails(before + content.slice(0, count)),
  );
  return { line, column };
}

/**
 * The first of 1 to `count` for which `test` holds, or `count`: it is not asked for that one. Halving takes what fails
 * once to fail ever after, which is nearly always so: then it may name a later place.
 */
function firstWhere(count: number, bytesEach: number, test: (at: number) => boolean): number {
  if (count * bytesEach <= PLACE_WORK_BYTES_MAX) {
    for (let at = 1; at < count; at++) if (test(at)) return at;
    return count;
  }
  let [low, high] = [1, count];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (test(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** What no schema should have to meet: keys that JavaScript gives a meaning of its own, and bottomless nesting. */
function shapeProblems(document: object): ConfigProblem[] {
  const problems: ConfigProblem[] = [];
  const pending: { value: object; path: (string | number)[] }[] = [{ value: document, path: [] }];
  while (pending.length > 0) {
    const { value, path } = pending.pop()!;
    if (path.length > DEPTH_MAX) {
      problems.push({
        path: formatPath(path.slice(0, 4)),
        expected: `at most ${DEPTH_MAX} levels`,
        found: "more levels",
      });
      break;
    }
    for (const key of Object.getOwnPropertyNames(value)) {
      if (key === "__proto__")
        problems.push({
          path: formatPath([...path, key]),
          expected: "another name",
          found: "a reserved word",
        });
      const child = Object.getOwnPropertyDescriptor(value, key)?.value as unknown;
      if (typeof child === "object" && child !== null && key !== "__proto__")
        pending.push({ value: child, path: [...path, Array.isArray(value) ? Number(key) : key] });
    }
  }
  return problems;
}
