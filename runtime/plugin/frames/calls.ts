/**
 * Calls and answers of one end of a channel of frames; both ends use it. Owns the numbers of what this end asked, what it runs for
 * the far end, and the bound of each. Knows no method: those are added by whoever answers them. Must never leave a call without
 * an answer, nor run one after the channel is gone. Specified by docs/protocol/plugin-frames.md, "A life".
 */
import type { Clock, Timer } from "@godwit/sdk";
import { z } from "zod";
import { asGodwitError, GodwitError, godwitError } from "../../kernel/errors.ts";
import {
  decodeParts,
  EMPTY,
  errorOfWire,
  FRAME_BYTES_MAX,
  type Parts,
  PluginFrame,
  wireErrorOf,
} from "./frames.ts";
import { parseJson } from "./parse.ts";
import type { FramePort } from "./port.ts";

/** Calls of the far end that run here. Beyond this they are refused. */
export const RUNNING_MAX = 1_024;
/** Calls of this end that the far end has not answered, given up ones among them. */
export const ASKED_MAX = 4_096;

export interface Reply {
  readonly json?: unknown;
  readonly bytes?: Uint8Array;
  /** What follows the answer: frames of a flow that the far end only knows by it. */
  readonly after?: () => void;
}

/** `bytes` are borrowed until the first await. One that answers without a promise is answered at once. */
export type Method = (args: unknown, bytes: Uint8Array, signal: AbortSignal) => Promise<Reply> | Reply;

export interface AskOptions {
  /** Borrowed until `ask` returns. */
  readonly bytes?: Uint8Array;
  readonly signal?: AbortSignal | undefined;
  /** After an abort the far end is told, and the call settles only as it answers: for what lasts there until then. */
  readonly isPatient?: boolean;
  /** Then the far end is told that nobody wants the answer any more, and the call rejects with GODWIT_PLUGIN_FAILED. */
  readonly timeoutMs?: number;
}

/** Runs while the answer is handled, so that a flow that it tells of is known before its data. `bytes` are borrowed. */
export type Settle<T> = (value: unknown, bytes: Uint8Array) => T;

export interface CallsOptions {
  readonly clock: Clock;
  /** In errors: "the plugin", "the node". */
  readonly farEnd: string;
  /** Of what the far end sends; beyond it is GODWIT_DECODE. */
  readonly jsonBytesMax?: number;
  /** What a method threw, as the far end is told. */
  errorOf(thrown: unknown): GodwitError;
}

interface Asked {
  /** Throws what `settle` throws. */
  answer(json: unknown, bytes: Uint8Array): void;
  reject(error: unknown): void;
}

const answerSchema = z.object({ error: z.unknown().optional(), value: z.unknown().optional() });
const callSchema = z.looseObject({ method: z.string().max(64) });
const LAST_ID = 0xffff_fff0;
/** Of a `close` frame: at once. */
const RESET = new Uint8Array([1]);

/** What a plugin itself throws is its failure, not a fault of Godwit. */
export const pluginFailureOf = (thrown: unknown): GodwitError =>
  thrown instanceof GodwitError
    ? thrown
    : godwitError("GODWIT_PLUGIN_FAILED", thrown instanceof Error ? thrown.message : String(thrown));

export class Calls {
  readonly #port: FramePort;
  readonly #options: CallsOptions;
  readonly #methods = new Map<string, Method>();
  readonly #running = new Map<number, AbortController>();
  readonly #asked = new Map<number, Asked>();
  #next = 1;
  /** The call that holds this end's thread. */
  #awaited: number | undefined;
  #taken: Parts | undefined;
  #closed: GodwitError | undefined;

  constructor(port: FramePort, options: CallsOptions) {
    this.#port = port;
    this.#options = options;
  }

  /** What the far end may call. A name is given away once. */
  add(name: string, method: Method): void {
    if (this.#methods.has(name)) throw godwitError("GODWIT_BUG", `two methods are called ${name}`);
    this.#methods.set(name, method);
  }

  /** Calls that wait for the far end. */
  get askedCount(): number {
    return this.#asked.size;
  }

  /** Why there are none any more. */
  get closedBy(): GodwitError | undefined {
    return this.#closed;
  }

  isAsked(id: number): boolean {
    return this.#asked.has(id);
  }

  /** Rejects with what the far end says, the signal's reason, GODWIT_QUEUE_FULL, or what `settle` throws. */
  ask<T>(method: string, args: object, settle: Settle<T>, options: AskOptions = {}): Promise<T> {
    const { bytes = EMPTY, signal, isPatient = false, timeoutMs } = options;
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    if (this.#closed !== undefined) return Promise.reject(this.#closed);
    if (signal?.aborted === true) return Promise.reject(signal.reason as Error);
    if (this.#asked.size >= ASKED_MAX)
      return Promise.reject(
        godwitError("GODWIT_QUEUE_FULL", `${this.#options.farEnd} leaves too many calls without an answer`),
      );
    const id = this.#newId();
    let isGivenUp = false;
    let timer: Timer | undefined;
    const off = () => {
      signal?.removeEventListener("abort", onAbort);
      timer?.cancel();
    };
    const giveUp = (reason: unknown) => {
      isGivenUp = true;
      off();
      this.#port.send(PluginFrame.cancel, id);
      reject(reason);
    };
    const onAbort = () => (isPatient ? this.#port.send(PluginFrame.cancel, id) : giveUp(signal?.reason));
    this.#asked.set(id, {
      answer: (value, tail) => {
        if (isGivenUp) return this.#forget(value);
        off();
        try {
          resolve(settle(value, tail));
        } catch (error) {
          reject(error);
          throw error;
        }
      },
      reject: (error) => {
        off();
        reject(error);
      },
    });
    signal?.addEventListener("abort", onAbort, { once: true });
    if (timeoutMs !== undefined)
      timer = this.#options.clock.after(timeoutMs, () => giveUp(this.#late(timeoutMs)));
    this.#port.sendParts(PluginFrame.call, id, { method, ...args }, bytes);
    return promise;
  }

  /** Holds the thread until the answer is there; only of an end that can read so. Throws what the far end says. */
  askNow(method: string, args: object, bytes: Uint8Array = EMPTY): unknown {
    const id = this.#newId();
    this.#port.sendParts(PluginFrame.call, id, { method, ...args }, bytes);
    this.#awaited = id;
    this.#taken = undefined;
    this.#port.waitFor(() => this.#taken !== undefined);
    this.#awaited = undefined;
    const taken = this.#taken as Parts | undefined;
    if (taken === undefined) throw godwitError("GODWIT_STOPPED", `${this.#options.farEnd} is gone`);
    const { error, value } = parseJson(answerSchema, taken.json);
    if (error !== undefined) throw errorOfWire(error);
    return value;
  }

  /** Whether the frame is what the thread waits for; then it is taken. */
  takeAwaited(type: number, id: number, body: Uint8Array): boolean {
    if (type !== PluginFrame.answer || id !== this.#awaited) return false;
    this.#taken = this.#parts(body);
    return true;
  }

  /** False when the frame is none of a call. Throws GODWIT_DECODE, and what `settle` throws. */
  handle(type: number, id: number, body: Uint8Array): boolean {
    switch (type) {
      case PluginFrame.call:
        this.#onCall(id, this.#parts(body));
        return true;
      case PluginFrame.answer:
        this.#onAnswer(id, this.#parts(body));
        return true;
      case PluginFrame.cancel:
        this.#running.get(id)?.abort(new DOMException("the call is not wanted any more", "AbortError"));
        return true;
      default:
        return false;
    }
  }

  /** The channel is gone: what runs is aborted, what was asked rejects. */
  close(error: GodwitError): void {
    this.#closed ??= error;
    for (const controller of this.#running.values()) controller.abort(error);
    this.#running.clear();
    for (const asked of this.#asked.values()) asked.reject(error);
    this.#asked.clear();
  }

  #parts(body: Uint8Array): Parts {
    return decodeParts(body, this.#options.jsonBytesMax ?? FRAME_BYTES_MAX);
  }

  #newId(): number {
    let id = this.#next;
    while (this.#asked.has(id)) id = id >= LAST_ID ? 1 : id + 1;
    this.#next = id >= LAST_ID ? 1 : id + 1;
    return id;
  }

  #late(timeoutMs: number): GodwitError {
    return godwitError(
      "GODWIT_PLUGIN_FAILED",
      `${this.#options.farEnd} did not answer within ${timeoutMs / 1_000} s`,
    );
  }

  /** An answer that nobody waits for any more: a flow that it tells of is closed. */
  #forget(value: unknown): void {
    const flow = (value as { readonly flow?: unknown } | null | undefined)?.flow;
    if (typeof flow === "number") this.#port.send(PluginFrame.close, flow >>> 0, RESET);
  }

  #onAnswer(id: number, { json, bytes }: Parts): void {
    const asked = this.#asked.get(id);
    if (asked === undefined) throw godwitError("GODWIT_DECODE", "plugin frame: an answer to nothing");
    this.#asked.delete(id);
    const { error, value } = parseJson(answerSchema, json);
    if (error === undefined) asked.answer(value, bytes);
    else asked.reject(errorOfWire(error));
  }

  #onCall(id: number, { json, bytes }: Parts): void {
    const { method: name } = parseJson(callSchema, json);
    if (this.#running.has(id)) throw godwitError("GODWIT_DECODE", `plugin frame: call ${id} twice`);
    const method = this.#methods.get(name);
    if (method === undefined)
      return this.#answer(id, {
        error: {
          code: "GODWIT_NOT_FOUND",
          message: `there is no call ${name} here`,
          kind: "protocol",
          retry: "never",
        },
      });
    if (this.#running.size >= RUNNING_MAX)
      return this.#answer(id, {
        error: wireErrorOf(godwitError("GODWIT_QUEUE_FULL", `at most ${RUNNING_MAX} calls at once`)),
      });
    const controller = new AbortController();
    this.#running.set(id, controller);
    void this.#run(id, method, json, bytes, controller.signal);
  }

  /** A method without a promise answers at once: the thread that waits for it must not wait for a turn of the loop. */
  async #run(
    id: number,
    method: Method,
    json: unknown,
    bytes: Uint8Array,
    signal: AbortSignal,
  ): Promise<void> {
    let reply: Reply;
    try {
      const answering = method(json, bytes, signal);
      reply = answering instanceof Promise ? await answering : answering;
    } catch (error) {
      this.#running.delete(id);
      return this.#answer(id, { error: wireErrorOf(this.#options.errorOf(error)) });
    }
    this.#running.delete(id);
    const { json: value, bytes: tail, after } = reply;
    this.#answer(id, value === undefined ? {} : { value }, tail);
    try {
      after?.();
    } catch (error) {
      // The far end knows of a flow by now that is not there.
      this.#port.close(asGodwitError(error));
    }
  }

  #answer(id: number, json: object, bytes: Uint8Array = EMPTY): void {
    this.#port.sendParts(PluginFrame.answer, id, json, bytes);
  }
}
