/** GOALS row 13: an hour of chaos with real processes. `CHAOS_SEED=n` repeats a schedule. */
import { afterAll, expect, test } from "bun:test";
import { runChaos } from "./chaos.ts";
import { closeClusters } from "./cluster.ts";
import { seedOf } from "./plan.ts";

afterAll(closeClusters);

test(
  "100,000 messages over 200 partitions, 500 kill -9 and a destroyed disk: 0 lost, 0 twice",
  async () => {
    const seed = seedOf(process.env["CHAOS_SEED"]);
    console.log(`  CHAOS_SEED=${seed}`);
    const { faults, ...figures } = await runChaos({
      seed,
      messages: 100_000,
      large: 300,
      kills: 500,
      stops: 100,
      partitions: 200,
      faultsMs: 40 * 60_000,
      settleMs: 12 * 60_000,
      fullDisks: 3,
      diskMegabytes: 1_024,
      destroy: { callsign: "NYC-C", what: "store" },
      config: '[delivery]\ninbox_messages_max = 200000\ninbox_bytes_max = "4GiB"\n',
    });
    console.log(`  ${JSON.stringify(figures)}`);
    expect(faults).toEqual([]);
    expect(figures.kills).toBe(500);
    expect(figures.partitions).toBe(200);
  },
  58 * 60_000,
);
