/**
 * transport.memory: pipes inside one process, for tests and for several nodes in one program. A `MemoryNetwork` is the
 * medium; nodes on different ones never meet.
 */
import { definePlugin } from "@godwit/sdk";
import { z } from "zod/mini";
import { MemoryNetwork, NAME } from "./network.ts";

const config = z.strictObject({
  /** Name to listen under: reached as `memory://<listen>`. */
  listen: z.optional(
    z.string().check(z.regex(NAME, { error: "expected a name of lower-case letters, digits and hyphens" })),
  ),
});

/** A plugin bound to one medium. */
export const memoryTransport = (network: MemoryNetwork) =>
  definePlugin({
    id: "memory",
    namespace: "transport",
    sdk: "^0.1.0",
    permissions: [],
    config,
    start(ctx, { listen }) {
      const from = listen ?? `anonymous-${ctx.instance}`;
      ctx.transport.register({
        schemes: ["memory"],
        dial: async (endpoint, signal) => {
          signal.throwIfAborted();
          return network.dial(endpoint.slice("memory://".length), from);
        },
      });
      if (listen === undefined) return;
      ctx.own(network.listen(listen, (pipe) => ctx.transport.accept(pipe)));
      ctx.transport.listening([`memory://${listen}`]);
    },
  });

export default memoryTransport(new MemoryNetwork());
