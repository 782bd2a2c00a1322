/** A room in floods of a hundred thousand. */
import { describe, expect, test } from "bun:test";
import { stranger, known, room } from "./testing.ts";

/** Of a clock that goes in steps of 4 ms this is 0.2 us each. */
const MORE = 20_000;

describe("a room for what anybody can tell", () => {
  test("100,000 identities of one source push out their own kind, and nobody else", () => {
    const { room: places, gone } = room(1_024);
    for (let i = 0; i < 100; i++) places.admit(`honest ${i}`, known("neighbour"));
    for (let i = 0; i < 50; i++) places.admit(`newcomer ${i}`, stranger("10.0.0.7"));
    for (let i = 0; i < 100_000; i++) places.admit(`sybil ${i}`, stranger("192.0.2.1"));
    expect(gone.every((key) => key.startsWith("sybil"))).toBe(true);
    expect([places.sizeOf("neighbour"), places.sizeOf("10.0.0.7")]).toEqual([100, 50]);
    expect(places.size).toBe(100 + 768);
    expect(places.admit("late newcomer", stranger("10.0.0.8"))).toBe(true);
    expect(places.admit("late of a neighbour", known("neighbour"))).toBe(true);
  });

  test("100,000 identities of as many sources do not touch what known tellers told, nor what is kept", () => {
    const { room: places, gone } = room(1_024, (key) => (key.startsWith("kept") ? "kept" : "none"));
    for (let i = 0; i < 100; i++) places.admit(`honest ${i}`, known("neighbour"));
    for (let i = 0; i < 100; i++) places.admit(`kept ${i}`, stranger("10.0.0.7"));
    for (let i = 0; i < 20_000; i++) places.admit(`sybil ${i}`, stranger(`source ${i}`));
    expect(gone.every((key) => key.startsWith("sybil"))).toBe(true);
    expect(places.admit("kept, and late", stranger("10.0.0.9"))).toBe(true);
  });

  test("who yields is found among 6,000 sources, and in one of 6,000, as fast as among a few", () => {
    /** Of a full table, processor time for each of so many more that the steps of that clock do not count, us; the least of some tries. */
    const costOf = (max: number, sourceOf: (n: number) => string) => {
      const { room: places } = room(max);
      let n = 0;
      const admit = (count: number) => {
        for (const end = n + count; n < end; n++) places.admit(`sybil ${n}`, stranger(sourceOf(n)));
      };
      admit(2 * max);
      const tries = Array.from({ length: 5 }, () => {
        const before = process.cpuUsage().user;
        admit(MORE);
        return (process.cpuUsage().user - before) / MORE;
      });
      return Math.min(...tries);
    };
    for (const sourceOf of [(n: number) => `source ${n}`, () => "192.0.2.1"]) {
      const few = costOf(64, sourceOf);
      expect(costOf(8_192, sourceOf)).toBeLessThan(10 * Math.max(few, 0.5));
    }
  });
});
