import { expect, test } from "bun:test";
import { TestHost, transportConformance } from "@godwit/sdk/testkit";
import plugin from "./index.ts";

// What Godwit expects of every transport, sentence by sentence.
transportConformance({
  name: "my-plugin",
  kind: "stream",
  setup: () => ({
    plugin,
    listenConfig: { listen: ["127.0.0.1:0"] },
    dialConfig: {},
    badEndpoints: ["my-plugin://", "my-plugin://a", "my-plugin://a:99999"],
    badConfigs: [{ listen: ["nonsense"] }],
  }),
});

// What is special about yours.
test("it publishes the port that the system chose", async () => {
  const host = new TestHost(plugin);
  await host.start({ listen: ["127.0.0.1:0"] });
  expect(host.endpoints).toEqual([expect.stringMatching(/^my-plugin:\/\/127\.0\.0\.1:[1-9]\d*$/)]);
  await host.stop();
  expect(host.leaks()).toEqual([]);
});
