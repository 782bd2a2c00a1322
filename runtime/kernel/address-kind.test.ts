import { expect, test } from "bun:test";
import { formatIp } from "@godwit/sdk/netlink";
import fc from "fast-check";
import { addressKind, isWithin, literalOf, placeOf, plainBytes } from "./address-kind.ts";

test.each([
  ["192.0.2.1", "global"],
  ["2001:db8::1", "global"],
  // Yggdrasil.
  ["200:1234::1", "global"],
  ["3ff:1234::1", "global"],
  ["10.0.0.1", "private"],
  ["172.16.0.1", "private"],
  ["172.31.255.255", "private"],
  ["172.32.0.1", "global"],
  ["192.168.1.1", "private"],
  ["100.64.0.1", "private"],
  ["100.127.255.255", "private"],
  ["100.128.0.1", "global"],
  ["fc00::1", "private"],
  ["fdff::1", "private"],
  ["fec0::1", "private"],
  ["169.254.1.1", "link_local"],
  ["fe80::1", "link_local"],
  ["febf::1%eth0", "link_local"],
  ["127.0.0.1", "loopback"],
  ["127.255.255.254", "loopback"],
  ["::1", "loopback"],
  ["0:0:0:0:0:0:0:1", "loopback"],
  ["0.0.0.0", "unspecified"],
  ["0.1.2.3", "unspecified"],
  ["::", "unspecified"],
  ["224.0.0.1", "multicast"],
  ["239.255.255.255", "multicast"],
  ["ff02::1", "multicast"],
  ["255.255.255.255", "broadcast"],
  ["240.0.0.1", "invalid"],
  ["169.254.169.254", "metadata"],
  ["fd00:ec2::254", "metadata"],
  ["FD00:0EC2:0::0254", "metadata"],
  ["100.100.100.200", "metadata"],
  ["localhost", "invalid"],
  ["127.1", "invalid"],
  ["1.2.3.256", "invalid"],
] as const)("%s is %s", (address, kind) => {
  expect(addressKind(address)).toBe(kind);
});

test.each([
  ["mapped", (v4: string) => `::ffff:${v4}`],
  ["translated", (v4: string) => `::ffff:0:${v4}`],
  ["compatible", (v4: string) => `::${v4}`],
  ["NAT64", (v4: string) => `64:ff9b::${v4}`],
  ["NAT64 of a site", (v4: string) => `64:ff9b:1::${v4}`],
  [
    "6to4",
    (v4: string) => {
      const [a = 0, b = 0, c = 0, d = 0] = v4.split(".").map(Number);
      return `2002:${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}::1`;
    },
  ],
] as const)("an IPv4 address that is written as IPv6 (%s) is what it is", (_name, spelled) => {
  for (const v4 of ["127.0.0.1", "10.1.2.3", "169.254.169.254", "224.0.0.5", "255.255.255.255", "192.0.2.9"])
    expect([v4, addressKind(spelled(v4))]).toEqual([v4, addressKind(v4)]);
});

test("property: each spelling of an address has the kind of its bytes", () => {
  const bytes = fc.uint8Array({ minLength: 16, maxLength: 16 });
  fc.assert(
    fc.property(bytes, fc.boolean(), (address, isUpper) => {
      const long = Array.from({ length: 8 }, (_, i) =>
        ((address[2 * i]! << 8) | address[2 * i + 1]!).toString(16),
      );
      const text = isUpper ? long.join(":").toUpperCase() : long.join(":");
      expect(addressKind(text)).toBe(addressKind(formatIp(address)));
      expect(addressKind(`${text}%eth0`)).toBe(addressKind(text));
    }),
  );
});

test("networks hold what shares their bits", () => {
  const within = (address: string, network: string, bits: number) =>
    isWithin(plainBytes(address)!, plainBytes(network)!, bits);
  expect(within("10.1.2.3", "10.0.0.0", 8)).toBe(true);
  expect(within("11.1.2.3", "10.0.0.0", 8)).toBe(false);
  expect(within("192.168.1.129", "192.168.1.128", 25)).toBe(true);
  expect(within("192.168.1.127", "192.168.1.128", 25)).toBe(false);
  expect(within("fd12::1", "fd12::", 48)).toBe(true);
  expect(within("10.0.0.1", "fd12::", 0)).toBe(false);
  expect(within("::ffff:10.0.0.1", "10.0.0.0", 8)).toBe(true);
});

test("the place in an endpoint", () => {
  expect(placeOf("tcp://[2001:db8::1]:4860")).toEqual({ host: "2001:db8::1", port: 4_860 });
  expect(placeOf("wss://mesh.example/godwit")).toEqual({ host: "mesh.example", port: 0 });
  expect(placeOf("ws://u@host/x")).toBeUndefined();
  expect(literalOf("tcp://[fe80::1%eth0]:4860")).toBe("fe80::1%eth0");
  expect(literalOf("ws://127.0.0.1:80/any/path")).toBe("127.0.0.1");
  expect(literalOf("tcp://lon-b.example:4860")).toBeUndefined();
  expect(literalOf("file:///media/usb")).toBeUndefined();
});
