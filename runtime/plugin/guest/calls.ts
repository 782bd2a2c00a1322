/** Calls of a plugin to its node, and answers of the node; a call may also hold the thread, where the SDK has no promise. */
import { godwitError } from "../../kernel/errors.ts";
import type { Flows } from "../frames/flow.ts";
import type { FramePort } from "../frames/port.ts";
import { decodeParts, EMPTY, errorOfWire, PluginFrame } from "../frames/frames.ts";

export interface Answer {
  readonly value: unknown;
  /** The caller's. */
  readonly bytes: Uint8Array;
}

interface Waiting {
  resolve(answer: Answer): void;
  reject(error: unknown): void;
}

export class GuestCalls {
  readonly #port: FramePort;
  readonly #flows: Flows;
  readonly #waiting = new Map<number, Waiting>();
  #next = 1;
  #awaited: number | undefined;
  #taken: { readonly error: unknown; readonly answer: Answer } | undefined;

  constructor(port: FramePort, flows: Flows) {
    this.#port = port;
    this.#flows = flows;
  }

  #newId(): number {
    const id = this.#next;
    this.#next = id >= 0xffff_fff0 ? 1 : id + 1;
    return this.#waiting.has(id) ? this.#newId() : id;
  }

  /** `settle` runs while the answer is handled, so that a flow that it tells of is known before its data. */
  async call<T>(
    method: string,
    args: object,
    settle: (answer: Answer) => T,
    options: { readonly bytes?: Uint8Array; readonly signal?: AbortSignal | undefined } = {},
  ): Promise<T> {
    const { bytes = EMPTY, signal } = options;
    signal?.throwIfAborted();
    const id = this.#newId();
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    let isGivenUp = false;
    const onAbort = () => {
      isGivenUp = true;
      this.#port.send(PluginFrame.cancel, id);
      reject(signal?.reason);
    };
    this.#waiting.set(id, {
      resolve: (answer) => {
        const flow = (answer.value as { flow?: number } | undefined)?.flow;
        if (isGivenUp && flow !== undefined)
          return this.#port.send(PluginFrame.close, flow, new Uint8Array([1]));
        try {
          resolve(settle(answer));
        } catch (error) {
          reject(error);
        }
      },
      reject,
    });
    signal?.addEventListener("abort", onAbort, { once: true });
    this.#port.sendParts(PluginFrame.call, id, { method, ...args }, bytes);
    try {
      return await promise;
    } finally {
      signal?.removeEventListener("abort", onAbort);
    }
  }

  /** Holds the thread until the answer is there. Throws what the node says. */
  callNow(method: string, args: object, bytes: Uint8Array = EMPTY): unknown {
    const id = this.#newId();
    this.#port.sendParts(PluginFrame.call, id, { method, ...args }, bytes);
    this.#awaited = id;
    this.#taken = undefined;
    this.#port.waitFor(() => this.#taken !== undefined);
    this.#awaited = undefined;
    const taken = this.#taken as { readonly error: unknown; readonly answer: Answer } | undefined;
    if (taken === undefined) throw godwitError("GODWIT_STOPPED", "the node is gone");
    if (taken.error !== undefined) throw errorOfWire(taken.error);
    return taken.answer.value;
  }

  takeAwaited(type: number, id: number, body: Uint8Array): boolean {
    if (type !== PluginFrame.answer || id !== this.#awaited) return false;
    this.#taken = answerOf(body);
    return true;
  }

  onAnswer(id: number, body: Uint8Array): void {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    this.#waiting.delete(id);
    const { error, answer } = answerOf(body);
    if (error === undefined) waiting.resolve(answer);
    else waiting.reject(errorOfWire(error));
  }

  get flows(): Flows {
    return this.#flows;
  }
}

function answerOf(body: Uint8Array): { readonly error: unknown; readonly answer: Answer } {
  const { json, bytes } = decodeParts(body);
  const { error, value } = json as { readonly error?: unknown; readonly value?: unknown };
  return { error, answer: { value, bytes: bytes.slice() } };
}
