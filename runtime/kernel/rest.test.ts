import { expect, test } from "bun:test";
import { ManualClock } from "./clock.ts";
import { giveBackAfterWork, type Resting } from "./rest.ts";

class FakeProcess implements Resting {
  usedMs = 100;
  given = 0;

  cpuMs = () => this.usedMs;

  giveBack = () => {
    this.given++;
    // A collection takes time as well.
    this.usedMs += 900;
  };
}

const open = () => {
  const clock = new ManualClock();
  const process = new FakeProcess();
  const timer = giveBackAfterWork(clock, process);
  const pass = async (seconds: number, cpuMsEach: number) => {
    for (let i = 0; i < seconds; i++) {
      process.usedMs += cpuMsEach;
      await clock.advance(1_000);
    }
  };
  return { clock, process, timer, pass };
};

test("what work took is given back once it is over, once, and not while it goes on", async () => {
  const { process, pass } = open();
  await pass(60, 300);
  expect(process.given).toBe(0);
  await pass(21, 3);
  expect(process.given).toBe(1);
  await pass(80, 3);
  expect(process.given).toBe(1);
  await pass(5, 400);
  await pass(21, 3);
  expect(process.given).toBe(2);
});

test("what an idle node takes adds up to work in the end, and a process that does nothing is left alone", async () => {
  const { process, pass } = open();
  await pass(600, 0);
  expect(process.given).toBe(0);
  await pass(3_600, 3);
  expect(process.given).toBeGreaterThan(5);
  expect(process.given).toBeLessThan(30);
});

test("it ends when it is cancelled", async () => {
  const { process, timer, pass } = open();
  await pass(5, 400);
  timer.cancel();
  await pass(60, 3);
  expect(process.given).toBe(0);
});
