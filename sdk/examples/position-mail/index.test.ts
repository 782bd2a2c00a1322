import type { OfferedService, ServiceChannel } from "@godwit/sdk";
import { consumerConformance, FakeServices, serviceConformance, TestHost } from "@godwit/sdk/testkit";
import { expect, test } from "bun:test";
import plugin from "./index.ts";

const followed = (onChannel: (channel: ServiceChannel) => void = () => {}): OfferedService => ({
  request: async () => ({ json: null }),
  channel(channel) {
    channel.open({ message() {}, drain() {}, closed() {} });
    onChannel(channel);
  },
});
const setup = () => ({
  plugin,
  config: { to: "DUN-B" },
  badConfigs: [{ to: "" }, { to: "DUN-B", metres: 0 }],
  clockStepMs: 100,
});

serviceConformance({ name: "position-mail", setup });
consumerConformance({
  name: "position-mail",
  setup: () => ({ ...setup(), service: "position", provider: () => followed() }),
});

test("it says where it is when it has moved, and not otherwise", async () => {
  const services = new FakeServices();
  const source = new AbortController();
  services.door("service.gps", source.signal).offer(
    "position",
    followed((channel) => {
      for (const lat of [50, 50.0001, 51, 51]) channel.send({ json: { lat, lon: 10 } });
    }),
  );
  const host = new TestHost(plugin, { services });
  await host.start({ to: "DUN-B" });
  while (host.mesh.outgoing.length < 2) await new Promise((resolve) => setImmediate(resolve));
  expect(host.mesh.outgoing.map(({ body }) => new TextDecoder().decode(body))).toEqual([
    "50.00000 10.00000\n",
    "51.00000 10.00000\n",
  ]);
  await host.stop();
  expect(host.leaks()).toEqual([]);
  source.abort();
});
