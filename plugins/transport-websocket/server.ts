/**
 * The listening half. Whatever is not an upgrade with our subprotocol on our path, or carries an Origin (every browser does),
 * gets 404 and nothing more. Everybody is counted when they are accepted, and is a stranger until their link has proven itself:
 * Bun's own server tells of a connection only with its first request. docs/decisions/0015-own-front-of-http.md
 */
import type { Socket } from "bun";
import { formatEndpoint, sourceGroup, type Clock, type ListenAddress, type Timer } from "@godwit/sdk";
import { type Place, Places } from "@godwit/sdk/places";
import { isHostAllowed, PROTOCOL } from "./endpoint.ts";
import { encodeSwitch, HeadReader, listOf, parseUpgrade, type UpgradeRequest } from "./frames.ts";
import type { WebSocketPipe } from "./pipe.ts";
import { OpenWebSocket } from "./socket.ts";

/** Above the bounds of handshakes that the node sets, as on TCP. */
const STRANGERS_MAX = 1_024;
export const STRANGERS_PER_SOURCE_MAX = 512;
/** From the connection to the end of its request, TLS included. */
export const REQUEST_MS = 10_000;
/** What a refusal gets to leave. */
const REFUSAL_MS = 1_000;
const NOT_FOUND = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

export interface ServerOptions {
  readonly address: ListenAddress;
  readonly path: string;
  readonly names: readonly string[];
  readonly tls: { readonly cert: string; readonly key: string } | undefined;
  readonly clock: Clock;
  accept(pipe: WebSocketPipe): void;
  refused(): void;
}

interface CallerState {
  caller: Caller | undefined;
}
type CallerSocket = Socket<CallerState>;

export class WebSocketListener {
  readonly address: ListenAddress;
  readonly #server: { readonly port: number; stop(isOver: boolean): void };

  /** Throws the operating system's error. */
  constructor(options: ServerOptions) {
    const { host, port, isIpv6Only } = options.address;
    const strangers = new Places({ max: STRANGERS_MAX, perSourceMax: STRANGERS_PER_SOURCE_MAX });
    const listen = {
      hostname: host,
      port,
      ipv6Only: isIpv6Only && host.includes(":"),
      ...(options.tls === undefined ? {} : { tls: options.tls }),
      socket: {
        open: (socket: CallerSocket) => {
          socket.data = { caller: undefined };
          // It may be gone before it was accepted.
          if (socket.readyState <= 0) return void socket.terminate();
          const place = strangers.accept(socket, sourceGroup(socket.remoteAddress), () => {
            options.refused();
            socket.data.caller?.cut();
          });
          if (place === undefined) {
            options.refused();
            return void socket.terminate();
          }
          socket.data.caller = new Caller(socket, place, { ...options, address: this.address });
        },
        data: (socket: CallerSocket, bytes: Buffer) => socket.data.caller?.onData(bytes),
        drain: (socket: CallerSocket) => socket.data.caller?.onDrain(),
        end: (socket: CallerSocket) => void socket.end(),
        close: (socket: CallerSocket) => socket.data?.caller?.onGone(),
        error: (socket: CallerSocket) => socket.data?.caller?.onGone(),
      },
    };
    this.#server = Bun.listen<CallerState>(listen);
    this.address = { ...options.address, port: this.#server.port };
  }

  stop(isOver: boolean): void {
    this.#server.stop(isOver);
  }
}

/** One connection: its request, then the frames of a pipe. */
class Caller {
  readonly #socket: CallerSocket;
  readonly #place: Place;
  readonly #options: ServerOptions;
  readonly #web: OpenWebSocket;
  readonly #head = new HeadReader();
  #deadline: Timer | undefined;

  constructor(socket: CallerSocket, place: Place, options: ServerOptions) {
    this.#socket = socket;
    this.#place = place;
    this.#options = options;
    this.#web = new OpenWebSocket(socket, {
      nextMask: undefined,
      onGone: () => {
        this.#deadline?.cancel();
        place.release();
      },
    });
    this.#deadline = options.clock.after(REQUEST_MS, () => this.#web.terminate());
  }

  /** Has made room for others. */
  cut(): void {
    if (this.#web.pipe === undefined) this.#web.terminate();
    else this.#web.pipe.cut(new Error("made room for others"));
  }

  /** Owned: Bun makes a buffer for each call. */
  onData(bytes: Buffer): void {
    if (this.#web.isGone) return;
    if (this.#web.pipe === undefined) this.#onHead(bytes);
    else this.#web.onData(bytes);
  }

  onDrain(): void {
    this.#web.onDrain();
  }

  onGone(): void {
    this.#web.onGone();
  }

  #onHead(bytes: Buffer): void {
    const head = this.#head.push(bytes);
    if (head === "partial") return;
    const request = head === "endless" ? undefined : parseUpgrade(head.text);
    if (head === "endless" || request === undefined || !this.#isOurs(request)) return this.#refuse();
    this.#deadline?.cancel();
    const answer = encodeSwitch(request.headers.get("sec-websocket-key")!, PROTOCOL);
    this.#web.write(Buffer.from(answer, "latin1"));
    this.#open();
    this.#web.onData(head.rest);
  }

  #isOurs({ path, headers }: UpgradeRequest): boolean {
    return (
      path === this.#options.path &&
      !headers.has("origin") &&
      isHostAllowed(headers.get("host") ?? null, this.#options.names) &&
      listOf(headers.get("sec-websocket-protocol")).includes(PROTOCOL)
    );
  }

  #refuse(): void {
    this.#socket.write(NOT_FOUND);
    this.#socket.end();
    this.#place.stand("leaving");
    this.#deadline?.cancel();
    this.#deadline = this.#options.clock.after(REFUSAL_MS, () => this.#web.terminate());
  }

  #open(): void {
    const { address, tls, clock, accept } = this.#options;
    const scheme = tls === undefined ? "ws" : "wss";
    const socket = this.#socket;
    const remote = socket.remoteAddress.replace(/^::ffff:(?=\d+\.)/i, "").replace(/%.*$/, "");
    const ends = {
      direction: "inbound",
      local: formatEndpoint(scheme, address.host, address.port),
      remote: formatEndpoint(scheme, remote, socket.remotePort),
    } as const;
    socket.setNoDelay(true);
    const pipe = this.#web.open(ends, clock, {
      onProven: () => this.#place.release(),
      onOver: () => this.#place.stand("leaving"),
    });
    accept(pipe);
  }
}
