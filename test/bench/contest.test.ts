/** How contestants take turns and what is made of them; no figure is judged. */
import { describe, expect, test } from "bun:test";
import { binaryPath } from "../../scripts/lab.ts";
import { BEFORE, GODWIT, isRate, type BenchOptions } from "./bench.ts";
import { contest, ratios, separateTurns, type Contestant, type Sample } from "./contest.ts";
import { formatMachine, measureMachine } from "./machine.ts";

const quiet = { isBeside: true, note() {} };

function rig(turnsOf: Readonly<Record<string, readonly Sample[]>>) {
  const order: string[] = [];
  const contestants = Object.entries(turnsOf).map(([name, samples]): Contestant => ({
    name,
    open: async () => {
      let turn = 0;
      return separateTurns(async () => {
        order.push(name);
        return samples[turn++] ?? {};
      });
    },
  }));
  const figures = {
    rate: {
      what: "rate",
      unit: "1/s",
      better: "more",
      goalBeside: { of: "median", atLeast: 2 },
    },
  } as const;
  const bench = contest({ name: "x", row: 1, how: "", figures, contestants });
  const run = async (options: Partial<BenchOptions>) => await bench.run({ ...quiet, runs: 3, ...options });
  return { order, run };
}

const rates = (...values: readonly number[]): Sample[] => values.map((rate) => ({ rate: [rate] }));

describe("a contest", () => {
  test("takes turns, each begun by another, and compares with whoever was best in the same turn", async () => {
    const { order, run } = rig({ [GODWIT]: rates(10, 20, 30), a: rates(5, 1, 10), b: rates(2, 10, 3) });
    const measures = await run({});
    expect(order.join(" ")).toBe("godwit a b a b godwit b godwit a");
    expect(measures.map(({ of, values }) => [of, values])).toEqual([
      [GODWIT, [10, 20, 30]],
      ["a", [5, 1, 10]],
      ["b", [2, 10, 3]],
      [undefined, [2, 2, 3]],
    ]);
    expect(measures.at(-1)).toMatchObject({ unit: "x", goal: { of: "median", atLeast: 2 } });
  });

  test("has the release before in turns as well, with peers and without", async () => {
    const { order, run } = rig({ [GODWIT]: rates(10, 20, 30, 10, 20, 30), a: rates(5, 1, 10) });
    const measures = await run({ isBeside: false, before: binaryPath });
    expect(order.length).toBe(6);
    expect(measures.map(({ of, what }) => of ?? what)).toEqual([
      GODWIT,
      BEFORE,
      "rate: times that of the release before",
    ]);
  });

  test("leaves out turns that one of the two did not have", () => {
    expect(ratios([4, 6, Number.NaN], [[2, Number.NaN, 1]], "more")).toEqual([2]);
    const skipped: number[] = [];
    skipped[1] = 3;
    expect(ratios([4, 6], [skipped], "less")).toEqual([2]);
    expect(ratios(skipped, [[4, 6]], "less")).toEqual([0.5]);
  });
});

test("rates say little alone; idle traffic, times and bytes are none", () => {
  expect(["1/s", "Mbit/s", "MiB/s"].every((unit) => isRate({ unit }))).toBe(true);
  expect(["B/s", "ms", "us", "MB", "x"].some((unit) => isRate({ unit }))).toBe(false);
});

test("what the machine does is a line of figures, each of them above 0", async () => {
  const machine = await measureMachine();
  for (const [what, value] of Object.entries(machine)) expect([what, value > 0]).toEqual([what, true]);
  expect(formatMachine(machine)).toMatch(
    /^a second of a processor: X25519 [\d,]+, .*commits of 4 KiB [\d,.]+\/s/,
  );
});
