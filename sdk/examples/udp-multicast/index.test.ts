import { expect, test } from "bun:test";
import { TestHost, transportConformance } from "@godwit/sdk/testkit";
import plugin from "./index.ts";
import { decode, encodeAnnouncement, encodeData } from "./wire.ts";

/** A group for each check: what another one still sends must not come here. */
let groups = 0;
const table = () => ({
  group: `239.255.77.${(groups++ % 250) + 1}`,
  port: 20_000 + (process.pid % 20_000),
  interface: "127.0.0.1",
});

transportConformance({
  name: "udp-multicast",
  kind: "datagram",
  setup() {
    const config = table();
    const place = `mcast://${config.group}:${config.port}`;
    return {
      plugin,
      listenConfig: config,
      dialConfig: config,
      badEndpoints: ["mcast://", place, `${place}/`, `${place}/0123`, "mcast://239.1.1.1:1/0123456789abcdef"],
      badConfigs: [{ group: "10.0.0.1" }, { port: 0 }, { interface: "" }],
      // Nobody hears of a pipe before its first datagram.
      opening: Uint8Array.of(1),
    };
  },
});

test("stations hear of one another", async () => {
  const config = table();
  const [a, b] = [
    new TestHost(plugin, { instance: "a" }),
    new TestHost(plugin, {
      instance: "b",
      random: { bytes: (n) => new Uint8Array(n).fill(9), float: () => 0, below: () => 0 },
    }),
  ];
  await Promise.all([a.start(config), b.start(config)]);
  for (let turns = 0; turns < 100_000 && (a.hints.size === 0 || b.hints.size === 0); turns++) {
    a.clock.advance(100);
    b.clock.advance(100);
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect([[...a.hints.keys()], [...b.hints.keys()]]).toEqual([[...b.endpoints], [...a.endpoints]]);
  await Promise.all([a.stop(), b.stop()]);
  expect([...a.leaks(), ...b.leaks()]).toEqual([]);
});

test("what is no datagram of ours is none", () => {
  const [from, to] = ["0123456789abcdef", "fedcba9876543210"];
  expect(decode(encodeAnnouncement(from))).toEqual({ kind: "announcement", from });
  const data = encodeData(from, to, 7, Uint8Array.of(1, 2));
  expect(decode(data)).toMatchObject({ kind: "data", from, to, connection: 7 });
  for (let length = 0; length <= 23; length++) expect(decode(data.subarray(0, length))).toBeUndefined();
  expect(decode(Buffer.from("GM\u0002345678901234567890123456789"))).toBeUndefined();
});
