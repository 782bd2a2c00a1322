import { describe, expect, test } from "bun:test";
import { ManualClock } from "../kernel/clock.ts";
import { seededRandom } from "../kernel/random.ts";
import { type Life, OtherLives } from "./other-lives.ts";

const MINUTE_MS = 60_000;

/** One machine; two of them hear each other when the test says so. */
class Machine {
  readonly lives: Life[] = [];
  readonly epochs: number[] = [];
  readonly own: OtherLives;

  constructor(clock: ManualClock, bootEpoch: number, stoodDown = false) {
    this.own = new OtherLives({
      clock,
      random: seededRandom(1),
      bootEpoch,
      stoodDown,
      raised: (epoch) => void this.epochs.push(epoch),
      changed: (life) => void this.lives.push(life),
    });
  }

  hears(other: Machine): number | undefined {
    return this.own.outrun(other.own.epoch);
  }
}

/** They hear each other in turns until one of them is silent. */
function fight(first: Machine, second: Machine): number {
  for (let turn = 1; turn <= 100; turn++) {
    const [speaker, hearer] = turn % 2 === 1 ? [first, second] : [second, first];
    // Below what the other one says, nobody hears anything new.
    if (speaker.own.epoch < hearer.own.epoch) continue;
    if (hearer.hears(speaker) === undefined) return turn;
  }
  throw new Error("they fight for ever");
}

describe("an older copy of the store", () => {
  test("goes above what the mesh remembers, says that it was behind, and is alone again", async () => {
    const clock = new ManualClock();
    const machine = new Machine(clock, 7);
    expect(machine.own.outrun(40)).toBe(41);
    expect(machine.own.outrun(40)).toBe(41); // another part of the node hears the same
    expect(machine.lives).toEqual(["behind"]);
    await clock.advance(15_000);
    expect(machine.lives).toEqual(["behind", "alone"]);
    expect(machine.epochs).toEqual([41]);
  });

  test("hears of two earlier lives from two halves of a mesh and goes on", async () => {
    const clock = new ManualClock();
    const machine = new Machine(clock, 7);
    machine.own.outrun(20);
    await clock.advance(1_000);
    expect(machine.own.outrun(40)).toBeGreaterThan(40);
    await clock.advance(11 * MINUTE_MS);
    expect(machine.lives).toEqual(["behind", "alone"]);
  });

  test("hears such a word now and then, and never takes it for another machine", async () => {
    const clock = new ManualClock();
    const machine = new Machine(clock, 7);
    for (let hour = 1; hour <= 50; hour++) {
      machine.own.outrun(machine.own.epoch + 3);
      await clock.advance(60 * MINUTE_MS);
    }
    expect(new Set(machine.lives)).toEqual(new Set(["behind", "alone"]));
  });
});

describe("two machines with one identity", () => {
  test("one stands down, the other one knows and goes on, and hardly any epochs are used", () => {
    for (const [first, second] of [
      [7, 7],
      [7, 8],
      [8, 7],
      [7, 5_000],
    ] as const) {
      const clock = new ManualClock();
      const [a, b] = [new Machine(clock, first), new Machine(clock, second)];
      fight(a, b);
      expect([a.own.life, b.own.life].sort()).toEqual(["doubled", "standing-down"]);
      expect(Math.max(a.own.epoch, b.own.epoch) - Math.max(first, second)).toBeLessThan(150);
      expect(a.epochs.length + b.epochs.length).toBeLessThan(6);
    }
  });

  test("both know of it also when one was restored a moment before: what it heard of its past is no word of the other", async () => {
    for (const words of [1, 2]) {
      const clock = new ManualClock();
      const restored = new Machine(clock, 7);
      for (let word = 1; word <= words; word++) restored.own.outrun(restored.own.epoch + 3);
      await clock.advance(20_000);
      const other = new Machine(clock, restored.own.epoch + 1);
      fight(other, restored);
      expect([words, ...[restored.own.life, other.own.life].sort()]).toEqual([
        words,
        "doubled",
        "standing-down",
      ]);
    }
  });

  test("one stands down also when each word takes minutes to the other one", async () => {
    for (const minutes of [0.5, 1, 2]) {
      const clock = new ManualClock();
      const [a, b] = [new Machine(clock, 7), new Machine(clock, 8)];
      let turns = 0;
      for (; turns < 20 && a.own.life !== "standing-down" && b.own.life !== "standing-down"; turns++) {
        await clock.advance(minutes * MINUTE_MS);
        const [speaker, hearer] = turns % 2 === 0 ? [b, a] : [a, b];
        hearer.hears(speaker);
      }
      expect([minutes, turns < 14]).toEqual([minutes, true]);
    }
  });

  test("of two that leap at once, the lower one stands down", () => {
    const clock = new ManualClock();
    const [a, b] = [new Machine(clock, 7), new Machine(clock, 7)];
    for (const epoch of [7, 9]) for (const machine of [a, b]) machine.own.outrun(epoch);
    expect(a.own.epoch).toBe(b.own.epoch);
    expect(a.hears(b)).toBeUndefined();
    expect([a.own.life, b.own.life]).toEqual(["standing-down", "behind"]);
  });

  test("who stands down says nothing, comes back to look, and yields at the first answer", async () => {
    const clock = new ManualClock();
    const [a, b] = [new Machine(clock, 7), new Machine(clock, 7)];
    fight(a, b);
    const [down, on] = a.own.life === "standing-down" ? [a, b] : [b, a];
    expect(down.own.outrun(2 ** 20)).toBeUndefined();
    const before = on.own.epoch;
    for (let hour = 0; hour < 5; hour++) {
      await clock.advance(15 * MINUTE_MS);
      expect(down.own.life).toBe("returning");
      expect(down.hears(on)).toBeGreaterThan(on.own.epoch);
      expect(on.hears(down)).toBeGreaterThan(down.own.epoch);
      expect(down.hears(on)).toBeUndefined();
      expect([down.own.life, on.own.life]).toEqual(["standing-down", "doubled"]);
    }
    expect(on.own.epoch - before).toBeLessThan(5 * 34);
  });

  test("who stood down goes on when the other one is gone, though neighbours still remember that one", async () => {
    const clock = new ManualClock();
    const [a, b] = [new Machine(clock, 7), new Machine(clock, 7)];
    fight(a, b);
    const [down, on] = a.own.life === "standing-down" ? [a, b] : [b, a];
    await clock.advance(15 * MINUTE_MS);
    expect(down.hears(on)).toBeGreaterThan(on.own.epoch);
    // Routes and members remember it a little differently.
    for (const later of [1, 3, 15]) expect(down.own.outrun(on.own.epoch + later)).toBe(down.own.epoch);
    await clock.advance(MINUTE_MS);
    expect(down.own.life).toBe("alone");
  });

  test("a machine that stood down before its restart is alone when it hears nothing for a while", async () => {
    const clock = new ManualClock();
    const back = new Machine(clock, 50, true);
    expect(back.own.life).toBe("returning");
    await clock.advance(MINUTE_MS);
    expect(back.lives).toEqual(["alone"]);
  });

  test("a machine that stood down before its restart yields at the first answer", () => {
    const clock = new ManualClock();
    const [on, back] = [new Machine(clock, 100), new Machine(clock, 50, true)];
    expect(back.hears(on)).toBeGreaterThan(116);
    on.hears(back);
    expect(back.hears(on)).toBeUndefined();
    expect(on.own.life).toBe("behind");
  });

  test("who answers without end is left to itself", () => {
    const clock = new ManualClock();
    const machine = new Machine(clock, 7);
    machine.own.outrun(7);
    expect(machine.own.outrun(machine.own.epoch + 64)).toBeDefined();
    expect(machine.own.life).toBe("doubled");
    let answers = 0;
    while (answers < 100 && machine.own.outrun(machine.own.epoch + 500) !== undefined) answers++;
    expect(answers).toBeLessThanOrEqual(8);
    expect(machine.own.life).toBe("standing-down");
  });

  test("no epoch is above what 24 bits hold", () => {
    const machine = new Machine(new ManualClock(), 2 ** 24 - 2);
    expect(machine.own.outrun(2 ** 24 - 1)).toBe(2 ** 24 - 1);
  });
});
