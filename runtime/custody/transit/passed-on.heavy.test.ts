import { expect, test } from "bun:test";
import { ManualClock } from "../../kernel/clock.ts";
import type { BundleId } from "../../kernel/ids.ts";
import { doorId, DoorRegard } from "../../kernel/testing.ts";
import { PassedOn } from "./passed-on.ts";

const friend = doorId(1);
const relay = doorId(2);
const sybil = doorId(3);
const newcomer = doorId(4);
const far = doorId(5);
const bundle = (n: number) => n.toString(16).padStart(32, "0") as BundleId;

async function open() {
  const clock = new ManualClock();
  const regard = new DoorRegard();
  regard.known.add(friend);
  regard.sources.set(newcomer, "10.0.0.7");
  return { clock, regard, passedOn: new PassedOn({ clock, regard }) };
}

test("100,000 bundles of one stranger do not make a relay forget who lost what a friend or another stranger gave it", async () => {
  const { clock, passedOn } = await open();
  passedOn.note(bundle(1), far, relay, friend);
  passedOn.note(bundle(2), far, relay, newcomer);
  for (let n = 0; n < 100_000; n++) passedOn.note(bundle(1_000 + n), far, relay, sybil);
  passedOn.note(bundle(3), far, relay, newcomer);
  await clock.advance(2_000);
  expect([1, 2, 3].map((n) => passedOn.before(bundle(n)))).toEqual([relay, relay, relay]);
  expect(passedOn.before(bundle(1_000))).toBeUndefined();
});

test("receipts to 100,000 senders do not make it forget which way those of a friend and over another way went", async () => {
  const { passedOn, regard } = await open();
  regard.sources.set(relay, "10.0.0.8");
  passedOn.note(bundle(1), friend, sybil, undefined);
  passedOn.note(bundle(2), newcomer, relay, undefined);
  for (let n = 0; n < 100_000; n++) passedOn.note(bundle(3), doorId(1_000 + n), sybil, undefined);
  expect([passedOn.lastOwn(friend), passedOn.lastOwn(newcomer)]).toEqual([sybil, relay]);
  expect([passedOn.lastOwn(doorId(1_000)), passedOn.lastOwn(doorId(100_999))]).toEqual([undefined, sybil]);
});
