import { discoveryConformance } from "@godwit/sdk/testkit";
import plugin from "./index.ts";

// What Godwit expects of every discovery: hints in the registered form, kept alive and withdrawn once.
discoveryConformance({
  name: "my-plugin",
  setup: () => ({
    plugin,
    config: { endpoints: ["tcp://a.example:4860"] },
    expected: ["tcp://a.example:4860"],
    badConfigs: [{ endpoints: ["nonsense"] }],
    clockStepMs: 1,
  }),
});
