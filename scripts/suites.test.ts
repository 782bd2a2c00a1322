import { expect, test } from "bun:test";
import { allSuites } from "./suites.ts";

/** Of all lanes together; what they take side by side is less. */
const SHARES_MINUTES_MAX = 80;

const suites = allSuites();

test("the shares of all suites that are not long stay within 80 minutes of lanes", () => {
  const minutes = suites.map((suite) => (suite.isLong ? 0 : suite.minutes));
  expect(minutes.reduce((sum, one) => sum + one, 0)).toBeLessThanOrEqual(SHARES_MINUTES_MAX);
});

test("check comes first, the binary before those that run it, and nothing is beside a long one", () => {
  const stageOf = (name: string) => suites.find((suite) => suite.name === name)!.stage;
  const others = suites.filter(({ name }) => name !== "check" && name !== "binary");
  for (const { stage } of others) expect(stage).toBeGreaterThan(stageOf("binary"));
  expect(stageOf("binary")).toBeGreaterThan(stageOf("check"));
  for (const { isLong, quiet } of suites) if (isLong) expect(quiet).toBeDefined();
});
