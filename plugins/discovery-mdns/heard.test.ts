/** What is believed of the nodes that are heard of, and for how long. */
import { expect, test } from "bun:test";
import type { Hint, PluginContext } from "@godwit/sdk";
import { ManualClock } from "@godwit/sdk/testkit";
import { Heard, type Instance } from "./heard.ts";
import type { Place } from "./interfaces.ts";
import { SERVICES } from "./records.ts";

const silent = { debug() {}, info() {}, warn() {}, error() {}, child: () => silent };
const LAN: Place = {
  ...{ interface: "eth0", family: 4 },
  isOnLink: (address: string) => address.startsWith("192.0.2."),
} as unknown as Place;

function rig() {
  const clock = new ManualClock();
  const hints = new Map<string, Hint>();
  const ctx = {
    ...{ clock, log: silent, signal: new AbortController().signal },
    self: { id: "a".repeat(51) + "q", protocols: { min: 1, max: 1 } },
    gauge: () => ({ set() {} }),
    own() {},
    discovery: {
      hint: (hint: Hint) => void hints.set(hint.endpoint, hint),
      withdraw: (endpoint: string) => void hints.delete(endpoint),
    },
  } as unknown as PluginContext;
  const said = (name: string, change: Partial<Instance> = {}): Instance => ({
    ...{ service: SERVICES[0]!, instance: `${name}._godwit._tcp.local`, ttlS: 4_500, port: 4_860 },
    ...{ text: new Map(), addresses: [] },
    ...change,
  });
  return { clock, heard: new Heard(ctx), hints, said };
}

test("who says that it is there for ever is believed for 75 minutes, and for a moment a second", async () => {
  const { clock, heard, said } = rig();
  expect(heard.hear(LAN, "192.0.2.7", said("long", { ttlS: 2 ** 31 }))).toBe("heard");
  expect(heard.hear(LAN, "192.0.2.8", said("short", { ttlS: 0.001 }))).toBe("heard");
  await clock.advance(60_000);
  expect(heard.size).toBe(1);
  await clock.advance(73 * 60_000);
  expect(heard.size).toBe(1);
  await clock.advance(3 * 60_000);
  expect(heard.size).toBe(0);
});

test("nobody on the LAN sends this node to addresses beyond it, and what one said no other takes back", () => {
  const { heard, hints, said } = rig();
  const addresses = ["192.0.2.7", "198.51.100.7", "127.0.0.1", "192.0.2.9"];
  heard.hear(LAN, "192.0.2.7", said("one", { addresses }));
  expect([...hints.keys()]).toEqual(["tcp://192.0.2.7:4860", "tcp://192.0.2.9:4860"]);
  heard.bye(LAN, "192.0.2.66", said("one").instance);
  expect(hints.size).toBe(2);
  heard.bye(LAN, "192.0.2.7", said("one").instance);
  expect(hints.size).toBe(0);
});

test("one sender has sixteen instances, and pushes out nobody", () => {
  const { heard, said } = rig();
  heard.hear(LAN, "192.0.2.8", said("honest"));
  const outcomes = Array.from({ length: 600 }, (_, n) => heard.hear(LAN, "192.0.2.7", said(`liar-${n}`)));
  expect(outcomes.filter((outcome) => outcome === "heard").length).toBe(16);
  expect(heard.size).toBe(17);
});

test("what is no id of a node, or is this node's own, is no hint", () => {
  const { heard, hints, said } = rig();
  const idOf = (id: string) => heard.hear(LAN, "192.0.2.7", said("x", { text: new Map([["id", id]]) }));
  expect(idOf("nonsense")).toBe("id");
  expect(idOf("A".repeat(51) + "Q")).toBe("self");
  expect(hints.size).toBe(0);
  expect(idOf("b".repeat(51) + "q")).toBe("heard");
  expect([...hints.values()].map(({ nodeId }) => nodeId)).toEqual(["b".repeat(51) + "q"]);
});
