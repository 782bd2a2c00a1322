import { expect, test } from "bun:test";
import type { AddressScope, HostAddress } from "@godwit/sdk";
import { INTERFACES_MAX, planPlaces } from "./interfaces.ts";

const at = (
  name: string,
  address: string,
  scope: AddressScope,
  isAdvertisable = scope === "private" || scope === "global",
): HostAddress => ({
  address,
  family: address.includes(":") ? 6 : 4,
  prefixLength: address.includes(":") ? 64 : 24,
  interface: name,
  scope,
  isAdvertisable,
});

const planned = (addresses: readonly HostAddress[], wanted?: readonly string[]) =>
  planPlaces(addresses, wanted).map(
    ({ interface: name, family, addresses: own }) => `${name} ${family} ${own.join(" ")}`,
  );

test("one place for each family, each with the addresses of its interface alone", () => {
  const machine = [
    at("lo", "127.0.0.1", "host"),
    at("eth0", "10.0.0.5", "private"),
    at("eth0", "fe80::5", "link"),
    at("eth1", "192.0.2.5", "global"),
    at("eth1", "2001:db8::5", "global"),
    // One that passes by soon.
    at("eth0", "2001:db8::bad", "global", false),
  ];
  expect(planned(machine)).toEqual([
    "eth0 4 10.0.0.5 fe80::5",
    "eth0 6 10.0.0.5 fe80::5",
    "eth1 4 192.0.2.5 2001:db8::5",
  ]);
  expect(planned(machine, ["lo"])).toEqual(["lo 4 127.0.0.1"]);
  expect(planned(machine, ["eth9"])).toEqual([]);
});

test("an interface with nothing but a link-local address is spoken on, ends of containers and tunnels are not", () => {
  const names = ["eth0", "usb0", "veth12", "docker0", "br-0123456789ab", "wg0", "tun3"];
  const machine = names.map((name, i) => at(name, `fe80::${i + 1}`, "link"));
  expect(planned(machine)).toEqual(["eth0 6 fe80::1", "usb0 6 fe80::2"]);
  // Whoever names one means it; a bridge of containers is told of with what it has.
  expect(planned([at("docker0", "172.17.0.1", "private", false)], ["docker0"])).toEqual([
    "docker0 4 172.17.0.1",
  ]);
  expect(planned([at("docker0", "172.17.0.1", "private", false)])).toEqual([]);
});

test("who is in a network of the interface is near, and nobody else", () => {
  const [place] = planPlaces([at("eth0", "10.0.0.5", "private"), at("eth0", "fe80::5", "link")], undefined);
  const near = ["10.0.0.77", "fe80::abcd"];
  const far = ["10.0.1.1", "192.0.2.1", "2001:db8::1", "fe81::1", "no address"];
  expect([...near, ...far].filter((address) => place!.isOnLink(address))).toEqual(near);
});

test("a name that no endpoint can have as its zone has no place of IPv6, and there are sixteen interfaces at most", () => {
  expect(planned([at("a:b", "fe80::1", "link"), at("a:b", "10.0.0.1", "private")])).toEqual([
    "a:b 4 fe80::1 10.0.0.1",
  ]);
  const many = Array.from({ length: 40 }, (_, i) => at(`eth${i}`, `10.0.${i}.1`, "private"));
  expect(planPlaces(many, undefined)).toHaveLength(INTERFACES_MAX);
});
