/**
 * Mutated bytes into every decoder: only errors that say "bad input", never a hang, never a leak. What was once found
 * stands in test/vectors/fuzz.json and comes first. GODWIT_FUZZ_SEED repeats a run; fuzz-hour.long.ts is the same for hours.
 */
import { describe, expect, test } from "bun:test";
import vectors from "../vectors/fuzz.json";
import { seededRandom } from "../../runtime/kernel/random.ts";
import { decoderTargets } from "./decoders.ts";
import { formatRun, fuzz, heapBytes, judge, type Target } from "./engine.ts";
import { machineTargets } from "./machines.ts";
import { mutate } from "./mutate.ts";

const SEED = Number(process.env["GODWIT_FUZZ_SEED"] ?? Date.now() % 1_000_000);
const DECODER = { inputs: 20_000, ms: 800 } as const;
const MACHINE = { inputs: 5_000, ms: 1_500 } as const;
/** Inputs over which memory is watched, and what the heap may have grown by then. */
const LEAK_INPUTS = 100_000;
const LEAK_BYTES_MAX = 8 * 1024 * 1024;

const decoders = decoderTargets();
const machines = await machineTargets();
const found: Readonly<Record<string, readonly string[]>> = vectors;

const byName = new Map([...decoders, ...machines].map((target) => [target.name, target]));
for (const [name, inputs] of Object.entries(found)) {
  test(`vectors of ${name}`, async () => {
    const target = byName.get(name);
    if (target === undefined) throw new Error(`no target is called ${name}`);
    for (const hex of inputs) await judge(target, new Uint8Array(Buffer.from(hex, "hex")));
  });
}

const fuzzes = (targets: readonly Target[], bounds: { inputs: number; ms: number }) => {
  for (const [index, target] of targets.entries())
    test(`${target.name} (seed ${SEED})`, async () => {
      // A seed that its own decoder refuses would leave the mutator with nothing near the truth.
      const outcomes = await Promise.all(target.seeds.map((seed) => judge(target, seed.slice())));
      expect(outcomes.some(({ outcome }) => outcome === "accepted")).toBe(true);
      const run = await fuzz(target, { seed: SEED + index, ...bounds });
      console.log(formatRun(target.name, run));
      expect(run.inputs).toBeGreaterThan(50);
    }, 30_000);
};

describe("decoders", () => fuzzes(decoders, DECODER));
describe("machines", () => fuzzes(machines, MACHINE));

test("a hundred thousand inputs leave the heap as it was", async () => {
  const random = seededRandom(SEED);
  const light = decoders.filter(({ name }) => !/^(sealed|record|config|key file)/.test(name));
  const pour = async (inputs: number) => {
    for (let i = 0; i < inputs; i++) {
      const target = light[i % light.length]!;
      await judge(target, mutate(random, target));
    }
  };
  await pour(5_000);
  const before = heapBytes();
  await pour(LEAK_INPUTS);
  const grown = heapBytes() - before;
  console.log(`heap after ${LEAK_INPUTS} inputs: ${(grown / 1e6).toFixed(1)} MB more`);
  expect(grown).toBeLessThan(LEAK_BYTES_MAX);
}, 60_000);
