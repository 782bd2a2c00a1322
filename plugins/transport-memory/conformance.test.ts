import { transportConformance } from "@godwit/sdk/testkit";
import { memoryTransport } from "./index.ts";
import { MemoryNetwork } from "./network.ts";

transportConformance({
  name: "memory",
  kind: "stream",
  setup: () => ({
    plugin: memoryTransport(new MemoryNetwork()),
    listenConfig: { listen: "far" },
    dialConfig: {},
    badEndpoints: ["memory://", "memory://No Such Name"],
    badConfigs: [{ listen: "UPPER" }, { listen: 1 }],
  }),
});
