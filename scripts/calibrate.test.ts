import { expect, test } from "bun:test";
import { formatCalibration, REFERENCE, scaleOf, type Speeds } from "./calibrate.ts";

const times = (factor: number): Speeds => ({
  processor: REFERENCE.processor * factor,
  start: REFERENCE.start * factor,
  commit: REFERENCE.commit * factor,
});

test("the reference machine has scale 1, one of half its speed 2", () => {
  expect(scaleOf(REFERENCE).scale).toBeCloseTo(1);
  expect(scaleOf(times(2)).scale).toBeCloseTo(2);
});

test("a faster machine gets no smaller shares, because timers are as slow there", () => {
  expect(scaleOf(times(0.3)).scale).toBe(1);
});

test("one strange measurement does not stretch all limits without bound", () => {
  const { scale, ratios } = scaleOf({ ...REFERENCE, commit: REFERENCE.commit * 10_000 });
  expect(ratios.commit).toBe(8);
  expect(scale).toBeLessThan(1.5);
  expect(scaleOf(times(10_000)).scale).toBeCloseTo(8);
});

test("processors weigh most, because suites are mostly that", () => {
  const slow = (key: keyof Speeds) => scaleOf({ ...REFERENCE, [key]: REFERENCE[key] * 4 }).scale;
  expect(slow("processor")).toBeGreaterThan(slow("start"));
  expect(slow("start")).toBeGreaterThan(slow("commit"));
});

test("it is said in one line", () => {
  const line = formatCalibration(scaleOf(times(2)), 3);
  expect(line).toContain("scaled by 2.00");
  expect(line).toContain("3 lanes");
  expect(line).not.toContain("\n");
});
