import { expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { formatNodeId } from "../kernel/ids.ts";
import { seededRandom } from "../kernel/random.ts";
import { epochOf, OwnFact } from "./own-fact.ts";

const self = formatNodeId(new Uint8Array(32).fill(1));
const begin = (seed: number) =>
  new OwnFact({
    self,
    network: "test",
    bootEpoch: 7,
    clock: new ManualClock(),
    random: seededRandom(seed),
    sign: () => new Uint8Array(64),
    raised() {},
  });

test("two lives begin an epoch alike and go on with numbers of their own, so that they hear of each other", () => {
  const facts = [1, 2, 3, 4, 5, 6, 7, 8].map(begin);
  expect(new Set(facts.map(({ fact }) => fact.incarnation))).toEqual(new Set([7 * 2 ** 24]));
  for (const own of facts) own.settle();
  const settled = facts.map(({ fact }) => fact.incarnation);
  expect(new Set(settled).size).toBe(8);
  expect(Math.min(...settled)).toBeGreaterThan(7 * 2 ** 24);
  expect(new Set(settled.map(epochOf))).toEqual(new Set([7]));
});

test("what another life said is outrun within the epoch to go on from, and never undercut", () => {
  const own = begin(1);
  own.outrun(9 * 2 ** 24 + 5, 10);
  expect(epochOf(own.fact.incarnation)).toBe(10);
  const last = 10 * 2 ** 24 + 2 ** 20;
  own.outrun(last, 10);
  expect(own.fact.incarnation).toBe(last + 1);
});

test("accusers do not make a node sign without pause: a burst of eight, then one in two seconds", async () => {
  const clock = new ManualClock();
  let signed = 0;
  const own = new OwnFact({
    self,
    network: "test",
    bootEpoch: 7,
    clock,
    random: seededRandom(1),
    sign: () => (signed++, new Uint8Array(64)),
    raised() {},
  });
  signed = 0;
  for (let n = 0; n < 1_000; n++) own.refute();
  expect(signed).toBe(8);
  for (let second = 0; second < 20; second++) {
    await clock.advance(1_000);
    for (let n = 0; n < 100; n++) own.refute();
  }
  expect(signed).toBeGreaterThanOrEqual(8 + 9);
  // What waits for its turn, and what the bucket has saved meanwhile.
  expect(signed).toBeLessThanOrEqual(8 + 20);
});
