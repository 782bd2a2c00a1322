/** Thousands of addresses that are dead. */
import { describe, expect, test } from "bun:test";
import { setup } from "./testing-dialer.ts";

describe("bounds", () => {
  test("an address that was never tried does not wait behind a hundred that never answer and come again and again", async () => {
    const { clock, far, dials, dialer } = setup();
    far.takesMs = 1e9;
    const flood = () => {
      for (let i = 0; i < 512; i++)
        dialer.add({ endpoint: `tcp://192.0.2.${i % 100}:${i}`, isPermanent: false, timeoutMs: 3_000 });
    };
    for (let seconds = 0; seconds < 60; seconds++) {
      flood();
      await clock.advance(1_000);
    }
    const honest = { endpoint: "tcp://198.51.100.1:1", isPermanent: false };
    const addedAtMs = clock.monotonicMs();
    dialer.add(honest);
    await clock.advance(10_000);
    const dial = dials.find(({ endpoint }) => endpoint === honest.endpoint);
    expect(dial!.atMs - addedAtMs).toBeLessThanOrEqual(3_000);
  });

  test("thousands of dead addresses that are permanent are no flood of dials, and each gets its turn", async () => {
    const { clock, dials, dialer } = setup();
    for (let i = 0; i < 3_000; i++) dialer.add({ endpoint: `tcp://dead:${i}`, isPermanent: true });
    await clock.advance(10_000);
    expect(dials.length).toBeLessThanOrEqual(512 + 10 * 256);
    await clock.advance(50_000);
    expect(new Set(dials.map(({ endpoint }) => endpoint)).size).toBe(3_000);
  });
});
