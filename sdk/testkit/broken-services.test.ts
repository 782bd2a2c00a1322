/** Every check of providers and consumers of named services is shown one that breaks it, and none objects to one that is as it should be. */
import { describe, expect, test } from "bun:test";
import { type ConsumerFault, type ProviderFault, radioConsumer, radioProvider } from "./broken-services.ts";
import { consumerChecks, type ConsumerSetup, providerChecks, type ProviderSetup } from "./index.ts";
import { verdict } from "./broken-verdict.ts";

const provider = (fault?: ProviderFault) => (): ProviderSetup => {
  const { plugin, hear } = radioProvider(fault);
  return {
    plugin,
    config: {},
    service: "radio",
    requests: [{ ask: "info" }],
    channels: [{ ask: "listen" }],
    feed: (_host, count) => hear(count),
  };
};
const consumer = (fault?: ConsumerFault) => (): ConsumerSetup => ({
  plugin: radioConsumer(fault),
  config: {},
  clockStepMs: 100,
  service: "radio",
  provider: () => ({
    request: async () => ({ json: { heard: 0 } }),
    channel: (channel) => channel.open({ message() {}, drain() {}, closed() {} }),
  }),
});

describe("nothing is wrong with the correct ones", () => {
  test.each(providerChecks.map(({ name }) => name))("provider: %s", async (name) => {
    expect(await verdict(providerChecks, name, { name: "x", setup: provider() })).toBe("passes");
  });
  test.each(consumerChecks.map(({ name }) => name))("consumer: %s", async (name) => {
    expect(await verdict(consumerChecks, name, { name: "x", setup: consumer() })).toBe("passes");
  });
});

const providers: readonly (readonly [ProviderFault, name: string, says: string])[] = [
  ["absent", "what it offers", 'it offers "radio"'],
  ["mute", "what it offers", '"info" rejects'],
  ["silent", "what it offers", "what it hears of is sent"],
  ["answers-anything", "what it does not know", "answers a request that it does not know"],
  ["opens-anything", "what it does not know", "takes a channel that it does not know"],
  ["throws-at-strange", "what it does not know", "fails instead of being refused"],
  ["fails-at-strange", "what it does not know", 'task "strange" failed'],
  ["throws-in-message", "what it does not know", "a handler of a channel threw"],
  ["impatient", "a slow reader", "sends again before drain"],
  ["one-for-all", "a slow reader", "leaves the others"],
  ["hoards", "a slow reader", "messages for one reader that took none"],
  ["never-resumes", "a slow reader", "a reader that goes on gets what is new"],
  ["drops-the-slow", "a slow reader", "because its reader was slow"],
  ["hangs-when-given-up", "a request that was given up", "settles soon after"],
  ["hangs-when-given-up", "stop in the middle", "settled once the plugin has stopped"],
  ["dies-with-its-consumer", "a consumer that goes", 'task "mourns" failed'],
];
const consumers: readonly (readonly [ConsumerFault, name: string, says: string])[] = [
  ["needs-it-at-start", "a provider that comes later", "start failed"],
  ["says-it-is-down", "a provider that comes later", "says that it is down"],
  ["once", "a provider that goes", "uses the second life"],
  ["sulks", "a provider that refuses", "after one that refused"],
  ["fails-when-refused", "a provider that refuses", 'task "listen" failed'],
  ["trusts", "answers and messages that mean nothing", "a handler of a channel threw"],
  ["impatient", "stop while", "sends again before drain"],
  ["floods", "stop while", "requests wait for one provider"],
  ["opens-without-end", "stop while", "channels that nobody reads"],
];

describe("a broken one is caught", () => {
  test.concurrent.each(providers)("provider %s, by: %s", async (fault, name, says) => {
    expect(await verdict(providerChecks, name, { name: "x", setup: provider(fault) })).toContain(says);
  });
  test.concurrent.each(consumers)("consumer %s, by: %s", async (fault, name, says) => {
    expect(await verdict(consumerChecks, name, { name: "x", setup: consumer(fault) })).toContain(says);
  });
});
