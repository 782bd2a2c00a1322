/** The doors of what strangers can fill: bounded, and of no use for keeping others out. */
import { expect, test } from "bun:test";
import { ManualClock } from "@godwit/sdk/testkit";
import { Allowance, SOURCES_MAX } from "./allowance.ts";
import { ITEM_LIFETIME_MS, ITEMS_MAX, ITEMS_PER_SOURCE_MAX, KeptItems, targetOf } from "./kept.ts";
import { ADDRESSES_MAX, isStandIn, VirtualAddresses } from "./virtual.ts";

const STRANGERS = process.env["GODWIT_DOORS"] === "all" ? 100_000 : 10_000;

test("one source keeps 128 items and costs nobody else's; whoever is full may still renew its own", () => {
  const clock = new ManualClock();
  const dropped: string[] = [];
  const kept = new KeptItems(clock, (target) => dropped.push(target));
  kept.keep("honest", "192.0.2.1");
  let taken = 0;
  for (let n = 0; n < STRANGERS; n++)
    if (kept.hasRoom(`liar ${n}`, "192.0.2.66")) {
      kept.keep(`liar ${n}`, "192.0.2.66");
      taken++;
    }
  expect([taken, kept.size, dropped.length]).toEqual([ITEMS_PER_SOURCE_MAX, ITEMS_PER_SOURCE_MAX + 1, 0]);
  expect(kept.hasRoom("liar 0", "192.0.2.66")).toBe(true);
  expect(kept.hasRoom("another", "192.0.2.1")).toBe(true);
});

test("many sources together: the longest without a renewal goes, and the counts stay right", () => {
  const clock = new ManualClock();
  let dropped = 0;
  const kept = new KeptItems(clock, () => dropped++);
  for (let n = 0; n < STRANGERS; n++) {
    kept.keep(`item ${n}`, `source ${n}`);
    if (n % 1_000 === 0) kept.keep("item 0", "source 0");
  }
  expect(kept.size).toBe(ITEMS_MAX);
  expect(dropped).toBe(STRANGERS - ITEMS_MAX);
  expect(kept.hasRoom("item 0", "full")).toBe(true);
  clock.advance(ITEM_LIFETIME_MS / 2);
  kept.keep("item 0", "source 0");
  clock.advance(ITEM_LIFETIME_MS / 2);
  kept.sweep();
  expect(kept.size).toBe(1);
});

test("a bucket of each source, forgotten ones make room", () => {
  const clock = new ManualClock();
  const allowance = new Allowance({ clock, burst: 3, perSecond: 2 });
  const spent = (source: string, count: number) =>
    Array.from({ length: count }, () => allowance.spend(source)).filter(Boolean).length;
  expect([spent("a", 10), spent("b", 2)]).toEqual([3, 2]);
  clock.advance(1_000);
  expect(spent("a", 10)).toBe(2);
  for (let n = 0; n < STRANGERS; n++) allowance.spend(`stranger ${n}`);
  expect(allowance.size).toBe(SOURCES_MAX);
});

test("stand-ins: each address one, none twice, the unused longest goes and means nobody after that", () => {
  const addresses = new VirtualAddresses();
  const first = addresses.standInOf("2001:db8::1");
  expect([isStandIn(first), addresses.addressOf(first)]).toEqual([true, "2001:db8::1"]);
  expect(addresses.standInOf("192.0.2.1")).toBe("192.0.2.1");
  expect(addresses.addressOf("192.0.2.1")).toBe("192.0.2.1");
  const seen = new Set([first]);
  for (let n = 0; n < STRANGERS; n++) {
    seen.add(addresses.standInOf(`2001:db8:1::${n.toString(16)}`));
    if (n % 1_000 === 0) expect(addresses.standInOf("2001:db8::1")).toBe(first);
  }
  expect(seen.size).toBe(STRANGERS + 1);
  expect(addresses.size).toBe(ADDRESSES_MAX);
  expect(addresses.addressOf(first)).toBe("2001:db8::1");
  expect(addresses.addressOf([...seen][1]!)).toBe(STRANGERS > ADDRESSES_MAX ? undefined : expect.any(String));
});

test("a target is that of BEP 44's test vectors", () => {
  const key = Buffer.from("77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548", "hex");
  const value = Buffer.from("Hello World!");
  expect(targetOf({ value })).toBe("e5f96f6f38320f0f33959cb4d3d656452117aadb");
  expect(targetOf({ key, value })).toBe("4a533d47ec9c7d95b1ad75f576cffc641853b750");
  expect(targetOf({ key, value, salt: Buffer.from("foobar") })).toBe(
    "411eba73b6f087ca51a3795d9c8c938d365e32c1",
  );
});
