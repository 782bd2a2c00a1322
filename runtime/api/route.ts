/** The shape of one route: the table made of these drives dispatch, access, validation, metrics and OpenAPI alike. */
import type { z } from "zod";
import type { Profile } from "../kernel/profile.ts";
import type { Clock } from "../kernel/clock.ts";
import type { Log } from "../kernel/log.ts";
import type { RecentLog } from "../kernel/recent-log.ts";
import type { AccessRule, Connection } from "./access.ts";
import { type ApiRequest, type Said, TextAnswer } from "./exchange.ts";
import type { BodyReader } from "./body.ts";
import type { ForwardTable, NodeView, TokenStore } from "../view/contract/node.ts";
import type { PluginDesk } from "../view/contract/plugins.ts";

export interface Profiler {
  /** Profiles are not for the control socket alone. */
  readonly isOverTcp: boolean;
  /** As `profileProcess`. */
  take(seconds: number, signal: AbortSignal): Promise<Profile>;
}

export interface ApiParts {
  readonly view: NodeView;
  readonly tokens: TokenStore;
  readonly forwards: ForwardTable;
  readonly plugins: PluginDesk;
  readonly clock: Clock;
  readonly log: Log;
  readonly recent: RecentLog;
  readonly bodies: BodyReader;
  readonly profiler: Profiler;
  /** Aborts when the API stops: endless responses end. */
  readonly signal: AbortSignal;
}

/** One validated request in the hands of its handler. */
export interface Call<Query, Body> {
  readonly parts: ApiParts;
  readonly request: ApiRequest;
  readonly connection: Connection;
  /** Path parameters, decoded. */
  readonly params: Readonly<Record<string, string>>;
  readonly query: Query;
  readonly body: Body;
}

/** A schema, made when the first request or reader of the documentation needs it: a start needs none. */
export type Later<Schema> = () => Promise<Schema>;

/** Those that a module exports, which is loaded then. */
export function schemasOf<Module extends object>(
  load: () => Promise<Module>,
): { readonly [Name in keyof Module]: Later<Module[Name]> } {
  let loaded: Promise<Module> | undefined;
  return new Proxy({} as { readonly [Name in keyof Module]: Later<Module[Name]> }, {
    get: (_, name) => async () => (await (loaded ??= load()))[name as keyof Module],
  });
}

export interface Answer {
  readonly status: number;
  readonly description: string;
  /** JSON of this schema; with `media` instead: anything of that media type; neither: no content. */
  readonly schema?: Later<z.ZodType>;
  readonly media?: string;
}

interface RouteHead {
  readonly method: "get" | "post" | "delete";
  /** OpenAPI form: `/messages/{id}`. Also the `route` label of the metrics. */
  readonly path: string;
  readonly operation: string;
  readonly summary: string;
  readonly access: AccessRule;
  readonly answers: readonly Answer[];
}

interface TypedRoute<Query, Body> extends RouteHead {
  readonly query?: Later<z.ZodType<Query>>;
  /** A JSON body of this schema is read and validated before the handler runs. */
  readonly body?: Later<z.ZodType<Body>>;
  /** The handler reads the body itself; `body` then only documents it. */
  readonly readsBody?: boolean;
  readonly handle: (call: Call<Query, Body>) => Said | Promise<Said>;
}

export type Route = TypedRoute<unknown, unknown>;

/** Ties a handler's types to its schemas; the identity function at run time. */
export function defineRoute<Query = undefined, Body = undefined>(route: TypedRoute<Query, Body>): Route {
  // Sound because the dispatcher only ever calls handle with what these schemas returned.
  return route as unknown as Route;
}

const JSON_HEADERS = { "content-type": "application/json", "cache-control": "no-store" };

export function jsonResponse(
  value: unknown,
  status = 200,
  headers?: Readonly<Record<string, string>>,
): TextAnswer {
  const all = headers === undefined ? JSON_HEADERS : { ...JSON_HEADERS, ...headers };
  return new TextAnswer(JSON.stringify(value), status, all);
}

export const emptyResponse = (): Response => new Response(null, { status: 204 });
