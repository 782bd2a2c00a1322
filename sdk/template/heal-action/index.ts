/** my-plugin: drops what piled up in this plugin's storage. Replace the trouble; keep plan, budget and words. */
import { definePlugin, z } from "@godwit/sdk";

const config = z.strictObject({
  /** So many keys are no trouble. */
  keep: z.int().min(0).max(60).default(10),
});

export default definePlugin({
  id: "my-plugin",
  namespace: "heal-action",
  sdk: "SDK_RANGE",
  permissions: [],
  config,
  start(ctx, { keep }) {
    const surplus = async () => (await ctx.storage.keys()).slice(keep);
    ctx.heal.register({
      name: "my-plugin",
      summary: "drops keys beyond those that are kept",
      async plan(signal) {
        signal.throwIfAborted();
        return (await surplus()).map((key) => `delete ${key}`);
      },
      async run(budget, signal) {
        const done: string[] = [];
        for (const key of await surplus()) {
          signal.throwIfAborted();
          // Before each step: throws when none is left.
          budget.spend();
          await ctx.storage.delete(key);
          done.push(`deleted ${key}`);
        }
        return done;
      },
    });
  },
});
