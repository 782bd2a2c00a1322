/** What is wrong with a configuration, all of it at once, in words that say what to write instead. */
import type * as z from "zod";
import { errorCodes, GodwitError } from "../kernel/errors.ts";
import { configSchema } from "./schema.ts";
import { SECRET_REFERENCE } from "@godwit/sdk/secret";
import { nearest } from "./suggest.ts";
import { type Expectation, expectations } from "./schema-values.ts";

export interface ConfigProblem {
  /** As in the file: `api.tokens[0].secret`. For text that does not parse: `line 3, column 5`. */
  readonly path: string;
  readonly expected: string;
  /** Never a secret: at most its reference. */
  readonly found: string;
  readonly suggestion?: string;
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
    lines.push("", `  ${one.path}`, `    expected  ${one.expected}`, `    found     ${one.found}`);
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

/** What zod keeps of a schema; the only place that looks inside one. */
interface Definition {
  readonly type: string;
  readonly innerType?: z.ZodType;
  readonly in?: z.ZodType;
  readonly out?: z.ZodType;
  readonly shape?: Readonly<Record<string, z.ZodType>>;
  readonly catchall?: z.ZodType;
  readonly valueType?: z.ZodType;
  readonly keyType?: z.ZodType;
  readonly element?: z.ZodType;
  readonly options?: readonly z.ZodType[];
}

export const definitionOf = (schema: z.ZodType): Definition => schema.def;

/** Below default, optional, transform: the schema that says object, array, string. */
export function coreOf(schema: z.ZodType): z.ZodType {
  let core = schema;
  for (;;) {
    const { innerType, in: input } = definitionOf(core);
    const next = innerType ?? input;
    if (next === undefined) return core;
    core = next;
  }
}

/** The outermost expectation on the way from `schema` to its core. */
export function expectationOf(schema: z.ZodType): Expectation | undefined {
  for (let at: z.ZodType | undefined = schema; at !== undefined;) {
    const known = expectations.get(at);
    if (known !== undefined) return known;
    const definition: Definition = definitionOf(at);
    at = definition.innerType ?? definition.in;
  }
  return undefined;
}

/** The schema of the key at `path`, or undefined where the schema knows nothing of it (unknown keys, keys of plugins). */
export function schemaAt(path: Path): z.ZodType | undefined {
  let schema: z.ZodType | undefined = configSchema;
  for (const part of path) {
    const definition: Definition = definitionOf(coreOf(schema));
    if (definition.shape !== undefined)
      schema = Object.hasOwn(definition.shape, part) ? definition.shape[String(part)] : undefined;
    else if (definition.type === "record") schema = definition.valueType;
    else if (definition.type === "array") schema = definition.element;
    else if (definition.type === "union" && typeof part === "number")
      schema = definition.options
        ?.map((option) => definitionOf(coreOf(option)).element)
        .find((element) => element !== undefined);
    else schema = undefined;
    if (schema === undefined) return undefined;
  }
  return schema;
}

/** Problems of `document` as zod found them, in the order of the file. */
export function problemsOf(issues: readonly z.core.$ZodIssue[], document: unknown): ConfigProblem[] {
  return issues.flatMap((issue) =>
    issue.code === "unrecognized_keys"
      ? issue.keys.map((key) => unknownKey(issue.path, key))
      : issue.code === "invalid_key"
        ? [invalidKey(issue.path)]
        : [invalidValue(issue.path, document)],
  );
}

function unknownKey(parent: Path, key: string): ConfigProblem {
  const siblings = Object.keys(definitionOf(coreOf(schemaAt(parent)!)).shape ?? {});
  const near = nearest(key, siblings);
  const elsewhere = near === undefined ? keysNamed(key) : [];
  const suggestion =
    near !== undefined
      ? `did you mean ${near}?`
      : elsewhere.length > 0
        ? `did you mean ${elsewhere.join(" or ")}?`
        : undefined;
  return {
    path: formatPath([...parent, key]),
    expected: `no such key; ${parent.length === 0 ? "the sections are" : `${formatPath(parent)} has`} ${siblings.join(", ")}`,
    found: "an unknown key",
    ...(suggestion === undefined ? {} : { suggestion }),
  };
}

/** Where in the schema a key of about this name stands, for one written into the wrong section. */
function keysNamed(key: string): string[] {
  return Object.entries(configSchema.shape).flatMap(([section, schema]) => {
    const keys = Object.keys(definitionOf(coreOf(schema)).shape ?? {});
    const near = nearest(key, keys);
    return near === undefined ? [] : [`${section}.${near}`];
  });
}

function invalidKey(path: Path): ConfigProblem {
  const key = path.at(-1);
  const record = definitionOf(coreOf(schemaAt(path.slice(0, -1))!));
  const expectation = record.keyType === undefined ? undefined : expectationOf(record.keyType);
  return problem(path, expectation, JSON.stringify(key), key);
}

function invalidValue(path: Path, document: unknown): ConfigProblem {
  // The deepest schema with words of its own: for an item of a list that may be the list.
  let at = path;
  let expectation: Expectation | undefined;
  for (; ; at = at.slice(0, -1)) {
    const schema = schemaAt(at);
    expectation = schema === undefined ? undefined : expectationOf(schema);
    if (expectation !== undefined || at.length === 0) break;
  }
  const value = valueAt(document, path);
  const schema = schemaAt(path);
  if (expectation === undefined && schema !== undefined && definitionOf(coreOf(schema)).type === "object")
    expectation = { type: "table", expected: "a table of keys" };
  return problem(path, expectation, describeFound(value, expectation?.isSecret === true), value);
}

function problem(
  path: Path,
  expectation: Expectation | undefined,
  found: string,
  value: unknown,
): ConfigProblem {
  const suggestion = value === undefined ? undefined : expectation?.suggest?.(value);
  return {
    path: formatPath(path),
    expected: expectation?.expected ?? "another value",
    found,
    ...(suggestion === undefined ? {} : { suggestion }),
  };
}

export function valueAt(document: unknown, path: Path): unknown {
  let value = document;
  for (const part of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, part)) return undefined;
    value = (value as Record<PropertyKey, unknown>)[part];
  }
  return value;
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
