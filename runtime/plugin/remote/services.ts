/**
 * `ctx.services` of a plugin outside of the node's thread, the node's side: what it offers is called over there, what it uses is
 * called here, and a channel is a flow on which one `data` frame is one message.
 */
import {
  type OfferedService,
  SERVICE_LIMITS,
  type ServiceChannel,
  type ServiceRequest,
  type UsedService,
} from "@godwit/sdk";
import { z } from "zod";
import { godwitError } from "../../kernel/errors.ts";
import type { Calls } from "../frames/calls.ts";
import type { FlowHandlers, FlowSource } from "../frames/flow.ts";
import { openPump } from "../frames/flow-pump.ts";
import { decodeParts, encodeParts, PluginFrame } from "../frames/frames.ts";
import { parseJson } from "../frames/parse.ts";
import { failChannel } from "../service/channel.ts";
import type { RemoteParts } from "./parts.ts";

const name = z.string().max(SERVICE_LIMITS.nameChars);
const nameSchema = z.object({ name });
const offerSchema = nameSchema.extend({ has: z.array(z.enum(["request", "channel"])).max(2) });
const askSchema = nameSchema.extend({
  ask: z.string().max(SERVICE_LIMITS.askChars),
  json: z.unknown(),
  timeoutMs: z.number().exactOptional(),
});

export function addServiceCalls(parts: RemoteParts): void {
  const { calls, ctx, port, flows } = parts;
  const used = new Map<string, UsedService>();
  const use = (which: string): UsedService => {
    const known = used.get(which);
    if (known !== undefined) return known;
    const service = ctx.services.use(which);
    used.set(which, service);
    service.onChange(() =>
      port.sendParts(PluginFrame.event, 0, { event: "service", name: which, isThere: service.isThere }),
    );
    return service;
  };
  calls.add("service.offer", (args) => {
    const { name: which, has } = parseJson(offerSchema, args);
    ctx.services.offer(which, offered(parts, which, new Set(has)));
    return {};
  });
  calls.add("service.use", (args) => ({
    json: { isThere: use(parseJson(nameSchema, args).name).isThere },
  }));
  calls.add("service.request", async (args, bytes, signal) => {
    const { name: which, ask, json, ...options } = parseJson(askSchema, args);
    return await use(which).request(ask, { json, bytes }, { ...options, signal });
  });
  calls.add("service.open", async (args, bytes, signal) => {
    const { name: which, ask, json, ...options } = parseJson(askSchema, args);
    const channel = await use(which).openChannel(ask, { json, bytes }, { ...options, signal });
    try {
      const flow = flows.newId();
      return {
        json: { flow, peer: channel.peer },
        after: () => openPump(flows, flow, channelSource(channel, calls), "stream"),
      };
    } catch (error) {
      channel.close();
      throw error;
    }
  });
}

/** What the plugin offers, as the node calls it. */
function offered(
  { calls, flows }: RemoteParts,
  which: string,
  has: ReadonlySet<"request" | "channel">,
): OfferedService {
  const told = ({ ask, consumer, json }: ServiceRequest) => ({ name: which, ask, consumer, json });
  /** A plugin that is gone did not fail at this one call. */
  const orGone = (error: unknown): unknown =>
    calls.closedBy === undefined
      ? error
      : godwitError(
          "GODWIT_SERVICE_GONE",
          `the plugin that offers "${which}" is gone: ${calls.closedBy.message}`,
        );
  return {
    ...(has.has("request")
      ? {
          request: async (request, signal) => {
            try {
              return await calls.ask(
                "service.asked",
                told(request),
                (json, bytes) => ({ json: json ?? null, bytes: bytes.slice() }),
                { bytes: request.bytes, signal },
              );
            } catch (error) {
              throw orGone(error);
            }
          },
        }
      : {}),
    ...(has.has("channel")
      ? {
          channel: async (channel, opening) => {
            const flow = flows.newId();
            const accepted = calls.ask("service.opened", { ...told(opening), flow }, () => {}, {
              bytes: opening.bytes,
            });
            openPump(flows, flow, channelSource(channel, calls), "stream");
            try {
              await accepted;
            } catch (error) {
              throw orGone(error);
            }
          },
        }
      : {}),
  };
}

/**
 * A channel as a pump takes it. What the channel has no room for waits here, and no more than the flow's window of it: nothing is given back
 * to the plugin meanwhile.
 */
function channelSource(channel: ServiceChannel, calls: Calls): FlowSource {
  let waiting: { readonly json: unknown; readonly bytes: Uint8Array }[] = [];
  let handlers: FlowHandlers | undefined;
  const flush = () => {
    let sent = 0;
    while (sent < waiting.length && channel.send(waiting[sent]!)) sent++;
    if (sent > 0) waiting = waiting.slice(sent);
    if (waiting.length === 0) handlers?.drain();
  };
  let isEnding = false;
  return {
    open(given) {
      handlers = given;
      channel.open({
        message: ({ json, bytes }) => given.data(encodeParts(json, bytes)),
        drain() {
          flush();
          if (isEnding && waiting.length === 0) channel.close();
        },
        closed(error) {
          waiting = [];
          given.closed(error);
        },
      });
    },
    write(body) {
      const message = decodeMessage(body);
      if (waiting.length === 0 && channel.send(message)) return true;
      waiting.push({ json: message.json, bytes: message.bytes.slice() });
      return false;
    },
    pause: (paused) => channel.pause(paused),
    end() {
      isEnding = true;
      // What was sent before still arrives.
      if (waiting.length === 0) channel.close();
    },
    close: () => channel.close(),
    reset() {
      waiting = [];
      const why = calls.closedBy;
      failChannel(
        channel,
        why === undefined
          ? godwitError("GODWIT_PLUGIN_FAILED", "the other plugin failed at a message")
          : godwitError("GODWIT_SERVICE_GONE", `the other plugin is gone: ${why.message}`),
      );
    },
  };
}

/** Borrowed. Throws GODWIT_DECODE. */
function decodeMessage(body: Uint8Array) {
  if (body.length > SERVICE_LIMITS.messageBytes + 4)
    throw godwitError("GODWIT_DECODE", "plugin frame: a message beyond its bound");
  return decodeParts(body, SERVICE_LIMITS.jsonBytes);
}
