import { engineConformance } from "@godwit/sdk/testkit";
import plugin from "./index.ts";

// What Godwit expects of every engine: keys, what its guarantee says, and no more than that.
engineConformance({
  name: "my-plugin",
  setup: () => ({ plugin, config: {}, badConfigs: [{ keys_max: 0 }] }),
});
