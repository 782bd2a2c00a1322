import { describe, expect, test } from "bun:test";
import type { HostAddress } from "@godwit/sdk";
import { formatNodeId } from "./ids.ts";
import { Metrics } from "./metrics.ts";
import { hasOtherPath, isLoopbackLink, type Naming } from "./named-places.ts";
import { openPlaces } from "./testing.ts";

const near = formatNodeId(new Uint8Array(32).fill(1));
const far = formatNodeId(new Uint8Array(32).fill(2));
const member: readonly Naming[] = [{ by: "member", nodeId: far }];
const plugin: readonly Naming[] = [{ by: "plugin" }];

const at = (address: string, prefixLength: number, change: Partial<HostAddress> = {}): HostAddress => ({
  address,
  family: address.includes(":") ? 6 : 4,
  prefixLength,
  interface: "eth0",
  scope: "private",
  isAdvertisable: true,
  ...change,
});
const on = (...addresses: HostAddress[]) => openPlaces({ addresses: () => addresses });

test("an address of the internet, or of an overlay that is one of its own, may be dialled by anybody's word", () => {
  for (const address of ["192.0.2.1", "2001:db8::1", "200:1::2", "300:1:2:3::4"])
    expect(on().refusalOf(address, member)).toBeUndefined();
});

test.each([
  ["0.0.0.0", "unspecified"],
  ["::", "unspecified"],
  ["224.0.0.251", "multicast"],
  ["ff02::fb", "multicast"],
  ["255.255.255.255", "broadcast"],
  ["192.168.1.255", "broadcast"],
  ["::ffff:192.168.1.255", "broadcast"],
  ["169.254.169.254", "metadata"],
  ["fd00:ec2::254", "metadata"],
  ["::ffff:169.254.169.254", "metadata"],
  ["240.0.0.1", "invalid"],
] as const)("%s is %s and never dialled, whoever says so and whatever is allowed", (address, reason) => {
  const places = openPlaces({
    allowed: ["0.0.0.0/0", "::/0"],
    addresses: () => [at("192.168.1.7", 24), at("fd00::7", 8), at("169.254.1.1", 16, { scope: "link" })],
    isOnThisMachine: () => true,
    isMachineAlone: () => true,
  });
  for (const by of ["member", "plugin", "invitation"] as const)
    expect(places.refusalOf(address, [{ by, nodeId: near, interface: "eth0" }])).toMatchObject({ reason });
});

describe("private addresses", () => {
  const lan = at("192.168.1.7", 24);
  test("are dialled from a machine that has one of their kind", () => {
    for (const address of ["10.9.8.7", "172.16.0.1", "100.64.0.1", "::ffff:10.0.0.1"])
      expect([address, on(lan).refusalOf(address, member)]).toEqual([address, undefined]);
    expect(on(lan).refusalOf("fd00::1", member)).toMatchObject({ reason: "private" });
    expect(on(at("fd12::7", 64)).refusalOf("fd99::1", member)).toBeUndefined();
  });

  test("not from a machine of the internet, nor from one that only has bridges of containers", () => {
    for (const places of [
      on(at("192.0.2.7", 24, { scope: "global" })),
      on(at("172.17.0.1", 16, { interface: "docker0", isAdvertisable: false })),
      on(at("127.0.0.1", 8, { scope: "host", isAdvertisable: false })),
    ])
      for (const address of ["10.0.0.1", "172.17.0.2", "192.168.1.1"])
        expect(places.refusalOf(address, member)).toMatchObject({ reason: "private" });
  });

  test("an overlay of this node opens its own network and no other", () => {
    const overlay = on(at("fd12:3456:789a::7", 48, { interface: "gwg1", isAdvertisable: false }));
    expect(overlay.refusalOf("fd12:3456:789a::99", member)).toBeUndefined();
    expect(overlay.refusalOf("fd12:3456:789b::99", member)).toMatchObject({ reason: "private" });
  });

  test("where the configuration allows their network", () => {
    const places = openPlaces({ allowed: ["10.1.0.0/16", "127.0.0.5"] });
    expect(places.refusalOf("10.1.2.3", member)).toBeUndefined();
    expect(places.refusalOf("10.2.2.3", member)).toMatchObject({ reason: "private" });
    expect(places.refusalOf("127.0.0.5", member)).toBeUndefined();
    expect(places.refusalOf("127.0.0.6", member)).toMatchObject({ reason: "loopback" });
  });
});

describe("loopback", () => {
  const places = openPlaces({ isOnThisMachine: (id) => id === near });
  test("of whoever is linked over loopback, by its own word", () => {
    expect(places.refusalOf("127.0.0.1", [{ by: "member", nodeId: near }])).toBeUndefined();
    expect(places.refusalOf("::1", [{ by: "member", nodeId: near }])).toBeUndefined();
    expect(places.refusalOf("127.0.0.1", member)).toMatchObject({ reason: "loopback" });
    expect(places.refusalOf("::ffff:127.0.0.1", member)).toMatchObject({ reason: "loopback" });
  });

  test("not by a plugin that says it of such a node, but by one naming among several that may", () => {
    expect(places.refusalOf("127.0.0.1", [{ by: "plugin", nodeId: near }])).toMatchObject({
      reason: "loopback",
    });
    expect(places.refusalOf("127.0.0.1", [...plugin, { by: "member", nodeId: near }])).toBeUndefined();
  });

  test("of all where the node's mesh is this machine's", () => {
    expect(openPlaces({ isMachineAlone: () => true }).refusalOf("127.0.0.1", member)).toBeUndefined();
  });

  test("a link through a proxy of the web on this machine is none over loopback", () => {
    const link = (remoteEndpoint: string, direction: string) => isLoopbackLink({ remoteEndpoint, direction });
    expect(link("tcp://127.0.0.1:5", "inbound")).toBe(true);
    expect(link("udp://[::1]:5", "outbound")).toBe(true);
    expect(link("ws://127.0.0.1:5", "inbound")).toBe(false);
    expect(link("ws://127.0.0.1:5/godwit", "outbound")).toBe(true);
    expect(link("tor://anonymous", "inbound")).toBe(false);
    expect(link("tcp://192.168.1.7:5", "inbound")).toBe(false);
  });
});

describe("link-local addresses", () => {
  const places = on(
    at("fe80::7", 64, { scope: "link", isAdvertisable: false }),
    at("169.254.3.4", 16, { scope: "link", interface: "usb0", isAdvertisable: false }),
  );
  test("are dialled as heard on that interface, and on no other", () => {
    const heardOn = (name?: string): readonly Naming[] => [{ by: "plugin", interface: name }];
    expect(places.refusalOf("fe80::1%eth0", heardOn())).toBeUndefined();
    expect(places.refusalOf("fe80::1%eth0", heardOn("eth0"))).toBeUndefined();
    expect(places.refusalOf("169.254.9.9", heardOn("usb0"))).toBeUndefined();
    for (const [address, name] of [
      ["fe80::1%eth1", undefined],
      ["fe80::1%eth0", "usb0"],
      ["fe80::1", undefined],
      ["169.254.9.9", undefined],
      ["169.254.9.9", "eth0"],
    ] as const)
      expect(places.refusalOf(address, heardOn(name))).toMatchObject({ reason: "link_local" });
  });

  test("not by a record, which went over any wire", () => {
    expect(places.refusalOf("fe80::1%eth0", member)).toMatchObject({ reason: "link_local" });
  });
});

test("what was skipped is counted by what it is, each time", async () => {
  const metrics = new Metrics();
  const places = openPlaces({ metrics });
  const terms = places.termsOf(member);
  expect(terms.refusal("192.0.2.1")).toBeUndefined();
  expect(terms.refusal("127.0.0.1")).toContain("loopback");
  expect(terms.refusal("10.0.0.1")).toContain("private");
  expect(terms.refusal("10.0.0.1")).toContain("private");
  expect(terms.skipped).toBe(3);
  const text = await metrics.render();
  expect(text).toContain('godwit_endpoints_skipped_total{reason="private"} 2');
  expect(text).toContain('godwit_endpoints_skipped_total{reason="loopback"} 1');
});

test("what a record names and nobody dials is counted as well", async () => {
  const metrics = new Metrics();
  const places = openPlaces({ metrics });
  const named = [
    "tcp://192.0.2.1:1",
    "tcp://169.254.169.254:80",
    "tcp://10.0.0.1:1",
    "tcp://lon-b.example:1",
  ];
  expect(places.allowedOf(named, member)).toEqual(["tcp://192.0.2.1:1", "tcp://lon-b.example:1"]);
  const text = await metrics.render();
  for (const reason of ["metadata", "private"])
    expect(text).toContain(`godwit_endpoints_skipped_total{reason="${reason}"} 1`);
});

test("an invitation in the operator's hands may lead to private and loopback addresses", () => {
  for (const address of ["127.0.0.1", "10.0.0.1"])
    expect(openPlaces().refusalOf(address, [{ by: "invitation" }])).toBeUndefined();
});

test("of WebSocket endpoints only one path is passed on", () => {
  for (const endpoint of ["ws://a:1/godwit", "wss://[::1]:1/godwit", "wss://a/godwit", "tcp://a:1"])
    expect([endpoint, hasOtherPath(endpoint)]).toEqual([endpoint, false]);
  for (const endpoint of [
    "ws://a:1/",
    "ws://a:1",
    "ws://a:1/godwit/x",
    "ws://a:1/x/godwit",
    "wss://a/godwit?x=1",
    "ws://a:1?x/godwit",
    "ws://a:1#x/godwit",
    "ws://a:1\\x/godwit",
    "WS://a:1/x",
  ])
    expect([endpoint, hasOtherPath(endpoint)]).toEqual([endpoint, true]);
});
