/** As mesh.test.ts, of more radios and for longer. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { dayApart, islands, line } from "../sim/radio/scenarios.ts";
import { runFirmware } from "./testing-mesh.ts";

setDefaultTimeout(300_000);

test("three in a row: all mail arrives within the budget, and nothing is said again too early", () => {
  const result = runFirmware("line-3", line(1, 3));
  expect(result.faults).toEqual([]);
  expect(result.early).toEqual([]);
  expect(result.outcomes).toEqual({ delivered: result.sent });
  expect(result.onTime).toBeGreaterThanOrEqual(0.9);
  expect(result.talkControl).toBeLessThanOrEqual(0.02);
  expect(result.ownMost).toBeLessThanOrEqual(0.01);
});

test("who was out of earshot for a day gets its mail, and what it wrote meanwhile arrives", () => {
  const result = runFirmware("day-apart", dayApart(1));
  expect(result.faults).toEqual([]);
  expect(result.early).toEqual([]);
  expect(result.outcomes).toEqual({ delivered: result.sent });
  // Some of it waited for the day.
  expect(result.delayP95Ms).toBeGreaterThan(20 * 3_600_000);
});

test("fifty radios for an hour: own airtime within the budget, and nothing is said again too early", () => {
  const result = runFirmware("fifty for an hour", {
    ...islands(1, 0.5),
    ...{ warmUpMinutes: 10, drainMinutes: 20, lifetimeMs: 15 * 60_000 },
  });
  expect(result.faults).toEqual([]);
  expect(result.early).toEqual([]);
  expect(result.control).toBeLessThanOrEqual(0.05);
  expect(result.outcomes["delivered"] ?? 0).toBeGreaterThan(0);
});
