/** The node and its mesh: health, status, peers, routes, names, events, metrics. */
import { goneOf } from "./access.ts";
import { godwitError } from "../kernel/errors.ts";
import { eventFamilies } from "./bounds.ts";
import { openEventStream } from "./events.ts";
import { TextAnswer } from "./exchange.ts";
import { requestInvalid } from "./problem.ts";
import { defineRoute, jsonResponse, schemasOf, type Call, type Route } from "./route.ts";

const schemas = schemasOf(() => import("./schemas.ts"));

/** Event streams at once. */
export const SUBSCRIBERS_MAX = 64;
/** A trace over slow radios takes long; longer than this is no answer. */
export const TRACE_TIMEOUT_MS = 30_000;

const readable = { scope: "read", openOnLoopback: true } as const;
const operate = { scope: "operate" } as const;

/** Built per API: the number of subscribers is its state. */
export function meshRoutes(): Route[] {
  return [...stateRoutes(), ...changeRoutes(), eventsRoute()];
}

function stateRoutes(): Route[] {
  return [
    defineRoute({
      method: "get",
      path: "/health",
      operation: "getHealth",
      summary: "How the node is, check by check.",
      access: { scope: "public" },
      answers: [
        { status: 200, description: "ok or degraded", schema: schemas.health },
        { status: 503, description: "down; the same body", schema: schemas.health },
      ],
      handle({ parts, connection }) {
        const health = parts.view.health(connection.authority === "socket" ? "operator" : "anybody");
        return jsonResponse(health, health.status === "down" ? 503 : 200);
      },
    }),
    defineRoute({
      method: "get",
      path: "/mesh/status",
      operation: "getStatus",
      summary: "The node, its transports, peers, routes and queue in numbers.",
      access: readable,
      answers: [{ status: 200, description: "status", schema: schemas.status }],
      handle: ({ parts }) => jsonResponse(parts.view.status()),
    }),
    defineRoute({
      method: "get",
      path: "/mesh/peers",
      operation: "getPeers",
      summary:
        "The neighbours that can be reached now, with their links; with `all` every node that this one knows. And the overlays below, with their own neighbours, and the channels that all in earshot share, with who is heard there.",
      access: readable,
      query: schemas.peersQuery,
      answers: [{ status: 200, description: "peers", schema: schemas.peers }],
      handle: ({ parts: { view }, query }) =>
        jsonResponse({
          peers: view.peers(query.all === "true" ? "all" : "reachable"),
          overlays: view.overlays(),
          channels: view.channels(),
        }),
    }),
    defineRoute({
      method: "get",
      path: "/mesh/members",
      operation: "getMembers",
      summary: "Every node of the mesh as alive, suspect, failed or left, with the reason and who said so.",
      access: readable,
      answers: [{ status: 200, description: "members", schema: schemas.members }],
      handle: ({ parts }) => jsonResponse({ members: parts.view.members() }),
    }),
    defineRoute({
      method: "get",
      path: "/mesh/routes",
      operation: "getRoutes",
      summary: "The chosen next hop of each destination, and its alternates.",
      access: readable,
      answers: [{ status: 200, description: "routes", schema: schemas.routes }],
      handle: ({ parts }) => jsonResponse({ routes: parts.view.routes() }),
    }),
    defineRoute({
      method: "get",
      path: "/mesh/routes/{node}/why",
      operation: "explainRoute",
      summary: "Why traffic for a node goes where it goes: candidates, costs, feasibility.",
      access: readable,
      answers: [{ status: 200, description: "explanation", schema: schemas.why }],
      handle: ({ parts, params }) => jsonResponse(parts.view.why(params["node"]!)),
    }),
    defineRoute({
      method: "get",
      path: "/mesh/names",
      operation: "getNames",
      summary: "Name bindings in force, and conflicts.",
      access: readable,
      answers: [{ status: 200, description: "names", schema: schemas.names }],
      handle: ({ parts }) => jsonResponse({ names: parts.view.names() }),
    }),
    defineRoute({
      method: "get",
      path: "/metrics",
      operation: "getMetrics",
      summary: "Prometheus text exposition format 0.0.4.",
      access: readable,
      answers: [{ status: 200, description: "metrics", media: "text/plain" }],
      async handle({ parts }) {
        return new TextAnswer(await parts.view.metrics(), 200, {
          "content-type": "text/plain; version=0.0.4; charset=utf-8",
          "cache-control": "no-store",
        });
      },
    }),
  ];
}

function changeRoutes(): Route[] {
  return [
    defineRoute({
      method: "post",
      path: "/mesh/trace/{node}",
      operation: "traceNode",
      summary: "Sends a probe along the route to a node and lists the hops. POST, because it costs airtime.",
      access: operate,
      answers: [{ status: 200, description: "hops as far as they answered", schema: schemas.trace }],
      async handle(call) {
        return jsonResponse(
          await withDeadline(call, TRACE_TIMEOUT_MS, (signal) =>
            call.parts.view.trace(call.params["node"]!, signal),
          ),
        );
      },
    }),
    defineRoute({
      method: "post",
      path: "/mesh/peers/{id}/trust",
      operation: "setTrust",
      summary: "Sets how far a node is trusted; `blocked` also cuts its links.",
      access: operate,
      body: schemas.trustBody,
      answers: [{ status: 200, description: "in force", schema: schemas.trustAnswer }],
      async handle({ parts, params, body }) {
        await parts.view.setTrust(params["id"]!, body.level, body.reason, body.expires_seconds);
        return jsonResponse({ peer: params["id"]!, level: body.level, reason: body.reason });
      },
    }),
    defineRoute({
      method: "post",
      path: "/reload",
      operation: "reload",
      summary:
        "Reads the configuration anew and rebuilds the plugins whose tables changed; other links stay.",
      access: { scope: "admin" },
      answers: [{ status: 200, description: "in force", schema: schemas.reload }],
      async handle({ parts }) {
        return jsonResponse(await parts.view.reload());
      },
    }),
    defineRoute({
      method: "post",
      path: "/mesh/names/{name}/resolve",
      operation: "resolveName",
      summary: "Settles a name conflict for good: `node` gets the name.",
      access: operate,
      body: schemas.resolveBody,
      answers: [{ status: 200, description: "in force", schema: schemas.resolveAnswer }],
      async handle({ parts, params, body }) {
        await parts.view.resolveName(params["name"]!, body.node);
        return jsonResponse({ name: params["name"]!, node: body.node });
      },
    }),
  ];
}

function eventsRoute(): Route {
  let subscribers = 0;
  return defineRoute({
    method: "get",
    path: "/events",
    operation: "followEvents",
    summary:
      "Server-sent events with heartbeats; what was missed is gone, its count is told by `events.lost`.",
    access: { scope: "read" },
    query: schemas.eventsQuery,
    answers: [{ status: 200, description: "an endless stream", media: "text/event-stream" }],
    handle({ parts, request, connection, query }) {
      const families = parseFamilies(query.family);
      const headers = {
        "content-type": "text/event-stream",
        "cache-control": "no-store",
        "x-accel-buffering": "no",
      };
      // A HEAD is answered by the GET handler, and nobody would ever read or cancel its stream.
      if (request.method === "HEAD") return new Response(null, { headers });
      if (subscribers >= SUBSCRIBERS_MAX)
        throw godwitError("GODWIT_QUEUE_FULL", `${SUBSCRIBERS_MAX} event streams are open already`);
      subscribers++;
      connection.holdOpen?.();
      const { view, clock, signal } = parts;
      const stream = openEventStream({
        view,
        clock,
        signal,
        wants: (event) => families === undefined || families.has(event.family),
        onClosed: () => subscribers--,
      });
      return new Response(stream, { headers });
    },
  });
}

function parseFamilies(text: string | undefined): ReadonlySet<string> | undefined {
  if (text === undefined) return undefined;
  const known: ReadonlySet<string> = new Set(eventFamilies);
  const wanted = text.split(",").map((family) => family.trim());
  const stranger = wanted.find((family) => !known.has(family));
  if (stranger !== undefined)
    throw requestInvalid([
      {
        path: "family",
        message: `"${stranger.slice(0, 40)}" is none of ${eventFamilies.join(", ")}`,
      },
    ]);
  return new Set(wanted);
}

/** Aborts the work when the caller leaves, the API stops, or the time is over (then GODWIT_TIMEOUT). */
async function withDeadline<T>(
  { parts, request, connection }: Call<unknown, unknown>,
  timeoutMs: number,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  connection.holdOpen?.();
  const controller = new AbortController();
  const timer = parts.clock.after(timeoutMs, () =>
    controller.abort(godwitError("GODWIT_TIMEOUT", `no answer within ${timeoutMs / 1000} s`)),
  );
  try {
    return await work(AbortSignal.any([controller.signal, goneOf(request, connection), parts.signal]));
  } finally {
    timer.cancel();
  }
}
