/** Quarantine from suspicion to recovery, with custody and router played by hand. */
import { describe, expect, test } from "bun:test";
import { QUARANTINE_FIRST_MS } from "./verdict.ts";
import { liar, destination, setup } from "./testing-quarantine.ts";

describe("a neighbour that takes mail and loses it", () => {
  test("is the last resort until it delivers, then like others, and is remembered", async () => {
    let isHonest = false;
    const { clock, scope, seen, quarantine, tests } = setup((via) => via !== liar || isHonest);
    quarantine.onReturned(liar, destination, 2, undefined);
    await clock.advance(30_000);
    expect(seen).toEqual(["lost", "last resort", "quarantined 5 min"]);
    expect(quarantine.stateOf(liar)).toMatchObject({ offences: 1 });
    isHonest = true;
    await clock.advance(QUARANTINE_FIRST_MS - 31_000);
    expect(quarantine.stateOf(liar)).toBeDefined();
    await clock.advance(30_000);
    expect(seen.slice(3)).toEqual(["honest", "as others", "restored"]);
    expect(quarantine.stateOf(liar)).toBeUndefined();
    isHonest = false;
    await clock.advance(60_000);
    quarantine.onReturned(liar, destination, 2, undefined);
    await clock.advance(30_000);
    expect(seen.at(-1)).toBe("quarantined 10 min");
    expect(tests()).toBe(0);
    await scope.close();
    expect(clock.nextAtMs()).toBeUndefined();
  });

  test("that goes on losing stays in quarantine, each time for longer", async () => {
    const { clock, seen, quarantine } = setup((via) => via !== liar);
    quarantine.onReturned(liar, destination, 2, undefined);
    await clock.advance(QUARANTINE_FIRST_MS + 60_000);
    expect(seen.filter((line) => line.startsWith("quarantined"))).toEqual([
      "quarantined 5 min",
      "quarantined 10 min",
    ]);
    expect(quarantine.stateOf(liar)).toMatchObject({ offences: 2 });
  });

  test("that no longer claims the way is free when its time is over", async () => {
    const { clock, seen, quarantine, stopOffering } = setup((via) => via !== liar);
    quarantine.onReturned(liar, destination, 2, undefined);
    await clock.advance(30_000);
    stopOffering();
    await clock.advance(QUARANTINE_FIRST_MS);
    expect(seen.at(-1)).toBe("restored");
  });
});

test("a destination that answers nobody makes nobody a liar", async () => {
  const { clock, scope, seen, quarantine } = setup(() => false);
  for (let i = 0; i < 5; i++) {
    quarantine.onReturned(liar, destination, 2, undefined);
    await clock.advance(120_000);
  }
  expect(seen).toEqual([]);
  await scope.close();
  expect(clock.nextAtMs()).toBeUndefined();
});
