/** What a schema says of a value, for people: what was expected and what was found. A regular expression, and the words of a validator, are for machines. */

/** zod, valibot and JSON Schema libraries put the expression behind these words. */
const EXPRESSION = /\bmust match (?:the )?pattern\b.*$|\bto match regexp\b.*$|\bpattern "?[/^].*$/is;

/** Messages that zod makes by itself. A schema that has words of its own has others. */
const MADE_BY_ZOD = /^(?:Invalid (?:input|option|string)|Too (?:big|small)|Unrecognized key|Invalid$)/;
const SHOWN_CHARS_MAX = 40;
const OPTIONS_MAX = 16;

/** Of zod's issues what is read here; others of Standard Schema have a message alone. */
export interface Issue {
  readonly code?: string | undefined;
  readonly message: string;
  readonly expected?: unknown;
  readonly origin?: unknown;
  readonly minimum?: unknown;
  readonly maximum?: unknown;
  readonly inclusive?: unknown;
  readonly values?: unknown;
  readonly keys?: unknown;
  readonly prefix?: unknown;
}

/** What is wrong, where `found` is what stood there. Shows of it only numbers, and text that should have been one of a few words: no secret. */
export function inWords(issue: Issue, found?: unknown): string {
  const fits = whatFits(issue);
  return MADE_BY_ZOD.test(issue.message) && issue.code !== "unrecognized_keys"
    ? `${fits}, found ${foundIn(issue, found)}`
    : fits;
}

/** What would have been right: the words that the schema has of its own, or `expected ...`. */
export const whatFits = (issue: Issue): string =>
  MADE_BY_ZOD.test(issue.message)
    ? `expected ${expectedIn(issue)}`
    : issue.message.replace(EXPRESSION, "must have another form, which its description says");

function expectedIn(issue: Issue): string {
  switch (issue.code) {
    case "invalid_type":
      return TYPES[String(issue.expected)] ?? String(issue.expected);
    case "too_small":
      return bound(issue, "at least", "more than", issue.minimum);
    case "too_big":
      return bound(issue, "at most", "less than", issue.maximum);
    case "invalid_value":
      return optionsOf(issue.values);
    case "unrecognized_keys":
      return `no ${Array.isArray(issue.keys) ? issue.keys.map((key) => shown(String(key))).join(", ") : "other key"}`;
    case "invalid_format":
      if (typeof issue.prefix === "string") return `text that begins with ${JSON.stringify(issue.prefix)}`;
      return "another form, which its description says";
    default:
      return "another form, which its description says";
  }
}

function foundIn(issue: Issue, found: unknown): string {
  if (typeof found === "string" && issue.code === "invalid_value") return shown(found);
  const isSize = issue.code === "too_small" || issue.code === "too_big";
  if (
    isSize &&
    UNITS[String(issue.origin)] !== undefined &&
    (typeof found === "string" || Array.isArray(found))
  )
    return String(found.length);
  return kindOf(found);
}

const shown = (text: string): string =>
  JSON.stringify(text.length > SHOWN_CHARS_MAX ? `${text.slice(0, SHOWN_CHARS_MAX)}...` : text);

const TYPES: Readonly<Record<string, string>> = {
  array: "a list",
  boolean: "true or false",
  int: "a whole number",
  number: "a number",
  object: "a table",
  record: "a table",
  string: "text",
};

function kindOf(value: unknown): string {
  if (value === undefined) return "nothing";
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "number") return Number.isNaN(value) ? "something else" : String(value);
  if (typeof value === "string") return value === "" ? "no text" : "text";
  return typeof value === "boolean" ? String(value) : "a table";
}

function optionsOf(values: unknown): string {
  if (!Array.isArray(values) || values.length === 0) return "another value";
  const words = values.slice(0, OPTIONS_MAX).map((value) => JSON.stringify(value) ?? String(value));
  return words.length === 1 ? words[0]! : `one of ${words.join(", ")}`;
}

const UNITS: Readonly<Record<string, string>> = { string: "character", array: "item", set: "item" };

function bound({ origin, inclusive }: Issue, closed: string, open: string, count: unknown): string {
  const unit = UNITS[String(origin)];
  const words = `${inclusive === false ? open : closed} ${String(count)}`;
  return unit === undefined
    ? `${TYPES[String(origin)] ?? "a value"}, ${words}`
    : `${TYPES[String(origin)] ?? "a list"}, ${words} ${unit}${Number(count) === 1 ? "" : "s"}`;
}

/** What stands at a path of a document; undefined: nothing. */
export function valueAt(document: unknown, path: readonly PropertyKey[]): unknown {
  let value = document;
  for (const part of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, part)) return undefined;
    value = (value as Record<PropertyKey, unknown>)[part];
  }
  return value;
}
