/** `ctx.mesh` over frames. What the SDK answers without a promise holds the thread for one round trip. */
import type {
  GodwitError,
  IncomingMeshStream,
  IncomingMessage,
  Mesh,
  MeshSelf,
  MeshStation,
  SentMessage,
} from "@godwit/sdk";
import { asGodwitError, godwitError } from "../../kernel/errors.ts";
import { FlowPipe } from "../frames/flow-pipe.ts";
import { PluginFrame } from "../frames/frames.ts";
import { flowFacts } from "./net.ts";
import type { ContextParts } from "./parts.ts";

export interface GuestMesh {
  readonly mesh: Mesh;
  onEvent(event: object): void;
  onOpen(id: number, opened: object, metadata: Uint8Array): void;
}

/** JSON has no undefined: what the SDK says may be undefined is not there, or null. */
const orUndefined = <T>(value: unknown): T | undefined => (value === null ? undefined : (value as T));

export function createMesh({ calls, flows, port, scope }: ContextParts, self: MeshSelf): GuestMesh {
  const messages = new Map<number, (message: IncomingMessage) => void | Promise<void>>();
  const sent = new Map<number, (message: SentMessage) => void>();
  const streams = new Map<number, (stream: IncomingMeshStream) => void>();
  let next = 1;
  const check = () => {
    if (scope.isClosed) throw godwitError("GODWIT_STOPPED", "the plugin has stopped");
  };
  const now = <T>(method: string, args: object = {}): T => (check(), calls.askNow(method, args) as T);
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
      open: (handlers) =>
        flow.open({
          data: (bytes) => handlers.data(bytes.slice()),
          end: () => handlers.end(),
          drain: () => handlers.drain(),
          closed: (error) => handlers.closed(error as GodwitError | undefined),
        }),
      write: (bytes) => flow.write(bytes),
      end: () => flow.end(),
      pause: (paused) => flow.pause(paused),
      reset: () => flow.reset(),
      accept: () => void calls.ask("mesh.accept", { flow: id }, () => {}).catch(() => {}),
    };
  };
  const mesh: Mesh = {
    self,
    stations: () => now<MeshStation[]>("mesh.stations"),
    send: async ({ body, ...message }) => (
      check(),
      await calls.ask("mesh.send", message, (value) => value as { id: string }, { bytes: body })
    ),
    sent: (id) => orUndefined<SentMessage>(now("mesh.sent", { id })),
    onMessage(handler) {
      messages.set(next, handler);
      now("mesh.onMessage", { handler: next++ });
    },
    onSent(handler) {
      sent.set(next, handler);
      now("mesh.onSent", { handler: next++ });
    },
    openStream: async (to, service, { metadata, signal } = {}) => (
      check(),
      await calls.ask(
        "mesh.openStream",
        { to, service },
        (value, bytes) => {
          const answer = value as { flow: number; remote: string; service: string };
          return streamOf(answer.flow, answer, bytes.slice(), "outbound");
        },
        { signal, ...(metadata === undefined ? {} : { bytes: metadata }) },
      )
    ),
    onStream(service, handler) {
      streams.set(next, handler);
      now("mesh.onStream", { handler: next++, service });
    },
    inbox: {
      get count() {
        return now<number>("mesh.inbox.count");
      },
      list: (page) => now<IncomingMessage[]>("mesh.inbox.list", page),
      get: (id) => orUndefined<IncomingMessage>(now("mesh.inbox.get", { id })),
      body: async (id) => (
        check(),
        await calls.ask("mesh.inbox.body", { id }, (_value, bytes) => bytes.slice())
      ),
      remove: async (id) => (check(), await calls.ask("mesh.inbox.remove", { id }, () => {})),
    },
  };
  calls.add("message", async (args) => {
    const { handler, message } = args as { handler: number; message: IncomingMessage };
    await messages.get(handler)?.(message);
    return {};
  });
  return {
    mesh,
    onEvent(event) {
      const {
        event: name,
        handler,
        message,
      } = event as { event: string; handler: number; message: SentMessage };
      if (name === "sent") sent.get(handler)?.(message);
    },
    onOpen(id, opened, metadata) {
      const facts = opened as { what: string; handler: number; remote: string; service: string };
      if (facts.what !== "stream") return;
      const stream = streamOf(id, facts, metadata, "inbound");
      try {
        const handler = streams.get(facts.handler);
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
