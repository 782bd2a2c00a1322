import { createServer, type Socket } from "node:net";
import { providerConformance, serviceConformance, TestHost } from "@godwit/sdk/testkit";
import { expect, test } from "bun:test";
import plugin from "./index.ts";

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** A receiver that says what it is told to say. */
async function openReceiver() {
  const readers = new Set<Socket>();
  const server = createServer((socket) => {
    readers.add(socket.on("error", () => {}).on("close", () => readers.delete(socket)));
    socket.resume();
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", resolve);
  await promise;
  let said = 0;
  return {
    source: `127.0.0.1:${(server.address() as { port: number }).port}`,
    readers,
    say(count: number) {
      for (let i = 0; i < count; i++) {
        const line = JSON.stringify({ class: "TPV", lat: (said++ % 1_000) / 100, lon: 10 });
        for (const socket of readers) socket.write(`${line}\n`);
      }
    },
    async close() {
      for (const socket of readers) socket.destroy();
      server.close();
    },
  };
}

serviceConformance({
  name: "position-source",
  async setup() {
    const { source, close } = await openReceiver();
    return {
      plugin,
      config: { source },
      badConfigs: [{ source: "nowhere" }],
      clockStepMs: 50,
      dispose: close,
    };
  },
});

providerConformance({
  name: "position-source",
  async setup() {
    const receiver = await openReceiver();
    return {
      plugin,
      config: { source: receiver.source },
      clockStepMs: 50,
      service: "position",
      requests: [{ ask: "last" }],
      channels: [{ ask: "follow" }],
      async prepare() {
        while (receiver.readers.size === 0) await turn();
        return () => {};
      },
      feed: (_host, count) => receiver.say(count),
      dispose: receiver.close,
    };
  },
});

test("who asks gets the last position, and what is no position is none", async () => {
  const receiver = await openReceiver();
  const host = new TestHost(plugin);
  await host.start({ source: receiver.source });
  const stopping = new AbortController();
  const position = host.services.door("service.test", stopping.signal).use("position");
  expect((await position.request("last")).json).toBeNull();
  while (receiver.readers.size === 0) await turn();
  for (const socket of receiver.readers)
    socket.write('{"class":"SKY"}\nnonsense\n{"class":"TPV","lat":91,"lon":0}\n');
  receiver.say(1);
  const deadlineMs = performance.now() + 4_000;
  let json: unknown = null;
  while (json === null && performance.now() < deadlineMs) {
    await turn();
    ({ json } = await position.request("last"));
  }
  expect(json).toEqual({ lat: 0, lon: 10 });
  stopping.abort();
  await host.stop();
  expect(host.leaks()).toEqual([]);
  await receiver.close();
});
