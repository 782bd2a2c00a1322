/** `ctx.members` and `ctx.streams` of an engine outside of the node's thread: the node's side of those calls. */
import { MEMBERS_PAGE_MAX } from "@godwit/sdk";
import { z } from "zod";
import { parseJson } from "../frames/parse.ts";
import type { RemoteParts } from "./parts.ts";
import { addStreamCalls, handlerSchema, HandlerCount } from "./streams.ts";

const idSchema = z.object({ id: z.string().max(64) });
const pageSchema = z.object({
  limit: z.number().int().min(1).max(MEMBERS_PAGE_MAX).optional(),
  after: z.string().max(64).optional(),
});

export function addEngineCalls(parts: RemoteParts): void {
  const { calls, ctx } = parts;
  const handlers = new HandlerCount();
  calls.add("members.get", (args) => ({ json: ctx.members.get(parseJson(idSchema, args).id) ?? null }));
  calls.add("members.list", (args) => {
    const { limit, after } = parseJson(pageSchema, args);
    return {
      json: ctx.members.list({
        ...(limit === undefined ? {} : { limit }),
        ...(after === undefined ? {} : { after }),
      }),
    };
  });
  calls.add("members.onChange", (args) => {
    const { handler } = parseJson(handlerSchema, args);
    handlers.add();
    // Its answer is waited for: whoever does not read is told nothing more.
    ctx.members.onChange((changes) => calls.ask("members.changed", { handler, changes }, () => {}));
    return {};
  });
  // Asked for when it is used: a host may have none.
  const door = {
    openStream: (...asked: Parameters<typeof ctx.streams.openStream>) => ctx.streams.openStream(...asked),
    onStream: (...asked: Parameters<typeof ctx.streams.onStream>) => ctx.streams.onStream(...asked),
  };
  addStreamCalls(parts, "streams", door, handlers);
}
