/**
 * The HTTP API of a node as a hono app: what every request passes, in order. It sees the node only through `NodeView`
 * and opens no socket (`server.ts` does). Must never answer an error in any other form than a problem document, nor
 * read a body before the caller may send it. Normative: docs/protocol/http.md.
 *
 *   1 count and time it   2 who is calling   3 may they   4 read and validate   5 handler   6 problem document
 *
 * One handler of hono answers each request, so that hono composes nothing: `attend` is around all of them.
 */
import { Hono, type Context } from "hono";
import type { Clock } from "../kernel/clock.ts";
import { asGodwitError, godwitError } from "../kernel/errors.ts";
import type { Log } from "../kernel/log.ts";
import type { RecentLog } from "../kernel/recent-log.ts";
import type { Metrics } from "../kernel/metrics.ts";
import { unknownConnection, type Connection } from "./access.ts";
import { BodyReader, parseJson } from "./body.ts";
import { Door } from "./door.ts";
import { PagesFront } from "./pages/pages.ts";
import type { ForwardTable, NodeView, TokenStore } from "../view/contract/node.ts";
import type { PagesDesk } from "../view/contract/pages.ts";
import type { Said } from "./exchange.ts";
import { problemResponse, requestInvalid } from "./problem.ts";
import { defineRoute, jsonResponse, type ApiParts, type Profiler, type Route } from "./route.ts";
import { joinRoutes } from "./routes-join.ts";
import { closedRoutes } from "./routes-closed.ts";
import { meshRoutes } from "./routes-mesh.ts";
import { logRoutes } from "./routes-logs.ts";
import { profileRoutes } from "./routes-profile.ts";
import { messageRoutes } from "./routes-messages.ts";
import type { PluginDesk } from "../view/contract/plugins.ts";
import { pluginRoutes } from "./routes-plugins.ts";
import { forwardRoutes } from "./routes-forwards.ts";
import { tokenRoutes } from "./routes-tokens.ts";
import { TableRouter } from "./table-router.ts";
import { validate } from "./validate.ts";

/** JSON bodies other than a message's, in bytes. */
const SMALL_JSON_BYTES_MAX = 64 * 1024;
/** Requests in progress, event streams not counted. */
export const REQUESTS_MAX = 256;
const PAGES_ROUTE = "/x/{instance}";
const METHODS: ReadonlySet<string> = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);

export interface ApiOptions {
  readonly view: NodeView;
  readonly tokens: TokenStore;
  readonly forwards: ForwardTable;
  readonly plugins: PluginDesk;
  readonly pages: PagesDesk;
  readonly clock: Clock;
  readonly log: Log;
  /** The last lines that were logged. */
  readonly recent: RecentLog;
  readonly metrics: Metrics;
  readonly version: string;
  readonly profiler: Profiler;
  /** What is open on loopback is so to everybody who comes by an address: `api.public_read`, which a reload may change. */
  readonly isReadPublic: () => boolean;
  /** Aborts when the API stops; event streams and traces end with it. */
  readonly signal: AbortSignal;
}

/** The server passes who is calling as the environment: `app.fetch(request, {connection})`. Absent: least authority. */
export type ApiEnv = {
  Bindings: { connection?: Connection };
};
export type Api = Hono<ApiEnv>;

/** Every route of the API, in the order of the documentation. */
export function apiRoutes(version: string): Route[] {
  const routes: Route[] = [
    ...meshRoutes(),
    ...closedRoutes(),
    ...joinRoutes(),
    ...messageRoutes(),
    ...logRoutes(),
    ...profileRoutes(),
    ...tokenRoutes(),
    ...forwardRoutes(),
    ...pluginRoutes(),
  ];
  let document: unknown;
  routes.push(
    defineRoute({
      method: "get",
      path: "/openapi.json",
      operation: "getOpenApi",
      summary: "This document.",
      access: { scope: "read" },
      answers: [{ status: 200, description: "OpenAPI 3.1", media: "application/json" }],
      handle: async () => jsonResponse((document ??= await openApi(routes, version))),
    }),
  );
  return routes;
}

export function createApi(options: ApiOptions): Api {
  const { view, tokens, forwards, plugins, clock, log, recent, signal, profiler } = options;
  const bodies = new BodyReader(clock);
  const parts: ApiParts = {
    view,
    tokens,
    forwards,
    plugins,
    clock,
    log,
    recent,
    signal,
    bodies,
    profiler,
  };
  const door = new Door(options);
  const app: Api = new Hono<ApiEnv>({ strict: true, router: new TableRouter() });
  const routes = apiRoutes(options.version);
  const attended = attend(options);
  for (const route of routes) {
    const { access } = route;
    const opened = access.openOnLoopback === true ? { ...access, openAnywhere: true } : access;
    app.on(
      route.method.toUpperCase(),
      [honoPath(route.path)],
      attended(
        route.path,
        async (c, connection) =>
          (await door.refuse(options.isReadPublic() ? opened : access, c.req.raw, connection)) ??
          (await dispatch(route, c, connection, parts)),
      ),
    );
  }
  const pages = new PagesFront({ ...options, door });
  app.all(
    "/x/*",
    attended(PAGES_ROUTE, (c, connection) => pages.answer(c.req.raw, connection)),
  );
  for (const path of new Set(routes.map((route) => route.path))) {
    const allow = routes.filter((route) => route.path === path).map((route) => route.method.toUpperCase());
    if (allow.includes("GET")) allow.push("HEAD");
    app.all(
      honoPath(path),
      attended(path, () => {
        const error = godwitError("GODWIT_METHOD_NOT_ALLOWED", `${path} answers ${allow.join(", ")} only`);
        return problemResponse(error, { allow: allow.join(", ") });
      }),
    );
  }
  app.notFound(
    attended("unmatched", (c) =>
      problemResponse(
        godwitError("GODWIT_NOT_FOUND", `nothing is at ${c.req.path.slice(0, 100)}; see /openapi.json`),
      ),
    ),
  );
  app.onError((error) => problemResponse(asGodwitError(error)));
  return app;
}

/** Its schemas, and what makes a document of them, are loaded by who asks for it. */
const openApi = async (routes: readonly Route[], version: string): Promise<unknown> =>
  await (await import("./openapi.ts")).openApiDocument(routes, version);

const honoPath = (path: string) => path.replace(/\{(\w+)\}/g, ":$1");

async function dispatch(
  route: Route,
  c: Context<ApiEnv>,
  connection: Connection,
  parts: ApiParts,
): Promise<Said> {
  const query = route.query === undefined ? undefined : validate(await route.query(), singleValues(c));
  const request = c.req.raw;
  const body =
    route.body === undefined || route.readsBody === true
      ? undefined
      : validate(
          await route.body(),
          parseJson(await parts.bodies.read({ request, connection }, SMALL_JSON_BYTES_MAX)),
        );
  return await route.handle({ parts, request, connection, params: c.req.param(), query, body });
}

/** A parameter given twice is a mistake, not a choice. */
function singleValues(c: Context<ApiEnv>): Record<string, string> {
  const out: Record<string, string> = {};
  for (const [name, values] of Object.entries(c.req.queries())) {
    if (values.length > 1) throw requestInvalid([{ path: name, message: "is given more than once" }]);
    out[name] = values[0]!;
  }
  return out;
}

type Handler = (c: Context<ApiEnv>, connection: Connection) => Said | Promise<Said>;

/** Rooms 1 and 6: bounds what is in progress, counts every answer exactly once, by pattern and never by path, and answers what is thrown. */
function attend({ metrics, clock, log }: ApiOptions) {
  const requests = metrics.counter("godwit_http_requests_total");
  const durations = metrics.histogram("godwit_http_request_duration_seconds");
  let inProgress = 0;
  const problem = (thrown: unknown, c: Context<ApiEnv>): Response => {
    const error = asGodwitError(thrown);
    if (error.kind === "bug") {
      const { method, path } = c.req;
      log.error("api request hit a bug", { method, path: path.slice(0, 100), error });
    }
    return problemResponse(error);
  };
  return (route: string, handler: Handler) =>
    async (c: Context<ApiEnv>): Promise<Response> => {
      const startedMs = clock.monotonicMs();
      // Undefined where the caller of app.fetch passes no environment, whatever the type says.
      const connection = (c.env as ApiEnv["Bindings"] | undefined)?.connection ?? unknownConnection;
      let answer: Said;
      inProgress++;
      try {
        answer = inProgress > REQUESTS_MAX ? problemResponse(tooMany()) : await handler(c, connection);
      } catch (thrown) {
        answer = problem(thrown, c);
      } finally {
        inProgress--;
      }
      const method = METHODS.has(c.req.method) ? c.req.method : "other";
      const { status } = answer;
      // What a plugin answers is its own choice, among hundreds.
      const shown = route === PAGES_ROUTE ? `${Math.floor(status / 100)}xx` : `${status}`;
      requests.add(1, { method, route, status: shown });
      durations.observe((clock.monotonicMs() - startedMs) / 1000, { method, route });
      return deliver(answer, connection);
    };
}

const tooMany = () =>
  godwitError("GODWIT_TOO_MANY_REQUESTS", `${REQUESTS_MAX} requests are in progress; try again later`);

/** What hono passes on where the connection has the answer already. */
const SAID = new Response(null);

function deliver(answer: Said, { say }: Connection): Response {
  if (answer instanceof Response) return answer;
  if (say === undefined) return new Response(answer.text, answer);
  say(answer);
  return SAID;
}
