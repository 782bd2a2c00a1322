/**
 * `ctx.http`: who answers under `/x/<instance>/` now, and everything that stands between a request and the plugin's code: how many run at
 * once, a deadline before the answer, a judge of it, and the end of both when the plugin ends. Never knows of HTTP beyond that, nor of
 * tokens: `api/pages/` does. A place is free again only when the plugin is done with the request or its life is over, so that one that never ends cannot pile up.
 */
import {
  type Clock,
  isOpenPath,
  type Log,
  opensPath,
  type PageHandler,
  type PageRequest,
  PAGES_LIMITS,
  type PluginHttp,
  type Timer,
} from "@godwit/sdk";
import { forwardAborts, orAborted } from "../../kernel/abort.ts";
import { TokenBucket } from "../../kernel/backoff.ts";
import { asGodwitError, godwitError, GodwitError } from "../../kernel/errors.ts";
import type { CounterMetric, Metrics } from "../../kernel/metrics.ts";
import type { Scope } from "../../kernel/scope.ts";
import { refusalOf } from "../permissions.ts";
import { BadAnswer, dropAnswer, judgeAnswer, pieceBytes } from "./answer.ts";

/** Requests of all instances at once, and how many of them may have come without a token. Below what the API holds. */
export const PAGES_AT_ONCE_MAX = 128;
export const OPEN_PAGES_AT_ONCE_MAX = 64;
/** An answer up to here goes out at once, whoever takes it; bytes of more than this in pieces of as much, as they are taken. */
const WHOLE_BYTES_MAX = 65_536;
/** A plugin that fails at each request must not fill the log. */
const LOGS = { perSecond: 0.1, burst: 10 } as const;

export interface PageAnswer {
  readonly status: number;
  /** Only such as a page may set. */
  readonly headers: Readonly<Record<string, string>>;
  /**
   * Bytes, or pieces that are made as they are asked for. Throws where the plugin's own stream did, or GODWIT_STOPPED. Whoever got it
   * iterates it to its end or calls `return`, or the place that the request takes is not free again.
   */
  readonly body: Uint8Array | AsyncIterator<Uint8Array, undefined>;
}

/** Who reaches open paths without a token: this machine, or whoever reaches the API. */
export type PagesReach = "local" | "public";

interface Registered {
  readonly handler: PageHandler;
  readonly open: readonly string[];
  readonly reach: PagesReach;
  readonly scope: Scope;
  readonly log: Log;
  /** What gives back the place of each request that it is not done with. */
  readonly places: Set<() => void>;
  runningOpen: number;
  readonly logs: TokenBucket;
}

export interface PagesDoor {
  readonly instance: string;
  /** Undefined: not granted. */
  readonly reach: PagesReach | undefined;
  /** Permissions of its manifest. */
  readonly asked: readonly string[];
  readonly scope: Scope;
  readonly log: Log;
}

export class Pages {
  readonly #clock: Clock;
  readonly #refused: CounterMetric;
  readonly #registered = new Map<string, Registered>();
  #running = 0;
  #runningOpen = 0;

  constructor(clock: Clock, metrics: Metrics) {
    this.#clock = clock;
    this.#refused = metrics.counter("godwit_pages_failed_total");
  }

  /** Requests that a plugin is not done with. */
  get running(): number {
    return this.#running;
  }

  door({ instance, reach, asked, scope, log }: PagesDoor): PluginHttp {
    return {
      pages: (handler, { open = [] } = {}) => {
        if (scope.isClosed) throw godwitError("GODWIT_STOPPED", "the plugin has stopped");
        if (reach === undefined) throw godwitError("GODWIT_FORBIDDEN", refusalOf(asked, "http.pages"));
        if (this.#find(instance) !== undefined)
          throw godwitError("GODWIT_REQUEST_INVALID", "an instance has one handler of pages");
        const wrong = open.find((path) => !isOpenPath(path));
        if (wrong !== undefined || open.length > PAGES_LIMITS.openPaths)
          throw godwitError(
            "GODWIT_REQUEST_INVALID",
            wrong === undefined
              ? `at most ${PAGES_LIMITS.openPaths} open paths`
              : `"${wrong.slice(0, 60)}" is no open path`,
          );
        const registered: Registered = {
          handler,
          open: [...open],
          reach,
          scope,
          log,
          places: new Set(),
          runningOpen: 0,
          logs: new TokenBucket(this.#clock, LOGS.perSecond, LOGS.burst),
        };
        this.#registered.set(instance, registered);
        scope.own(() => {
          if (this.#registered.get(instance) === registered) this.#registered.delete(instance);
          for (const release of registered.places) release();
        });
      },
    };
  }

  reachOf(instance: string, path: string): PagesReach | undefined {
    const found = this.#find(instance);
    return found !== undefined && opensPath(found.open, path) ? found.reach : undefined;
  }

  async call(instance: string, request: PageRequest): Promise<PageAnswer> {
    const found = this.#find(instance);
    if (found === undefined)
      throw godwitError("GODWIT_NOT_FOUND", `no plugin "${instance}" runs here that has pages`);
    const release = this.#enter(found, request.isAuthorized);
    const controller = new AbortController();
    const end = forwardAborts(controller, request.signal, found.scope.signal);
    const deadline = new Deadline(this.#clock, () =>
      controller.abort(godwitError("GODWIT_TIMEOUT", `no answer within ${PAGES_LIMITS.answerMs / 1_000} s`)),
    );
    const body = deadline.apartFrom(request.body);
    const free = () => {
      end();
      release();
    };
    // It is the plugin's until it settles, however long nobody waits for it any more.
    const answering = (async () => await found.handler({ ...request, body, signal: controller.signal }))();
    try {
      const { status, headers, body: made } = judgeAnswer(await orAborted(answering, controller.signal));
      if (made instanceof Uint8Array && made.length <= WHOLE_BYTES_MAX) {
        free();
        return { status, headers, body: made };
      }
      // A larger one keeps its place until the client has taken it: nobody may ask for more than is held.
      const pieces = made instanceof Uint8Array ? piecesOf(made) : made;
      return { status, headers, body: this.#stream(pieces, controller, found, free) };
    } catch (thrown) {
      const failure = this.#failure(found, thrown, controller.signal);
      controller.abort(failure);
      answering.then(dropAnswer).then(free, free);
      throw failure;
    } finally {
      deadline.end();
    }
  }

  #find(instance: string): Registered | undefined {
    const found = this.#registered.get(instance);
    return found?.scope.isClosed === false ? found : undefined;
  }

  /** Takes a place; those without a token never take the last ones. Answers what gives it back, once. */
  #enter(found: Registered, isAuthorized: boolean): () => void {
    const isFull =
      found.places.size >= PAGES_LIMITS.concurrent ||
      this.#running >= PAGES_AT_ONCE_MAX ||
      (!isAuthorized &&
        (found.runningOpen >= PAGES_LIMITS.concurrentOpen || this.#runningOpen >= OPEN_PAGES_AT_ONCE_MAX));
    if (isFull) {
      this.#refused.add(1, { reason: "busy" });
      throw godwitError("GODWIT_TOO_MANY_REQUESTS", "too many requests for pages at once; try again later");
    }
    const count = (by: 1 | -1) => {
      this.#running += by;
      if (isAuthorized) return;
      found.runningOpen += by;
      this.#runningOpen += by;
    };
    const release = () => {
      if (found.places.delete(release)) count(-1);
    };
    found.places.add(release);
    count(1);
    return release;
  }

  /** The plugin's pieces; over when they are, when nobody wants them (`return`), or when the plugin ends. */
  #stream(
    pieces: AsyncIterable<string | Uint8Array>,
    controller: AbortController,
    found: Registered,
    free: () => void,
  ): AsyncIterator<Uint8Array, undefined> {
    const source = pieces[Symbol.asyncIterator]();
    let isOver = false;
    const over = (reason: unknown) => {
      if (isOver) return;
      isOver = true;
      controller.abort(reason);
      // Whatever it still does is its own; the place is free when it has heard.
      (async () => await source.return?.())().then(free, free);
    };
    return {
      next: async () => {
        if (isOver) return { done: true, value: undefined };
        try {
          for (;;) {
            const step = await orAborted(source.next(), controller.signal);
            if (step.done === true) {
              isOver = true;
              free();
              return { done: true, value: undefined };
            }
            const piece = pieceBytes(step.value);
            if (piece.length > 0) return { done: false, value: piece };
          }
        } catch (thrown) {
          const failure = this.#failure(found, thrown, controller.signal);
          over(failure);
          throw failure;
        }
      },
      return: async () => {
        over(new DOMException("the client is gone", "AbortError"));
        return { done: true, value: undefined };
      },
    };
  }

  /** What the caller is told: of a plugin's own failure only that there was one. */
  #failure(found: Registered, thrown: unknown, signal: AbortSignal): unknown {
    if (found.scope.signal.aborted) {
      this.#refused.add(1, { reason: "stopped" });
      return godwitError("GODWIT_STOPPED", "the plugin has stopped; try again later");
    }
    if (signal.aborted && thrown === signal.reason) {
      if (thrown instanceof GodwitError && thrown.code === "GODWIT_TIMEOUT")
        this.#refused.add(1, { reason: "late" });
      return thrown;
    }
    this.#refused.add(1, { reason: thrown instanceof BadAnswer ? "answer" : "failed" });
    if (found.logs.take()) found.log.warn("page failed", { error: asGodwitError(thrown) });
    return godwitError(
      "GODWIT_PLUGIN_FAILED",
      "the plugin failed to answer; the node's log has the details",
      thrown,
    );
  }
}

/** For an answer: begins anew with each piece of the request. A client that sends none is given up sooner, by `api/pages/bodies`. */
class Deadline {
  readonly #clock: Clock;
  readonly #passed: () => void;
  #timer: Timer | undefined;
  #isOver = false;

  constructor(clock: Clock, passed: () => void) {
    this.#clock = clock;
    this.#passed = passed;
    this.#run();
  }

  async *apartFrom(body: PageRequest["body"]): AsyncGenerator<Uint8Array, undefined> {
    const pieces = body[Symbol.asyncIterator]();
    try {
      for (;;) {
        const step = await pieces.next();
        this.#run();
        if (step.done === true) return undefined;
        yield step.value;
      }
    } finally {
      await pieces.return?.();
    }
  }

  end(): void {
    this.#isOver = true;
    this.#timer?.cancel();
  }

  #run(): void {
    this.#timer?.cancel();
    if (!this.#isOver) this.#timer = this.#clock.after(PAGES_LIMITS.answerMs, this.#passed);
  }
}

/** Of bytes that nobody changes any more. */
async function* piecesOf(bytes: Uint8Array): AsyncGenerator<Uint8Array, undefined> {
  for (let at = 0; at < bytes.length; at += WHOLE_BYTES_MAX) yield bytes.subarray(at, at + WHOLE_BYTES_MAX);
  return undefined;
}
