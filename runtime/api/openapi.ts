/** OpenAPI 3.1 from the route table: what validates a request also documents it, so the two cannot part. */
import { z } from "zod";
import { LINES_TYPE } from "./batch.ts";
import { JSON_BYTES_MAX, RAW_BYTES_MAX } from "./body.ts";
import { PROBLEM_MEDIA_TYPE } from "./problem.ts";
import type { Answer, Route } from "./route.ts";
import { problem } from "./schemas.ts";

type Json = Record<string, unknown>;

export async function openApiDocument(routes: readonly Route[], version: string): Promise<Json> {
  const paths: Record<string, Json> = {};
  for (const route of routes) (paths[route.path] ??= {})[route.method] = await operation(route);
  return {
    openapi: "3.1.0",
    info: {
      title: "Godwit node API",
      version,
      description:
        "Normative text: docs/protocol/http.md. The unix socket speaks the same API without tokens.",
      license: { name: "GPL-3.0-only", identifier: "GPL-3.0-only" },
    },
    servers: [{ url: "http://127.0.0.1:8000" }],
    paths,
    components: {
      securitySchemes: { token: { type: "http", scheme: "bearer" } },
      schemas: { Problem: jsonSchema(problem, "output") },
      responses: {
        Problem: {
          description: "what went wrong, RFC 9457",
          content: { [PROBLEM_MEDIA_TYPE]: { schema: { $ref: "#/components/schemas/Problem" } } },
        },
      },
    },
  };
}

async function operation(route: Route): Promise<Json> {
  const parameters = [...pathParameters(route.path), ...queryParameters(await route.query?.())];
  const body = await requestBody(route);
  const answers = route.answers.map(
    async (answer) => [String(answer.status), await response(answer)] as const,
  );
  return {
    operationId: route.operation,
    summary: route.summary,
    ...accessOf(route),
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(body === undefined ? {} : { requestBody: body }),
    responses: {
      ...Object.fromEntries(await Promise.all(answers)),
      default: { $ref: "#/components/responses/Problem" },
    },
  };
}

function accessOf({ access }: Route): Json {
  if (access.scope === "public") return { security: [] };
  const loopback = access.openOnLoopback === true;
  return {
    // An empty requirement beside a scheme reads "optional": from loopback (and with api.public_read from anywhere) no token is needed.
    security: loopback ? [{ token: [access.scope] }, {}] : [{ token: [access.scope] }],
    description: `Needs scope \`${access.scope}\`${loopback ? " unless called from loopback, or by anybody where api.public_read is set" : ""}.`,
  };
}

const pathParameters = (path: string): Json[] =>
  [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
    name,
    in: "path",
    required: true,
    schema: { type: "string" },
  }));

function queryParameters(query: z.ZodType | undefined): Json[] {
  if (query === undefined) return [];
  const schema = jsonSchema(query, "input");
  const required = new Set((schema["required"] as string[] | undefined) ?? []);
  return Object.entries((schema["properties"] ?? {}) as Record<string, Json>).map(([name, value]) => ({
    name,
    in: "query",
    required: required.has(name),
    schema: value,
  }));
}

async function requestBody(route: Route): Promise<Json | undefined> {
  if (route.body === undefined) return undefined;
  const content: Json = { "application/json": { schema: jsonSchema(await route.body(), "input") } };
  if (route.readsBody !== true) return { required: true, content };
  content[LINES_TYPE] = { schema: { description: "many messages, JSON of one in each line" } };
  content["*/*"] = { schema: { description: "raw message body, with `to` in the query" } };
  return {
    required: true,
    description: `JSON up to ${JSON_BYTES_MAX} bytes, or a raw body up to ${RAW_BYTES_MAX} bytes.`,
    content,
  };
}

async function response(answer: Answer): Promise<Json> {
  const { description, schema, media } = answer;
  if (schema !== undefined)
    return { description, content: { "application/json": { schema: jsonSchema(await schema(), "output") } } };
  return media === undefined ? { description } : { description, content: { [media]: {} } };
}

function jsonSchema(schema: z.ZodType, io: "input" | "output"): Json {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io }) as Json;
  return rest;
}
