import { expect, test } from "bun:test";
import { createColours, wantsColour } from "./colours.ts";

test.each([
  [true, {}, undefined, true],
  [false, {}, undefined, false],
  [true, { TERM: "dumb" }, undefined, false],
  // https://no-color.org: not empty, whatever it says.
  [true, { NO_COLOR: "1" }, undefined, false],
  [true, { NO_COLOR: "0" }, undefined, false],
  [true, { NO_COLOR: "" }, undefined, true],
  [false, { FORCE_COLOR: "1" }, undefined, true],
  [false, { FORCE_COLOR: "" }, undefined, false],
  [false, { FORCE_COLOR: "0" }, undefined, false],
  [true, { FORCE_COLOR: "1", TERM: "dumb" }, undefined, true],
  [true, { NO_COLOR: "1", FORCE_COLOR: "1" }, undefined, false],
  // The command line counts above the environment.
  [false, { NO_COLOR: "1" }, true, true],
  [true, { FORCE_COLOR: "1" }, false, false],
] as const)("terminal %p, %p, chosen %p: %p", (isTerminal, env, chosen, is) => {
  expect(wantsColour(isTerminal, env, chosen)).toBe(is);
});

test("nothing is added to a text without colours, nor to one that is empty", () => {
  expect(createColours(false).bad("x")).toBe("x");
  expect(createColours(true).bad("")).toBe("");
  expect(createColours(true).bad("x")).toBe("\x1b[31mx\x1b[0m");
});
