import { expect, test } from "bun:test";
import { ManualClock } from "./clock.ts";
import { Late } from "./late.ts";

const setup = () => {
  const clock = new ManualClock();
  const told: string[] = [];
  const state = { reason: "no such address" as string | undefined, tries: 0 };
  const late = new Late({
    clock,
    open: () => {
      state.tries++;
      if (state.reason !== undefined) throw new Error(state.reason);
      return "door";
    },
    changed: (error) => told.push(error === undefined ? "open" : (error as Error).message),
  });
  return { clock, told, state, late };
};

test("is tried until it opens, tells each reason once and then rests", async () => {
  const { clock, told, state, late } = setup();
  expect([late.opened, late.reason]).toEqual([undefined, "no such address"]);
  await clock.advance(10_000);
  expect([state.tries, told]).toEqual([6, ["no such address"]]);
  state.reason = "taken";
  await clock.advance(2_000);
  state.reason = undefined;
  await clock.advance(2_000);
  expect([late.opened, late.reason, told]).toEqual(["door", undefined, ["no such address", "taken", "open"]]);
  expect(clock.nextAtMs()).toBeUndefined();
});

test("is not tried after its end", async () => {
  const { clock, state, late } = setup();
  late.stop();
  state.reason = undefined;
  await clock.advance(10_000);
  expect([late.opened, state.tries, clock.nextAtMs()]).toEqual([undefined, 1, undefined]);
});
