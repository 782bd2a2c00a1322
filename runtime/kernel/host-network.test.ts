import { expect, test } from "bun:test";
import type { HostAddress } from "@godwit/sdk";
import captured from "../../test/vectors/netlink.json";
import { ManualClock } from "./clock.ts";
import { addressesOf, openHostNetwork, openNetlink, scopeOf } from "./host-network.ts";
import { parseLink, parseMessages, RouteType } from "@godwit/sdk/netlink";

const bytesOf = (list: readonly string[]) => list.map((hex) => new Uint8Array(Buffer.from(hex, "hex")));
const links = bytesOf(captured.links);
const addresses = bytesOf(captured.addresses).flatMap(parseMessages);

/** The same dump with the cable plugged in: interfaces that are up are running as well. */
function withCarrier(datagram: Uint8Array): Uint8Array {
  const copy = datagram.slice();
  const view = new DataView(copy.buffer);
  const flagsAt = 16 + 8; // struct nlmsghdr, then ifi_flags of struct ifinfomsg
  for (let at = 0; at + flagsAt + 4 <= copy.length; at += (view.getUint32(at, true) + 3) & ~3) {
    const flags = view.getUint32(at + flagsAt, true);
    if ((flags & 1) !== 0) view.setUint32(at + flagsAt, flags | 0x40, true);
    if (view.getUint32(at, true) < 16) break;
  }
  return copy;
}

// Captured in a network namespace with lo, and dmyz0 with 10.99.2.1/24 and fd77::5/64, its peer dmyz1 down.
test("captured dumps say what was set", () => {
  const found = links.flatMap(parseMessages).filter(({ type }) => type === RouteType.newLink);
  expect(found.map(({ body }) => parseLink(body).name).sort()).toEqual(["dmyz0", "dmyz1", "lo"]);
  const facts = addressesOf(links.map(withCarrier).flatMap(parseMessages), addresses);
  expect(
    facts.map(({ address, prefixLength, interface: name, scope }) => [address, prefixLength, name, scope]),
  ).toEqual([
    ["10.99.2.1", 24, "dmyz0", "private"],
    ["fd77::5", 64, "dmyz0", "private"],
    ["127.0.0.1", 8, "lo", "host"],
    ["::1", 128, "lo", "host"],
  ]);
  expect(facts.map(({ isAdvertisable }) => isAdvertisable)).toEqual([true, true, false, false]);
});

test("an interface that is up and has no carrier has no addresses: its cable was pulled", () => {
  const facts = addressesOf(links.flatMap(parseMessages), addresses);
  expect(facts.map(({ address }) => address)).toEqual(["127.0.0.1", "::1"]);
});

test("how far addresses reach", () => {
  for (const [address, scope] of [
    ["127.0.0.5", "host"],
    ["169.254.1.1", "link"],
    ["fe80::1", "link"],
    ["febf::1", "link"],
    ["10.1.2.3", "private"],
    ["172.31.0.1", "private"],
    ["172.32.0.1", "global"],
    ["100.64.0.1", "private"],
    ["100.128.0.1", "global"],
    ["fd00::1", "private"],
    ["2001:db8::1", "global"],
  ] as const)
    expect([address, scopeOf(address)]).toEqual([address, scope]);
});

test("listeners hear of changes once each, and of nothing after they or the watch ended", async () => {
  const clock = new ManualClock();
  const at = (address: string): HostAddress => ({
    address,
    family: 4,
    prefixLength: 24,
    interface: "eth0",
    scope: "private",
    isAdvertisable: true,
  });
  let now = [at("10.0.0.1")];
  let closes = 0;
  const network = openHostNetwork(clock, {
    read: () => now,
    poll: () => true,
    pollMs: 250,
    close: () => closes++,
  });
  let calls = 0;
  const end = network.watch(() => calls++);
  await clock.advance(1_000);
  expect(calls).toBe(0);
  now = [at("10.0.0.2")];
  await clock.advance(250);
  expect([calls, network.addresses()[0]!.address]).toEqual([1, "10.0.0.2"]);
  end();
  now = [];
  await clock.advance(250);
  expect(calls).toBe(1);
  network.close();
  network.close();
  expect([closes, clock.nextAtMs()]).toEqual([1, undefined]);
});

const netlink = openNetlink();
netlink?.close();
test.skipIf(netlink === undefined)(
  `this machine has a loopback address, read by netlink${netlink === undefined ? " [skipped: there is no netlink here]" : ""}`,
  () => {
    const source = openNetlink()!;
    expect(source.read().some(({ address }) => address === "127.0.0.1")).toBe(true);
    // Somebody else may change an address of this machine meanwhile; not a hundred times at once.
    const isQuiet = () => (source.read(), !source.poll());
    expect(Array.from({ length: 100 }, isQuiet)).toContain(true);
    source.close();
  },
);

test("a change is seen when it rings, a storm of them ten times a second at most, and seldom without a ring", async () => {
  const clock = new ManualClock();
  let reads = 0;
  let ring = () => {};
  const network = openHostNetwork(clock, {
    read: () => (reads++, []),
    poll: () => false,
    pollMs: 5_000,
    listen: (heard) => (ring = heard),
    close() {},
  });
  expect(reads).toBe(1);
  await clock.advance(10_000);
  expect(reads).toBe(1);
  ring();
  await clock.advance(0);
  expect(reads).toBe(2);
  for (let i = 0; i < 1_000; i++) {
    ring();
    await clock.advance(1);
  }
  expect(reads).toBeWithin(11, 14);
  network.close();
  ring();
  expect(clock.nextAtMs()).toBeUndefined();
});
