/**
 * Overrides from the environment: `GODWIT_NODE__CALLSIGN=DUN-A` is `callsign = "DUN-A"` in `[node]`, two underscores
 * for each step down. A value is read as JSON or as a TOML value where it is one, else as text.
 */
import type { ConfigProblem, Path } from "./problems.ts";
import { schemas } from "./schemas.ts";
import type { Environment } from "@godwit/sdk/secret";
import { nearest } from "./suggest.ts";

/** Variables that steer the program that runs the node; they are no part of the configuration. */
export const runnerVariables = [
  "GODWIT_CONFIG",
  "GODWIT_SOCKET",
  "GODWIT_LOG",
  "GODWIT_JOIN",
  "GODWIT_PEERS",
] as const;

const PREFIX = "GODWIT_";
const VALUE_CHARS_MAX = 65_536;

export interface Override {
  readonly variable: string;
  readonly path: readonly string[];
  readonly value: unknown;
}

/**
 * `referenced` are the variables that secrets name (`env:GODWIT_NETWORK_KEY`): those are values, not overrides.
 * In the order of their names, so that the shorter path comes first and the outcome does not depend on the system.
 */
export function readOverrides(
  env: Environment,
  referenced: ReadonlySet<string>,
): { overrides: Override[]; problems: ConfigProblem[] } {
  const overrides: Override[] = [];
  const problems: ConfigProblem[] = [];
  for (const variable of Object.keys(env).sort()) {
    const text = env[variable];
    if (!variable.startsWith(PREFIX) || text === undefined || referenced.has(variable)) continue;
    if ((runnerVariables as readonly string[]).includes(variable)) continue;
    const path = variable.slice(PREFIX.length).toLowerCase().split("__");
    if (
      !Object.hasOwn(schemas().configSchema.shape, path[0]!) ||
      path.includes("") ||
      text.length > VALUE_CHARS_MAX
    )
      problems.push(unknownVariable(variable));
    else overrides.push({ variable, path, value: parseValue(text, path) });
  }
  return { overrides, problems };
}

/** Every `env:NAME` in the document. Iterative: the document may be as deep as the parser allowed. */
export function referencedVariables(documents: readonly unknown[]): Set<string> {
  const names = new Set<string>();
  const pending = [...documents];
  while (pending.length > 0) {
    const value = pending.pop();
    if (typeof value === "string" && value.startsWith("env:")) names.add(value.slice(4));
    else if (typeof value === "object" && value !== null) pending.push(...Object.values(value));
  }
  return names;
}

function unknownVariable(variable: string): ConfigProblem {
  const { configSchema } = schemas();
  const known = [...runnerVariables, ...allVariables()];
  const near = nearest(variable.replace(/_+/g, "_"), known) ?? nearest(variable, known);
  const word = variable.slice(PREFIX.length).split("_")[0]!.toLowerCase();
  const section = nearest(word, Object.keys(configSchema.shape));
  const suggestion = near ?? (section === undefined ? undefined : `${PREFIX}${section.toUpperCase()}__...`);
  return {
    path: `environment variable ${variable}`,
    expected: `GODWIT_SECTION__KEY with two underscores; the sections are ${Object.keys(configSchema.shape).join(", ")}`,
    found: "a variable that names no section",
    ...(suggestion === undefined ? {} : { suggestion: `did you mean ${suggestion}?` }),
  };
}

function allVariables(): string[] {
  const { configSchema, coreOf, definitionOf } = schemas();
  return Object.entries(configSchema.shape).flatMap(([section, schema]) =>
    Object.keys(definitionOf(coreOf(schema)).shape ?? {}).map((key) =>
      `${PREFIX}${section}__${key}`.toUpperCase(),
    ),
  );
}

/** `2024` is a number for a key that takes numbers and text for one that takes text. */
function parseValue(text: string, path: Path): unknown {
  const { coreOf, definitionOf, schemaAt } = schemas();
  const schema = schemaAt(path);
  const value = parseLiteral(text);
  if (schema === undefined || typeof value === "string") return value;
  const isTextOnly = ["string", "enum"].includes(definitionOf(coreOf(schema)).type);
  return isTextOnly ? text : value;
}

function parseLiteral(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    // Not JSON: perhaps TOML.
  }
  try {
    const parsed = Bun.TOML.parse(`value = ${text}`) as Record<string, unknown>;
    const value = parsed["value"];
    const isPlain =
      typeof value !== "object" || Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype;
    // More keys than ours came from further lines inside the value.
    return Object.keys(parsed).length === 1 && isPlain ? value : text;
  } catch {
    return text;
  }
}
