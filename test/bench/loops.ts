/** Row 17: the simulator counts forwarding loops; its faults are failures, so one that ends well had none. */
import { join } from "node:path";
import { root, run as runCommand } from "../../scripts/lib.ts";
import type { Bench, BenchOptions, Measure } from "./bench.ts";

const TIMEOUT_MS = 600_000;

async function run({ note }: BenchOptions): Promise<Measure[]> {
  const { output, code } = await runCommand(["bun", join(root, "test/sim/run.ts"), "--no-keep"], {
    timeoutMs: TIMEOUT_MS,
    onOutput: (text) => note(text.trim()),
  });
  const last = output.trim().split("\n").at(-1) ?? "";
  if (!last.startsWith("{")) throw new Error(`the simulator ended with ${code}: ${last}`);
  const { events, failed, passed } = JSON.parse(last) as Record<"events" | "failed" | "passed", number>;
  const loops = [...output.matchAll(/^ {5}.*loop/gm)].length;
  return [
    { what: "forwarding loops", unit: "", values: [loops], goal: { of: "max", atMost: 0 } },
    { what: "simulated events", unit: "", values: [events], goal: { of: "min", atLeast: 1_000_000 } },
    { what: "worlds without any fault found", unit: "", values: [passed] },
    { what: "worlds with one", unit: "", values: [failed], goal: { of: "max", atMost: 0 } },
  ];
}

export const loops: Bench = {
  name: "loops",
  row: 17,
  how: "the worlds of `bun run sim`: lost, late and cut links, crashes, restarts; after each event a checker follows the next hops of every route that changed",
  run,
};
