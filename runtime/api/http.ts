/**
 * HTTP over every listener of the API: addresses, the control socket, and sockets that a service manager passed
 * (sd_listen_fds(3)). Owns the way from an accepted connection to `app.fetch` and back: who is counted when it is accepted, how
 * long somebody may say nothing, and whose request comes next. Bun.serve tells of nobody before their first request, serves what one
 * connection pipelines before all others, and takes no descriptor; so http is spoken on what a net server accepts.
 * docs/decisions/0015-own-front-of-http.md
 */
import { createServer, type Socket } from "node:net";
import { sourceGroup } from "@godwit/sdk";
import { type Place, Places } from "@godwit/sdk/places";
import type { Clock, Timer } from "../kernel/clock.ts";
import type { Connection } from "./access.ts";
import { answer, BAD_REQUEST, EXPECTATION_FAILED } from "./answer.ts";
import type { Api } from "./app.ts";
import type { TextAnswer } from "./exchange.ts";
import { type Incoming, RequestParser } from "./incoming.ts";
import { Intake } from "./intake.ts";
import { isPlainTarget } from "./request.ts";
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
/** Below it plugins answer, in pieces if they like. */
const PAGES_PATH = "/x/";

/** Health is told to one more even where others have taken every descriptor. */
export const newPlaces = (): Places =>
  new Places({ max: CONNECTIONS_MAX, perSourceMax: CONNECTIONS_PER_SOURCE_MAX, lastMax: 1 });

/** One connection, and what is to be answered on it. */
interface Line {
  readonly socket: Socket;
  readonly place: Place;
  readonly parser: RequestParser;
  readonly intake: Intake;
  readonly waiting: Incoming[];
  /** A request is being answered. */
  isBusy: boolean;
  /** It has not said anything yet. */
  isFresh: boolean;
  /** What it says was no HTTP: it is told, behind the answers to what was, and not heard any more. */
  isBroken: boolean;
  /** Of the requests that were made of its bytes the last one. */
  newest: Incoming | undefined;
  /** What is being answered may never end. */
  isEndless: boolean;
  /** Nothing is answered on it after this one. */
  isLast: boolean;
  /** Aborts when nobody listens any more; made for whoever asks. */
  gone: AbortController | undefined;
  /** When it has been silent for too long; undefined: it is not silent. */
  endsMs: number | undefined;
}

export class HttpServer {
  readonly #listener: Listener;
  readonly #options: HttpOptions;
  readonly #lines = new Map<Socket, Line>();
  readonly #server;
  readonly #failed = Promise.withResolvers<never>();
  #isStopping = false;

  /** Listens within the call, unless that fails: then `isListening` is false, and `opened` rejects. */
  constructor(listener: Listener, options: HttpOptions) {
    this.#listener = listener;
    this.#options = options;
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#onConnection(socket));
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
    socket.on("error", () => socket.destroy());
    socket.setTimeout(idleMs, () => socket.destroy());
    const parser = new RequestParser((incoming) => this.#onRequest(line, incoming));
    const intake = new Intake(socket, {
      room: () => roomFor(line),
      parse: (piece) => void (parser.take(piece) || this.#refuse(line)),
      finish: () => void (parser.finish() || this.#refuse(line)),
    });
    const line: Line = {
      ...{ socket, place, parser, intake },
      waiting: [],
      isBusy: false,
      isFresh: true,
      isBroken: false,
      newest: undefined,
      isEndless: false,
      isLast: false,
      gone: undefined,
      endsMs: clock.monotonicMs() + Math.min(FIRST_REQUEST_MS, idleMs),
    };
    const deadline = this.#endWhenSilent(line);
    this.#lines.set(socket, line);
    socket.once("close", () => {
      place.release();
      deadline.cancel();
      line.waiting.length = 0;
      parser.close();
      line.gone?.abort();
      this.#lines.delete(socket);
    });
    socket.once("end", () => {
      // Of what may never end it is the only sign that nobody listens.
      if (line.isEndless) socket.destroy();
      else this.#endIfOver(line);
    });
    // What is said behind what was no HTTP.
    socket.on("data", () => line.isBroken && !socket.writable && socket.destroy());
  }

  /** One timer for a connection, however many requests it makes: an answer costs less than a timer. */
  #endWhenSilent(line: Line): Timer {
    const { clock, idleMs } = this.#options;
    const check = () => {
      const nowMs = clock.monotonicMs();
      const leftMs = (line.endsMs ?? nowMs + idleMs) - nowMs;
      if (leftMs <= 0) return void line.socket.destroy();
      timer = clock.after(leftMs, check);
    };
    let timer = clock.after(line.endsMs! - clock.monotonicMs(), check);
    return { cancel: () => timer.cancel() };
  }

  /** What it said was no HTTP, or ended within. */
  #refuse(line: Line): void {
    if (line.isBroken) return;
    line.isBroken = true;
    if (!line.isBusy) end(line.socket, BAD_REQUEST);
  }

  /** The far end says no more, and all that it asked is answered. */
  #endIfOver({ intake, isBusy, socket }: Line): boolean {
    if (!intake.isOver || isBusy) return false;
    socket.end();
    return true;
  }

  #onRequest(line: Line, incoming: Incoming): void {
    // The far end was told that nothing more is answered.
    if (!line.socket.writable) return incoming.drop();
    line.isFresh = false;
    line.endsMs = undefined;
    line.place.stand("busy");
    line.waiting.push(incoming);
    line.newest = incoming;
    line.intake.bodyFollows(incoming.declaredBytes);
    incoming.onRead = () => line.intake.take();
    if (line.isBusy) return;
    line.isBusy = true;
    this.#enter(line);
  }

  /** The next one of those that wait on it, in its turn. */
  #enter(line: Line): void {
    const incoming = line.waiting.shift()!;
    line.intake.take();
    const isUrgent = this.#listener.kind === "unix" || incoming.head.url === HEALTH_PATH;
    turnstile.run(isUrgent, async () => {
      if (line.socket.destroyed) return;
      try {
        await this.#answerOne(line, incoming);
      } catch {
        line.socket.destroy();
      }
      if (line.socket.destroyed) return;
      if (line.waiting.length > 0 && !line.isLast) this.#enter(line);
      else this.#rest(line);
    });
  }

  /** Nothing waits on it. */
  #rest(line: Line): void {
    const { socket } = line;
    line.isBusy = false;
    // Also where nothing more is answered, whatever still comes.
    line.endsMs = this.#options.clock.monotonicMs() + this.#options.idleMs;
    // Of one whose body broke off that was the answer.
    if (line.isBroken && !line.isLast) return end(socket, line.newest?.isWhole === true ? BAD_REQUEST : "");
    // What was written last is still on its way out.
    if (this.#isStopping || line.isLast) return end(socket);
    if (this.#endIfOver(line)) return;
    line.place.stand("silent");
  }

  async #answerOne(line: Line, incoming: Incoming): Promise<void> {
    const { app, hosts, clock, idleMs } = this.#options;
    const { socket } = line;
    if (incoming.expects === "other") {
      line.isLast = true;
      return void socket.write(EXPECTATION_FAILED);
    }
    let release: (() => void) | undefined;
    let grace: Timer | undefined;
    let isHeld = false;
    const isUnix = this.#listener.kind === "unix";
    line.isEndless = isPage(incoming.head.url);
    line.isLast = this.#isStopping || !incoming.head.keepsAlive;
    // Where nobody knows whether a body comes, or where the answer's own end is not said in it, the connection ends.
    const isLast = () => line.isLast || incoming.waitsToBeTold || (line.isEndless && !incoming.head.isHttp11);
    const gone = () => (line.gone ??= new AbortController()).signal;
    let text: TextAnswer | undefined;
    const connection: Connection = {
      authority: isUnix ? "socket" : "tcp",
      peer: isUnix ? undefined : socket.remoteAddress,
      hosts,
      gone,
      say: (said) => void (text = said),
      holdOpen() {
        isHeld = true;
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
      const isAnswered = await answer(app, connection, {
        ...{ incoming, socket, gone, wallMs: clock.wallMs(), isLast },
        isEndless: () => line.isEndless,
        said: () => text,
      });
      if (!isAnswered) socket.write(BAD_REQUEST);
      line.isLast = !isAnswered || isLast();
    } finally {
      release?.();
      grace?.cancel();
      if (isHeld) socket.setTimeout(idleMs);
      line.isEndless = false;
      line.gone = undefined;
      line.place.stand("busy");
      incoming.drop();
    }
  }
}

const end = (socket: Socket, text = ""): void => {
  if (socket.writable) socket.end(text);
  else socket.destroy();
};

/** By the path that the API goes by: `/a/../x/board/` is one, too. */
const isPage = (url: string): boolean =>
  isPlainTarget(url)
    ? url.startsWith(PAGES_PATH)
    : URL.parse(`http://localhost${url}`)?.pathname.startsWith(PAGES_PATH) === true;

/** Bytes of a body that may be parsed now; 0: nothing. */
const roomFor = ({ waiting, newest, isBroken }: Line): number => {
  if (waiting.length >= PIPELINED_MAX) return 0;
  // Nothing of a body, whatever its head declared: requests may begin.
  if (isBroken || newest === undefined || newest.isWhole) return 1;
  return BODY_AHEAD_BYTES_MAX - newest.waitingBytes;
};

/** What is quickly answered, and what others wait for: a crowd that asks for more must not hold it up. */
const HEALTH_PATH = "/health";

/** Of a body that is here as a whole already, as short ones are by the turn of their request: a stream would cost several times as much as all of it. */
function wholeBodyOf(incoming: Incoming): (() => Uint8Array) | undefined {
  const bytes = incoming.declaredBytes;
  if (bytes === 0 || !incoming.isWhole || incoming.waitingBytes !== bytes) return undefined;
  return () => incoming.takeWhole();
}
