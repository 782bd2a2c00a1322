import { expect, test } from "bun:test";
import { ManualClock } from "./clock.ts";
import { compileAfterStart } from "./start-code.ts";

/** When an engine compiles as usual that has used `cpuMs(nowMs)` by then, in ms since the call. */
async function through(cpuMs: (nowMs: number) => number): Promise<number | undefined> {
  const clock = new ManualClock();
  let atMs: number | undefined;
  compileAfterStart(clock, {
    cpuMs: () => cpuMs(clock.monotonicMs()),
    compileAsUsual() {
      expect(atMs).toBeUndefined();
      atMs = clock.monotonicMs();
    },
  });
  await clock.advance(10_000);
  return atMs;
}

test("code is compiled as usual when the start has had its processor time, however long that takes, or when nothing happens", async () => {
  // A processor of its own, and a tenth of one.
  expect(await through((nowMs) => 80 + nowMs)).toBe(200);
  expect(await through((nowMs) => 80 + nowMs / 10)).toBe(1_200);
  // A start that took long, and one that takes as much again at once.
  expect(await through((nowMs) => 500 + nowMs)).toBe(500);
  expect(await through((nowMs) => (nowMs === 0 ? 100 : 1_000))).toBe(100);
  expect(await through(() => 60)).toBe(2_000);
});
