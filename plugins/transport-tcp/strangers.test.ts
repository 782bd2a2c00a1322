import { expect, test } from "bun:test";
import { TestHost } from "@godwit/sdk/testkit";
import plugin from "./index.ts";

test("a stranger that goes leaves its place to others: more than there are come one after the other, and none is refused", async () => {
  const host = new TestHost(plugin);
  await host.start({ listen: ["127.0.0.1:0"] });
  const port = Number(new URL(host.endpoints[0] ?? host.sockets[0]!).port);
  for (let round = 0; round < 3; round++) {
    const sockets = await Promise.all(
      Array.from({ length: 200 }, () =>
        Bun.connect({ hostname: "127.0.0.1", port, socket: { data() {}, error() {} } }),
      ),
    );
    for (const socket of sockets) socket.terminate();
    while (host.gauges.get("strangers") !== 0) await new Promise<void>((resolve) => setTimeout(resolve, 1));
  }
  expect([host.accepted.length, host.counters.get("refused") ?? 0]).toEqual([600, 0]);
  await host.stop();
});
