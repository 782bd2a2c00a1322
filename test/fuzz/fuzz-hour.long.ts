/**
 * The fuzzer for hours: GODWIT_FUZZ_MINUTES of turns over all targets, each turn from a new seed, which its name shows.
 * Every finding is collected, not only the first; each belongs into test/vectors/fuzz.json.
 */
import { expect, test } from "bun:test";
import { decoderTargets } from "./decoders.ts";
import { Finding, formatRun, fuzz, heapBytes } from "./engine.ts";
import { machineTargets } from "./machines.ts";

const MINUTES = Number(process.env["GODWIT_FUZZ_MINUTES"] ?? 55);
const SEED = Number(process.env["GODWIT_FUZZ_SEED"] ?? Date.now() % 1_000_000);
const TURN = { inputs: 500_000, ms: 5_000 } as const;
const FINDINGS_MAX = 20;
/** What the heap may have grown by since the end of the first round. */
const HEAP_BYTES_MAX = 32 * 1024 * 1024;

test(
  `fuzz for ${MINUTES} minutes from seed ${SEED}`,
  async () => {
    const endMs = performance.now() + MINUTES * 60_000;
    const findings: string[] = [];
    let inputs = 0;
    let firstHeap: number | undefined;
    for (let seed = SEED; performance.now() < endMs && findings.length < FINDINGS_MAX; seed++) {
      // Machines are made anew, so that what one turn left in them does not hide the next one's.
      for (const target of [...decoderTargets(), ...(await machineTargets())]) {
        const ms = Math.min(TURN.ms, endMs - performance.now());
        if (ms <= 0) break;
        try {
          const run = await fuzz(target, { seed, inputs: TURN.inputs, ms });
          inputs += run.inputs;
          console.log(`seed ${seed} ${formatRun(target.name, run)}`);
        } catch (error) {
          if (!(error instanceof Finding)) throw error;
          console.log(`seed ${seed} ${error.message}`);
          findings.push(error.message);
        }
      }
      firstHeap ??= heapBytes();
    }
    const grown = heapBytes() - (firstHeap ?? heapBytes());
    console.log(`${inputs} inputs, heap ${(grown / 1e6).toFixed(1)} MB more than after the first round`);
    expect(findings).toEqual([]);
    expect(grown).toBeLessThan(HEAP_BYTES_MAX);
  },
  (MINUTES + 5) * 60_000,
);
