/**
 * Calls across a channel of frames, the node's side: what a plugin may ask the node for, each within the context that it was
 * given, and what the node asks it. Owns the bounds of both; the context enforces the rest.
 */
import type {
  EngineContext,
  HealContext,
  OutgoingMessage,
  PluginNamespace,
  ServiceContext,
} from "@godwit/sdk";
import { z } from "zod";
import { asGodwitError, godwitError, type GodwitError } from "../../kernel/errors.ts";
import type { Flows } from "../frames/flow.ts";
import { openPump } from "../frames/flow-pump.ts";
import type { FramePort } from "../frames/port.ts";
import { EMPTY, errorOfWire, PluginFrame, wireErrorOf } from "../frames/frames.ts";
import { RemoteNet } from "./net.ts";
import { RemoteOffers } from "./offers.ts";
import { addPeersCalls } from "./peers.ts";
import { parseJson } from "../frames/parse.ts";
import { type Method, withClose } from "./method.ts";

/** Calls of the plugin that are not answered yet. */
const CALLS_MAX = 1_024;
/** Calls of the node that the plugin has not answered yet. */
const ASKED_MAX = 4_096;
/** Handlers that one service may register, of each kind. */
const HANDLERS_MAX = 64;

interface Asked {
  /** `bytes` are borrowed. */
  readonly settle: (json: unknown, bytes: Uint8Array) => void;
  readonly reject: (error: unknown) => void;
  isCancelled: boolean;
}

const key = z.object({ key: z.string().max(64) });
const id = z.object({ id: z.string().max(64) });
const list = z.object({
  order: z.enum(["oldest-first", "newest-first"]),
  limit: z.number().int().min(1).max(500),
  after: z.string().max(64).optional(),
});
/** The form alone: what a message may be is checked where every message is. */
const outgoing = z.object({
  to: z.string(),
  subject: z.string().optional(),
  contentType: z.string().optional(),
  priority: z.union([z.literal(0), z.literal(1), z.literal(2), z.literal(3)]).optional(),
  ttlSeconds: z.number().optional(),
  failover: z.boolean().optional(),
  idempotencyKey: z.string().optional(),
  transient: z.boolean().optional(),
});
const handler = z.object({ handler: z.number().int().min(0).max(0xffff_ffff) });
const answerSchema = z.object({ error: z.unknown().optional(), value: z.unknown().optional() });

export class RemoteCalls {
  readonly offers: RemoteOffers;
  readonly #ctx: ServiceContext;
  readonly #port: FramePort;
  readonly #flows: Flows;
  readonly #methods = new Map<string, Method>();
  readonly #running = new Map<number, AbortController>();
  readonly #asked = new Map<number, Asked>();
  readonly #accepts = new Map<number, () => void>();
  #next = 1;
  #handlers = 0;

  constructor(
    namespace: PluginNamespace,
    ctx: ServiceContext & EngineContext & HealContext,
    port: FramePort,
    flows: Flows,
  ) {
    this.#ctx = ctx;
    this.offers = new RemoteOffers(ctx, (...args) => this.call(...args));
    this.#port = port;
    this.#flows = flows;
    this.#addCommon();
    new RemoteNet(ctx.net, port, flows).addTo(this.#methods);
    this.offers.addTo(this.#methods);
    addPeersCalls(this.#methods, ctx, port, (...args) => this.call(...args));
    if (namespace === "service") this.#addMesh();
  }

  /** `settle` runs while the answer is handled, its bytes are borrowed; what it throws is the call's rejection. */
  call<T>(
    method: string,
    args: object,
    settle: (value: unknown, bytes: Uint8Array) => T,
    signal: AbortSignal | undefined,
    bytes: Uint8Array = EMPTY,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) return reject(signal.reason as Error);
      if (this.#asked.size >= ASKED_MAX)
        return reject(godwitError("GODWIT_QUEUE_FULL", "the plugin leaves too many calls without an answer"));
      const callId = this.#next;
      this.#next = callId >= 0xffff_fff0 ? 1 : callId + 1;
      const onAbort = () => {
        asked.isCancelled = true;
        this.#port.send(PluginFrame.cancel, callId);
        reject(signal?.reason as Error);
      };
      const off = () => signal?.removeEventListener("abort", onAbort);
      const asked: Asked = {
        isCancelled: false,
        settle: (json, tail) => {
          off();
          try {
            resolve(settle(json, tail));
          } catch (error) {
            reject(error);
            throw error;
          }
        },
        reject: (error) => {
          off();
          reject(error);
        },
      };
      this.#asked.set(callId, asked);
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#port.sendParts(PluginFrame.call, callId, { method, ...args }, bytes);
    });
  }

  /** Throws GODWIT_DECODE. */
  onAnswer(callId: number, json: unknown, bytes: Uint8Array): void {
    const asked = this.#asked.get(callId);
    if (asked === undefined) throw godwitError("GODWIT_DECODE", "plugin frame: an answer to nothing");
    this.#asked.delete(callId);
    const { error, value } = parseJson(answerSchema, json);
    if (error !== undefined) return asked.reject(errorOfWire(error));
    if (!asked.isCancelled) return asked.settle(value, bytes);
    const flow = (value as { flow?: unknown } | undefined)?.flow;
    // Nobody waits for it any more.
    if (typeof flow === "number") this.#port.send(PluginFrame.close, flow >>> 0, new Uint8Array([1]));
  }

  /** Throws GODWIT_DECODE for what is no call. */
  onCall(callId: number, json: unknown, bytes: Uint8Array): void {
    const { method: name } = parseJson(z.looseObject({ method: z.string().max(64) }), json);
    if (this.#running.has(callId)) throw godwitError("GODWIT_DECODE", `plugin frame: call ${callId} twice`);
    const method = this.#methods.get(name);
    if (method === undefined)
      return this.#answer(callId, {
        error: {
          code: "GODWIT_NOT_FOUND",
          message: `there is no call ${name} here`,
          kind: "protocol",
          retry: "never",
        },
      });
    if (this.#running.size >= CALLS_MAX)
      return this.#answer(callId, {
        error: wireErrorOf(godwitError("GODWIT_QUEUE_FULL", `at most ${CALLS_MAX} calls at once`)),
      });
    const controller = new AbortController();
    this.#running.set(callId, controller);
    void this.#run(callId, method, json, bytes, controller.signal);
  }

  /** A method without a promise answers at once: the thread that waits for it must not wait for a turn of the loop. */
  async #run(
    callId: number,
    method: Method,
    json: unknown,
    bytes: Uint8Array,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      const reply = method(json, bytes, signal);
      const { json: value, bytes: tail, after } = reply instanceof Promise ? await reply : reply;
      this.#running.delete(callId);
      this.#answer(callId, value === undefined ? {} : { value }, tail);
      after?.();
    } catch (error) {
      this.#running.delete(callId);
      this.#answer(callId, { error: wireErrorOf(asGodwitError(error)) });
    }
  }

  onCancel(callId: number): void {
    this.#running.get(callId)?.abort(new DOMException("the plugin gave up the call", "AbortError"));
  }

  close(error: GodwitError): void {
    for (const controller of this.#running.values()) controller.abort(error);
    this.#running.clear();
    for (const asked of this.#asked.values()) asked.reject(error);
    this.#asked.clear();
  }

  #answer(callId: number, json: object, bytes: Uint8Array = EMPTY): void {
    this.#port.sendParts(PluginFrame.answer, callId, json, bytes);
  }

  #addCommon(): void {
    // Asked for when it is used: a host may have none.
    const storage = () => this.#ctx.storage;
    const add = (name: string, method: Method) => this.#methods.set(name, method);
    add("storage.get", async (args) => {
      const bytes = await storage().get(parseJson(key, args).key);
      return bytes === undefined ? { json: false } : { json: true, bytes };
    });
    add("storage.set", async (args, bytes) => {
      await storage().set(parseJson(key, args).key, bytes);
      return {};
    });
    add("storage.delete", async (args) => {
      await storage().delete(parseJson(key, args).key);
      return {};
    });
    add("storage.keys", async () => ({ json: await storage().keys() }));
    add("seed", async (args) => ({
      bytes: await this.#ctx.deriveSeed(parseJson(z.object({ purpose: z.string().max(64) }), args).purpose),
    }));
    add("folder", async () => ({ json: await this.#ctx.folder() }));
  }

  #addMesh(): void {
    const { mesh } = this.#ctx;
    const { inbox } = mesh;
    const add = (name: string, method: Method) => this.#methods.set(name, method);
    add("mesh.stations", () => ({ json: mesh.stations() }));
    add("mesh.send", async (args, body) => {
      const message = { ...parseJson(outgoing, args), body } as OutgoingMessage;
      return { json: await mesh.send(message) };
    });
    add("mesh.sent", (args) => ({ json: mesh.sent(parseJson(id, args).id) ?? null }));
    add("mesh.inbox.count", () => ({ json: inbox.count }));
    add("mesh.inbox.list", (args) => {
      const { order, limit, after } = parseJson(list, args);
      return { json: inbox.list({ order, limit, ...(after === undefined ? {} : { after }) }) };
    });
    add("mesh.inbox.get", (args) => ({ json: inbox.get(parseJson(id, args).id) ?? null }));
    add("mesh.inbox.body", async (args) => ({ bytes: await inbox.body(parseJson(id, args).id) }));
    add("mesh.inbox.remove", async (args) => {
      await inbox.remove(parseJson(id, args).id);
      return {};
    });
    add("mesh.onMessage", (args) => {
      const { handler: which } = parseJson(handler, args);
      this.#countHandler();
      mesh.onMessage((message) => this.call("message", { handler: which, message }, () => {}, undefined));
      return {};
    });
    add("mesh.onSent", (args) => {
      const { handler: which } = parseJson(handler, args);
      this.#countHandler();
      mesh.onSent((message) =>
        this.#port.sendParts(PluginFrame.event, 0, { event: "sent", handler: which, message }),
      );
      return {};
    });
    this.#addStreams();
  }

  #addStreams(): void {
    const { mesh } = this.#ctx;
    const add = (name: string, method: Method) => this.#methods.set(name, method);
    add("mesh.openStream", async (args, metadata, signal) => {
      const { to, service } = parseJson(
        z.object({ to: z.string().max(64), service: z.string().max(64) }),
        args,
      );
      const stream = await mesh.openStream(to, service, { metadata: metadata.slice(), signal });
      const flow = this.#newFlow(stream);
      return {
        json: { flow, remote: stream.remote, service: stream.service },
        bytes: stream.metadata,
        after: () => openPump(this.#flows, flow, withClose(stream), "stream"),
      };
    });
    add("mesh.onStream", (args) => {
      const { handler: which, service } = parseJson(handler.extend({ service: z.string().max(64) }), args);
      this.#countHandler();
      mesh.onStream(service, (stream) => {
        const flow = this.#newFlow(stream);
        this.#port.sendParts(
          PluginFrame.open,
          flow,
          { what: "stream", handler: which, remote: stream.remote, service: stream.service },
          stream.metadata,
        );
        let isAccepted = false;
        this.#accepts.set(flow, () => {
          isAccepted = true;
          stream.accept();
        });
        openPump(
          this.#flows,
          flow,
          {
            ...withClose(stream),
            open: (handlers) =>
              stream.open({
                ...handlers,
                end: () => handlers.end?.(),
                closed: (error) => {
                  this.#accepts.delete(flow);
                  handlers.closed(error);
                },
              }),
            close: () => (isAccepted ? stream.end() : stream.reset()),
          },
          "stream",
        );
      });
      return {};
    });
    add("mesh.accept", (args) => {
      const { flow } = parseJson(z.object({ flow: z.number().int() }), args);
      this.#accepts.get(flow)?.();
      this.#accepts.delete(flow);
      return {};
    });
  }

  #newFlow(stream: { reset(): void }): number {
    try {
      return this.#flows.newId();
    } catch (error) {
      stream.reset();
      throw error;
    }
  }

  #countHandler(): void {
    if (++this.#handlers > HANDLERS_MAX)
      throw godwitError("GODWIT_QUEUE_FULL", `a plugin registers at most ${HANDLERS_MAX} handlers`);
  }
}
