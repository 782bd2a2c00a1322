import { expect, test } from "bun:test";
import {
  advertisedHosts,
  type HostAddress,
  isListen,
  parseHostPort,
  planListen,
  sourceGroup,
} from "../src/index.ts";

const at = (address: string, name: string, scope: HostAddress["scope"]): HostAddress => ({
  address,
  family: address.includes(":") ? 6 : 4,
  prefixLength: 24,
  interface: name,
  scope,
  isAdvertisable: scope === "global" || scope === "private",
});
const machine = [
  at("192.0.2.7", "eth0", "global"),
  at("2001:db8::7", "eth0", "global"),
  at("10.0.0.7", "wlan0", "private"),
  at("fe80::1", "eth0", "link"),
  at("127.0.0.1", "lo", "host"),
  at("::1", "lo", "host"),
];

test("host:port and [IPv6]:port, nothing else", () => {
  expect(parseHostPort("a.example:1")).toEqual({ host: "a.example", port: 1 });
  expect(parseHostPort("[fe80::1%eth0]:65535")).toEqual({ host: "fe80::1%eth0", port: 65_535 });
  for (const bad of [
    "",
    ":1",
    "a",
    "a:",
    "a:65536",
    "a:1x",
    "::1:1",
    "[::1]",
    "a b:1",
    "[a]:1 ",
    "[1.2.3.4]:1",
    "a@b:1",
  ])
    expect(() => parseHostPort(bad)).toThrow("is not host:port");
});

test("listen takes addresses and interfaces, no names of machines", () => {
  for (const good of ["eth0:1", "0.0.0.0:1", "[::]:1", "[fe80::1%eth0]:1", "localhost:1", "br-lan:1"])
    expect(isListen(good)).toBe(true);
  for (const bad of ["a-machine-with-a-name:1", "eth0", "[::1]", "eth 0:1"])
    expect(isListen(bad)).toBe(false);
});

test("an interface is its addresses, link-local ones with their zone", () => {
  expect(planListen(["eth0:1"], machine).map(({ host }) => host)).toEqual([
    "192.0.2.7",
    "2001:db8::7",
    "fe80::1%eth0",
  ]);
  expect(planListen(["eth1:1"], machine)).toEqual([]);
});

test("[::] is both families, unless 0.0.0.0 stands beside it, or there is no IPv6", () => {
  const plan = (...listen: string[]) =>
    planListen(listen, machine).map(({ host, isIpv6Only }) => [host, isIpv6Only]);
  expect(plan("[::]:1")).toEqual([["::", false]]);
  expect(plan("0.0.0.0:1", "[::]:1")).toEqual([
    ["0.0.0.0", true],
    ["::", true],
  ]);
  expect(planListen(["[::]:1"], [machine[0]!])).toEqual([{ host: "0.0.0.0", port: 1, isIpv6Only: false }]);
  expect(planListen(["[::]:1", "0.0.0.0:1"], [machine[0]!]).length).toBe(1);
});

test("a wildcard advertises what reaches beyond machine and wire, in order; a zone never leaves", () => {
  const hosts = (host: string, isIpv6Only = false) => advertisedHosts({ host, isIpv6Only }, machine);
  expect(hosts("::")).toEqual(["192.0.2.7", "2001:db8::7", "10.0.0.7"]);
  expect(hosts("::", true)).toEqual(["2001:db8::7"]);
  expect(hosts("0.0.0.0")).toEqual(["192.0.2.7", "10.0.0.7"]);
  expect(hosts("fe80::1%eth0")).toEqual([]);
  expect(hosts("127.0.0.1")).toEqual(["127.0.0.1"]);
});

test("strangers are counted by address, in IPv6 by network", () => {
  expect(sourceGroup("::ffff:192.0.2.1")).toBe("192.0.2.1");
  expect(sourceGroup("2001:db8:1:2:3::4")).toBe("2001:db8:1:2");
  expect(sourceGroup("2001:db8::4")).toBe("2001:db8:0:0");
  expect(sourceGroup("fe80::1%eth0")).toBe("fe80:0:0:0");
});
