/** Who comes in: knows the tokens, asks `decideAccess`, and makes its refusals into answers. Never reads a body. */
import type { Clock } from "../kernel/clock.ts";
import { godwitError } from "../kernel/errors.ts";
import type { Log } from "../kernel/log.ts";
import type { CounterMetric, Metrics } from "../kernel/metrics.ts";
import type { TokenScope, TokenStore } from "../view/contract/node.ts";
import { type AccessRule, AuthDelay, type Connection, decideAccess, parseBearer } from "./access.ts";
import { problemResponse } from "./problem.ts";
import type { ApiRequest } from "./exchange.ts";

/** A flood of wrong tokens must not flood the log. */
const AUTH_LOG_EVERY_MS = 60_000;

export interface DoorParts {
  readonly tokens: TokenStore;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
}

export class Door {
  readonly #tokens: TokenStore;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #delay: AuthDelay;
  readonly #refused: CounterMetric<"reason">;
  #loggedMs = Number.NEGATIVE_INFINITY;
  #sinceLogged = 0;

  constructor({ tokens, clock, log, metrics }: DoorParts) {
    this.#tokens = tokens;
    this.#clock = clock;
    this.#log = log;
    this.#delay = new AuthDelay(clock);
    this.#refused = metrics.counter("godwit_http_refused_total");
  }

  /** The answer to who may not; undefined: come in. */
  async refuse(
    access: AccessRule,
    request: ApiRequest,
    connection: Connection,
  ): Promise<Response | undefined> {
    const host = request.headers.get("host") ?? undefined;
    const secret = secretOf(request);
    const verdict = decideAccess(access, connection, host, this.#scopesOf(secret));
    if (verdict.allowed) {
      if (typeof secret === "string" && access.scope !== "public")
        connection.until?.((ended) => this.#tokens.watch(secret, ended));
      return undefined;
    }
    this.#refused.add(1, { reason: verdict.why });
    const { scope } = access;
    switch (verdict.why) {
      case "missing":
        return problemResponse(
          godwitError(
            "GODWIT_UNAUTHORIZED",
            `a bearer token with scope ${scope} is needed: godwit token new`,
          ),
          { "www-authenticate": 'Bearer realm="godwit"' },
        );
      case "invalid":
        return await this.#wrongToken(connection);
      case "scope":
        return problemResponse(
          godwitError(
            "GODWIT_FORBIDDEN",
            `the token lacks the scope ${scope}: godwit token new --scope ${scope}`,
          ),
          { "www-authenticate": `Bearer realm="godwit", error="insufficient_scope", scope="${scope}"` },
        );
      case "host":
        return problemResponse(
          godwitError(
            "GODWIT_FORBIDDEN",
            "the Host header names another site: call this node as localhost, 127.0.0.1 or its listen address",
          ),
        );
    }
  }

  #scopesOf(secret: string | null | undefined): readonly TokenScope[] | "none" | undefined {
    if (secret === null) return "none";
    return secret === undefined ? undefined : this.#tokens.scopesOf(secret);
  }

  async #wrongToken(connection: Connection): Promise<Response> {
    this.#sinceLogged++;
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#loggedMs >= AUTH_LOG_EVERY_MS) {
      this.#log.warn("api token refused", { peer: connection.peer, times: this.#sinceLogged });
      this.#loggedMs = nowMs;
      this.#sinceLogged = 0;
    }
    if (!(await this.#delay.pause()))
      return problemResponse(
        godwitError("GODWIT_TOO_MANY_REQUESTS", "too many wrong tokens; try again later"),
      );
    return problemResponse(godwitError("GODWIT_UNAUTHORIZED", "the token is unknown or revoked"), {
      "www-authenticate": 'Bearer realm="godwit", error="invalid_token"',
    });
  }
}

/** Null: none is shown; undefined: what is shown is none. */
function secretOf(request: ApiRequest): string | null | undefined {
  const header = request.headers.get("authorization");
  return header === null ? null : parseBearer(header);
}
