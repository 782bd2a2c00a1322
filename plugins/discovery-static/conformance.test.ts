import { discoveryConformance } from "@godwit/sdk/testkit";
import plugin from "./index.ts";

discoveryConformance({
  name: "static",
  setup: () => ({
    plugin,
    config: { peers: ["tcp://a.example:4860", `tcp://[fd00::1]:1#${"B".repeat(51)}Q`] },
    expected: ["tcp://a.example:4860", "tcp://[fd00::1]:1"],
    badConfigs: [{ peers: ["a:1"] }, { peers: "tcp://a:1" }],
  }),
});
