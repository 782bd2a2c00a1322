/** `ctx.services` over frames: what the plugin offers is called by the node, what it uses is asked of the node. */
import type { OfferedService, ServiceChannel, ServiceSending, Services, UsedService } from "@godwit/sdk";
import { asGodwitError, type GodwitError, godwitError } from "../../kernel/errors.ts";
import { pluginFailureOf } from "../frames/calls.ts";
import type { Flows } from "../frames/flow.ts";
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
  const { calls, flows, scope } = parts;
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
    const channel = channelOf(flows, flow, consumer, "inbound");
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
          const { message } = asGodwitError(error);
          const told = { level: "error", event: "onChange handler failed", fields: { error: message } };
          parts.port.sendParts(PluginFrame.log, 0, told);
        }
      }
    },
  };
}

function createUse({ calls, flows, scope }: ContextParts, name: string, used: () => Used): UsedService {
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
          return channelOf(flows, flow, peer, "outbound");
        },
        { bytes, signal },
      );
    },
  };
}

/** One `data` frame is one message. What waits for room at the far end is bounded by the pipe's high-water mark. */
function channelOf(
  flows: Flows,
  id: number,
  peer: string,
  direction: "inbound" | "outbound",
): ServiceChannel {
  const flow = new FlowPipe(flows, id, flowFacts("stream", direction));
  let isFull = false;
  let owesDrain = false;
  let isOver = false;
  let failure: GodwitError | undefined;
  return {
    peer,
    open: (handlers) =>
      flow.open({
        data(body) {
          const { json, bytes } = decodeParts(body);
          try {
            handlers.message({ json, bytes: bytes.slice() });
          } catch (error) {
            failure = pluginFailureOf(error);
            flow.reset();
          }
        },
        drain() {
          isFull = false;
          if (!owesDrain) return;
          owesDrain = false;
          handlers.drain();
        },
        closed(error) {
          isOver = true;
          handlers.closed(failure ?? error);
        },
      }),
    send(message) {
      const { text, bytes } = sealMessage(message);
      if (isOver) return true;
      if (isFull) {
        owesDrain = true;
        return false;
      }
      isFull = !flow.write(encodeParts(JSON.parse(text), bytes));
      return true;
    },
    pause: (paused) => flow.pause(paused),
    close: () => flow.close(),
  };
}
