/**
 * `ctx.http` over frames, the plugin's side: each request is a call of the node that is answered when the plugin is done with it, with a
 * flow for both bodies. Judges what the plugin answers where it is made, as the node does again.
 */
import type { PageHandler, PageRequest, PluginHttp } from "@godwit/sdk";
import { forwardAborts, orAborted } from "../../kernel/abort.ts";
import { godwitError } from "../../kernel/errors.ts";
import { FlowPipe } from "../frames/flow-pipe.ts";
import { dropAnswer, judgeAnswer, pieceBytes } from "../pages/answer.ts";
import { flowFacts } from "./net.ts";
import type { ContextParts } from "./parts.ts";

/** As the node says it. */
interface Told {
  readonly flow: number;
  readonly page: Omit<PageRequest, "body" | "signal">;
}

export function createHttp(parts: ContextParts): PluginHttp {
  const { calls, scope } = parts;
  let handler: PageHandler | undefined;
  calls.add("http.asked", async (args, _bytes, cancelled) => {
    if (handler === undefined) throw godwitError("GODWIT_NOT_FOUND", "it has no pages");
    await answerPage(parts, handler, args as Told, cancelled);
    return {};
  });
  return {
    pages(given, { open = [] } = {}) {
      if (scope.isClosed) throw godwitError("GODWIT_STOPPED", "the plugin has stopped");
      calls.askNow("http.pages", { open });
      handler = given;
    },
  };
}

/** Resolves when the plugin is done with the request and its answer was taken; rejects where that did not come about. */
async function answerPage(
  { calls, flows, scope }: ContextParts,
  handler: PageHandler,
  { flow, page }: Told,
  cancelled: AbortSignal,
): Promise<void> {
  const controller = new AbortController();
  const { signal } = controller;
  const off = forwardAborts(controller, cancelled, scope.signal);
  const wire = new PageFlow(new FlowPipe(flows, flow, flowFacts("stream", "inbound")), controller);
  const body = wire.body(() => calls.ask("http.body", { flow }, () => {}));
  try {
    const response = await handler({ ...page, body, signal });
    if (signal.aborted) {
      await dropAnswer(response);
      throw signal.reason;
    }
    const judged = judgeAnswer(response);
    await calls.ask("http.answer", { flow, status: judged.status, headers: judged.headers }, () => {});
    if (judged.body instanceof Uint8Array) await wire.send(judged.body, signal);
    else await sendPieces(judged.body[Symbol.asyncIterator](), wire, signal);
    await wire.end(signal);
  } catch (error) {
    controller.abort(error);
    throw error;
  } finally {
    off();
    wire.drop();
  }
}

async function sendPieces(
  source: AsyncIterator<string | Uint8Array>,
  wire: PageFlow,
  signal: AbortSignal,
): Promise<void> {
  try {
    for (;;) {
      const step = await orAborted(source.next(), signal);
      if (step.done === true) return;
      await wire.send(pieceBytes(step.value), signal);
    }
  } catch (error) {
    await source.return?.();
    throw error;
  }
}

/** The flow of one request: the client's body comes in on it, the plugin's goes out. */
class PageFlow {
  readonly #flow: FlowPipe;
  readonly #over = Promise.withResolvers<void>();
  #pieces: Uint8Array[] = [];
  #isEnded = false;
  #isDone = false;
  #failure: Error | undefined;
  #wake: (() => void) | undefined;
  #drained: (() => void) | undefined;

  constructor(flow: FlowPipe, controller: AbortController) {
    this.#flow = flow;
    flow.open({
      data: (bytes) => {
        if (this.#isDone) return;
        this.#pieces.push(new Uint8Array(bytes));
        // The next when it is asked for.
        flow.pause(true);
        this.#wake?.();
      },
      end: () => {
        this.#isEnded = true;
        this.#wake?.();
      },
      drain: () => this.#drained?.(),
      closed: (error) => {
        this.#failure = error ?? godwitError("GODWIT_STOPPED", "nobody waits for the answer");
        this.#over.resolve();
        this.#wake?.();
        if (!this.#isDone) controller.abort(this.#failure);
      },
    });
    flow.pause(true);
  }

  /** `begin`: tells the node that it is wanted. */
  async *body(begin: () => Promise<void>): AsyncGenerator<Uint8Array, undefined> {
    await begin();
    for (;;) {
      const piece = this.#pieces.shift();
      if (piece !== undefined) yield piece;
      else if (this.#isEnded) return undefined;
      else if (this.#failure !== undefined) throw this.#failure;
      else {
        const woken = new Promise<void>((resolve) => (this.#wake = resolve));
        this.#flow.pause(false);
        if (this.#pieces.length === 0 && !this.#isEnded) await woken;
      }
    }
  }

  /** Resolves when there is room for more. Borrowed until then. */
  async send(bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    const drained = new Promise<void>((resolve) => (this.#drained = resolve));
    if (!this.#flow.write(bytes)) await orAborted(drained, signal);
  }

  /** Resolves when the node has taken all of it. */
  async end(signal: AbortSignal): Promise<void> {
    this.#isDone = true;
    this.#flow.end();
    // What is left of the request must not hold the end up.
    this.#pieces = [];
    this.#flow.pause(false);
    await orAborted(this.#over.promise, signal);
  }

  /** At once, unless it is over. */
  drop(): void {
    this.#isDone = true;
    this.#flow.reset();
  }
}
