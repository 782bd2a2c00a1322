/** `ctx.mesh` of a service outside of the node's thread: the node's side of those calls. */
import type { OutgoingMessage } from "@godwit/sdk";
import { z } from "zod";
import { PluginFrame } from "../frames/frames.ts";
import { parseJson } from "../frames/parse.ts";
import type { RemoteParts } from "./parts.ts";
import { addStreamCalls, handlerSchema, HandlerCount } from "./streams.ts";

const idSchema = z.object({ id: z.string().max(64) });
const pageSchema = z.object({
  order: z.enum(["oldest-first", "newest-first"]),
  limit: z.number().int().min(1).max(500),
  after: z.string().max(64).optional(),
});
/** The form alone: what a message may be is checked where every message is. */
const outgoingSchema = z.object({
  to: z.string(),
  subject: z.string().optional(),
  contentType: z.string().optional(),
  priority: z.union([z.literal(0), z.literal(1), z.literal(2), z.literal(3)]).optional(),
  ttlSeconds: z.number().optional(),
  failover: z.boolean().optional(),
  idempotencyKey: z.string().optional(),
  transient: z.boolean().optional(),
});

export function addMeshCalls(parts: RemoteParts): void {
  const { calls, ctx, port } = parts;
  const { mesh } = ctx;
  const { inbox } = mesh;
  const handlers = new HandlerCount();
  calls.add("mesh.stations", () => ({ json: mesh.stations() }));
  calls.add("mesh.send", async (args, body) => {
    const message = { ...parseJson(outgoingSchema, args), body } as OutgoingMessage;
    return { json: await mesh.send(message) };
  });
  calls.add("mesh.sent", async (args) => ({ json: (await mesh.sent(parseJson(idSchema, args).id)) ?? null }));
  calls.add("mesh.inbox.count", () => ({ json: inbox.count }));
  calls.add("mesh.inbox.list", async (args) => {
    const { order, limit, after } = parseJson(pageSchema, args);
    return { json: await inbox.list({ order, limit, ...(after === undefined ? {} : { after }) }) };
  });
  calls.add("mesh.inbox.get", async (args) => ({
    json: (await inbox.get(parseJson(idSchema, args).id)) ?? null,
  }));
  calls.add("mesh.inbox.body", async (args) => ({ bytes: await inbox.body(parseJson(idSchema, args).id) }));
  calls.add("mesh.inbox.remove", async (args) => {
    await inbox.remove(parseJson(idSchema, args).id);
    return {};
  });
  calls.add("mesh.onMessage", (args) => {
    const { handler } = parseJson(handlerSchema, args);
    handlers.add();
    mesh.onMessage((message) => calls.ask("message", { handler, message }, () => {}));
    return {};
  });
  calls.add("mesh.onSent", (args) => {
    const { handler } = parseJson(handlerSchema, args);
    handlers.add();
    mesh.onSent((message) => port.sendParts(PluginFrame.event, 0, { event: "sent", handler, message }));
    return {};
  });
  addStreamCalls(parts, "mesh", mesh, handlers);
}
