/** `ctx.http` in tests: takes the handler as the node does, and asks it as a browser would through the node. */
import {
  GodwitError,
  isOpenPath,
  opensPath,
  type PageHandler,
  type PageRequest,
  pageResponseFault,
  PAGES_LIMITS,
  type PagesOptions,
  type PluginHttp,
} from "../src/index.ts";

export interface TestPageRequest {
  /** Default GET. */
  readonly method?: PageRequest["method"];
  readonly query?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Default true. */
  readonly isAuthorized?: boolean;
  readonly body?: string | Uint8Array | AsyncIterable<Uint8Array>;
  /** The client, which may go away. */
  readonly signal?: AbortSignal;
}

export interface TestPage {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** Its pieces, once. */
  readonly body: AsyncIterator<Uint8Array, undefined>;
  /** The whole body as text, instead. */
  text(): Promise<string>;
}

export class FakePages implements PluginHttp {
  handler: PageHandler | undefined;
  open: readonly string[] = [];
  /** Requests that the plugin is not done with: a handler that has not settled, or a body that is open. */
  running = 0;
  readonly #isGranted: () => boolean;
  readonly #stop = new AbortController();

  constructor(isGranted: () => boolean = () => true) {
    this.#isGranted = isGranted;
  }

  /** Ends every request, as the host does before anything else of the plugin ends. */
  stop(): void {
    this.handler = undefined;
    this.#stop.abort(new GodwitError("GODWIT_STOPPED", "the plugin has stopped", { kind: "transport" }));
  }

  pages(handler: PageHandler, { open = [] }: PagesOptions = {}): void {
    if (this.#stop.signal.aborted)
      throw new GodwitError("GODWIT_STOPPED", "the plugin has stopped", { kind: "transport" });
    if (!this.#isGranted())
      throw new GodwitError("GODWIT_FORBIDDEN", "the plugin does not ask for http.pages in its manifest", {
        kind: "permission",
      });
    const refuse = (why: string): never => {
      throw new GodwitError("GODWIT_REQUEST_INVALID", why, { kind: "protocol" });
    };
    if (this.handler !== undefined) refuse("an instance has one handler of pages");
    if (open.length > PAGES_LIMITS.openPaths) refuse(`at most ${PAGES_LIMITS.openPaths} open paths`);
    for (const path of open) if (!isOpenPath(path)) refuse(`"${path}" is no open path`);
    this.handler = handler;
    this.open = [...open];
  }

  /** Whether the node would let a GET of it in without a token. */
  isOpen(path: string): boolean {
    return opensPath(this.open, path);
  }

  /**
   * Asks for a page. `path` is as the plugin sees it. Rejects with what the handler rejects with, with what the node would find wrong with
   * the answer, or with the reason of the signal.
   */
  async request(path: string, request: TestPageRequest = {}): Promise<TestPage> {
    const { handler } = this;
    if (handler === undefined) throw new Error("the plugin has no pages");
    const { method = "GET", query = "", headers = {}, isAuthorized = true, body = "" } = request;
    // Not AbortSignal.any, whose listeners on the long-lived one would stay.
    const controller = new AbortController();
    const sources = [this.#stop.signal, ...(request.signal === undefined ? [] : [request.signal])];
    const offs = sources.map((source) => {
      const onAbort = () => controller.abort(source.reason);
      if (source.aborted) onAbort();
      else source.addEventListener("abort", onAbort, { once: true });
      return () => source.removeEventListener("abort", onAbort);
    });
    this.running++;
    let isFree = false;
    const free = () => {
      if (isFree) return;
      isFree = true;
      this.running--;
      for (const off of offs) off();
    };
    const { signal } = controller;
    const answering = (async () =>
      await handler({ method, path, query, headers, isAuthorized, body: piecesOf(body), signal }))();
    try {
      const answer = await orAborted(answering, signal);
      const fault = pageResponseFault(answer);
      if (fault !== undefined) throw new Error(`${method} ${path}: ${fault}`);
      const pieces = bodyOf(piecesOf(answer.body ?? ""), controller, free);
      return {
        status: answer.status ?? 200,
        headers: answer.headers ?? {},
        body: pieces,
        text: () => textOf(pieces),
      };
    } catch (error) {
      controller.abort(error);
      answering.then(free, free);
      throw error;
    }
  }
}

const encoder = new TextEncoder();

async function* piecesOf(
  body: string | Uint8Array | AsyncIterable<string | Uint8Array>,
): AsyncGenerator<Uint8Array, undefined> {
  if (typeof body === "string") yield encoder.encode(body);
  else if (body instanceof Uint8Array) yield body;
  else for await (const piece of body) yield typeof piece === "string" ? encoder.encode(piece) : piece;
  return undefined;
}

function bodyOf(
  source: AsyncGenerator<Uint8Array, undefined>,
  controller: AbortController,
  free: () => void,
): AsyncIterator<Uint8Array, undefined> {
  const over = (reason: unknown) => {
    controller.abort(reason);
    source.return(undefined).then(free, free);
  };
  return {
    async next() {
      try {
        const step = await orAborted(source.next(), controller.signal);
        if (step.done === true) free();
        return step;
      } catch (error) {
        over(error);
        throw error;
      }
    },
    async return() {
      over(new DOMException("the client is gone", "AbortError"));
      return { done: true, value: undefined };
    },
  };
}

async function textOf(pieces: AsyncIterator<Uint8Array, undefined>): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const step = await pieces.next();
    if (step.done === true) return text + decoder.decode();
    text += decoder.decode(step.value, { stream: true });
  }
}

function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const onAbort = () => reject(signal.reason as Error);
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
    const off = () => signal.removeEventListener("abort", onAbort);
    promise.then(
      (value) => (off(), resolve(value)),
      (error: unknown) => (off(), reject(error as Error)),
    );
  });
}
