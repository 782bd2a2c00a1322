/** my-plugin: answers every message whose subject is its word. */
import { definePlugin, z } from "@godwit/sdk";

const config = z.strictObject({ word: z.string().min(1).max(64).default("ping") });

export default definePlugin({
  id: "my-plugin",
  namespace: "service",
  sdk: "SDK_RANGE",
  permissions: [],
  config,
  start(ctx, { word }) {
    const answered = ctx.counter("answered", "messages answered");
    ctx.mesh.onMessage(async (message) => {
      if (message.subject !== word) return;
      const body = await ctx.mesh.inbox.body(message.id);
      // A message may come more than once: the key makes one answer of it.
      await ctx.mesh.send({
        to: message.from,
        subject: `Re: ${word}`,
        body: body ?? new Uint8Array(),
        idempotencyKey: `my-plugin:${message.id}`,
      });
      answered.add();
    });
  },
});
