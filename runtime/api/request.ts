/**
 * What the app is asked, made of a head that was parsed. A request whose body is not in it, and whose target is what it says, is told as it came: a Request of
 * fetch costs as much as reading and answering it. All others go through fetch's own rules. Must never show the app another path than
 * fetch would.
 */
import type { Socket } from "node:net";
import type { Connection } from "./access.ts";
import type { ApiRequest } from "./exchange.ts";
import type { Incoming } from "./incoming.ts";

const ORIGIN = "http://localhost";
/** Nothing in it goes up, stands for something else, or would be written otherwise in a URL. */
const PLAIN_TARGET = /^\/[\w/-]*(?:\?[\w&=.,:+-]*)?$/;
const BODILESS: ReadonlySet<string> = new Set(["GET", "HEAD"]);
const PLAIN_METHODS: ReadonlySet<string> = new Set([...BODILESS, "POST", "PUT", "PATCH", "DELETE"]);
const CONTINUE = "HTTP/1.1 100 Continue\r\n\r\n";

export const isPlainTarget = (url: string): boolean => PLAIN_TARGET.test(url);

/** Undefined for what fetch's own rules would not let through: a method, path or header that nobody sends in earnest. */
export function requestOf(
  incoming: Incoming,
  socket: Socket,
  { takeBody }: Pick<Connection, "takeBody">,
): ApiRequest | undefined {
  const {
    head: { method, url, rawHeaders, isHttp11 },
    host,
  } = incoming;
  // RFC 9112, 3.2: without a host it is no request of HTTP/1.1.
  if (!url.startsWith("/") || (host === undefined && isHttp11)) return undefined;
  const hasNoBody = BODILESS.has(method) || takeBody !== undefined;
  if (hasNoBody && PLAIN_METHODS.has(method) && isPlainTarget(url))
    return new HeadRequest(method, `${ORIGIN}${url}`, rawHeaders);
  try {
    return new Request(`${ORIGIN}${url}`, {
      method,
      headers: headersOf(rawHeaders),
      ...(hasNoBody ? {} : { body: bodyOf(incoming, socket) }),
    });
  } catch {
    return undefined;
  }
}

/** Throws TypeError where one is none. */
function headersOf(rawHeaders: readonly string[]): Headers {
  const headers = new Headers();
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) headers.append(rawHeaders[at]!, rawHeaders[at + 1]!);
  return headers;
}

class HeadRequest implements ApiRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: ApiRequest["headers"];
  readonly body = null;

  constructor(method: string, url: string, rawHeaders: readonly string[]) {
    this.method = method;
    this.url = url;
    this.headers = new HeadHeaders(rawHeaders);
  }
}

/** Few are looked at, and of most requests one that is not there. */
class HeadHeaders {
  readonly #raw: readonly string[];

  constructor(raw: readonly string[]) {
    this.#raw = raw;
  }

  has(name: string): boolean {
    return this.get(name) !== null;
  }

  /** Of several of one name all, as fetch has them. */
  get(name: string): string | null {
    const raw = this.#raw;
    let value: string | null = null;
    for (let at = 0; at + 1 < raw.length; at += 2) {
      const other = raw[at]!;
      if (other.length !== name.length || other.toLowerCase() !== name) continue;
      value = value === null ? raw[at + 1]! : `${value}, ${raw[at + 1]!}`;
    }
    return value;
  }
}

/** Pulls: while nobody reads, nothing is taken from the socket beyond what the intake allows. */
function bodyOf(incoming: Incoming, socket: Socket): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        if (incoming.mustBeTold()) socket.write(CONTINUE, "latin1");
        const part = await incoming.read();
        if (part === undefined) controller.close();
        else controller.enqueue(part);
      },
      cancel: () => incoming.drop(),
    },
    { highWaterMark: 0 },
  );
}
