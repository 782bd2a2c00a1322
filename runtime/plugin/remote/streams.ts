/** Streams over the mesh of a plugin outside of the node's thread: the node's side of those calls, and how a stream becomes a flow. */
import type { EngineStreams, IncomingMeshStream } from "@godwit/sdk";
import { z } from "zod";
import { godwitError } from "../../kernel/errors.ts";
import type { Flows, FlowSource } from "../frames/flow.ts";
import { openPump } from "../frames/flow-pump.ts";
import { PluginFrame } from "../frames/frames.ts";
import { parseJson } from "../frames/parse.ts";
import type { RemoteParts } from "./parts.ts";

/** Handlers that one plugin may register, of all kinds together. */
const HANDLERS_MAX = 64;

export class HandlerCount {
  #count = 0;

  /** Throws GODWIT_QUEUE_FULL. */
  add(): void {
    if (++this.#count > HANDLERS_MAX)
      throw godwitError("GODWIT_QUEUE_FULL", `a plugin registers at most ${HANDLERS_MAX} handlers`);
  }
}

interface Endable {
  open(handlers: {
    data(bytes: Uint8Array): void;
    end(): void;
    drain(): void;
    closed(error?: Error): void;
  }): void;
  write(bytes: Uint8Array): boolean;
  pause(paused: boolean): void;
  end(): void;
  reset(): void;
}

/** A stream as a pump takes it: what is closed politely has said all it had. */
export const withClose = (stream: Endable): FlowSource => ({
  open: (handlers) =>
    stream.open({
      data: (bytes) => handlers.data(bytes),
      end: () => handlers.end?.(),
      drain: () => handlers.drain(),
      closed: (error) => handlers.closed(error),
    }),
  write: (bytes) => stream.write(bytes),
  pause: (paused) => stream.pause(paused),
  close: () => stream.end(),
  end: () => stream.end(),
  reset: () => stream.reset(),
});

const nameSchema = z.string().max(64);
export const handlerSchema = z.object({ handler: z.number().int().min(0).max(0xffff_ffff) });
const openSchema = z.object({ to: nameSchema, service: nameSchema });
const onSchema = handlerSchema.extend({ service: nameSchema });
const acceptSchema = z.object({ flow: z.number().int() });

/** `<prefix>.openStream`, `.onStream` and `.accept`. */
export function addStreamCalls(
  { calls, port, flows }: RemoteParts,
  prefix: string,
  door: EngineStreams,
  handlers: HandlerCount,
): void {
  const accepts = new Map<number, () => void>();
  calls.add(`${prefix}.openStream`, async (args, metadata, signal) => {
    const { to, service } = parseJson(openSchema, args);
    const stream = await door.openStream(to, service, { metadata: metadata.slice(), signal });
    const flow = newFlow(flows, stream);
    return {
      json: { flow, remote: stream.remote, service: stream.service },
      bytes: stream.metadata,
      after: () => openPump(flows, flow, withClose(stream), "stream"),
    };
  });
  calls.add(`${prefix}.onStream`, (args) => {
    const { handler, service } = parseJson(onSchema, args);
    handlers.add();
    door.onStream(service, (stream) => {
      const flow = newFlow(flows, stream);
      const { remote, metadata } = stream;
      const told = { what: "stream", handler, remote, service: stream.service };
      port.sendParts(PluginFrame.open, flow, told, metadata);
      openPump(flows, flow, incoming(stream, flow, accepts), "stream");
    });
    return {};
  });
  calls.add(`${prefix}.accept`, (args) => {
    const { flow } = parseJson(acceptSchema, args);
    accepts.get(flow)?.();
    accepts.delete(flow);
    return {};
  });
}

/** Refused, not ended, while the plugin has not taken it. */
function incoming(stream: IncomingMeshStream, flow: number, accepts: Map<number, () => void>): FlowSource {
  let isAccepted = false;
  accepts.set(flow, () => {
    isAccepted = true;
    stream.accept();
  });
  const whole = withClose(stream);
  return {
    ...whole,
    open: (handlers) =>
      whole.open({
        ...handlers,
        closed: (error) => {
          accepts.delete(flow);
          handlers.closed(error);
        },
      }),
    close: () => (isAccepted ? stream.end() : stream.reset()),
  };
}

function newFlow(flows: Flows, stream: { reset(): void }): number {
  try {
    return flows.newId();
  } catch (error) {
    stream.reset();
    throw error;
  }
}
