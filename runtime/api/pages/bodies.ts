/**
 * Bodies of pages, both ways, a piece at a time: what a client sends reaches the plugin only as it asks, what the plugin makes is asked
 * for only as the client takes it. Owns the clocks of both: a client that stops sending or taking, a plugin that says nothing.
 */
import type { ApiRequest } from "../exchange.ts";
import { PAGES_LIMITS } from "@godwit/sdk";
import type { Clock, Timer } from "../../kernel/clock.ts";
import { godwitError } from "../../kernel/errors.ts";
import { BODY_BYTES_PER_SECOND_MIN, BODY_GRACE_MS, BODY_IDLE_MS } from "../body.ts";
import type { PageAnswer } from "../../view/contract/pages.ts";

export type Broken = "big" | "slow" | "broken";

/**
 * A request's body, once. `onBroken` is told before the plugin is, so that the client gets the right answer. Cancel what is left with `return`.
 * Throws GODWIT_TOO_BIG, GODWIT_REQUEST_TIMEOUT, GODWIT_REQUEST_INVALID.
 */
export async function* requestPieces(
  request: ApiRequest,
  clock: Clock,
  onBroken: (error: Error, reason: Broken) => void,
): AsyncGenerator<Uint8Array, undefined> {
  if (request.body === null) return undefined;
  const reader = request.body.getReader() as ReadableStreamDefaultReader<Uint8Array>;
  const fail = (reason: Broken, error: Error): never => {
    onBroken(error, reason);
    throw error;
  };
  let bytes = 0;
  let waitedMs = 0;
  try {
    for (;;) {
      const askedMs = clock.monotonicMs();
      const step = await nextPiece(reader, clock).catch((error: unknown) =>
        error === TOO_SLOW
          ? fail("slow", tooSlow())
          : fail("broken", godwitError("GODWIT_REQUEST_INVALID", "the request body broke off", error)),
      );
      if (step.done) return undefined;
      bytes += step.value.length;
      // The client's time alone: a plugin that takes its time does not make it slow.
      waitedMs += clock.monotonicMs() - askedMs;
      if (bytes > PAGES_LIMITS.requestBytes) fail("big", tooBig());
      if (waitedMs > BODY_GRACE_MS + (bytes / BODY_BYTES_PER_SECOND_MIN) * 1_000) fail("slow", tooSlow());
      yield step.value;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

export const tooBig = () =>
  godwitError("GODWIT_TOO_BIG", `the request body is larger than ${PAGES_LIMITS.requestBytes} bytes`);
const tooSlow = () => godwitError("GODWIT_REQUEST_TIMEOUT", "the request body came too slowly");
const TOO_SLOW = Symbol("too slow");

function nextPiece(reader: ReadableStreamDefaultReader<Uint8Array>, clock: Clock) {
  return new Promise<Awaited<ReturnType<typeof reader.read>>>((resolve, reject) => {
    // oxlint-disable-next-line prefer-promise-reject-errors
    const timer = clock.after(BODY_IDLE_MS, () => reject(TOO_SLOW));
    const off = <T>(settle: (value: T) => void) => {
      return (value: T) => {
        timer.cancel();
        settle(value);
      };
    };
    reader.read().then(off(resolve), off(reject));
  });
}

export interface StreamParts {
  readonly clock: Clock;
  /** Aborts when the client is gone, whether or not anybody ever reads the stream. */
  readonly signal: AbortSignal;
  /** Counts why a body that had begun was cut. */
  readonly onCut: (reason: "idle" | "stalled" | "gone") => void;
  /** However it ended, once. */
  readonly onOver: () => void;
}

/** The body of an answer whose pieces are made as they are taken. What is cut short errs, so that the client notices. */
export function answerStream(
  pieces: Exclude<PageAnswer["body"], Uint8Array>,
  { clock, signal, onCut, onOver }: StreamParts,
): ReadableStream<Uint8Array> {
  let timer: Timer | undefined;
  let isOver = false;
  const over = (): boolean => {
    if (isOver) return false;
    isOver = true;
    timer?.cancel();
    signal.removeEventListener("abort", onAbort);
    onOver();
    return true;
  };
  const drop = (reason: "idle" | "stalled" | "gone", controller?: Controller) => {
    if (!over()) return;
    onCut(reason);
    if (controller !== undefined) cut(controller);
    void pieces.return?.();
  };
  const onAbort = () => drop("gone");
  const wait = (reason: "idle" | "stalled", controller: Controller) => {
    timer?.cancel();
    timer = clock.after(PAGES_LIMITS[reason === "idle" ? "idleMs" : "stallMs"], () =>
      drop(reason, controller),
    );
  };
  signal.addEventListener("abort", onAbort, { once: true });
  return new ReadableStream<Uint8Array>(
    {
      start: (controller) => (signal.aborted ? drop("gone", controller) : wait("stalled", controller)),
      async pull(controller) {
        wait("idle", controller);
        try {
          const step = await pieces.next();
          if (isOver) return;
          if (step.done === true) {
            over();
            return controller.close();
          }
          wait("stalled", controller);
          controller.enqueue(step.value);
        } catch {
          // Whoever made it has counted and logged why.
          if (over()) cut(controller);
        }
      },
      cancel: () => drop("gone"),
    },
    { highWaterMark: 0 },
  );
}

type Controller = ReadableStreamDefaultController<Uint8Array>;

/** The connection breaks. Without a reason, which the server would write to stderr with its stack, whatever it says. */
const cut = (controller: Controller): void => controller.error();
