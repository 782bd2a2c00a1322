import { healActionConformance } from "@godwit/sdk/testkit";
import plugin from "./index.ts";

// What Godwit expects of every heal action: it says first, does no more than it may, and is done when it is done.
healActionConformance({
  name: "my-plugin",
  setup: () => ({
    plugin,
    config: { keep: 1 },
    action: "my-plugin",
    badConfigs: [{ keep: -1 }],
    async trouble(host) {
      for (const key of ["a", "b", "c"]) await host.storage.set(key, new Uint8Array(1));
    },
    isHealed: async (host) => (await host.storage.keys()).length <= 1,
  }),
});
