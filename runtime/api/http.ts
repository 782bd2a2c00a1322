/**
 * HTTP over every listener of the API: addresses, the control socket, and sockets that a service manager passed
 * (sd_listen_fds(3)). Owns the way from an accepted connection to `app.fetch` and back: who is counted when it is accepted, how
 * long somebody may say nothing, and whose request comes next. Bun.serve tells of nobody before their first request, serves what one
 * connection pipelines before all others, and takes no descriptor; so http is spoken on what a net server accepts.
 * docs/decisions/0015-own-front-of-http.md
 */
import {
  createServer as createHttpServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from "node:http";
import { createServer as createNetServer, type Socket } from "node:net";
import { sourceGroup } from "@godwit/sdk";
import { type Place, Places } from "@godwit/sdk/places";
import type { Clock, Timer } from "../kernel/clock.ts";
import { assert } from "../kernel/errors.ts";
import { concatBytes } from "../wire/bytes.ts";
import type { Connection } from "./access.ts";
import type { Api } from "./app.ts";
import { Intake } from "./intake.ts";
import { turnstile } from "./turnstile.ts";

/** A listening stream socket that is open already. Its server closes it; what it is bound to stays the manager's. */
export type PassedListener = { readonly fd: number } & (
  | { readonly kind: "tcp"; readonly host: string; readonly port: number }
  | { readonly kind: "unix"; readonly path: string }
);
export type Listener =
  | PassedListener
  | { readonly kind: "tcp"; readonly host: string; readonly port: number }
  | { readonly kind: "unix"; readonly path: string };

export interface HttpOptions {
  readonly app: Api;
  readonly clock: Clock;
  /** Whose connections it shares with other listeners. */
  readonly places: Places;
  /** A connection was refused, or gave way to another. */
  refused(): void;
  /** Silence after which a connection is cut. */
  readonly idleMs: number;
  /** Host names under which a browser may rightly call it. */
  readonly hosts: ReadonlySet<string>;
}

/** What a connection that came just before a stop gets to say its request: the kernel had told it that it is heard. */
export const FRESH_GRACE_MS = 500;
/** What a new connection gets to say its first request. */
export const FIRST_REQUEST_MS = 10_000;
/** What an answer that is under way gets when the token ends by whose right it is given. */
export const ENDED_GRACE_MS = 2_000;
/** Connections at once, over all TCP listeners of the API, and of one source. Over the control socket as many as the first. */
export const CONNECTIONS_MAX = 512;
export const CONNECTIONS_PER_SOURCE_MAX = 256;
/** Requests of one connection that wait for the one before; then nothing more of it is read, but what came with the last of them. */
const PIPELINED_MAX = 16;
/** Of a body that nobody has read yet, in bytes; then nothing more of the connection is read either. */
const BODY_AHEAD_BYTES_MAX = 16 * 1024;
/** Of a body, given to the connection at once. */
const PIECE_BYTES = 64 * 1024;
/** Below it plugins answer, in pieces if they like. */
const PAGES_PATH = "/x/";

/** Health is told to one more even where others have taken every descriptor. */
export const newPlaces = (): Places =>
  new Places({ max: CONNECTIONS_MAX, perSourceMax: CONNECTIONS_PER_SOURCE_MAX, lastMax: 1 });

/** One connection, and what is to be answered on it. */
interface Line {
  readonly socket: Socket;
  readonly place: Place;
  readonly waiting: { readonly incoming: IncomingMessage; readonly outgoing: ServerResponse }[];
  /** A request is being answered. */
  isBusy: boolean;
  /** It has not said anything yet. */
  isFresh: boolean;
  /** What it says was no HTTP: it is told, and not heard any more. */
  isBroken: boolean;
  /** Of the requests that were made of its bytes the last one. */
  newest: IncomingMessage | undefined;
  intake: Intake | undefined;
  /** What is being answered may never end. */
  isEndless: boolean;
  /** Nothing is answered on it after this one. */
  isLast: boolean;
  /** Ends it unless a request comes. */
  deadline: Timer | undefined;
}

export class HttpServer {
  readonly #listener: Listener;
  readonly #options: HttpOptions;
  readonly #lines = new Map<Socket, Line>();
  readonly #http: Server;
  readonly #server;
  readonly #failed = Promise.withResolvers<never>();
  #isStopping = false;

  /** Listens within the call, unless that fails: then `isListening` is false, and `opened` rejects. */
  constructor(listener: Listener, options: HttpOptions) {
    this.#listener = listener;
    this.#options = options;
    this.#http = createHttpServer((incoming, outgoing) => this.#onRequest(incoming, outgoing));
    // The deadlines here hold for every connection, and no header promises others.
    this.#http.keepAliveTimeout = 0;
    Object.assign(this.#http, { httpAllowHalfOpen: true });
    this.#http.on("clientError", (_, socket) => {
      const line = this.#lines.get(socket as Socket);
      if (line !== undefined) line.isBroken = true;
      if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
      else socket.destroy();
    });
    this.#server = createNetServer({ allowHalfOpen: true }, (socket) => this.#onConnection(socket));
    this.#server.on("error", (error) => this.#failed.reject(error));
    this.#failed.promise.catch(() => {});
    if ("fd" in listener) this.#server.listen({ fd: listener.fd });
    else if (listener.kind === "unix") this.#server.listen(listener.path);
    else this.#server.listen(listener.port, listener.host);
  }

  get isListening(): boolean {
    return this.#server.listening;
  }

  /** The port that is really open; 0 for a unix socket. */
  get port(): number {
    const address = this.#server.address();
    return address === null || typeof address === "string" ? 0 : address.port;
  }

  /** Resolves when it accepts; rejects with the operating system's error. */
  async opened(): Promise<void> {
    if (this.isListening) return;
    const listening = new Promise<void>((resolve) => this.#server.once("listening", resolve));
    await Promise.race([listening, this.#failed.promise]);
  }

  /** Accepts nothing more, lets requests in progress end for `graceMs`, then cuts them. */
  async stop(graceMs: number): Promise<void> {
    const { clock } = this.#options;
    this.#isStopping = true;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    const cut = (isDue: (line: Line) => boolean) => {
      for (const line of this.#lines.values()) if (isDue(line)) line.socket.destroy();
    };
    cut((line) => !line.isBusy && !line.isFresh);
    const timers = [
      clock.after(Math.min(FRESH_GRACE_MS, graceMs), () => cut((line) => line.isFresh)),
      clock.after(graceMs, () => cut(() => true)),
    ];
    await closed;
    for (const timer of timers) timer.cancel();
  }

  #onConnection(socket: Socket): void {
    const { places, clock, idleMs, refused } = this.#options;
    const source = this.#listener.kind === "unix" ? undefined : sourceGroup(socket.remoteAddress ?? "");
    const place = places.accept(socket, source, () => {
      refused();
      socket.destroy();
    });
    if (place === undefined) {
      refused();
      return void socket.destroy();
    }
    const line: Line = {
      socket,
      place,
      waiting: [],
      isBusy: false,
      isFresh: true,
      isBroken: false,
      newest: undefined,
      intake: undefined,
      isEndless: false,
      isLast: false,
      deadline: clock.after(Math.min(FIRST_REQUEST_MS, idleMs), () => socket.destroy()),
    };
    this.#lines.set(socket, line);
    socket.once("close", () => {
      place.release();
      line.deadline?.cancel();
      line.waiting.length = 0;
      this.#lines.delete(socket);
    });
    socket.on("error", () => socket.destroy());
    socket.setTimeout(idleMs, () => socket.destroy());
    line.intake = new Intake(
      socket,
      () => this.#http.emit("connection", socket),
      () => roomFor(line),
    );
    socket.once("end", () => {
      // Of what may never end it is the only sign that nobody listens.
      if (line.isEndless) socket.destroy();
      else this.#endIfOver(line);
    });
    // What is said behind what was no HTTP.
    socket.on("data", () => line.isBroken && !socket.writable && socket.destroy());
  }

  /** The far end says no more, and all that it asked is answered. */
  #endIfOver({ intake, isBusy, socket }: Line): boolean {
    if (intake?.isOver !== true || isBusy) return false;
    socket.end();
    return true;
  }

  #onRequest(incoming: IncomingMessage, outgoing: ServerResponse): void {
    const line = this.#lines.get(incoming.socket);
    if (line === undefined) return void incoming.socket.destroy();
    line.isFresh = false;
    line.deadline?.cancel();
    line.place.stand("busy");
    line.waiting.push({ incoming, outgoing });
    line.newest = incoming;
    line.intake?.bodyFollows(bodyBytes(incoming));
    const read = incoming.read.bind(incoming);
    incoming.read = (size?: number) => {
      const bytes: unknown = read(size);
      line.intake?.take();
      return bytes;
    };
    if (!line.isBusy) void this.#answerAll(line);
  }

  /** One after the other, each in its turn. */
  async #answerAll(line: Line): Promise<void> {
    const { socket } = line;
    line.isBusy = true;
    for (let next = line.waiting.shift(); next !== undefined; next = line.waiting.shift()) {
      line.intake?.take();
      await turnstile.enter(this.#listener.kind === "unix" || next.incoming.url === HEALTH_PATH);
      if (socket.destroyed) break;
      await this.#answerOne(line, next.incoming, next.outgoing).catch(() => socket.destroy());
      if (socket.destroyed) break;
      // http keeps answers that cannot leave yet beside the socket, where nothing bounds them.
      await left(next.outgoing);
      if (line.isLast) break;
    }
    line.isBusy = false;
    if (socket.destroyed) return;
    socket.setTimeout(this.#options.idleMs);
    // What was written last is still on its way out.
    if (this.#isStopping || line.isLast) return void socket.end();
    if (this.#endIfOver(line)) return;
    line.place.stand("silent");
    line.deadline = this.#options.clock.after(this.#options.idleMs, () => socket.destroy());
  }

  async #answerOne(line: Line, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const { app, hosts, clock } = this.#options;
    const { socket } = line;
    let release = () => {};
    let grace: Timer | undefined;
    const isUnix = this.#listener.kind === "unix";
    line.isEndless = isPage(incoming.url ?? "/");
    if (this.#isStopping) outgoing.setHeader("connection", "close");
    const connection: Connection = {
      authority: isUnix ? "socket" : "tcp",
      peer: isUnix ? undefined : socket.remoteAddress,
      hosts,
      holdOpen() {
        line.isEndless = true;
        // Whoever may ask for this has shown a token, or is on this machine.
        line.place.stand("held");
        socket.setTimeout(0);
      },
      until(watch) {
        release = watch(() => {
          if (line.isEndless) return void socket.destroy();
          line.isLast = true;
          grace = clock.after(ENDED_GRACE_MS, () => socket.destroy());
        });
      },
      takeBody: line.isEndless ? undefined : wholeBodyOf(incoming),
    };
    try {
      await answer(app, connection, incoming, outgoing, () => line.isEndless);
    } finally {
      release();
      grace?.cancel();
      line.isEndless = false;
      line.place.stand("busy");
    }
  }
}

/** By the path that the API goes by: `/a/../x/board/` is one, too. */
const isPage = (url: string): boolean =>
  URL.parse(`http://localhost${url}`)?.pathname.startsWith(PAGES_PATH) === true;

/** Bytes of a body that http may be given now; 0: nothing. */
const roomFor = ({ waiting, newest, isBroken }: Line): number => {
  if (waiting.length >= PIPELINED_MAX) return 0;
  // Nothing of a body, whatever its head declared: requests may begin.
  if (isBroken || newest === undefined || newest.complete || newest.destroyed) return 1;
  return BODY_AHEAD_BYTES_MAX - newest.readableLength;
};

/** As declared; 0 where that is not known. */
const bodyBytes = ({ headers }: IncomingMessage): number =>
  headers["transfer-encoding"] === undefined ? Number(headers["content-length"] ?? 0) : 0;

/** What is quickly answered, and what others wait for: a crowd that asks for more must not hold it up. */
const HEALTH_PATH = "/health";

async function answer(
  app: Api,
  connection: Connection,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  isEndless: () => boolean,
): Promise<void> {
  const gone = new AbortController();
  outgoing.once("close", () => {
    // Whoever has the whole answer is not gone, and a signal without a cause costs as much as parsing the request.
    if (!outgoing.writableFinished) gone.abort();
  });
  const request = requestOf(incoming, gone.signal, connection.takeBody === undefined);
  if (request === undefined) {
    outgoing.writeHead(400, { connection: "close" }).end();
    return;
  }
  const response = await app.fetch(request, { connection });
  outgoing.statusCode = response.status;
  for (const [name, value] of response.headers)
    if (name === "set-cookie") outgoing.appendHeader(name, value);
    else outgoing.setHeader(name, value);
  if (response.body === null) return void outgoing.end();
  const isHead = incoming.method === "HEAD";
  // All of them are there, but for streams that never end and what a plugin answers as it comes to it.
  if (!isEndless()) {
    const bytes = new Uint8Array(await response.arrayBuffer());
    outgoing.setHeader("content-length", bytes.length);
    if (isHead) return void outgoing.end();
    let at = 0;
    // What the kernel does not take would be held once more.
    for (; at + PIECE_BYTES < bytes.length && !gone.signal.aborted; at += PIECE_BYTES)
      if (!outgoing.write(bytes.subarray(at, at + PIECE_BYTES))) await drained(outgoing);
    // Head and body leave in one piece: two cost a short answer twice the calls, and its reader a turn.
    outgoing.cork();
    outgoing.end(bytes.subarray(at));
    return outgoing.uncork();
  }
  if (isHead) {
    await response.body.cancel();
    return void outgoing.end();
  }
  await sendPieces(
    (response.body as ReadableStream<Uint8Array>).getReader() as BodyParts,
    outgoing,
    gone.signal,
  );
}

type BodyParts = Pick<ReadableStreamDefaultReader<Uint8Array>, "read" | "cancel">;

async function sendPieces(reader: BodyParts, outgoing: ServerResponse, gone: AbortSignal): Promise<void> {
  // Headers leave at once: a client could not tell "quiet" from "hanging".
  outgoing.flushHeaders();
  const onGone = () => void reader.cancel().catch(() => {});
  gone.addEventListener("abort", onGone, { once: true });
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done || gone.aborted) break;
      if (!outgoing.write(value)) await drained(outgoing);
    }
  } finally {
    gone.removeEventListener("abort", onGone);
  }
  if (!gone.aborted) outgoing.end();
}

/** Undefined for what fetch's own rules would not let through: a method, path or header that nobody sends in earnest. */
function requestOf(
  incoming: IncomingMessage,
  signal: AbortSignal,
  hasBodyInside: boolean,
): Request | undefined {
  const {
    method = "GET",
    url = "/",
    rawHeaders,
    headers: { host },
    httpVersion,
  } = incoming;
  // RFC 9112, 3.2: without a host it is no request of HTTP/1.1.
  if (!url.startsWith("/") || (host === undefined && httpVersion === "1.1")) return undefined;
  try {
    const headers = new Headers();
    for (let i = 0; i + 1 < rawHeaders.length; i += 2) headers.append(rawHeaders[i]!, rawHeaders[i + 1]!);
    const hasBody = hasBodyInside && method !== "GET" && method !== "HEAD";
    return new Request(`http://localhost${url}`, {
      method,
      headers,
      signal,
      ...(hasBody ? { body: bodyOf(incoming) } : {}),
    });
  } catch {
    return undefined;
  }
}

/** Of a body that is here as a whole already, as short ones are by the turn of their request: a stream would cost several times as much as all of it. */
function wholeBodyOf(incoming: IncomingMessage): (() => Uint8Array) | undefined {
  const bytes = bodyBytes(incoming);
  if (bytes === 0 || !incoming.complete || incoming.readableLength !== bytes) return undefined;
  return () => {
    const parts: Uint8Array[] = [];
    for (let left = bytes; left > 0; left -= parts.at(-1)!.length) {
      const part = incoming.read() as Uint8Array | null;
      assert(part !== null, "what is here of a body can be read at once");
      parts.push(part);
    }
    return parts.length === 1 ? parts[0]! : concatBytes(parts);
  };
}

/** Pulls: while nobody reads, nothing is taken from the socket beyond its own buffer. */
function bodyOf(incoming: IncomingMessage): ReadableStream<Uint8Array> {
  const chunks = incoming[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const next = await chunks.next();
        if (next.done === true) controller.close();
        else
          controller.enqueue(
            new Uint8Array(next.value.buffer as ArrayBuffer, next.value.byteOffset, next.value.length),
          );
      },
      async cancel() {
        await chunks.return?.();
      },
    },
    { highWaterMark: 0 },
  );
}

/** Until it has left for the kernel, or never will. */
const left = (outgoing: ServerResponse): Promise<void> =>
  new Promise((resolve) => {
    if (outgoing.writableFinished || outgoing.destroyed || outgoing.socket?.destroyed === true)
      return resolve();
    const done = () => {
      outgoing.off("finish", done);
      outgoing.off("close", done);
      resolve();
    };
    outgoing.once("finish", done);
    outgoing.once("close", done);
  });

/** Until it takes bytes again, or is gone. */
const drained = (sink: ServerResponse): Promise<void> =>
  new Promise((resolve) => {
    if (sink.destroyed) return resolve();
    const done = () => {
      sink.off("drain", done);
      sink.off("close", done);
      resolve();
    };
    sink.once("drain", done);
    sink.once("close", done);
  });
