import { expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { createPaint } from "./paint.ts";

const NOW = Date.parse("2026-06-01T00:00:00.000Z");
const paintOf = (isUtc = false, isColoured = false) =>
  createPaint({ isColoured, columns: undefined, clock: new ManualClock(NOW), isUtc });
const at = (seconds: number) => new Date(NOW + seconds * 1_000).toISOString();

test.each([
  [0, "now"],
  [-0.9, "now"],
  [-1, "1 s ago"],
  [5, "in 5 s"],
  [-119, "119 s ago"],
  [-120, "2 min ago"],
  [3_600, "in 60 min"],
  [-7_100, "118 min ago"],
  [3 * 3_600, "in 3 h"],
  // What is nearly three days away is not told as two.
  [72 * 3_600 - 1, "in 3 d"],
  [-47 * 3_600, "47 h ago"],
  [-399 * 86_400, "399 d ago"],
  [-401 * 86_400, "2025-04-26"],
  [-1_780_272_000, "1970-01-01"],
])("%p seconds away: %s", (seconds, words) => {
  expect(paintOf().moment(at(seconds))).toBe(words);
  expect(paintOf().ahead(seconds)).toBe(words);
  expect([paintOf(true).moment(at(seconds)), paintOf(true).ahead(seconds)]).toEqual([
    at(seconds),
    at(seconds),
  ]);
});

test("no time, and what is none, have their words; a lag has its sign", () => {
  expect([paintOf().moment(null), paintOf().ahead(null)]).toEqual(["never", "-"]);
  expect(paintOf().moment("soon")).toBe("soon");
  expect([paintOf().lag(at(0.5), at(0)), paintOf().lag(at(-30), at(0))]).toEqual(["+500 ms", "-30 s"]);
  expect(paintOf(true).lag(at(1), at(0))).toBe(at(1));
});

test.each([
  ["alive", 32],
  ["suspect", 33],
  ["failed", 31],
  ["queued: no route to LON-B yet", 33],
  ["refused: it is full", 31],
  ["delivered", 32],
  ["left", undefined],
  ["member", undefined],
  ["", undefined],
])("the state %j has its colour", (text, code) => {
  const dressed = code === undefined ? text : `\x1b[${code}m${text}\x1b[0m`;
  expect(paintOf(false, true).state(text)(text)).toBe(dressed);
});
