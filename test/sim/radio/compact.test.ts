/** Compact frames among real meshes over real sessions on a channel with air enough, and beside nodes that do not know them. */
import { expect, test } from "bun:test";
import { edge } from "./scenarios.ts";
import type { RadioWorldOptions } from "./options.ts";
import type { RadioResult } from "./result.ts";
import { RadioWorld } from "./world.ts";

/** A gateway, a fast node behind it, and three that have only the radio; little enough mail that the channel is never full, whatever is repeated. */
function run(
  seed: number,
  more: Partial<RadioWorldOptions> = {},
): { world: RadioWorld; result: RadioResult } {
  const air = { mtu: 1_000, ownShare: 1, burstMs: 3_600_000, dutyCycle: 1, mailPerHour: 12 };
  const world = new RadioWorld({ ...edge(seed), ...air, minutes: 60, ...more });
  return { world, result: world.run() };
}

/** Airtime of mail, receipts and custody for a message, ms. */
const perMessageMs = ({ world, result }: ReturnType<typeof run>): number =>
  ["mail", "receipts", "custody"].reduce((sum, kind) => sum + (world.airtime.total.get(kind) ?? 0), 0) /
  result.sent;

test("a message, its receipt and what acknowledges both take less than three quarters of what they take without, of which nothing is repeated", () => {
  const ends = [1, 2].map((version) => run(1, { versionOf: () => version }));
  for (const { result } of ends) {
    expect(result.faults).toEqual([]);
    expect(result.sent).toBeGreaterThan(5);
    expect(result.onTime).toBe(1);
  }
  const [without, compact] = ends.map(perMessageMs) as [number, number];
  console.info(`airtime of a message: ${without.toFixed(0)} ms without, ${compact.toFixed(0)} ms compact`);
  // 23 s when each was written again and again before its answer could have come.
  expect(without).toBeLessThan(8_000);
  expect(compact).toBeLessThan(Math.min(4_860, 0.75 * without));
});

test.each([1, 2, 3])("among nodes of versions 1 and 2 all mail arrives, once (seed %d)", (seed) => {
  const { result } = run(seed, { versionOf: (node) => 1 + (node % 2) });
  expect(result.faults).toEqual([]);
  expect(result.delivered).toBe(1);
});

test.each([4, 5])("where a tenth of what is sent is lost all mail arrives, once (seed %d)", (seed) => {
  const { result } = run(seed, { loss: 0.1 });
  expect(result.faults).toEqual([]);
  expect(result.delivered).toBe(1);
});
