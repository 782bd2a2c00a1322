import { expect, test } from "bun:test";
import { hinted, loopbackAddress, TestMesh, until } from "./testing.ts";

test("an interface that comes later is listened on, and one that goes is not", async () => {
  await using mesh = new TestMesh();
  const a = await mesh.add({ endpoints: ["tcp://192.0.2.1:1"] });
  const port = a.place.replace(/.*:/, "");
  const b = await mesh.add({
    endpoints: ["tcp://192.0.2.2:1"],
    config: { listen: [`eth7:${port}`], bootstrap: [a.place] },
  });
  const reason = `no interface of listen has an address: eth7:${port}`;
  expect(b.host.health.at(-1)).toEqual({ state: "degraded", reason });
  const eth7 = { address: loopbackAddress(), family: 4, prefixLength: 8, interface: "eth7" } as const;
  b.host.network.set([{ ...eth7, scope: "host", isAdvertisable: false }]);
  await until("b finds a", () => hinted(b, "tcp://192.0.2.1:1"));
  await until("a finds b", () => hinted(a, "tcp://192.0.2.2:1"));
  expect(b.host.health.at(-1)).toEqual({ state: "running" });
  b.host.network.set([]);
  await until("it is said", () => b.host.health.at(-1)?.state === "degraded");
  const again = await Bun.udpSocket({ hostname: eth7.address, port: Number(port) });
  again.close();
}, 120_000);

test("a port that is taken is named, and taken once it is free", async () => {
  await using mesh = new TestMesh();
  const host = loopbackAddress();
  const other = await Bun.udpSocket({ hostname: host, port: 0 });
  const { host: node } = await mesh.add({ config: { listen: [`${host}:${other.port}`] } });
  expect(node.health.at(-1)).toEqual({
    state: "degraded",
    reason: expect.stringContaining(
      `cannot listen on UDP ${host}:${other.port}: port ${other.port} of ${host} is taken by this node itself (PID ${process.pid}): end that, or choose another port, like `,
    ),
  });
  other.close();
  await until("it listens", () => node.health.at(-1)?.state === "running");
}, 60_000);
