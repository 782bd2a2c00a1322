/**
 * GOALS row 13: starts on older copies of the state, copies that run beside, torn disks and wrong clocks; 1,000 of them
 * in the simulator, 50 with real processes under load. `OLD_DISKS_SEED=n` repeats a run, `OLD_DISKS_KINDS=a,b` chooses.
 */
import { afterAll, expect, test } from "bun:test";
import { oldDiskKindsOf, oldDiskOptions } from "../sim/tiers.ts";
import { World } from "../sim/world.ts";
import { closeClusters } from "./cluster.ts";
import { processKindsOf, runOldDisks, whyNot } from "./old-disks.ts";
import { seedOf } from "./plan.ts";

afterAll(closeClusters);

const seed = seedOf(process.env["OLD_DISKS_SEED"]) % 2 ** 20;
const chosen = process.env["OLD_DISKS_KINDS"];
const SIM_RESTARTS = 1_000;
const PROCESS_RESTARTS = 50;

test(
  `${SIM_RESTARTS} restarts in the simulator: 0 lost, 0 twice, 0 false receipts`,
  async () => {
    console.log(`  OLD_DISKS_SEED=${seed}`);
    const kinds = oldDiskKindsOf(chosen);
    const struck: Record<string, number> = {};
    const outcomes: Record<string, number> = {};
    const faults: string[] = [];
    let restarts = 0;
    for (let world = 0; restarts < SIM_RESTARTS && faults.length === 0; world++) {
      const result = new World(oldDiskOptions(seed + world, kinds)).run();
      restarts += result.restarts;
      faults.push(...result.faults.map((fault) => `world ${seed + world}: ${fault}`));
      for (const [sum, part] of [
        [struck, result.struck],
        [outcomes, result.outcomes],
      ] as const)
        for (const [name, count] of Object.entries(part)) sum[name] = (sum[name] ?? 0) + count;
      await Bun.sleep(0);
    }
    console.log(`  ${JSON.stringify({ restarts, struck, outcomes })}`);
    expect(faults).toEqual([]);
  },
  15 * 60_000,
);

const wanted = processKindsOf(chosen);
const kinds = wanted.filter((kind) => whyNot(kind) === undefined);
const skipped = wanted.flatMap((kind) => whyNot(kind) ?? []);
const note = skipped.length === 0 ? "" : ` [skipped: ${skipped.join(", ")}]`;

test.skipIf(kinds.length === 0)(
  `${PROCESS_RESTARTS} restarts of real nodes under load: 0 lost, 0 twice, 0 false receipts${note}`,
  async () => {
    const { faults, ...figures } = await runOldDisks({
      seed,
      kinds,
      restarts: PROCESS_RESTARTS,
      messagesPerSecond: 40,
      settleMs: 5 * 60_000,
    });
    console.log(`  ${JSON.stringify(figures)}`);
    expect(faults).toEqual([]);
  },
  20 * 60_000,
);
