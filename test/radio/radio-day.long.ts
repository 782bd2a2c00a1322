/**
 * A day of fifty radios in virtual time, through the firmware's queue: five islands whose wires come and go (test/sim/radio/scenarios.ts). `--long radio-day`; some
 * minutes of processor time. `RADIO_DAY_SEED` is another day.
 */
import { expect, test } from "bun:test";
import { islands } from "../sim/radio/scenarios.ts";
import { runFirmware } from "./testing-mesh.ts";

test("fifty radios for a day: of the mail nine tenths arrive while gateways flap, own airtime is within the budget, nothing is said again before its answer could come", () => {
  const result = runFirmware("a day of fifty", islands(Number(process.env["RADIO_DAY_SEED"] ?? 1)));
  expect(result.faults).toEqual([]);
  expect(result.early).toEqual([]);
  expect(result.sent).toBeGreaterThan(400);
  expect(result.delivered).toBeGreaterThanOrEqual(0.9);
  // By the oracle of each node (world.ts) as well, to the millisecond.
  expect(result.ownMost).toBeLessThanOrEqual(0.01);
  expect(result.control).toBeLessThanOrEqual(0.02);
}, 3_600_000);
