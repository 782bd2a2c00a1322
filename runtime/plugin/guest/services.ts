/** `ctx.services` over frames: what the plugin offers is called by the node, what it uses is asked of the node. */
import type {
  OfferedService,
  ServiceChannel,
  ServiceChannelHandlers,
  ServiceSending,
  Services,
  UsedService,
} from "@godwit/sdk";
import { asGodwitError, type GodwitError, godwitError } from "../../kernel/errors.ts";
import { pluginFailureOf } from "../frames/calls.ts";
import { FlowPipe } from "../frames/flow-pipe.ts";
import { decodeParts, encodeParts, PluginFrame } from "../frames/frames.ts";
import { checkAsk, sealMessage } from "../service/message.ts";
import { flowFacts } from "./net.ts";
import type { ContextParts } from "./parts.ts";

export interface GuestServices {
  readonly services: Services;
  /** A provider came or went. */
  onEvent(event: object): void;
}

interface Told {
  readonly name: string;
  readonly ask: string;
  readonly consumer: string;
  readonly json: unknown;
}

interface Used {
  readonly service: UsedService;
  isThere: boolean;
  readonly listeners: Set<() => void>;
}

export function createServices(parts: ContextParts): GuestServices {
  const { calls, scope } = parts;
  const offers = new Map<string, OfferedService>();
  const used = new Map<string, Used>();
  const check = () => {
    if (scope.isClosed) throw godwitError("GODWIT_STOPPED", "the plugin has stopped");
  };
  calls.add("service.asked", async (args, bytes, cancelled) => {
    const { name, ask, consumer, json } = args as Told;
    const service = offers.get(name);
    if (service?.request === undefined) throw godwitError("GODWIT_NOT_FOUND", "it takes no requests");
    const signal = AbortSignal.any([cancelled, scope.signal]);
    const answer = await service.request({ ask, consumer, json, bytes: bytes.slice() }, signal);
    // Judged where it is made: what is too large for the door must not end the plugin.
    const { bytes: tail, text } = sealMessage(answer ?? {});
    return { json: JSON.parse(text) as unknown, bytes: tail };
  });
  calls.add("service.opened", async (args, bytes) => {
    const { name, ask, consumer, json, flow } = args as Told & { readonly flow: number };
    const channel = channelOf(parts, name, flow, consumer, "inbound");
    const service = offers.get(name);
    if (service?.channel === undefined) throw godwitError("GODWIT_NOT_FOUND", "it takes no channels");
    await service.channel(channel, { ask, consumer, json, bytes: bytes.slice() });
    return {};
  });
  return {
    services: {
      offer(name, service) {
        check();
        const has = (["request", "channel"] as const).filter((one) => service[one] !== undefined);
        calls.askNow("service.offer", { name, has });
        offers.set(name, service);
      },
      use(name) {
        check();
        const known = used.get(name);
        if (known !== undefined) return known.service;
        const { isThere } = calls.askNow("service.use", { name }) as { isThere: boolean };
        const fresh: Used = { isThere, listeners: new Set(), service: createUse(parts, name, () => fresh) };
        used.set(name, fresh);
        return fresh.service;
      },
    },
    onEvent(event) {
      const { name, isThere } = event as { readonly name: string; readonly isThere: boolean };
      const one = used.get(name);
      if (one === undefined) return;
      one.isThere = isThere;
      for (const fn of [...one.listeners]) {
        try {
          fn();
        } catch (error) {
          logFailure(parts, "onChange handler failed", asGodwitError(error), name);
        }
      }
    },
  };
}

function createUse(parts: ContextParts, name: string, used: () => Used): UsedService {
  const { calls, scope } = parts;
  const check = () => {
    if (scope.isClosed) throw godwitError("GODWIT_STOPPED", "the plugin has stopped");
  };
  const judged = (ask: string, message: ServiceSending) => {
    check();
    checkAsk(ask);
    const { text, bytes } = sealMessage(message);
    return { json: JSON.parse(text) as unknown, bytes };
  };
  const timeOf = (timeoutMs: number | undefined) => (timeoutMs === undefined ? {} : { timeoutMs });
  return {
    name,
    get isThere() {
      return !scope.isClosed && used().isThere;
    },
    onChange(fn) {
      check();
      used().listeners.add(fn);
    },
    async whenThere(signal) {
      check();
      signal?.throwIfAborted();
      if (used().isThere) return;
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const { listeners } = used();
      const look = () => void (used().isThere && resolve());
      const onStop = () => reject(godwitError("GODWIT_STOPPED", "the plugin has stopped"));
      const onAbort = () => reject(signal?.reason);
      listeners.add(look);
      scope.signal.addEventListener("abort", onStop, { once: true });
      signal?.addEventListener("abort", onAbort, { once: true });
      try {
        await promise;
      } finally {
        listeners.delete(look);
        scope.signal.removeEventListener("abort", onStop);
        signal?.removeEventListener("abort", onAbort);
      }
    },
    async request(ask, message = {}, { signal, timeoutMs } = {}) {
      const { json, bytes } = judged(ask, message);
      return await calls.ask(
        "service.request",
        { name, ask, json, ...timeOf(timeoutMs) },
        (value, tail) => ({ json: value ?? null, bytes: tail.slice() }),
        { bytes, signal },
      );
    },
    async openChannel(ask, message = {}, { signal, timeoutMs } = {}) {
      const { json, bytes } = judged(ask, message);
      return await calls.ask(
        "service.open",
        { name, ask, json, ...timeOf(timeoutMs) },
        (value) => {
          const { flow, peer } = value as { readonly flow: number; readonly peer: string };
          return channelOf(parts, name, flow, peer, "outbound");
        },
        { bytes, signal },
      );
    },
  };
}

function logFailure({ port }: ContextParts, event: string, { message }: Error, service: string): void {
  port.sendParts(PluginFrame.log, 0, { level: "error", event, fields: { service, error: message } });
}

const channelOf = (
  parts: ContextParts,
  service: string,
  id: number,
  peer: string,
  direction: "inbound" | "outbound",
): ServiceChannel =>
  new GuestChannel(new FlowPipe(parts.flows, id, flowFacts("stream", direction)), peer, (error) =>
    logFailure(parts, "service channel handler failed", error, service),
  );

/**
 * One `data` frame is one message. What waits for room at the far end is bounded by the pipe's high-water mark. A close ends the flow in this
 * direction alone, without a deadline: what was sent before it waits for its reader for as long as that takes, and goes with the plugin.
 */
class GuestChannel implements ServiceChannel {
  readonly peer: string;
  readonly #flow: FlowPipe;
  readonly #onFailure: (error: GodwitError) => void;
  #handlers: ServiceChannelHandlers | undefined;
  #isFull = false;
  #owesDrain = false;
  #isClosed = false;
  #failure: GodwitError | undefined;
  #isTold = false;

  constructor(flow: FlowPipe, peer: string, onFailure: (error: GodwitError) => void) {
    this.#flow = flow;
    this.peer = peer;
    this.#onFailure = onFailure;
  }

  open(handlers: ServiceChannelHandlers): void {
    this.#handlers = handlers;
    if (this.#isClosed) queueMicrotask(() => this.#tell(undefined));
    else this.#openFlow();
  }

  send(message: ServiceSending): boolean {
    const { text, bytes } = sealMessage(message);
    if (this.#isClosed || !this.#flow.isWritable) return true;
    if (this.#isFull) {
      this.#owesDrain = true;
      return false;
    }
    this.#isFull = !this.#flow.write(encodeParts(JSON.parse(text), bytes));
    return true;
  }

  pause(paused: boolean): void {
    if (!this.#isClosed) this.#flow.pause(paused);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#flow.end();
    // What the other end has sent is taken and dropped: it must not stand in the way of the end.
    if (this.#handlers === undefined) this.#openFlow();
    else this.#flow.pause(false);
    queueMicrotask(() => this.#tell(undefined));
  }

  #openFlow(): void {
    this.#flow.open({
      data: (body) => this.#onMessage(body),
      drain: () => this.#onDrain(),
      closed: (error) => {
        this.#isClosed = true;
        this.#tell(this.#failure ?? error);
      },
    });
  }

  #onMessage(body: Uint8Array): void {
    if (this.#isClosed) return;
    const { json, bytes } = decodeParts(body);
    try {
      this.#handlers?.message({ json, bytes: bytes.slice() });
    } catch (error) {
      this.#isClosed = true;
      this.#failure = pluginFailureOf(error);
      this.#onFailure(this.#failure);
      // To the node it means just that, and the other end is told so.
      this.#flow.reset();
    }
  }

  #onDrain(): void {
    this.#isFull = false;
    if (!this.#owesDrain || this.#isClosed) return;
    this.#owesDrain = false;
    this.#handlers?.drain();
  }

  #tell(error: Error | undefined): void {
    if (this.#isTold || this.#handlers === undefined) return;
    this.#isTold = true;
    this.#handlers.closed(error);
  }
}
