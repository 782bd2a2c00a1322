/** A short share of old-disks.long.ts. `OLD_DISKS_SEED=n` draws another one, `OLD_DISKS_KINDS=a,b` other kinds. */
import { afterAll, expect, test } from "bun:test";
import { closeClusters } from "./cluster.ts";
import { processKindsOf, runOldDisks, whyNot } from "./old-disks.ts";

afterAll(closeClusters);

const wanted = processKindsOf(process.env["OLD_DISKS_KINDS"]);
const kinds = wanted.filter((kind) => whyNot(kind) === undefined);
const skipped = wanted.flatMap((kind) => whyNot(kind) ?? []);
const note = skipped.length === 0 ? "" : ` [skipped: ${skipped.join(", ")}]`;

test.skipIf(kinds.length === 0)(
  `nodes under load that start on other state than they left lose nothing that could be known, and repeat nothing${note}`,
  async () => {
    const seed = Number(process.env["OLD_DISKS_SEED"] ?? 1);
    const { faults, ...figures } = await runOldDisks({
      seed,
      kinds,
      restarts: 6,
      messagesPerSecond: 20,
      settleMs: 90_000,
    });
    console.log(`  OLD_DISKS_SEED=${seed} ${JSON.stringify(figures)}`);
    expect(faults).toEqual([]);
    expect(figures.accepted).toBeGreaterThan(50);
    expect(figures.receipts).toBeGreaterThan(0);
  },
  200_000,
);
