/** Services between two plugins that are both outside of the node's thread: provider and consumer over frames, the real board between. */
import { expect, test } from "bun:test";
import { type OfferedService, SERVICE_LIMITS, type ServiceChannel, type ServiceMessage } from "@godwit/sdk";
import { ManualClock } from "../../kernel/clock.ts";
import { silentLog } from "../../kernel/log.ts";
import { Metrics } from "../../kernel/metrics.ts";
import { Scope } from "../../kernel/scope.ts";
import { DATA_BYTES_MAX, decodeParts, PluginFrame } from "../frames/frames.ts";
import { FrameBed } from "../frames/testing.ts";
import { createServices } from "../guest/services.ts";
import type { ContextParts } from "../guest/parts.ts";
import { doorPolicyOf } from "../permissions.ts";
import { ServiceBoard } from "../service/board.ts";
import type { RemoteParts } from "./parts.ts";
import { addServiceCalls } from "./services.ts";

function rig() {
  const clock = new ManualClock();
  const board = new ServiceBoard(clock, new Metrics());
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
    return { scope, clock: bed.clock, services: guest.services, crash: () => bed.node.port.close() };
  };
  const provider = plugin("transport.radio", ["service.offer:radio"]);
  const consumer = plugin("service.observer", ["service:radio"]);
  return { provider, consumer, clock };
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

/** What came to one end. */
function listen(channel: ServiceChannel, onMessage = (_message: ServiceMessage) => {}) {
  const seen = { messages: [] as ServiceMessage[], drains: 0, ended: undefined as string | undefined };
  channel.open({
    message(message) {
      seen.messages.push(message);
      onMessage(message);
    },
    drain: () => void seen.drains++,
    closed: (error) =>
      void (seen.ended = error === undefined ? "politely" : (error as { code?: string }).code),
  });
  return seen;
}

async function opened() {
  const { provider, consumer, clock } = rig();
  const far = Promise.withResolvers<ServiceChannel>();
  provider.services.offer("radio", { channel: (channel) => far.resolve(channel) });
  await turns();
  const used = consumer.services.use("radio");
  await used.whenThere();
  const near = await used.openChannel("listen");
  const clocks = [clock, provider.clock, consumer.clock];
  const advance = async (ms: number) => {
    for (const one of clocks) await one.advance(ms);
    await turns();
  };
  return { near, far: await far.promise, advance, crash: { near: consumer.crash, far: provider.crash } };
}

for (const end of ["near", "far"] as const)
  test(`a plugin that is gone in the middle of a channel did not close it: ${end}`, async () => {
    const { crash, ...ends } = await opened();
    const left = listen(end === "near" ? ends.far : ends.near);
    crash[end]();
    await turns();
    expect(left.ended).toBe("GODWIT_SERVICE_GONE");
  });

const sized = (n: number) => new Uint8Array((n * 7_919) % 20_000).fill(n % 251);
const isWhole = ({ json, bytes }: ServiceMessage, n: number): boolean =>
  json === n && bytes.length === (n * 7_919) % 20_000 && bytes.every((byte) => byte === n % 251);

for (const end of ["near", "far"] as const) {
  const other = end === "near" ? "far" : "near";

  test(`what was sent before a close arrives, however long its reader was paused: ${end}`, async () => {
    const { advance, ...ends } = await opened();
    const reader = listen(ends[other]);
    const writer = listen(ends[end]);
    ends[other].pause(true);
    await turns();
    let sent = 0;
    // Until every window on the way is full.
    for (let before = -1; before < sent;) {
      before = sent;
      while (ends[end].send({ json: sent, bytes: sized(sent) })) sent++;
      await advance(1);
    }
    ends[end].close();
    await turns();
    expect([writer.ended, reader.ended]).toEqual(["politely", undefined]);
    await advance(60_000);
    await advance(60_000);
    ends[other].pause(false);
    for (let i = 0; i < 40; i++) await advance(1);
    expect([reader.messages.length, reader.ended]).toEqual([sent, "politely"]);
    expect(reader.messages.every(isWhole)).toBe(true);
  });

  test(`a handler that throws ends the channel at both ends with its failure: ${end}`, async () => {
    const ends = await opened();
    const writer = listen(ends[other]);
    const thrower = listen(ends[end], () => {
      throw new Error("thrown at a message");
    });
    ends[other].send({ json: 1 });
    await turns();
    expect([thrower.ended, writer.ended]).toEqual(["GODWIT_PLUGIN_FAILED", "GODWIT_PLUGIN_FAILED"]);
  });

  test(`under back-pressure each message stays one, whole: to ${end}`, async () => {
    const { advance, ...ends } = await opened();
    const reader = listen(ends[end]);
    const writer = listen(ends[other]);
    const count = 600;
    let sent = 0;
    const send = () => {
      while (sent < count && ends[other].send({ json: sent, bytes: sized(sent) })) sent++;
    };
    ends[end].pause(true);
    send();
    for (let i = 0; i < 400 && reader.messages.length < count; i++) {
      ends[end].pause(i % 2 === 0);
      await advance(1);
      if (writer.drains > 0) {
        writer.drains = 0;
        send();
      }
    }
    expect([sent, reader.messages.length]).toEqual([count, count]);
    expect(reader.messages.every(isWhole)).toBe(true);
  });
}

test("the largest message fits one frame of data", () => {
  // Four bytes say where the JSON ends.
  expect(SERVICE_LIMITS.messageBytes + 4).toBeLessThanOrEqual(DATA_BYTES_MAX);
});
