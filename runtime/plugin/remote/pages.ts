/**
 * `ctx.http` of a service outside of the node's thread, the node's side. One request is one call (`http.asked`) that lasts until the
 * plugin is done with it, and one flow: the request's body goes out on it, that of the answer comes in. Holds no more of either than
 * the flow's window, and reads nothing of a client that the plugin did not ask for.
 */
import { PAGES_LIMITS, type PageRequest, type PageResponse } from "@godwit/sdk";
import { z } from "zod";
import { asGodwitError, godwitError } from "../../kernel/errors.ts";
import type { FlowHandlers, FlowSource } from "../frames/flow.ts";
import { openPump } from "../frames/flow-pump.ts";
import { parseJson } from "../frames/parse.ts";
import type { RemoteParts } from "./parts.ts";

const pagesSchema = z.object({ open: z.array(z.string().max(1_024)).max(PAGES_LIMITS.openPaths) });
const flowSchema = z.object({ flow: z.number().int() });
const answerSchema = flowSchema.extend({
  status: z.number(),
  headers: z.record(z.string().max(64), z.string().max(PAGES_LIMITS.headerChars)),
});

/** `http.pages`, `http.body` and `http.answer`. */
export function addPagesCalls({ calls, flows, ctx }: RemoteParts): void {
  const lives = new Map<number, PageLife>();
  calls.add("http.pages", (args) => {
    const { open } = parseJson(pagesSchema, args);
    ctx.http.pages((request) => ask(request), { open });
    return {};
  });
  calls.add("http.body", (args) => {
    lives.get(parseJson(flowSchema, args).flow)?.readBody();
    return {};
  });
  calls.add("http.answer", (args) => {
    const { flow, status, headers } = parseJson(answerSchema, args);
    lives.get(flow)?.onHead(status, headers);
    return {};
  });

  function ask(request: PageRequest): Promise<PageResponse> {
    const { method, path, query, headers, isAuthorized, signal } = request;
    signal.throwIfAborted();
    if (calls.closedBy !== undefined) throw calls.closedBy;
    const flow = flows.newId();
    const told = { flow, page: { method, path, query, headers, isAuthorized } };
    const whole = calls.ask("http.asked", told, () => {}, { signal, isPatient: true });
    const life = new PageLife(request, whole);
    lives.set(flow, life);
    openPump(flows, flow, life, "stream");
    const over = () => void lives.delete(flow);
    whole.then(over, over);
    return life.answer;
  }
}

/** One request on its flow: what a pump takes, and what is iterated as the body of its answer. */
class PageLife implements FlowSource, AsyncIterableIterator<Uint8Array, undefined> {
  readonly #body: PageRequest["body"];
  /** Settles when the plugin is done with the request. */
  readonly #whole: Promise<unknown>;
  readonly #head = Promise.withResolvers<PageResponse>();
  #handlers: FlowHandlers | undefined;
  #pieces: Uint8Array[] = [];
  /** Of whoever waits for a piece, or for something else to have changed. */
  #wake: (() => void) | undefined;
  #resume: (() => void) | undefined;
  #isHeld = false;
  #isReading = false;
  #isEnded = false;
  #isClosed = false;
  #failure: Error | undefined;

  constructor({ body }: PageRequest, whole: Promise<unknown>) {
    this.#body = body;
    this.#whole = whole;
    this.#head.promise.catch(() => {});
    whole.then(
      () => this.#fail(broken()),
      (error: unknown) => this.#fail(error as Error),
    );
  }

  get answer(): Promise<PageResponse> {
    return this.#head.promise;
  }

  onHead(status: number, headers: Readonly<Record<string, string>>): void {
    this.#head.resolve({ status, headers, body: this });
  }

  /** The plugin began to read: what the client sends is fetched as the flow has room. */
  readBody(): void {
    if (this.#isReading) return;
    this.#isReading = true;
    void this.#sendBody();
  }

  async #sendBody(): Promise<void> {
    try {
      for await (const piece of this.#body) {
        if (this.#isClosed) return;
        this.#handlers?.data(piece);
        while (this.#isHeld && !this.#isClosed)
          await new Promise<void>((resolve) => (this.#resume = resolve));
      }
      this.#handlers?.end?.();
    } catch (error) {
      this.#close(asGodwitError(error));
    }
  }

  open(handlers: FlowHandlers): void {
    this.#handlers = handlers;
  }

  /** Of the answer. No room is given back before it was taken. */
  write(bytes: Uint8Array): boolean {
    if (this.#isClosed || this.#isEnded) return true;
    this.#pieces.push(new Uint8Array(bytes));
    this.#wake?.();
    return false;
  }

  pause(paused: boolean): void {
    this.#isHeld = paused;
    if (!paused) this.#resume?.();
  }

  end(): void {
    this.#isEnded = true;
    this.#wake?.();
  }

  /** The plugin is through with it; whether that was its failure the call says. */
  close(): void {
    this.#close();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    for (;;) {
      const value = this.#pieces.shift();
      if (value !== undefined) {
        if (this.#pieces.length === 0) this.#handlers?.drain();
        return { done: false, value };
      }
      if (this.#isEnded) {
        this.#close();
        return { done: true, value: undefined };
      }
      if (this.#failure !== undefined) throw this.#failure;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** Whoever calls it has aborted the request's signal before. Resolves when the plugin is done. */
  async return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.#pieces = [];
    this.#close();
    await this.#whole.catch(() => {});
    return { done: true, value: undefined };
  }

  /** Of what was not over; what came before it is still handed out. */
  #fail(error: Error): void {
    this.#failure ??= error;
    this.#head.reject(error);
    this.#close();
    this.#wake?.();
  }

  #close(error?: Error): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#resume?.();
    this.#handlers?.closed(error);
  }
}

const broken = () => godwitError("GODWIT_PLUGIN_FAILED", "the plugin broke off its answer");
