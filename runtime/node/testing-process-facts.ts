/** Metrics with what a process tells of itself. For tests only. */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../kernel/clock.ts";
import { Metrics } from "../kernel/metrics.ts";
import { exposeProcess } from "./process-facts.ts";

export const exposed = (over: Partial<Parameters<typeof exposeProcess>[0]> = {}) => {
  const metrics = new Metrics();
  exposeProcess({
    metrics,
    clock: systemClock,
    version: "1.2.3",
    stateDir: tmpdir(),
    databasePath: join(tmpdir(), "none.db"),
    ...over,
  });
  return metrics;
};
