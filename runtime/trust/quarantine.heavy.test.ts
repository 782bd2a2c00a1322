/** Quarantine in a flood of free identities. */
import { describe, expect, test } from "bun:test";
import { doorId, DoorRegard } from "../kernel/testing.ts";
import { OTHERS_TRIALS_MAX, PAIRS_MAX } from "./quarantine.ts";
import { liar, honest, destination, setup } from "./testing-quarantine.ts";

describe("in a flood of free identities", () => {
  /** Nobody's tests arrive but over the honest neighbour; who brings mail again is asked about. */
  function setupFlood() {
    const regard = new DoorRegard();
    const rig = setup((via) => via !== liar, regard);
    regard.sources.set(newcomer, "10.0.0.7");
    return { ...rig, regard };
  }
  const newcomer = doorId(7);
  const far = (n: number) => doorId(1_000 + n);

  test("mail that strangers bring again takes no trial from mail of the node itself, and a liar is met", async () => {
    const { clock, seen, quarantine } = setupFlood();
    for (let n = 0; n < 100_000; n++) quarantine.onReturned(honest, far(n), 2, doorId(9));
    expect(quarantine.trialCount).toBe(OTHERS_TRIALS_MAX);
    expect(quarantine.pairCount).toBeLessThanOrEqual(PAIRS_MAX);
    quarantine.onHanded(liar, destination);
    for (let second = 0; second < 25; second++) {
      for (let n = 0; n < 100; n++) quarantine.onReturned(honest, far(second * 100 + n), 2, doorId(9));
      await clock.advance(1_000);
    }
    expect(seen).toContain("quarantined 5 min");
  });

  test("what mail of another address raised is remembered: who was found honest is not tried again and again", async () => {
    const { clock, quarantine } = setupFlood();
    for (let round = 0; round < 5; round++) {
      await clock.advance(300_000);
      quarantine.onReturned(honest, destination, 2, newcomer);
      await clock.advance(20_000);
    }
    expect(quarantine.trialCount).toBe(0);
    for (let n = 0; n < 100_000; n++) quarantine.onReturned(honest, far(n), 2, doorId(9));
    await clock.advance(20_000);
    quarantine.onReturned(honest, destination, 2, newcomer);
    expect(quarantine.trialCount).toBe(0);
  });
});
