/** This machine, measured. */
import { expect, test } from "bun:test";
import { measure, scaleOf } from "./calibrate.ts";

test("this machine can be measured, with several copies at work", async () => {
  const measured = await measure(2);
  for (const value of Object.values(measured)) expect(value).toBeGreaterThan(0);
  expect(scaleOf(measured).scale).toBeGreaterThanOrEqual(1);
});
