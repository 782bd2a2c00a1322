import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { isLoopback, isWithin, parseListen, parsePrefix } from "./address.ts";

test.each([
  ["127.0.0.1:8023", "127.0.0.1", 8023],
  ["localhost:0", "127.0.0.1", 0],
  ["[::1]:8023", "::1", 8023],
  ["0.0.0.0:65535", "0.0.0.0", 65535],
])("%s is an address to listen on", (text, host, port) => {
  expect(parseListen(text)).toEqual({ host, port });
});

test.each([
  "",
  "8023",
  "127.0.0.1",
  "::1:8023",
  "[127.0.0.1]:1",
  "1.2.3.4:65536",
  "host.example:1",
  "1.2.3:4",
])("%j is none", (text) => {
  expect(parseListen(text)).toBeUndefined();
});

test.each(["127.0.0.1", "127.9.9.9", "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1"])(
  "%s is loopback",
  (host) => {
    expect(isLoopback(host)).toBe(true);
  },
);

test.each(["0.0.0.0", "::", "128.0.0.1", "::2", "1::1", "10.0.0.1", "nonsense"])(
  "%s is not loopback",
  (host) => {
    expect(isLoopback(host)).toBe(false);
  },
);

describe("prefixes", () => {
  const within = (address: string, ...texts: string[]) =>
    isWithin(
      address,
      texts.map((text) => parsePrefix(text)!),
    );

  test.each([
    ["10.1.2.3", "10.0.0.0/8", true],
    ["11.1.2.3", "10.0.0.0/8", false],
    ["192.0.2.127", "192.0.2.0/25", true],
    ["192.0.2.128", "192.0.2.0/25", false],
    ["192.0.2.7", "192.0.2.7", true],
    ["192.0.2.8", "192.0.2.7/32", false],
    ["8.8.8.8", "0.0.0.0/0", true],
    ["::1", "0.0.0.0/0", false],
    ["1.2.3.4", "::/0", false],
    ["::ffff:10.1.2.3", "10.0.0.0/8", true],
    ["fd00::1%eth0", "fd00::/8", true],
    ["fe80::1", "fd00::/8", false],
    ["2001:db8:8000::", "2001:db8::/33", false],
    ["2001:db8:7fff::", "2001:db8::/33", true],
    ["::1.2.3.4", "::102:304/128", true],
    ["not an address", "0.0.0.0/0", false],
  ])("%s in %s: %p", (address, prefix, wanted) => {
    expect(within(address, prefix)).toBe(wanted);
  });

  test.each([
    "10.0.0.0/33",
    "10.0.0.1/8",
    "10.0.0.0/",
    "10.0.0.0/-1",
    "10.0.0/8",
    "::/129",
    "fd00::1/8",
    "",
    "x/8",
  ])("%j is none", (text) => {
    expect(parsePrefix(text)).toBeUndefined();
  });

  test("property: agrees with comparing the bits as text", () => {
    const octets = fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255));
    const bitsOf = (parts: readonly number[]) =>
      parts.map((part) => part.toString(2).padStart(8, "0")).join("");
    fc.assert(
      fc.property(octets, octets, fc.nat(32), (one, two, bits) => {
        const cut = bitsOf(one).slice(0, bits);
        const network = [0, 8, 16, 24].map((at) => parseInt(cut.padEnd(32, "0").slice(at, at + 8), 2));
        expect(within(two.join("."), `${network.join(".")}/${bits}`)).toBe(bitsOf(two).startsWith(cut));
      }),
    );
  });
});
