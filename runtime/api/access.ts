/**
 * Who may call what. `decideAccess` is pure; `AuthDelay` slows guessing down without ever locking out a good token.
 * docs/protocol/http.md, "Access".
 */
import type { Clock } from "../kernel/clock.ts";
import type { ApiRequest, TextAnswer } from "./exchange.ts";
import type { TokenScope } from "../view/contract/node.ts";

/** How a request came in, told by the server and never by the request itself. */
export interface Connection {
  /** `socket`: the file mode of the unix socket already decided; everything is allowed. */
  readonly authority: "socket" | "tcp";
  /** IP address of the far end; undefined for the unix socket. */
  readonly peer: string | undefined;
  /** Host names (no port, IPv6 in brackets) under which a browser may rightly call this listener. */
  readonly hosts: ReadonlySet<string>;
  /** Aborts when nobody waits for the answer any more; made for whoever asks. */
  readonly gone?: () => AbortSignal;
  /** Takes an answer that is a text as it is; the Response that the app then answers is nothing. */
  readonly say?: (answer: TextAnswer) => void;
  /** Lifts the server's idle timeout off this request, for a response that never ends. */
  readonly holdOpen?: () => void;
  /**
   * The request is answered by the right of a token: `watch` calls the given function when that ends, until the function that it answers is
   * called. What never ends by itself is cut then; another answer still leaves, and the connection with it.
   */
  readonly until?: (watch: (ended: () => void) => () => void) => void;
  /**
   * Where the body came with its head: all of it, borrowed; called once at most, and not before the caller may send it. Else it is in the request.
   */
  readonly takeBody?: (() => Uint8Array) | undefined;
}

/** Aborts when nobody waits for the answer any more, whoever serves the request. */
export const goneOf = (request: ApiRequest, { gone }: Connection): AbortSignal =>
  gone?.() ?? (request instanceof Request ? request.signal : new AbortController().signal);

/** A request of unknown origin gets the least. */
export const unknownConnection: Connection = { authority: "tcp", peer: undefined, hosts: new Set() };

export interface AccessRule {
  /** `public`: anybody from anywhere. */
  readonly scope: TokenScope | "public";
  /** Readable without a token from this machine; of routes of our own also from elsewhere where `api.public_read` says so. */
  readonly openOnLoopback?: boolean;
  /** Readable without a token from anywhere, called by an address or by one of the listener's own names. */
  readonly openAnywhere?: boolean;
  /** `admin` does not contain it: what is shown such a token must not be shown more than it needs. */
  readonly isExact?: boolean;
}

export type Verdict =
  | { readonly allowed: true }
  | { readonly allowed: false; readonly why: "missing" | "invalid" | "scope" | "host" };

/**
 * `presented`: `none` when there is no Authorization header, else the scopes of the token, undefined when it is not
 * one of ours. Scopes are exact, except that `admin` contains the others where the rule does not say otherwise.
 */
export function decideAccess(
  rule: AccessRule,
  connection: Connection,
  host: string | undefined,
  presented: readonly TokenScope[] | "none" | undefined,
): Verdict {
  if (rule.scope === "public" || connection.authority === "socket") return { allowed: true };
  if (presented === undefined) return { allowed: false, why: "invalid" };
  if (presented !== "none") {
    const enough = presented.includes(rule.scope) || (rule.isExact !== true && presented.includes("admin"));
    return enough ? { allowed: true } : { allowed: false, why: "scope" };
  }
  const isAnywhere = rule.openAnywhere === true;
  if (!isAnywhere && (rule.openOnLoopback !== true || !isLoopback(connection.peer)))
    return { allowed: false, why: "missing" };
  // DNS rebinding: a page may have its own name resolve to 127.0.0.1, but it cannot change the Host header.
  return isOwnHost(host, connection.hosts) || (isAnywhere && isAddress(host))
    ? { allowed: true }
    : { allowed: false, why: "host" };
}

export function isLoopback(address: string | undefined): boolean {
  if (address === undefined) return false;
  const text = address.toLowerCase().replace(/^::ffff:/, "");
  return text === "::1" || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(text);
}

const LOCAL_HOSTS: ReadonlySet<string> = new Set(["localhost", "127.0.0.1", "[::1]"]);

function isOwnHost(header: string | undefined, hosts: ReadonlySet<string>): boolean {
  // HTTP/1.0 knows no Host, and health checks of load balancers speak it. A browser always sends one.
  if (header === undefined) return true;
  if (header.length > 255) return false;
  const name = header
    .toLowerCase()
    .replace(/:\d{1,5}$/, "")
    .replace(/(?<=[a-z])\.$/, "");
  return LOCAL_HOSTS.has(name) || hosts.has(name);
}

/** An address cannot be made to point elsewhere. */
const isAddress = (header: string | undefined): boolean =>
  header !== undefined && /^(?:\d{1,3}(?:\.\d{1,3}){3}|\[[\da-f:.]{2,45}\])(?::\d{1,5})?$/i.test(header);

const BEARER = /^bearer +([\x21-\x7e]{1,512})$/i;

/** The secret of `Authorization: Bearer <secret>`; undefined when the header says anything else. */
export const parseBearer = (header: string): string | undefined => BEARER.exec(header)?.[1];

/** How long a wrong token waits for its answer. */
export const AUTH_DELAY_MS = 500;
/** Wrong tokens waiting at once; one more is turned away with 429 instead of costing memory. */
export const AUTH_WAITING_MAX = 64;

export class AuthDelay {
  readonly #clock: Clock;
  #waiting = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Waits; false at once when too many already do. */
  async pause(): Promise<boolean> {
    if (this.#waiting >= AUTH_WAITING_MAX) return false;
    this.#waiting++;
    await new Promise<void>((resolve) => this.#clock.after(AUTH_DELAY_MS, resolve));
    this.#waiting--;
    return true;
  }
}
