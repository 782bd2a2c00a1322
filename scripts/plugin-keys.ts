/**
 * Tables of a plugin's own keys, written from its schema into the page that describes it: type, default and bounds are the schema's, and the meaning is the comment
 * above the key. A page says where with `<!-- keys: plugins/x/config.ts name -->`, and the table ends before `<!-- /keys -->`.
 */
import { join } from "node:path";
import * as z from "zod";
import { root } from "./lib.ts";

const MARK = /(<!-- keys: (plugins\/[\w/.-]+) (\w+) -->\n)[\s\S]*?(<!-- \/keys -->)/g;

interface JsonSchema {
  readonly type?: string;
  readonly default?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly enum?: readonly string[];
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
}

/** The page with its tables as the schemas are now. Throws where a key has no comment. */
export async function withPluginKeys(path: string): Promise<string> {
  const text = await Bun.file(join(root, path)).text();
  const tables = new Map<string, string>();
  for (const [, , source, name] of text.matchAll(MARK))
    tables.set(`${source} ${name}`, await tableOf(source!, name!));
  if (tables.size === 0) throw new Error(`${path} has no place for keys of a plugin`);
  return text.replace(MARK, (_, head: string, source: string, name: string, end: string) => {
    return `${head}\n${tables.get(`${source} ${name}`)!}\n\n${end}`;
  });
}

async function tableOf(source: string, name: string): Promise<string> {
  const code = await Bun.file(join(root, source)).text();
  const exported = ((await import(join(root, source))) as Readonly<Record<string, unknown>>)[name];
  const { properties = {}, required = [] } = z.toJSONSchema(exported as z.ZodType, {
    io: "input",
    unrepresentable: "any",
  }) as JsonSchema;
  const rows = Object.entries(properties).map(([key, schema]) => {
    const meaning = new RegExp(`/\\*\\* ([^*]+) \\*/\\s*${key}:`).exec(code)?.[1];
    if (meaning === undefined) throw new Error(`${source}: ${key} has no comment that says what it means`);
    const fallback = "default" in schema ? `\`${JSON.stringify(schema.default)}\`` : "";
    const missing = required.includes(key) ? "(must be set)" : "(none)";
    return `| \`${key}\` | ${kindOf(schema)} | ${fallback || missing} | ${meaning.replace(/\s+/g, " ")} |`;
  });
  return ["| key | type | default | meaning |", "| --- | --- | --- | --- |", ...rows].join("\n");
}

function kindOf({ type, minimum, maximum, enum: words }: JsonSchema): string {
  if (words !== undefined) return words.map((word) => `\`"${word}"\``).join(", ");
  const bounds = minimum === undefined || maximum === undefined ? "" : `, ${minimum} to ${maximum}`;
  return `${type === "integer" ? "whole number" : type === "array" ? "list" : type === "string" ? "text" : (type ?? "")}${bounds}`;
}
