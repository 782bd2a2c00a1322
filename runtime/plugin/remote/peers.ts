/** `ctx.peers` and `ctx.onRequest` of a plugin outside of the node's thread: the node's side of those calls. */
import type { PluginContext } from "@godwit/sdk";
import { z } from "zod";
import { godwitError } from "../../kernel/errors.ts";
import type { FramePort } from "../frames/port.ts";
import { PluginFrame } from "../frames/frames.ts";
import { parseJson } from "../frames/parse.ts";
import type { Method, Ask } from "./method.ts";

/** What an operator asks a plugin is answered within this. */
const REQUEST_DEADLINE_MS = 30_000;

const target = z.object({ to: z.string().max(64) });

/** Each subscription is made once, however often the plugin asks. */
export function addPeersCalls(
  methods: Map<string, Method>,
  ctx: PluginContext,
  port: FramePort,
  ask: Ask,
): void {
  const made = new Set<string>();
  const once = (name: string, subscribe: () => void) =>
    methods.set(name, () => {
      if (!made.has(name)) {
        made.add(name);
        subscribe();
      }
      return {};
    });
  methods.set("peers.self", () => ({ json: ctx.peers.self }));
  methods.set("peers.list", () => ({ json: ctx.peers.list() }));
  methods.set("peers.send", (args, bytes) => ({
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
    ctx.onRequest(async (request, input) => {
      const late = new AbortController();
      const deadline = ctx.clock.after(REQUEST_DEADLINE_MS, () =>
        late.abort(
          godwitError(
            "GODWIT_PLUGIN_FAILED",
            `the plugin did not answer within ${REQUEST_DEADLINE_MS / 1_000} s`,
          ),
        ),
      );
      try {
        return await ask("request", { request, input }, (value) => value, late.signal);
      } finally {
        deadline.cancel();
      }
    }),
  );
}
