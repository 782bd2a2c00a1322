/**
 * From the schemas of the configuration to the shapes that a start judges by (runtime/config/quick.ts). Owns runtime/config/shapes.ts, which
 * `bun run docs` writes and a test holds to the schemas. Throws on whatever it cannot say exactly, with the place in the schema.
 */
import type * as z from "zod";
import * as parts from "../runtime/config/parts.ts";
import { configSchema } from "../runtime/config/schema.ts";

type Definition = Readonly<Record<string, unknown>> & { readonly type?: string };
const definitionOf = (schema: unknown): Definition =>
  (schema as { readonly _zod: { readonly def: Definition } })._zod.def;

const HEAD = `/** Written by \`bun run docs\` from the schemas of the configuration (scripts/shapes.ts): do not edit. */
import * as parts from "./parts.ts";
`;

/** The text of runtime/config/shapes.ts, not formatted. */
export function shapesSource(): string {
  const keys = Object.entries(configSchema.shape).map(
    ([name, schema]) => `${JSON.stringify(name)}: ${section(schema, name)}`,
  );
  const text = `export const settingsShape = table({ ${keys.join(", ")} });\n`;
  const used = CALLS.filter((name) => new RegExp(`\\b${name}\\(`).test(text));
  if (text.includes("whole")) used.push("whole");
  return `${HEAD}import { ${used.join(", ")} } from "./quick.ts";\n\n${text}`;
}

const CALLS = [
  ...[
    "atLeast",
    "atMost",
    "either",
    "flag",
    "later",
    "list",
    "longerThan",
    "made",
    "matches",
    "number",
    "one",
  ],
  ...["openTable", "or", "record", "shorterThan", "table", "text"],
];

/** A section that is not there costs its defaults and nothing else. */
function section(schema: z.ZodType, at: string): string {
  const { type, innerType } = definitionOf(schema);
  if (type !== "default" && type !== "prefault") throw unknown(at, `a section of type ${type}`);
  return `or(${absent(schema, at)}, later(() => ${shape(innerType, at)}))`;
}

const unknown = (at: string, what: string) => new Error(`no shape for ${what} at ${at}`);

function shape(schema: unknown, at: string): string {
  const definition = definitionOf(schema);
  const checks = [
    ...(definition["check"] === undefined ? [] : [definition]),
    ...((definition["checks"] as readonly unknown[] | undefined) ?? []).map(definitionOf),
  ].map((check) => checkOf(check, at));
  const text = form(schema, definition, at);
  const isEmpty = text.endsWith("(");
  return `${text}${isEmpty || checks.length === 0 ? "" : ", "}${checks.join(", ")})`;
}

/** A call without its end: checks follow. */
function form(schema: unknown, definition: Definition, at: string): string {
  const inner = (key: string, path = at) => shape(definition[key], path);
  switch (definition.type) {
    case "string":
      return "text(";
    case "boolean":
      return "flag(";
    case "number":
      return "number(";
    case "literal":
      return `one(${JSON.stringify(definition["values"])}`;
    case "enum":
      return `one(${JSON.stringify(Object.values(definition["entries"] as object))}`;
    case "array":
      return `list(${inner("element", `${at}[]`)}`;
    case "object": {
      const catchall = definition["catchall"] as { _zod: { def: Definition } } | undefined;
      const beyond = catchall === undefined ? undefined : definitionOf(catchall).type;
      if (beyond !== "never" && beyond !== "unknown") throw unknown(at, "a table that drops keys");
      const keys = Object.entries(definition["shape"] as object).map(
        ([key, one]) => `${JSON.stringify(key)}: ${shape(one, `${at}.${key}`)}`,
      );
      return `${beyond === "unknown" ? "openTable" : "table"}({ ${keys.join(", ")} }`;
    }
    case "record":
      if (definition["mode"] === "loose") throw unknown(at, "a loose record");
      return `record(${inner("keyType", `${at} key`)}, ${inner("valueType", `${at}.*`)}`;
    case "union":
      if (definition["inclusive"] === false) throw unknown(at, "a union of which one must fit");
      return `either([${(definition["options"] as unknown[]).map((one) => shape(one, at)).join(", ")}]`;
    case "pipe": {
      const { type, transform } = definitionOf(definition["out"]);
      if (type !== "transform") throw unknown(at, `a pipe to ${type}`);
      return `made(${inner("in")}, ${nameOf(transform as object, at)}`;
    }
    case "optional":
      return `or(undefined, ${inner("innerType")}`;
    case "default":
    case "prefault":
      return `or(${absent(schema, at)}, ${inner("innerType")}`;
    default:
      throw unknown(at, `type ${String(definition.type)}`);
  }
}

/** What stands for a value that is not there, made anew each time: whoever gets it may change it. */
function absent(schema: unknown, at: string): string {
  const value: unknown = (schema as z.ZodType).parse(undefined);
  const text = JSON.stringify(value);
  if (!Bun.deepEquals(JSON.parse(text), value, true)) throw unknown(at, "a default that is no JSON");
  return text.startsWith("{") ? `() => (${text})` : `() => ${text}`;
}

function checkOf(check: Definition, at: string): string {
  const bound = (name: string, key: string) => `${name}(${JSON.stringify(check[key])})`;
  switch (check["check"]) {
    case "min_length":
      return bound("longerThan", "minimum");
    case "max_length":
      return bound("shorterThan", "maximum");
    case "greater_than":
    case "less_than":
      if (check["inclusive"] !== true) throw unknown(at, "a bound that is not included");
      return bound(check["check"] === "less_than" ? "atMost" : "atLeast", "value");
    case "number_format":
      if (check["format"] === "safeint") return "whole";
      break;
    case "string_format": {
      const pattern = check["pattern"] as RegExp;
      if (check["format"] === "regex" && !pattern.global && !pattern.sticky)
        return `matches(${String(pattern)})`;
      break;
    }
    case "custom":
      return nameOf(check["fn"] as object, at);
  }
  throw unknown(at, `check ${String(check["check"])} ${String(check["format"])}`);
}

/** How the functions of parts.ts are called in code. */
function nameOf(called: object, at: string): string {
  if ("madeBy" in called) return `parts.${String(called.madeBy)}`;
  const name = Object.entries(parts).find(([, one]) => one === called)?.[0];
  if (name === undefined) throw unknown(at, "a function that is not of runtime/config/parts.ts");
  return `parts.${name}`;
}
