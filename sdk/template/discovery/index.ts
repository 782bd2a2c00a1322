/** my-plugin: hints at what its table lists. Replace the list by what you can find out. */
import { definePlugin, z } from "@godwit/sdk";

/** Hints are refreshed before they run out, so that a plugin that hangs is forgotten by itself. */
const LIFETIME_MS = 60_000;
const REFRESH_MS = 20_000;

const config = z.strictObject({
  endpoints: z
    .array(z.string().regex(/^[a-z][a-z0-9+.-]*:\/\/\S+$/))
    .max(256)
    .default([]),
});

export default definePlugin({
  id: "my-plugin",
  namespace: "discovery",
  sdk: "SDK_RANGE",
  permissions: [],
  config,
  start(ctx, { endpoints }) {
    let timer = ctx.clock.after(0, function hint() {
      for (const endpoint of endpoints) ctx.discovery.hint({ endpoint, lifetimeMs: LIFETIME_MS });
      timer = ctx.clock.after(REFRESH_MS, hint);
    });
    ctx.own(() => timer.cancel());
  },
});
