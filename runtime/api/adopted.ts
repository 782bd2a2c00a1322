/**
 * API servers on listeners that somebody else opened: sockets that a service manager passed (sd_listen_fds(3)). Owns the
 * way from an accepted connection to `app.fetch` and back. Bun.serve takes no descriptor and the http server of Bun
 * binds a port of its own when given one, but its net server adopts a listener, so http is spoken on what that accepts.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer as createNetServer, type Socket } from "node:net";
import type { Clock } from "../kernel/clock.ts";
import { godwitError } from "../kernel/errors.ts";
import type { Connection } from "./access.ts";
import type { Api } from "./app.ts";

/** A listening stream socket that is open already. Its server closes it; what it is bound to stays the manager's. */
export type PassedListener = { readonly fd: number } & (
  | { readonly kind: "tcp"; readonly host: string; readonly port: number }
  | { readonly kind: "unix"; readonly path: string }
);

export interface AdoptedServer {
  /** Accepts nothing more, lets requests in progress end for `graceMs`, then cuts them. */
  stop(graceMs: number): Promise<void>;
}

export interface AdoptOptions {
  readonly app: Api;
  readonly clock: Clock;
  /** Silence after which a connection is cut. */
  readonly idleMs: number;
  /** Host names under which a browser may rightly call it. */
  readonly hosts: ReadonlySet<string>;
}

/** What a connection that came just before a stop gets to say its request: the kernel had told it that it is heard. */
export const FRESH_GRACE_MS = 500;
/** At once, over all clients; further ones wait in the kernel's queue or are cut. */
export const ADOPTED_CONNECTIONS_MAX = 512;

/** Resolves when it accepts. Throws GODWIT_LISTEN_FAILED. */
export async function adoptListener(
  listener: PassedListener,
  { app, clock, idleMs, hosts }: AdoptOptions,
): Promise<AdoptedServer> {
  const sockets = new Set<Socket>();
  /** Those with a request in progress. */
  const busy = new Set<Socket>();
  /** Those that have not said anything yet. */
  const fresh = new Set<Socket>();
  let isStopping = false;
  // Here and not at the top: it takes 3 ms of every start, and few starts have a listener passed.
  const { createServer: createHttpServer } = await import("node:http");
  const http = createHttpServer((request, response) => {
    const { socket } = request;
    busy.add(socket);
    fresh.delete(socket);
    if (isStopping) response.setHeader("connection", "close");
    response.once("close", () => {
      busy.delete(socket);
      socket.setTimeout(idleMs);
      // What was written last is still on its way out.
      if (isStopping) socket.end();
    });
    const connection: Connection = {
      authority: listener.kind === "unix" ? "socket" : "tcp",
      peer: listener.kind === "unix" ? undefined : socket.remoteAddress,
      hosts,
      holdOpen: () => void socket.setTimeout(0),
    };
    answer(app, connection, request, response).catch(() => socket.destroy());
  });
  http.on("clientError", (_, socket) => socket.destroy());
  const server = createNetServer((socket) => {
    sockets.add(socket);
    fresh.add(socket);
    socket.once("close", () => {
      sockets.delete(socket);
      busy.delete(socket);
      fresh.delete(socket);
    });
    socket.on("error", () => socket.destroy());
    socket.setTimeout(idleMs, () => socket.destroy());
    http.emit("connection", socket);
  });
  server.maxConnections = ADOPTED_CONNECTIONS_MAX;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) =>
      reject(
        godwitError(
          "GODWIT_LISTEN_FAILED",
          `descriptor ${listener.fd} that the service manager passed cannot be used: ${error.message}`,
          error,
        ),
      ),
    );
    server.listen({ fd: listener.fd }, resolve);
  });
  return {
    async stop(graceMs) {
      isStopping = true;
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      const cut = (isDue: (socket: Socket) => boolean) => {
        for (const socket of sockets) if (isDue(socket)) socket.destroy();
      };
      cut((socket) => !busy.has(socket) && !fresh.has(socket));
      const timers = [
        clock.after(Math.min(FRESH_GRACE_MS, graceMs), () => cut((socket) => fresh.has(socket))),
        clock.after(graceMs, () => cut(() => true)),
      ];
      await closed;
      for (const timer of timers) timer.cancel();
    },
  };
}

async function answer(
  app: Api,
  connection: Connection,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
): Promise<void> {
  const gone = new AbortController();
  outgoing.once("close", () => gone.abort());
  const request = requestOf(incoming, gone.signal);
  if (request === undefined) {
    outgoing.writeHead(400, { connection: "close" }).end();
    return;
  }
  const response = await app.fetch(request, { connection });
  // A list, because set-cookie may come more than once.
  const headers = [...response.headers].flat();
  outgoing.writeHead(response.status, headers);
  if (response.body === null || incoming.method === "HEAD") {
    await response.body?.cancel();
    outgoing.end();
    return;
  }
  // Headers leave at once: a client could not tell "quiet" from "hanging".
  outgoing.flushHeaders();
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  const onGone = () => void reader.cancel().catch(() => {});
  gone.signal.addEventListener("abort", onGone, { once: true });
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done || gone.signal.aborted) break;
      if (!outgoing.write(value)) await drained(outgoing, gone.signal);
    }
  } finally {
    gone.signal.removeEventListener("abort", onGone);
  }
  if (!gone.signal.aborted) outgoing.end();
}

/** Undefined for what fetch's own rules would not let through: a method, path or header that nobody sends in earnest. */
function requestOf(incoming: IncomingMessage, signal: AbortSignal): Request | undefined {
  const { method = "GET", url = "/", rawHeaders } = incoming;
  if (!url.startsWith("/")) return undefined;
  try {
    const headers = new Headers();
    for (let i = 0; i + 1 < rawHeaders.length; i += 2) headers.append(rawHeaders[i]!, rawHeaders[i + 1]!);
    const hasBody = method !== "GET" && method !== "HEAD";
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

/** Pulls: while nobody reads, nothing is taken from the socket beyond its own buffer. */
function bodyOf(incoming: IncomingMessage): ReadableStream<Uint8Array> {
  const chunks = incoming[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const next = await chunks.next();
        if (next.done === true) controller.close();
        else controller.enqueue(new Uint8Array(next.value));
      },
      async cancel() {
        await chunks.return?.();
      },
    },
    { highWaterMark: 0 },
  );
}

const drained = (outgoing: ServerResponse, gone: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (gone.aborted) return resolve();
    const done = () => {
      outgoing.off("drain", done);
      gone.removeEventListener("abort", done);
      resolve();
    };
    outgoing.once("drain", done);
    gone.addEventListener("abort", done, { once: true });
  });
