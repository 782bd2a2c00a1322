import { expect, test } from "bun:test";
import { ManualClock } from "./clock.ts";
import { FullTables } from "./full-tables.ts";
import { silentLog } from "./log.ts";
import { Metrics } from "./metrics.ts";

test("a full table is said once in the log, stands in health with what to do, and is counted; ten quiet minutes end it", async () => {
  const clock = new ManualClock();
  const said: unknown[] = [];
  const metrics = new Metrics();
  const log = { ...silentLog, warn: (event: string, fields?: object) => void said.push([event, fields]) };
  const tables = new FullTables(clock, log, metrics);
  expect(tables.troubles).toEqual([]);
  for (let n = 0; n < 100_000; n++) tables.refused("senders seen");
  expect(said).toEqual([
    ["table full", { table: "senders seen", advice: expect.stringContaining("trust them") }],
  ]);
  expect(tables.troubles).toEqual([
    { name: "tables", reason: expect.stringContaining("senders seen: full, 100000 refused"), isNotice: true },
  ]);
  expect(await metrics.render()).toContain('godwit_tables_refused_total{table="senders seen"} 100000');
  await clock.advance(600_000);
  expect(tables.troubles).toEqual([]);
  tables.refused("senders seen");
  expect([said.length, tables.troubles.length]).toEqual([2, 1]);
});
