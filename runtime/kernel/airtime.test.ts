import { expect, test } from "bun:test";
import type { Medium } from "@godwit/sdk";
import { Airtime, ChannelBudget, CONTROL_SHARE, GATEWAY_WEIGHT, WEIGHT_MAX } from "./airtime.ts";
import { ManualClock } from "./clock.ts";

/** 10 ms a byte. */
function channel(): Medium & { utilisation: number } {
  return {
    name: "radio",
    rateBitsPerSecond: 800,
    airtimeMs: (bytes) => bytes * 10,
    utilisation: 0,
    broadcastBytesMax: 200,
    broadcast: () => true,
    listen() {},
  };
}

/** What can be taken in this time, in steps of 10 ms, by asking once a minute. */
function takenIn(clock: ManualClock, budget: ChannelBudget, hours: number): number {
  let ms = 0;
  for (let minute = 0; minute < hours * 60; minute++) {
    clock.jumpTo(clock.monotonicMs() + 60_000);
    while (budget.take(10, "other")) ms += 10;
  }
  return ms;
}

test("all that share a channel take 1 % of it together, a gateway the part of eight", () => {
  for (const [others, gateways, isGateway, weight, all] of [
    [0, 0, false, 1, 1],
    [9, 0, false, 1, 10],
    [9, 1, false, 1, 10 + GATEWAY_WEIGHT - 1],
    [9, 0, true, GATEWAY_WEIGHT, 9 + GATEWAY_WEIGHT],
  ] as const) {
    const clock = new ManualClock();
    const budget = new ChannelBudget(clock, channel());
    budget.setOthers(others, gateways, isGateway);
    const savedMs = budget.savedMs;
    const hours = 100;
    const shareMs = (hours * 3_600_000 * CONTROL_SHARE * weight) / all;
    expect(takenIn(clock, budget, hours)).toBeLessThanOrEqual(savedMs + shareMs + 10);
    expect(budget.sums.other.usedMs).toBeGreaterThan(shareMs * 0.99);
  }
});

test("where the station may take but a share of the airtime, half of that is its mail's whatever its weight", () => {
  const clock = new ManualClock();
  const medium = { ...channel(), ownShare: 0.01 };
  const budget = new ChannelBudget(clock, medium);
  budget.setOthers(2, 0, true);
  expect(budget.share).toBe(0.005);
  const before = budget.savedMs;
  expect(takenIn(clock, budget, 100)).toBeLessThanOrEqual(before + 100 * 3_600_000 * 0.005 + 10);
  // Enough for its weight: that holds.
  medium.ownShare = 0.1;
  expect(budget.share).toBeCloseTo((CONTROL_SHARE * GATEWAY_WEIGHT) / (2 + GATEWAY_WEIGHT), 9);
  for (const [said, share] of [
    [0, 0],
    [Number.NaN, 0.008],
    [-1, 0.008],
  ] as const) {
    medium.ownShare = said;
    expect(budget.share).toBeCloseTo(share, 9);
  }
});

test("however many names are heard, what is left lets a newcomer speak", () => {
  const clock = new ManualClock();
  const budget = new ChannelBudget(clock, channel());
  budget.setOthers(100_000, 50_000, false);
  expect(budget.share).toBe(CONTROL_SHARE / WEIGHT_MAX);
});

test("saving ends with one link and a half, and mail may owe two", () => {
  const clock = new ManualClock();
  const budget = new ChannelBudget(clock, channel());
  clock.jumpTo(1_000 * 3_600_000);
  expect(budget.savedMs).toBe(1.5 * budget.linkMs);
  let ms = 0;
  while (budget.take(100, "handshakes", "mail")) ms += 100;
  expect(ms).toBeGreaterThan(3.5 * budget.linkMs - 100.1);
  expect(ms).toBeLessThanOrEqual(3.5 * budget.linkMs);
  expect(budget.take(1, "routing")).toBe(false);
  expect(budget.sums.routing.refused).toBe(1);
  // Another link is begun when nothing is owed any more.
  expect(budget.has(1, "handshakes", "begin")).toBe(false);
  clock.jumpTo(1_000 * 3_600_000 + (2 * budget.linkMs) / CONTROL_SHARE);
  expect(budget.has(1, "handshakes", "begin")).toBe(true);
});

test("a call that no mail waits for needs all of a link to be there", () => {
  const clock = new ManualClock();
  const budget = new ChannelBudget(clock, channel());
  expect(budget.has(10, "handshakes", "link")).toBe(true);
  budget.charge(10, "other");
  expect(budget.has(10, "handshakes", "link")).toBe(false);
  expect(budget.has(10, "handshakes", "control")).toBe(true);
  expect(budget.has(10, "handshakes", "begin")).toBe(true);
  clock.jumpTo(20 / CONTROL_SHARE);
  expect(budget.has(10, "handshakes", "link")).toBe(true);
});

test("above a quarter of the channel no beacons, above two fifths only what mail needs", () => {
  const medium = channel();
  const budget = new ChannelBudget(new ManualClock(), medium);
  budget.charge(-budget.linkMs, "other");
  const may = () =>
    [
      budget.has(10, "beacons"),
      budget.has(10, "routing"),
      budget.has(10, "handshakes", "link"),
      budget.has(10, "handshakes", "mail"),
    ].map(Number);
  expect(may()).toEqual([1, 1, 1, 1]);
  medium.utilisation = 0.26;
  expect(may()).toEqual([0, 1, 1, 1]);
  medium.utilisation = 0.41;
  expect(may()).toEqual([0, 0, 0, 1]);
});

test("callers get three quarters of it, one link at a time, and what they begin is set aside", () => {
  const clock = new ManualClock();
  const budget = new ChannelBudget(clock, channel());
  budget.charge(budget.savedMs - budget.linkMs / 2, "other");
  expect(budget.takeAnswer(98, true)).toBe(true);
  expect(budget.takeAnswer(98, true)).toBe(false);
  // The one that was answered is answered again.
  expect(budget.takeAnswer(98, false)).toBe(true);
  let answersMs = budget.sums.handshakes.usedMs;
  const fromMs = answersMs;
  for (let minute = 0; minute < 6_000; minute++) {
    clock.jumpTo(clock.monotonicMs() + 60_000);
    while (budget.takeAnswer(98, true)) answersMs += budget.costMs(98, false);
  }
  const earnedMs = 6_000 * 60_000 * CONTROL_SHARE;
  expect(answersMs - fromMs).toBeLessThanOrEqual(0.75 * earnedMs + budget.linkMs);
  expect(budget.take(budget.linkMs / 4, "beacons")).toBe(true);
});

test("what one neighbour wants said takes what lies idle and a part of the rest, so that others find a link saved", () => {
  const clock = new ManualClock();
  const budget = new ChannelBudget(clock, channel());
  budget.setOthers(4, 0, true);
  // Until all is saved that can be.
  clock.jumpTo(100 * 3_600_000);
  const fullMs = budget.savedMs;
  let [liar, others] = [0, 0];
  for (let minute = 0; minute < 100 * 60; minute++) {
    clock.jumpTo(clock.monotonicMs() + 60_000);
    while (budget.takeFrameFor("liar", 50, "routing")) liar++;
    if (minute % 60 === 59 && budget.takeFrameFor("honest", 50, "routing")) others++;
  }
  expect(others).toBe(100);
  expect(fullMs).toBeGreaterThan(budget.linkMs);
  // Nobody else wants more: it is not held back from what lies idle.
  expect(liar * budget.costMs(50, true)).toBeGreaterThan(0.9 * 100 * 3_600_000 * budget.share);
  // Where others take all there is, it has its part.
  const before = liar;
  for (let minute = 0; minute < 100 * 60; minute++) {
    clock.jumpTo(clock.monotonicMs() + 60_000);
    while (budget.takeFrameFor("liar", 50, "routing")) liar++;
    while (budget.takeFrame(50, "other")) others++;
  }
  const part = ((liar - before) * budget.costMs(50, true)) / (100 * 3_600_000 * budget.share);
  expect(part).toBeGreaterThan(0.2);
  expect(part).toBeLessThan(0.3);
});

test("what is larger than a datagram costs what its pieces cost", () => {
  const budget = new ChannelBudget(new ManualClock(), { ...channel(), airtimeMs: (bytes) => 100 + bytes });
  expect(budget.costMs(200, false)).toBe(300);
  expect(budget.costMs(201, false)).toBe(409);
  expect(budget.costMs(188, true)).toBe(300);
});

test("one budget a channel, found by it and by the schemes that lead there", () => {
  const airtime = new Airtime(new ManualClock());
  const medium = channel();
  const budget = airtime.open(medium, ["lora", "mesh"]);
  expect(airtime.of(medium)).toBe(budget);
  expect([airtime.at("lora://1"), airtime.at("mesh://1"), airtime.at("tcp://1"), airtime.at("lora")]).toEqual(
    [budget, budget, undefined, undefined],
  );
  airtime.close(medium);
  expect([...airtime.channels]).toEqual([]);
  expect(airtime.at("lora://1")).toBeUndefined();
});

test("a transport that starts again has what it had saved or owed, and what it used is counted on", () => {
  const clock = new ManualClock();
  const airtime = new Airtime(clock);
  let budget = airtime.open(channel(), ["lora"]);
  const firstMs = budget.savedMs;
  budget.charge(2 * firstMs, "routing");
  budget.takeAnswer(76, true);
  for (let i = 0; i < 10; i++) {
    airtime.close(budget.medium);
    const before = [budget.savedMs, budget.answersMs, budget.sums.routing.usedMs, budget.share];
    budget = airtime.open(channel(), ["lora"]);
    expect([budget.savedMs, budget.answersMs, budget.sums.routing.usedMs, budget.share]).toEqual(before);
  }
  expect(budget.savedMs).toBeLessThan(0);
  // Another one beside it is no heir, nor is one of another name.
  expect(airtime.open(channel(), ["lora"]).savedMs).toBe(firstMs);
  airtime.close(budget.medium);
  expect(airtime.open({ ...channel(), name: "other" }, ["lora"]).savedMs).toBe(firstMs);
});

test("two radios of one scheme have a budget each, by which of them hears an endpoint", () => {
  const airtime = new Airtime(new ManualClock());
  const radio = (tag: string) => ({
    ...channel(),
    reaches(endpoint: string) {
      if (!endpoint.includes("/")) throw new Error("no endpoint");
      return endpoint.endsWith(tag);
    },
  });
  const [fast, slow] = [airtime.open(radio("/fast"), ["lora"]), airtime.open(radio("/slow"), ["lora"])];
  expect([airtime.at("lora://1/slow"), airtime.at("lora://1/fast")]).toEqual([slow, fast]);
  expect([airtime.at("lora://1/other"), airtime.at("lora://")]).toEqual([undefined, undefined]);
});
