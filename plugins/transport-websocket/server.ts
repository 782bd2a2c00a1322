/**
 * The listening half. Whatever is not an upgrade with our subprotocol on our path, or carries an Origin (every browser does),
 * gets 404 and nothing more. Everybody is counted when they are accepted, and is a stranger until their link has proven itself:
 * Bun's own server tells of a connection only with its first request. docs/decisions/0015-own-front-of-http.md
 */
import type { Socket } from "bun";
import { formatEndpoint, sourceGroup, type Clock, type ListenAddress, type Timer } from "@godwit/sdk";
import { type Place, Places } from "@godwit/sdk/places";
import { isHostAllowed, PROTOCOL } from "./endpoint.ts";
import {
  encodeFrame,
  encodeSwitch,
  FrameReader,
  HEAD_BYTES_MAX,
  listOf,
  Opcode,
  parseUpgrade,
  type UpgradeRequest,
} from "./frames.ts";
import { WebSocketPipe, type Wire } from "./pipe.ts";

/** Above the bounds of handshakes that the node sets, as on TCP. */
const STRANGERS_MAX = 1_024;
export const STRANGERS_PER_SOURCE_MAX = 512;
/** From the connection to the end of its request, TLS included. */
export const REQUEST_MS = 10_000;
/** What a refusal gets to leave. */
const REFUSAL_MS = 1_000;
const NOT_FOUND = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const END_OF_HEAD = "\r\n\r\n";
/** Code 1000, a normal close. */
const CLOSE = Uint8Array.of(0x03, 0xe8);

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
class Caller implements Wire {
  readonly #socket: CallerSocket;
  readonly #place: Place;
  readonly #options: ServerOptions;
  readonly #frames: FrameReader;
  #deadline: Timer | undefined;
  /** Of its request, as far as it came. */
  #head = "";
  #pipe: WebSocketPipe | undefined;
  /** Framed, and not taken by the kernel. */
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  /** What the last ping that is not answered yet said. */
  #ping: Uint8Array | undefined;
  #isClosing = false;
  #isGone = false;

  constructor(socket: CallerSocket, place: Place, options: ServerOptions) {
    this.#socket = socket;
    this.#place = place;
    this.#options = options;
    this.#frames = new FrameReader({
      data: (bytes) => this.#pipe?.onData(bytes),
      control: (opcode, payload) => this.#onControl(opcode, payload),
    });
    this.#deadline = options.clock.after(REQUEST_MS, () => this.terminate());
  }

  get bufferedBytes(): number {
    return this.#waitingBytes;
  }

  send(bytes: Uint8Array): void {
    this.#write(encodeFrame(Opcode.binary, bytes));
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** The far end answers with a close of its own, and then the connection goes. */
  close(): void {
    if (this.#isClosing) return;
    this.#isClosing = true;
    this.#write(encodeFrame(Opcode.close, CLOSE));
  }

  terminate(): void {
    this.#socket.terminate();
    this.onGone();
  }

  /** Has made room for others. */
  cut(): void {
    if (this.#pipe === undefined) this.terminate();
    else this.#pipe.cut(new Error("made room for others"));
  }

  /** Owned: Bun makes a buffer for each call. */
  onData(bytes: Buffer): void {
    if (this.#isGone) return;
    if (this.#pipe === undefined) this.#onHead(bytes);
    else if (!this.#frames.push(bytes)) this.terminate();
    else this.#answerPing();
  }

  onDrain(): void {
    while (this.#waiting.length > 0) {
      const head = this.#waiting[0]!;
      const sent = Math.max(0, this.#socket.write(head));
      this.#waitingBytes -= sent;
      if (sent < head.length) {
        this.#waiting[0] = head.subarray(sent);
        return;
      }
      this.#waiting.shift();
    }
    this.#answerPing();
    this.#pipe?.onDrain();
  }

  onGone(): void {
    if (this.#isGone) return;
    this.#isGone = true;
    this.#deadline?.cancel();
    this.#place.release();
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#pipe?.onGone();
  }

  #onHead(bytes: Buffer): void {
    const from = Math.max(0, this.#head.length - END_OF_HEAD.length);
    const before = this.#head.length;
    this.#head += bytes.toString("latin1", 0, HEAD_BYTES_MAX);
    const end = this.#head.indexOf(END_OF_HEAD, from);
    if (end < 0) {
      if (this.#head.length >= HEAD_BYTES_MAX) this.#refuse();
      return;
    }
    const request = parseUpgrade(this.#head.slice(0, end));
    this.#head = "";
    if (request === undefined || !this.#isOurs(request)) return this.#refuse();
    this.#deadline?.cancel();
    this.#write(Buffer.from(encodeSwitch(request.headers.get("sec-websocket-key")!, PROTOCOL), "latin1"));
    this.#open();
    const rest = bytes.subarray(end + END_OF_HEAD.length - before);
    if (rest.length > 0) this.onData(rest);
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
    this.#deadline = this.#options.clock.after(REFUSAL_MS, () => this.terminate());
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
    this.#pipe = new WebSocketPipe(this, ends, clock, {
      onProven: () => this.#place.release(),
      onOver: () => this.#place.stand("leaving"),
    });
    accept(this.#pipe);
  }

  #onControl(opcode: number, payload: Uint8Array): void {
    if (opcode === Opcode.ping) this.#ping = payload.slice();
    if (opcode !== Opcode.close) return;
    if (!this.#isClosing) {
      this.#isClosing = true;
      this.#write(encodeFrame(Opcode.close, payload.subarray(0, 2)));
    }
    this.#socket.end();
    this.#pipe?.onEnd();
  }

  /** Of several that came together only the last (RFC 6455 section 5.5.3): six bytes must not buy a write each, nor be held unread. */
  #answerPing(): void {
    if (this.#ping === undefined || this.#waiting.length > 0 || this.#isClosing) return;
    const payload = this.#ping;
    this.#ping = undefined;
    this.#write(encodeFrame(Opcode.pong, payload));
  }

  #write(frame: Uint8Array): void {
    if (this.#isGone) return;
    const sent = this.#waiting.length === 0 ? Math.max(0, this.#socket.write(frame)) : 0;
    if (sent === frame.length) return;
    this.#waiting.push(frame.subarray(sent));
    this.#waitingBytes += frame.length - sent;
  }
}
