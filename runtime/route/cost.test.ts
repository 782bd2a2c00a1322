import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { bottleneckOf, LINK_COST_MAX, linkCost, rawCost } from "./cost.ts";

const lan = { rateBitsPerSecond: 1e9, loss: 0, baseRttMs: 0.3 };
const tor = { rateBitsPerSecond: 2e6, loss: 0, baseRttMs: 600 };
const longFast = { rateBitsPerSecond: 1_074, loss: 0.05, baseRttMs: 400 };

describe("link cost", () => {
  test.each([
    ["gigabit LAN", lan, 6, 6],
    ["Tor", tor, 2_000, 8_000],
    ["LongFast", longFast, 18_000, 28_000],
  ] as const)("%s", (_name, measured, min, max) => {
    expect(linkCost(undefined, measured)).toBeGreaterThanOrEqual(min);
    expect(linkCost(undefined, measured)).toBeLessThanOrEqual(max);
  });

  test("loss makes a link dearer", () => {
    expect(rawCost({ ...longFast, loss: 0.5 })).toBeGreaterThan(1.5 * rawCost(longFast));
  });

  test("nonsense stays within bounds", () => {
    const measured = fc.record({ rateBitsPerSecond: fc.double(), loss: fc.double(), baseRttMs: fc.double() });
    fc.assert(
      fc.property(
        fc.option(fc.integer({ min: 1, max: LINK_COST_MAX }), { nil: undefined }),
        measured,
        (held, link) => {
          const cost = linkCost(held, link);
          expect(Number.isInteger(cost)).toBe(true);
          expect(cost).toBeGreaterThanOrEqual(1);
          expect(cost).toBeLessThanOrEqual(LINK_COST_MAX);
        },
      ),
    );
  });

  test("jitter below three quarters of a step moves nothing", () => {
    const held = linkCost(undefined, tor);
    for (const rtt of [520, 560, 600, 640, 680])
      expect(linkCost(held, { ...tor, baseRttMs: rtt })).toBe(held);
    expect(linkCost(held, { ...tor, baseRttMs: 900 })).toBeGreaterThan(held);
    expect(linkCost(held, { ...tor, baseRttMs: 300 })).toBeLessThan(held);
  });

  test("a busy machine's noise on a fast link moves nothing, a longer way does", () => {
    const held = linkCost(undefined, lan);
    for (const rtt of [0.05, 0.8, 1.5, 1.9]) expect(linkCost(held, { ...lan, baseRttMs: rtt })).toBe(held);
    expect(linkCost(held, { ...lan, baseRttMs: 3 })).toBeGreaterThan(2 * held);
  });

  test("within 40 % of the truth, and stable when asked again", () => {
    const measured = fc.record({
      rateBitsPerSecond: fc.integer({ min: 100, max: 10_000_000_000 }),
      loss: fc.double({ min: 0, max: 0.9, noNaN: true }),
      baseRttMs: fc.double({ min: 0, max: 60_000, noNaN: true }),
    });
    fc.assert(
      fc.property(measured, (link) => {
        const cost = linkCost(undefined, link);
        expect(Math.abs(cost - rawCost(link))).toBeLessThanOrEqual(Math.max(1, 0.4 * rawCost(link)));
        expect(linkCost(cost, link)).toBe(cost);
      }),
    );
  });

  test("bottleneck classes", () => {
    expect([1e9, 1e6, 999_999, 10_000, 9_999, 0].map(bottleneckOf)).toEqual([0, 0, 1, 1, 2, 2]);
  });
});
