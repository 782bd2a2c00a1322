import { expect, test } from "bun:test";
import type { BundleId, NodeId } from "../../kernel/ids.ts";
import { BundleKind } from "../../wire/bundle.ts";
import type { Holding } from "../context.ts";
import { testId } from "../testing.ts";
import { Holdings } from "./holdings.ts";

const [a, b, x, y] = [testId("a"), testId("b"), testId("x"), testId("y")] as const;
let made = 0;

function holding(destination: NodeId, id = (made++).toString(16).padStart(32, "0")): Holding {
  return {
    id: id as BundleId,
    header: { kind: BundleKind.message, priority: 2, source: a, destination, lifetimeMs: 1 },
    sealedBytes: 3,
    role: "source",
    trace: [],
    hops: 0,
    deadlineMs: 1,
    state: "ready",
    wakeAtMs: Number.POSITIVE_INFINITY,
    load: () => new Uint8Array(3),
    waitReason: undefined,
  };
}

test("a bundle is found by id and by destination until it goes", () => {
  const holdings = new Holdings();
  const [one, two, other] = [holding(x), holding(x), holding(y)];
  for (const each of [one, two, other]) expect(holdings.add(each)).toBe(true);
  expect(holdings.add(holding(y, one.id))).toBe(false);
  expect([...holdings.toward(x)]).toEqual([one, two]);
  expect([holdings.count, holdings.bytes, holdings.get(one.id), holdings.has(one)]).toEqual([
    3,
    9,
    one,
    true,
  ]);
  expect(holdings.has(holding(x, one.id))).toBe(false);
  expect([holdings.remove(one.id), holdings.remove(one.id)]).toEqual([one, undefined]);
  expect([...holdings.toward(x), holdings.count, holdings.bytes]).toEqual([two, 2, 6]);
});

test("what waits for a receipt is found by who acknowledged it last, and no longer when it waits no more", () => {
  const holdings = new Holdings();
  const [one, two] = [holding(x), holding(y)];
  for (const each of [one, two]) {
    holdings.add(each);
    holdings.setRelayed(each, a);
  }
  expect([...holdings.relayedBy(a)]).toEqual([one, two]);
  expect([...holdings.relayedBy(a, y)]).toEqual([two]);
  holdings.setRelayed(two, b);
  expect([[...holdings.relayedBy(a)], [...holdings.relayedBy(b)]]).toEqual([[one], [two]]);
  holdings.leaveRelayed(one);
  one.state = "ready";
  holdings.leaveRelayed(one);
  holdings.remove(two.id);
  expect([...holdings.relayedBy(a), ...holdings.relayedBy(b), ...holdings.relayedBy(a, x)]).toEqual([]);
});
