/** Streams over the mesh over frames: `ctx.streams` of an engine, and a part of a service's `ctx.mesh`. */
import type { EngineStreams, GodwitError, IncomingMeshStream } from "@godwit/sdk";
import { asGodwitError, godwitError } from "../../kernel/errors.ts";
import { FlowPipe } from "../frames/flow-pipe.ts";
import { PluginFrame } from "../frames/frames.ts";
import { flowFacts } from "./net.ts";
import type { ContextParts } from "./parts.ts";

export interface GuestStreams {
  readonly streams: EngineStreams;
  onOpen(id: number, opened: object, metadata: Uint8Array): void;
}

/** Over the calls `<prefix>.openStream`, `.onStream` and `.accept`. */
export function createStreams(
  { calls, flows, port, scope }: ContextParts,
  prefix: "mesh" | "streams",
): GuestStreams {
  const handlers = new Map<number, (stream: IncomingMeshStream) => void>();
  let next = 1;
  const check = () => {
    if (scope.isClosed) throw godwitError("GODWIT_STOPPED", "the plugin has stopped");
  };
  const streamOf = (
    id: number,
    { remote, service }: { readonly remote: string; readonly service: string },
    metadata: Uint8Array,
    direction: "inbound" | "outbound",
  ): IncomingMeshStream => {
    const flow = new FlowPipe(flows, id, flowFacts("stream", direction));
    return {
      remote,
      service,
      metadata,
      open: (given) =>
        flow.open({
          data: (bytes) => given.data(bytes.slice()),
          end: () => given.end(),
          drain: () => given.drain(),
          closed: (error) => given.closed(error as GodwitError | undefined),
        }),
      write: (bytes) => flow.write(bytes),
      end: () => flow.end(),
      pause: (paused) => flow.pause(paused),
      reset: () => flow.reset(),
      accept: () => void calls.ask(`${prefix}.accept`, { flow: id }, () => {}).catch(() => {}),
    };
  };
  return {
    streams: {
      openStream: async (to, service, { metadata, signal } = {}) => (
        check(),
        await calls.ask(
          `${prefix}.openStream`,
          { to, service },
          (value, bytes) => {
            const answer = value as { flow: number; remote: string; service: string };
            return streamOf(answer.flow, answer, bytes.slice(), "outbound");
          },
          { signal, ...(metadata === undefined ? {} : { bytes: metadata }) },
        )
      ),
      onStream(service, handler) {
        check();
        handlers.set(next, handler);
        calls.askNow(`${prefix}.onStream`, { handler: next++, service });
      },
    },
    onOpen(id, opened, metadata) {
      const facts = opened as { what: string; handler: number; remote: string; service: string };
      if (facts.what !== "stream") return;
      const stream = streamOf(id, facts, metadata, "inbound");
      try {
        const handler = handlers.get(facts.handler);
        if (handler === undefined) stream.reset();
        else handler(stream);
      } catch (error) {
        const fields = { error: asGodwitError(error).message };
        port.sendParts(PluginFrame.log, 0, { level: "error", event: "onStream handler failed", fields });
        stream.reset();
      }
    },
  };
}
