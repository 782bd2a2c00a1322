/**
 * Pages: what a service shows and takes over HTTP, under `/x/<instance>/` of the node's API. The node stands in front of it: it
 * checks and takes off tokens, answers preflights, bounds and times everything, and shuts each page into an origin of its own
 * (docs/decisions/0012). Types, bounds, and the one judge of an answer, which the node and the test kit share.
 */

export const PAGES_LIMITS = {
  /** Requests of one instance that run at once, and how many of them may have come without a token. */
  concurrent: 32,
  concurrentOpen: 16,
  /** Bytes of a request body. */
  requestBytes: 16 * 2 ** 20,
  /** Characters of a path inside the folder, as it was sent, and of a query. */
  pathChars: 1_024,
  queryChars: 4_096,
  /** Open paths of one instance, and characters of each. */
  openPaths: 64,
  /** From the request, or the last piece of its body that came, to the answer's status. */
  answerMs: 30_000,
  /** In a body that streams: without a byte from the plugin, and without the client taking one. */
  idleMs: 45_000,
  stallMs: 30_000,
  /** Characters of a header's value. */
  headerChars: 1_024,
} as const;

/** What of a request's headers a plugin sees, in lower case. Tokens, cookies, origins and addresses are not among them. */
export const PAGE_REQUEST_HEADERS = [
  "accept",
  "accept-language",
  "content-type",
  "if-modified-since",
  "if-none-match",
  "last-event-id",
] as const;

/** What of an answer's headers a plugin may set. Everything else is the node's. */
export const PAGE_RESPONSE_HEADERS = [
  "cache-control",
  "content-disposition",
  "content-encoding",
  "content-language",
  "content-type",
  "etag",
  "last-modified",
  "retry-after",
] as const;

export interface PageRequest {
  /** HEAD comes as GET; the node leaves the body out. */
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /**
   * Inside the folder, decoded: `/` or `/a/b c`. Begins with a slash; no segment is empty (but the last), `.` or `..`, or holds a slash,
   * a backslash or a control character. Never decode it again.
   */
  readonly path: string;
  /** As sent, without the question mark; at most 4,096 characters. For `URLSearchParams`. */
  readonly query: string;
  /** Those of `PAGE_REQUEST_HEADERS` that were sent. */
  readonly headers: Readonly<Record<string, string>>;
  /** It came with a token for this instance, or over the node's own socket. False only for open paths. */
  readonly isAuthorized: boolean;
  /**
   * To be iterated once at most; the next piece is fetched when it is asked for. At most 16 MiB, each piece the caller's. Throws a
   * GodwitError when the client sends too much (GODWIT_TOO_BIG), too slowly (GODWIT_REQUEST_TIMEOUT) or breaks off.
   */
  readonly body: AsyncIterable<Uint8Array>;
  /** Aborts when the client is gone, when the answer took too long, and when the plugin stops. */
  readonly signal: AbortSignal;
}

export interface PageResponse {
  /** Default 200. From 200 to 299 but 205 and 206, 304, from 400 to 599 but 401 and 407: none that redirects or asks for a login. */
  readonly status?: number;
  /** Of `PAGE_RESPONSE_HEADERS`, in lower case; printable ASCII, at most 1,024 characters each. */
  readonly headers?: Readonly<Record<string, string>>;
  /**
   * Text (as UTF-8), bytes, or pieces of either as they are made: the next is asked for when the client has taken the last, so a slow client
   * holds its own stream and nothing else (behind frames up to 832 KiB go ahead of it). Bytes are borrowed until the next is asked for. When
   * the client is gone `return` is called. A piece has to come every 45 s; a stream that throws is cut so that the client notices.
   */
  readonly body?: string | Uint8Array | AsyncIterable<string | Uint8Array>;
}

/** What it throws or rejects with is logged, and answered with 500 without a word of it. */
export type PageHandler = (request: PageRequest) => PageResponse | Promise<PageResponse>;

export interface PagesOptions {
  /**
   * Paths that GET reaches without a token: `/app.js`, or `/assets/*` for all below. Whatever is there can be loaded (not read) by any site
   * that a browser near this node visits, so it must hold nothing private and change nothing. Default none. At most 64.
   */
  readonly open?: readonly string[];
}

/** `ctx.http` of a service. */
export interface PluginHttp {
  /**
   * Answers requests under `/x/<instance>/` from now on, at most 32 at a time, until the plugin stops. Throws GODWIT_FORBIDDEN without the
   * permission `http.pages`, GODWIT_REQUEST_INVALID for a second handler or an open path that is none, GODWIT_STOPPED.
   */
  pages(handler: PageHandler, options?: PagesOptions): void;
}

const STATUS_REFUSED: ReadonlySet<number> = new Set([
  205, // Tells a browser to clear forms.
  206, // Parts of a whole that was never asked for.
  401, // Asks for a login; the node's own tokens are the node's matter.
  407,
]);
const RESPONSE_HEADERS: ReadonlySet<string> = new Set(PAGE_RESPONSE_HEADERS);

/** Why the node would not hand the answer on, in words; undefined: it would. */
export function pageResponseFault(response: PageResponse): string | undefined {
  if (typeof response !== "object" || response === null) return "it answers nothing";
  const { status = 200, headers = {}, body } = response;
  const isFine = status === 304 || (status >= 200 && status <= 299) || (status >= 400 && status <= 599);
  if (!Number.isInteger(status) || !isFine || STATUS_REFUSED.has(status))
    return `the status ${String(status).slice(0, 20)} is none that a page may have`;
  for (const [name, value] of Object.entries(headers)) {
    if (!RESPONSE_HEADERS.has(name)) return `the header "${name.slice(0, 60)}" is none that a page may set`;
    if (typeof value !== "string" || value.length > PAGES_LIMITS.headerChars || !/^[\x20-\x7e]*$/.test(value))
      return `the value of "${name}" is not printable ASCII of at most ${PAGES_LIMITS.headerChars} characters`;
  }
  if (body === undefined || typeof body === "string" || body instanceof Uint8Array) return undefined;
  return typeof (body as Partial<AsyncIterable<unknown>>)[Symbol.asyncIterator] === "function"
    ? undefined
    : "its body is no text, no bytes and no async iterable of them";
}

/** Whether it may stand in `PagesOptions.open`. */
export const isOpenPath = (text: string): boolean =>
  text.length <= 256 &&
  /^\/(?:[\w.~@ -]+\/)*(?:[\w.~@ -]+|\*)?$/.test(text) &&
  !/(?:^|\/)\.{1,2}(?:\/|$)/.test(text);

/** Whether `open` lets `path` through. */
export const opensPath = (open: readonly string[], path: string): boolean =>
  open.some((one) => one === path || (one.endsWith("/*") && path.startsWith(one.slice(0, -1))));
