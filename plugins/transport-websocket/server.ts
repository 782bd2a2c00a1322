/**
 * The listening half: Bun's own WebSocket server on a port of its own. Whatever is not an upgrade with our subprotocol on
 * our path, or carries an Origin (every browser does), gets 404 and nothing more; what does upgrade counts as a stranger
 * until its link has proven itself.
 */
import type { ServerWebSocket } from "bun";
import { formatEndpoint, sourceGroup, type ListenAddress } from "@godwit/sdk";
import { isHostAllowed, PROTOCOL } from "./endpoint.ts";
import { MESSAGE_BYTES_MAX, WebSocketPipe, type Wire } from "./pipe.ts";
import type { Clock } from "@godwit/sdk";

export const STRANGERS_MAX = 512;
/** Behind a reverse proxy all strangers have its address. */
export const STRANGERS_PER_SOURCE_MAX = 64;
/** Above any bound of the pipe's: it never gives the socket so much. */
const BACKPRESSURE_BYTES_MAX = 16 * 1024 * 1024;
/** A connection that asks for nothing, s. */
const IDLE_SECONDS = 10;
/** What clients may send in one message. */
const INCOMING_BYTES_MAX = 16 * MESSAGE_BYTES_MAX;

interface SocketData {
  readonly source: string;
  readonly port: number;
  pipe: WebSocketPipe | undefined;
}

export interface ServerOptions {
  readonly address: ListenAddress;
  readonly path: string;
  readonly names: readonly string[];
  readonly tls: { readonly cert: string; readonly key: string } | undefined;
  readonly clock: Clock;
  accept(pipe: WebSocketPipe): void;
  refused(): void;
}

export class WebSocketListener {
  readonly address: ListenAddress;
  readonly #options: ServerOptions;
  readonly #server: Bun.Server<SocketData>;
  readonly #strangers = new Map<string, number>();
  #strangerCount = 0;

  /** Throws the operating system's error. */
  constructor(options: ServerOptions) {
    this.#options = options;
    const { host, port, isIpv6Only } = options.address;
    this.#server = Bun.serve<SocketData>({
      hostname: host,
      port,
      ipv6Only: isIpv6Only && host.includes(":"),
      idleTimeout: IDLE_SECONDS,
      maxRequestBodySize: 1,
      ...(options.tls === undefined ? {} : { tls: options.tls }),
      fetch: (request, server) => this.#upgrade(request, server),
      error: () => new Response(null, { status: 404 }),
      websocket: {
        perMessageDeflate: false,
        // Links find out themselves whether the far end lives.
        idleTimeout: 0,
        sendPings: false,
        maxPayloadLength: INCOMING_BYTES_MAX,
        backpressureLimit: BACKPRESSURE_BYTES_MAX,
        closeOnBackpressureLimit: true,
        open: (socket) => this.#onOpen(socket),
        message: (socket, message) => {
          if (typeof message === "string") socket.terminate();
          else socket.data.pipe?.onData(message);
        },
        drain: (socket) => socket.data.pipe?.onDrain(),
        close: (socket) => socket.data.pipe?.onGone(),
      },
    });
    this.address = { ...options.address, port: this.#server.port! };
  }

  stop(isOver: boolean): void {
    void this.#server.stop(isOver);
  }

  #upgrade(request: Request, server: Bun.Server<SocketData>): Response | undefined {
    const remote = server.requestIP(request);
    const { headers } = request;
    const source = sourceGroup(remote?.address ?? "");
    const isOurs =
      remote !== null &&
      new URL(request.url).pathname === this.#options.path &&
      !headers.has("origin") &&
      isHostAllowed(headers.get("host"), this.#options.names) &&
      (headers.get("sec-websocket-protocol") ?? "").split(/\s*,\s*/).includes(PROTOCOL);
    if (isOurs) {
      const ofSource = this.#strangers.get(source) ?? 0;
      if (this.#strangerCount < STRANGERS_MAX && ofSource < STRANGERS_PER_SOURCE_MAX) {
        const data = { source, port: remote.port, pipe: undefined };
        if (server.upgrade(request, { headers: { "sec-websocket-protocol": PROTOCOL }, data }))
          return undefined;
      } else this.#options.refused();
    }
    return new Response(null, { status: 404 });
  }

  #onOpen(socket: ServerWebSocket<SocketData>): void {
    const { host, port } = this.address;
    const scheme = this.#options.tls === undefined ? "ws" : "wss";
    const wire: Wire = {
      send: (bytes) => void socket.sendBinary(bytes),
      get bufferedBytes() {
        return socket.getBufferedAmount();
      },
      pause: () => socket.pause(),
      resume: () => socket.resume(),
      close: () => socket.close(),
      terminate: () => socket.terminate(),
    };
    const release = this.#enter(socket.data.source);
    const remote = socket.remoteAddress.replace(/^::ffff:(?=\d+\.)/i, "");
    const pipe = new WebSocketPipe(
      wire,
      {
        direction: "inbound",
        local: formatEndpoint(scheme, host, port),
        remote: formatEndpoint(scheme, remote, socket.data.port),
      },
      this.#options.clock,
      release,
    );
    socket.data.pipe = pipe;
    this.#options.accept(pipe);
  }

  #enter(source: string): () => void {
    this.#strangerCount++;
    this.#strangers.set(source, (this.#strangers.get(source) ?? 0) + 1);
    let isReleased = false;
    return () => {
      if (isReleased) return;
      isReleased = true;
      this.#strangerCount--;
      const left = this.#strangers.get(source)! - 1;
      if (left === 0) this.#strangers.delete(source);
      else this.#strangers.set(source, left);
    };
  }
}
