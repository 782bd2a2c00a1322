/**
 * Liars in the simulator: all mail between honest nodes ends as it should though the liar stays, the liar is caught, and
 * blame falls on the right one. The planted bugs show that the checks see.
 */
import { describe, expect, test } from "bun:test";
import { World, type SimOptions, type SimResult } from "./world.ts";

const WARM_UP_MS = 20_000;
const CAUGHT_MS = 30_000;
const TIMEOUT_MS = 60_000;
const seeds = [1, 2, 3, 4];

const run = (options: SimOptions): SimResult => new World(options).run();
/** The last node lies; without it a ring is a line, so that there is an honest way for all. */
const withLiar = (seed: number, more: Partial<SimOptions> = {}): SimOptions => ({
  seed,
  nodes: 8,
  minutes: 1.2,
  faultPauseMs: 0,
  datagrams: 0,
  shape: "ring",
  talkers: 7,
  liars: [7],
  ...more,
});

describe("a liar in a ring", () => {
  for (const drops of ["all", "half"] as const)
    test(
      `that drops ${drops}: nothing is lost, it is caught by its neighbours, honest ones go free or nearly so`,
      () => {
        let [caught, wrong] = [0, 0];
        for (const seed of seeds) {
          const some = drops === "half" ? { drops: (id: string) => id.charCodeAt(3) % 2 === 0 } : {};
          const result = run(withLiar(seed, some));
          expect(result.faults).toEqual([]);
          const first = result.quarantines.find(({ offender }) => offender === 7);
          expect(first!.atMs - WARM_UP_MS).toBeLessThan(CAUGHT_MS);
          caught += result.quarantines.filter(({ offender }) => offender === 7).length;
          wrong += result.quarantines.filter(({ offender }) => offender !== 7).length;
        }
        console.log(`caught ${caught} times, honest ones blamed ${wrong} times`);
        expect(caught).toBeGreaterThanOrEqual(2 * seeds.length);
        expect(wrong).toBeLessThanOrEqual(1);
      },
      TIMEOUT_MS,
    );

  test(
    "without trials nobody is caught",
    () => {
      const mutate: SimOptions["mutate"] = (mesh) => {
        mesh.quarantine.onHanded = () => {};
        mesh.quarantine.onReturned = () => {};
      };
      expect(run(withLiar(1, { mutate })).quarantines).toEqual([]);
    },
    TIMEOUT_MS,
  );
});

describe("honest nodes", () => {
  test(
    "in calm weather nobody is blamed",
    () => {
      for (const seed of seeds)
        expect(run({ seed, nodes: 10, minutes: 1, faultPauseMs: 0 }).quarantines).toEqual([]);
    },
    TIMEOUT_MS,
  );

  test(
    "under faults blame is rare and costs no message",
    () => {
      let wrong = 0;
      for (const seed of seeds) {
        const result = run({ seed, nodes: 10, minutes: 2, faultPauseMs: 3_000 });
        expect(result.faults).toEqual([]);
        wrong += result.quarantines.length;
      }
      expect(wrong).toBeLessThanOrEqual(seeds.length);
    },
    TIMEOUT_MS,
  );
});
