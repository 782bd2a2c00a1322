/**
 * Pages of plugins, under `/x/<instance>/`: what a request passes before it goes in, and an answer before it goes out. The page is a
 * stranger in the browser: it gets an origin of its own and no word of the node (docs/decisions/0012, docs/protocol/http.md "Pages").
 *
 *   1 whose folder, which path   2 no worker, a known method   3 token, which stays here   4 body, bounded   5 the plugin   6 isolation
 */
import type { ApiRequest } from "../exchange.ts";
import { PAGES_LIMITS, type PageRequest } from "@godwit/sdk";
import type { Clock } from "../../kernel/clock.ts";
import { asGodwitError, godwitError } from "../../kernel/errors.ts";
import type { CounterMetric, Metrics } from "../../kernel/metrics.ts";
import type { PageAnswer, PagesDesk } from "../../view/contract/pages.ts";
import { type Connection, goneOf } from "../access.ts";
import type { Door } from "../door.ts";
import { problemResponse, requestInvalid } from "../problem.ts";
import { refuseEncoded } from "../body.ts";
import { answerStream, type Broken, requestPieces, tooBig } from "./bodies.ts";
import { type PageTarget, parseTarget } from "./folder.ts";
import {
  headersForPlugin,
  isolationHeaders,
  isWorkerScript,
  PAGE_METHODS,
  preflightHeaders,
  sharingHeaders,
} from "./headers.ts";

export interface PagesFrontParts {
  readonly pages: PagesDesk;
  readonly door: Door;
  readonly clock: Clock;
  readonly metrics: Metrics;
  /** Aborts when the API stops. */
  readonly signal: AbortSignal;
}

const isPageMethod = (method: string): method is (typeof PAGE_METHODS)[number] =>
  (PAGE_METHODS as readonly string[]).includes(method);

export class PagesFront {
  readonly #parts: PagesFrontParts;
  readonly #cut: CounterMetric;

  constructor(parts: PagesFrontParts) {
    this.#parts = parts;
    this.#cut = parts.metrics.counter("godwit_pages_cut_total");
  }

  async answer(request: ApiRequest, connection: Connection): Promise<Response> {
    const host = request.headers.get("host");
    const target = parseTarget(request.url);
    try {
      if (target === undefined)
        throw godwitError("GODWIT_NOT_FOUND", "pages are at /x/NAME/, with the slash, of a service NAME");
      const refused = await this.#refuse(request, target, connection);
      const response = refused ?? (await this.#pass(request, target, connection));
      return withHeaders(response, isolationHeaders(host, target.instance));
    } catch (thrown) {
      return withHeaders(problemResponse(thrown), isolationHeaders(host, target?.instance));
    }
  }

  /** The answer to what does not go in. Throws what becomes one. */
  async #refuse(
    request: ApiRequest,
    { instance, path }: PageTarget,
    connection: Connection,
  ): Promise<Response | undefined> {
    const { method } = request;
    if (isWorkerScript(request.headers)) {
      this.#cut.add(1, { reason: "worker" });
      throw godwitError("GODWIT_FORBIDDEN", "pages of plugins have no workers");
    }
    if (method === "OPTIONS") return new Response(null, { status: 204, headers: preflightHeaders(request) });
    if (!isPageMethod(method)) {
      const allow = [...PAGE_METHODS, "OPTIONS"].join(", ");
      const error = godwitError("GODWIT_METHOD_NOT_ALLOWED", `pages answer ${allow} only`);
      return problemResponse(error, { allow });
    }
    if (path === undefined) {
      this.#cut.add(1, { reason: "path" });
      throw requestInvalid([{ path: "", message: "the path or the query is none that a page may have" }]);
    }
    const isRead = method === "GET" || method === "HEAD";
    const reach = isRead ? this.#parts.pages.reachOf(instance, path) : undefined;
    return await this.#parts.door.refuse(
      {
        scope: `pages:${instance}`,
        isExact: true,
        openOnLoopback: reach === "local",
        openAnywhere: reach === "public",
      },
      request,
      connection,
    );
  }

  async #pass(request: ApiRequest, target: PageTarget, connection: Connection): Promise<Response> {
    const { pages, clock } = this.#parts;
    // Whoever came this far with a token had the right one.
    const isAuthorized = connection.authority === "socket" || request.headers.has("authorization");
    const sharing = sharingHeaders(request.headers.get("origin"), isAuthorized);
    const life = this.#life(goneOf(request, connection));
    const body = requestPieces(request, clock, (error, reason) => life.broken(error, reason));
    try {
      refuseEncoded(request);
      const declared = Number(request.headers.get("content-length") ?? 0);
      if (declared > PAGES_LIMITS.requestBytes) {
        this.#cut.add(1, { reason: "big" });
        throw tooBig();
      }
      const answer = await pages.call(target.instance, {
        method: request.method === "HEAD" ? "GET" : (request.method as PageRequest["method"]),
        path: target.path!,
        query: target.query,
        headers: headersForPlugin(request.headers),
        isAuthorized,
        body,
        signal: life.signal,
      });
      return withHeaders(
        this.#respond(request.method, answer, life.signal, () => life.end(body)),
        sharing,
      );
    } catch (thrown) {
      life.end(body);
      // The plugin may have been told of a broken body and failed of that; the client hears what it did itself.
      return withHeaders(problemResponse(life.fault ?? asGodwitError(thrown)), sharing);
    }
  }

  #respond(
    method: string,
    { status, headers, body }: PageAnswer,
    signal: AbortSignal,
    end: () => void,
  ): Response {
    const isEmpty = method === "HEAD" || status === 204 || status === 304;
    if (body instanceof Uint8Array || isEmpty) {
      end();
      if (!(body instanceof Uint8Array)) void body.return?.();
      return new Response(isEmpty ? null : (body as Uint8Array<ArrayBuffer>), { status, headers });
    }
    const stream = answerStream(body, {
      clock: this.#parts.clock,
      signal,
      onCut: (reason) => this.#cut.add(1, { reason }),
      onOver: end,
    });
    return new Response(stream, { status, headers });
  }

  /** Aborts when the client is gone, when its body breaks, or when the API stops; `end` when the answer is out. */
  #life(gone: AbortSignal) {
    const controller = new AbortController();
    const sources = [gone, this.#parts.signal];
    const onAbort = () => controller.abort(godwitError("GODWIT_STOPPED", "nobody waits for the answer"));
    for (const source of sources) {
      if (source.aborted) onAbort();
      else source.addEventListener("abort", onAbort, { once: true });
    }
    const life = {
      signal: controller.signal,
      fault: undefined as Error | undefined,
      broken: (error: Error, reason: Broken) => {
        this.#cut.add(1, { reason });
        life.fault = error;
        controller.abort(error);
      },
      end(body: AsyncGenerator<Uint8Array, undefined>) {
        for (const source of sources) source.removeEventListener("abort", onAbort);
        void body.return(undefined).catch(() => {});
      },
    };
    return life;
  }
}

/** The node's own headers stand over a plugin's, but for how long its answer may be kept. */
function withHeaders(response: Response, headers: Readonly<Record<string, string>>): Response {
  for (const [name, value] of Object.entries(headers))
    if (name !== "cache-control" || !response.headers.has(name)) response.headers.set(name, value);
  return response;
}
