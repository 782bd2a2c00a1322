/**
 * Simulated meshes over emulated radios: what the plugins, the firmware's queue, its signatures and its limits make of GOALS rows 10 and 11. In virtual time. More
 * of them is mesh-many.test.ts, a day of fifty radio-day.long.ts.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { bridge, line } from "../sim/radio/scenarios.ts";
import { firmwareAir } from "./mesh-air.ts";
import { runFirmware } from "./testing-mesh.ts";

setDefaultTimeout(120_000);

/** Of the transport, of a frame on the air, of the message in it on a private port (its bit field included), and of a seal by the firmware for one radio. */
const AROUND = 2 + 16 + 8 + 12;
const SIGNATURE = 66;

describe("a telex of 100 bytes and its receipt, acknowledged, between neighbours", () => {
  for (const firmware of ["2.7", "2.8"] as const)
    test(`with firmware ${firmware} are a packet each, of so many bytes on the air`, () => {
      const newAir = firmwareAir(() => ({ firmware }));
      const { sent, faults, early, outcomes, air } = runFirmware(`pair ${firmware}`, {
        ...line(1, 2),
        // One way, so that nobody talks while he is talked to.
        ...{ loss: 0, hears: () => 20, pair: () => [0, 1] as const, mailPerHour: 6, newAir },
      });
      expect([faults, early]).toEqual([[], []]);
      expect(sent).toBeGreaterThan(5);
      expect(outcomes).toEqual({ delivered: sent });
      const sizes = (kind: string) =>
        air.frames.flatMap((frame) => (frame.kind === kind ? [frame.bytes] : [])).toSorted((a, b) => a - b);
      const [mail, receipts, custody] = [sizes("mail"), sizes("receipts"), sizes("custody")];
      expect([mail.length, receipts.length, custody.length]).toEqual([sent, sent, 2 * sent]);
      const median = (all: number[]) => all[all.length >> 1]!;
      expect(median(mail)).toBeLessThanOrEqual(100 + 48 + AROUND);
      // One-shot, with what a session begins with.
      expect(mail.at(-1)).toBeLessThanOrEqual(100 + 90 + AROUND);
      expect(receipts.at(-1)).toBeLessThanOrEqual(40 + AROUND);
      expect(custody.at(-1)).toBeLessThanOrEqual(17 + AROUND);
      const beacons = new Set(sizes("beacons"));
      expect(beacons).toEqual(new Set([2 + 16 + 7 + 22 + (firmware === "2.8" ? SIGNATURE : 0)]));
    });
});

describe("through the firmware's queue", () => {
  test("two islands with a wire each: all mail arrives within the budget, and nothing is said again too early", () => {
    const result = runFirmware("bridge", bridge(1));
    expect(result.faults).toEqual([]);
    expect(result.early).toEqual([]);
    expect(result.outcomes).toEqual({ delivered: result.sent });
    expect(result.onTime).toBeGreaterThanOrEqual(0.9);
    expect(result.talkControl).toBeLessThanOrEqual(0.02);
    expect(result.ownMost).toBeLessThanOrEqual(0.01);
  });

  test("eight times the mail that the budget carries: nobody is on the air for longer, nothing is said again too early, and what is not delivered expires", () => {
    const { mailPerHour } = line(1, 2);
    const result = runFirmware("overload", {
      ...line(1, 2),
      ...{ mailPerHour: 16 * mailPerHour, warmUpMinutes: 30, minutes: 60, drainMinutes: 70 },
      ...{ lifetimeMs: 60 * 60_000, faultsMax: 5 },
    });
    expect(result.faults).toEqual([]);
    expect(result.early).toEqual([]);
    expect((result.outcomes["delivered"] ?? 0) + (result.outcomes["expired"] ?? 0)).toBe(result.sent);
    // Full all the time, the rest is what it began with.
    expect(result.ownMost).toBeGreaterThan(0.0085);
  });
});
