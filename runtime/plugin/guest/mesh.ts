/** `ctx.mesh` over frames. What the SDK answers without a promise holds the thread for one round trip. */
import type { IncomingMessage, Mesh, MeshSelf, MeshStation, SentMessage } from "@godwit/sdk";
import { godwitError } from "../../kernel/errors.ts";
import type { ContextParts } from "./parts.ts";
import { createStreams, type GuestStreams } from "./streams.ts";

export interface GuestMesh extends Pick<GuestStreams, "onOpen"> {
  readonly mesh: Mesh;
  onEvent(event: object): void;
}

/** JSON has no undefined: what the SDK says may be undefined is not there, or null. */
const orUndefined = <T>(value: unknown): T | undefined => (value === null ? undefined : (value as T));

export function createMesh(parts: ContextParts, self: MeshSelf): GuestMesh {
  const { calls, scope } = parts;
  const messages = new Map<number, (message: IncomingMessage) => void | Promise<void>>();
  const sent = new Map<number, (message: SentMessage) => void>();
  let next = 1;
  const check = () => {
    if (scope.isClosed) throw godwitError("GODWIT_STOPPED", "the plugin has stopped");
  };
  const now = <T>(method: string, args: object = {}): T => (check(), calls.askNow(method, args) as T);
  const { streams, onOpen } = createStreams(parts, "mesh");
  const mesh: Mesh = {
    ...streams,
    self,
    stations: () => now<MeshStation[]>("mesh.stations"),
    send: async ({ body, ...message }) => (
      check(),
      await calls.ask("mesh.send", message, (value) => value as { id: string }, { bytes: body })
    ),
    sent: async (id) => (
      check(),
      await calls.ask("mesh.sent", { id }, (value) => orUndefined<SentMessage>(value))
    ),
    onMessage(handler) {
      messages.set(next, handler);
      now("mesh.onMessage", { handler: next++ });
    },
    onSent(handler) {
      sent.set(next, handler);
      now("mesh.onSent", { handler: next++ });
    },
    inbox: {
      get count() {
        return now<number>("mesh.inbox.count");
      },
      list: async (page) => (
        check(),
        await calls.ask("mesh.inbox.list", page, (value) => value as IncomingMessage[])
      ),
      get: async (id) => (
        check(),
        await calls.ask("mesh.inbox.get", { id }, (value) => orUndefined<IncomingMessage>(value))
      ),
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
    onOpen,
  };
}
