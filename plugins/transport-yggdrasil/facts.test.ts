/**
 * Answers of daemons. Those of 0.4 were seen from 0.4.7; those of 0.5 are made after src/admin of its source (0.5.0, 0.5.9,
 * 0.5.13) and UNVERIFIED: no daemon of 0.5 has ever been asked.
 */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { parseAnswer } from "./admin.ts";
import { formatTarget, isCallable, isOverlayAddress, isPeer, parseEndpoint, shownPeer } from "./endpoint.ts";
import { parseDialect, parsePeers, parseSelf, parseSessionCount, parseTun } from "./facts.ts";

const listOf = (...commands: string[]) => ({
  list: commands.map((command) => ({ command, description: "" })),
});

describe("0.4.7, as it was seen", () => {
  test("list, self, interface, sessions", () => {
    const seen = listOf(
      "addpeer",
      "debug_remotegetdht",
      "getdht",
      "getmulticastinterfaces",
      "getself",
      "list",
    );
    expect(parseDialect(seen)).toBe("0.4");
    expect(
      parseSelf({
        build_name: "unknown",
        build_version: "unknown",
        key: "7e94928cb9cd9871e459908635ccb0f0b32e89e3004329691def666e1b840f63",
        address: "201:5ad:b5cd:18c9:9e38:6e99:bde7:28cd",
        coords: [1],
        subnet: "301:5ad:b5cd:18c9::/64",
      }),
    ).toEqual({
      address: "201:5ad:b5cd:18c9:9e38:6e99:bde7:28cd",
      subnet: "301:5ad:b5cd:18c9::/64",
      version: "unknown",
    });
    expect(parseTun({ enabled: true, name: "ygga", mtu: 53_049 })).toEqual({ isEnabled: true, mtu: 53_049 });
    expect(parseTun({ enabled: false })).toEqual({ isEnabled: false, mtu: undefined });
    expect(parseSessionCount({ sessions: [{ address: "201::1", key: "aa" }] })).toBe(1);
  });

  test("peers: a neighbour of multicast, called by us", () => {
    const answer = {
      peers: [
        {
          address: "201:e133:e092:bcb3:7b63:ecc1:94cf:54e1",
          key: "47b307db50d3212704cf9acc2ac79777c98461aa715eee429c9e36e207d55b21",
          port: 1,
          priority: 0,
          coords: [],
          remote: "tls://[fe80::4078:1ff:fef8:36dc%va]:39017",
          bytes_recvd: 692,
          bytes_sent: 1_239,
          uptime: 2.026260753,
        },
      ],
    };
    expect(parsePeers(answer)).toEqual([
      {
        address: "201:e133:e092:bcb3:7b63:ecc1:94cf:54e1",
        remote: "tls://[fe80::4078:1ff:fef8:36dc%va]:39017",
        isUp: true,
        isInbound: undefined,
        upMs: 2_026,
        latencyMs: undefined,
        receivedBytes: 692,
        sentBytes: 1_239,
      },
    ]);
  });
});

describe("0.5, UNVERIFIED, by its source", () => {
  test("list, self", () => {
    expect(parseDialect(listOf("addpeer", "getpaths", "getpeers", "getself", "gettree", "list"))).toBe("0.5");
    expect(
      parseSelf({
        build_name: "yggdrasil",
        build_version: "0.5.13",
        key: "00",
        address: "200:1::2",
        routing_entries: 7,
        subnet: "300:1::/64",
      }).version,
    ).toBe("0.5.13");
  });

  test("peers: one that is up, and one that never was, with passwords in neither", () => {
    const [up, down] = parsePeers({
      peers: [
        {
          remote: "tls://192.0.2.7:9001?password=hunter2",
          up: true,
          inbound: true,
          address: "200:1::2",
          key: "aa",
          port: 1,
          priority: 0,
          cost: 65_535,
          bytes_recvd: 1,
          rate_recvd: 5,
          uptime: 60.5,
          latency: 1_500_000,
        },
        {
          remote: "socks://user:hunter2@127.0.0.1:9050/192.0.2.8:9001",
          up: false,
          inbound: false,
          key: "",
          port: 0,
          priority: 0,
          cost: 0,
          last_error: "dial tcp: connection refused",
          last_error_time: 5_000_000_000,
        },
      ],
    });
    expect(up).toMatchObject({
      isUp: true,
      isInbound: true,
      latencyMs: 1.5,
      upMs: 60_500,
      sentBytes: undefined,
    });
    expect(down).toMatchObject({
      isUp: false,
      address: undefined,
      remote: "socks://127.0.0.1:9050/192.0.2.8:9001",
    });
    expect(JSON.stringify([up, down])).not.toContain("hunter2");
    expect(parsePeers({ peers: [{ remote: "", latency_ms: 2_000_000 }] })[0]?.latencyMs).toBe(2);
  });
});

test("whatever else a daemon answers is refused, and says what was asked", () => {
  const good = { address: "200:1::2", subnet: "300:1::/64" };
  for (const bad of [
    { ...good, address: "2001:db8::1" },
    { ...good, address: "fd00::1" },
    { ...good, subnet: "200:1::/64" },
    { ...good, subnet: `300:${"1:".repeat(40)}/64` },
    { self: { "200:1::2": {} } },
    [],
    null,
    "x",
  ])
    expect(() => parseSelf(bad)).toThrow("getself");
  expect(() => parsePeers({ peers: Array.from({ length: 5_000 }, () => ({})) })).toThrow("getpeers");
  expect(() => parsePeers({ peers: [{ uptime: -1 }] })).toThrow("getpeers");
  expect(() => parsePeers({ peers: { "200::1": {} } })).toThrow("getpeers");
  expect(() => parseDialect(listOf("getself"))).toThrow("neither");
  expect(() => parseDialect(listOf(...Array(300).fill("getdht")))).toThrow("list");
  expect(() => parseTun({})).toThrow("gettun");
  expect(() => parseSessionCount({})).toThrow("getsessions");
});

test("property: no answer does anything but be read or refused", () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      for (const parse of [parseDialect, parseSelf, parseTun, parsePeers, parseSessionCount])
        try {
          parse(value);
        } catch (error) {
          expect((error as Error).message).toStartWith("yggdrasil: ");
        }
      try {
        parseAnswer(JSON.stringify(value));
      } catch (error) {
        expect((error as Error).message).toStartWith("yggdrasil: ");
      }
    }),
  );
});

describe("endpoints", () => {
  test("only the overlay is dialled", () => {
    expect(parseEndpoint("yggdrasil://[200:1::2]:4862")).toEqual({ host: "200:1::2", port: 4862, peers: [] });
    for (const endpoint of [
      "yggdrasil://[2001:db8::1]:1",
      "yggdrasil://127.0.0.1:1",
      "yggdrasil://[200::1]:0",
      "yggdrasil://[2::1]:1",
      "yggdrasil://[fe80::1%eth0]:1",
      "tcp://[200::1]:1",
      "yggdrasil://[200::1]:1?peer=tls://name.example:1",
      "yggdrasil://[200::1]:1?peer=unix:///run/x",
      "yggdrasil://[200::1]:1?peer=tls://[200::2]:1",
      "yggdrasil://[200::1]:1?peer=tls://192.0.2.7:1?x",
      `yggdrasil://[200::1]:1?${Array(5).fill("peer=tls://192.0.2.7:1").join("&")}`,
      "yggdrasil://",
    ])
      expect(() => parseEndpoint(endpoint)).toThrow(/200::\/7|host:port/);
  });

  test("text and back, with what its daemon can be called at", () => {
    for (const endpoint of [
      "yggdrasil://[300:1::2]:65535",
      "yggdrasil://[200:1::2]:4862?peer=tls://192.0.2.7:9001&peer=quic://[2001:db8::7]:9001",
    ])
      expect(formatTarget(parseEndpoint(endpoint))).toBe(endpoint);
    expect(isCallable("tls://192.0.2.7:9001")).toBe(true);
    expect(isOverlayAddress("3ff:ffff::1")).toBe(true);
    expect(["tls://a:1", "socks://a:1/b:2"].every(isPeer)).toBe(true);
    expect(["http://a:1", "tls://a b", "tls://", "-useconf"].some(isPeer)).toBe(false);
    expect(shownPeer("tls://u:p@a:1?password=x#y")).toBe("tls://a:1");
  });
});
