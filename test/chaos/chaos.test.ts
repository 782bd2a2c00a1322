/** Chaos in CI: a few minutes of what chaos-hour.long.ts does for an hour. `CHAOS_SEED=n` repeats a schedule. */
import { afterAll, expect, test } from "bun:test";
import { runChaos } from "./chaos.ts";
import { closeClusters } from "./cluster.ts";
import { seedOf, type Plan } from "./plan.ts";
import { whyNoMount } from "./tmp-disk.ts";

afterAll(closeClusters);

const seed = seedOf(process.env["CHAOS_SEED"]);
const noDisk = whyNoMount();
const diskNote = noDisk === undefined ? "one disk full" : `[skipped: no full disk, ${noDisk}]`;

async function survive(plan: Plan): Promise<void> {
  console.log(`  CHAOS_SEED=${plan.seed}`);
  const { faults, ...figures } = await runChaos(plan);
  console.log(`  ${JSON.stringify(figures)}`);
  expect(faults).toEqual([]);
  expect(figures.accepted).toBeGreaterThan(plan.messages * 0.9);
  expect(figures.kills).toBe(plan.kills);
  if (noDisk === undefined) expect(figures.fullDisks).toBe(plan.fullDisks);
  expect(figures.receipts).toBeGreaterThan(0);
}

test(`five nodes lose nothing and repeat nothing while killed, stopped, cut off, ${diskNote}, one store destroyed`, async () => {
  await survive({
    seed,
    messages: 6_000,
    large: 40,
    kills: 25,
    stops: 10,
    partitions: 25,
    faultsMs: 80_000,
    settleMs: 90_000,
    fullDisks: 1,
    destroy: { callsign: "NYC-C", what: "store" },
  });
}, 240_000);

test("four nodes lose nothing when the fifth loses identity and store and comes back as a stranger", async () => {
  await survive({
    seed: seed + 1,
    messages: 1_500,
    large: 10,
    kills: 6,
    stops: 3,
    partitions: 6,
    faultsMs: 25_000,
    settleMs: 60_000,
    fullDisks: 0,
    destroy: { callsign: "LON-B", what: "everything" },
  });
}, 150_000);
