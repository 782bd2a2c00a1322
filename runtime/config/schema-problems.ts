/** What the schemas found wrong with a document, in words; and where in the schemas a key stands. */
import type * as z from "zod";
import { valueAt } from "../kernel/schema-words.ts";
import { type ConfigProblem, describeFound, formatPath, type Path } from "./problems.ts";
import { configSchema } from "./schema.ts";
import { type Expectation, expectations } from "./schema-values.ts";
import { nearest } from "./suggest.ts";

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
