/** `ctx.peers` and `ctx.onRequest` of a plugin outside of the node's thread: the node's side of those calls. */
import { z } from "zod";
import { PluginFrame } from "../frames/frames.ts";
import { parseJson } from "../frames/parse.ts";
import type { RemoteParts } from "./parts.ts";

/** What an operator asks a plugin is answered within this. */
const REQUEST_DEADLINE_MS = 30_000;

const target = z.object({ to: z.string().max(64) });

/** Each subscription is made once, however often the plugin asks. */
export function addPeersCalls({ calls, ctx, port }: RemoteParts): void {
  const made = new Set<string>();
  const once = (name: string, subscribe: () => void) =>
    calls.add(name, () => {
      if (!made.has(name)) {
        made.add(name);
        subscribe();
      }
      return {};
    });
  calls.add("peers.self", () => ({ json: ctx.peers.self }));
  calls.add("peers.list", () => ({ json: ctx.peers.list() }));
  calls.add("peers.send", (args, bytes) => ({
    json: ctx.peers.send(parseJson(target, args).to, bytes),
  }));
  once("peers.onChange", () =>
    ctx.peers.onChange(() => port.sendParts(PluginFrame.event, 0, { event: "peers" })),
  );
  once("peers.onMessage", () =>
    ctx.peers.onMessage((from, message) =>
      port.sendParts(PluginFrame.event, 0, { event: "peer-message", from }, message),
    ),
  );
  once("onRequest", () =>
    ctx.onRequest((request, input) =>
      calls.ask("request", { request, input }, (value) => value, { timeoutMs: REQUEST_DEADLINE_MS }),
    ),
  );
}
