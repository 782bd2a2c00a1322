/** Services between two plugins that are both outside of the node's thread: provider and consumer over frames, the real board between. */
import { expect, test } from "bun:test";
import type { OfferedService, ServiceMessage } from "@godwit/sdk";
import { ManualClock } from "../../kernel/clock.ts";
import { silentLog } from "../../kernel/log.ts";
import { Metrics } from "../../kernel/metrics.ts";
import { Scope } from "../../kernel/scope.ts";
import { decodeParts, PluginFrame } from "../frames/frames.ts";
import { FrameBed } from "../frames/testing.ts";
import { createServices } from "../guest/services.ts";
import type { ContextParts } from "../guest/parts.ts";
import { doorPolicyOf } from "../permissions.ts";
import { ServiceBoard } from "../service/board.ts";
import type { RemoteParts } from "./parts.ts";
import { addServiceCalls } from "./services.ts";

function rig() {
  const board = new ServiceBoard(new ManualClock(), new Metrics());
  const plugin = (source: string, granted: readonly string[]) => {
    const scope = new Scope(source);
    const policy = doorPolicyOf(["service:*", "service.offer:*"], granted);
    const services = board.door({ source, scope, policy, log: silentLog });
    const bed = new FrameBed(true);
    addServiceCalls({ ...bed.node, ctx: { services } } as unknown as RemoteParts);
    const guest = createServices({ ...bed.plugin, scope: new Scope("guest") } as unknown as ContextParts);
    bed.onOther = (end, type, _id, body) => {
      if (end === "plugin" && type === PluginFrame.event) guest.onEvent(decodeParts(body).json as object);
    };
    return { scope, services: guest.services };
  };
  const provider = plugin("transport.radio", ["service.offer:radio"]);
  const consumer = plugin("service.observer", ["service:radio"]);
  return { provider, consumer };
}

const turns = async () => {
  for (let i = 0; i < 20; i++) await new Promise<void>((resolve) => setImmediate(resolve));
};
const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => "fulfilled",
    (error: { code?: string }) => error.code,
  );

test("a request crosses twice, with whoever asks proven, and a plugin without the permission gets none", async () => {
  const { provider, consumer } = rig();
  const echo: OfferedService = {
    request: async ({ ask, consumer: by, json, bytes }) => ({ json: { ask, by, json }, bytes }),
  };
  provider.services.offer("radio", echo);
  await turns();
  const used = consumer.services.use("radio");
  await used.whenThere();
  const answer = await used.request("info", { json: [1], bytes: Uint8Array.of(7, 8) });
  expect(answer).toEqual({
    json: { ask: "info", by: "service.observer", json: [1] },
    bytes: Uint8Array.of(7, 8),
  });
  expect(() => provider.services.use("radio")).toThrow("was not granted service:radio");
});

test("a channel carries messages both ways, and a provider that goes ends calls and channels", async () => {
  const { provider, consumer } = rig();
  provider.services.offer("radio", {
    request: () => new Promise(() => {}),
    channel: (channel) =>
      channel.open({
        message: (message) => void channel.send({ json: { echo: message.json } }),
        drain() {},
        closed() {},
      }),
  });
  await turns();
  const used = consumer.services.use("radio");
  await used.whenThere();
  const heard: ServiceMessage[] = [];
  const ended = Promise.withResolvers<unknown>();
  const channel = await used.openChannel("frames");
  channel.open({
    message: (message) => void heard.push(message),
    drain() {},
    closed: (error) => ended.resolve((error as { code?: string } | undefined)?.code),
  });
  for (let i = 0; i < 3; i++) expect(channel.send({ json: i })).toBe(true);
  await turns();
  expect(heard.map(({ json }) => json)).toEqual([{ echo: 0 }, { echo: 1 }, { echo: 2 }]);
  const call = codeOf(used.request("never"));
  await turns();
  await provider.scope.close();
  expect(await call).toBe("GODWIT_SERVICE_GONE");
  expect(await ended.promise).toBe("GODWIT_SERVICE_GONE");
  expect(await codeOf(used.request("never"))).toBe("GODWIT_SERVICE_ABSENT");
});
