/** Quarantine from suspicion to recovery, with custody and router played by hand. */
import { describe, expect, test } from "bun:test";
import { QUARANTINE_FIRST_MS } from "./verdict.ts";
import { destination, honest, id, liar, setup } from "./testing-quarantine.ts";
import { noRegard } from "./testing.ts";
import { OTHERS_TRIALS_MAX } from "./quarantine.ts";

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

describe("what is tried at a time is bounded", () => {
  const crowd = Array.from({ length: 60 }, (_, n) => id(20 + n));
  const tried = (sent: readonly { to: string }[]) => new Set(sent.map(({ to }) => to)).size;

  test("what others claim takes only its share", async () => {
    const { quarantine, sent, scope } = setup(() => false);
    for (const to of crowd) quarantine.onReturned(liar, to, 2, undefined);
    expect(tried(sent)).toBe(OTHERS_TRIALS_MAX);
    await scope.close();
  });

  test("and so is what this node misses itself", async () => {
    const { clock, quarantine, sent, scope } = setup(() => false);
    for (const to of crowd) quarantine.onHanded(liar, to);
    await clock.advance(3_100);
    expect(tried(sent)).toBe(16);
    await scope.close();
  });

  test("two other neighbours are asked whether the destination answers at all, however many there are", async () => {
    const hops = [liar, honest, ...crowd.slice(0, 10)];
    const { quarantine, sent, scope } = setup(() => false, noRegard, hops);
    quarantine.onReturned(liar, destination, 2, undefined);
    expect(new Set(sent.map(({ via }) => via)).size).toBe(3);
    await scope.close();
  });

  test("who was found honest is not tried again at once", async () => {
    const { clock, quarantine, sent, scope } = setup(() => true);
    quarantine.onReturned(liar, destination, 2, undefined);
    await clock.advance(2_000);
    const first = sent.length;
    expect(first).toBeGreaterThan(0);
    quarantine.onReturned(liar, destination, 2, undefined);
    expect(sent).toHaveLength(first);
    await clock.advance(60_000);
    quarantine.onReturned(liar, destination, 2, undefined);
    expect(sent.length).toBeGreaterThan(first);
    await scope.close();
  });
});
