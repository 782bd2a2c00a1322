import { expect, test } from "bun:test";
import { serviceConformance, TestHost } from "@godwit/sdk/testkit";
import plugin from "./index.ts";

// What Godwit expects of every service: messages come at least once, the mesh may fail, stop may come at any time.
serviceConformance({
  name: "my-plugin",
  setup: () => ({ plugin, config: {}, badConfigs: [{ word: "" }] }),
});

test("it answers its word and nothing else", async () => {
  const host = new TestHost(plugin);
  await host.start({ word: "knock" });
  host.mesh.receive("who is there?", { subject: "knock" });
  host.mesh.receive("nobody", { subject: "hello" });
  while (host.mesh.outgoing.length === 0) await new Promise((resolve) => setImmediate(resolve));
  expect(host.mesh.outgoing.map(({ subject }) => subject)).toEqual(["Re: knock"]);
  await host.stop();
  expect(host.leaks()).toEqual([]);
});
