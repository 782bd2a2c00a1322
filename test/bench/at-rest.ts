/** What a node that has nothing to do costs, whatever waits in its store. */
import type { LabNode } from "../../scripts/lab.ts";
import { cpuMs, memoryOf } from "./process.ts";

const SETTLE_MS = 15_000;
const REST_MS = 20_000;
/** Compilers and collectors have nothing left to do by then. */
export const LATER_MS = 60_000;

/** Waits so long, then prints memory and the share of a core over 20 s. */
export async function rest(node: LabNode, when: string, settleMs = SETTLE_MS): Promise<void> {
  await Bun.sleep(settleMs);
  const before = cpuMs(node.pid!);
  await Bun.sleep(REST_MS);
  const share = ((cpuMs(node.pid!) - before) / REST_MS) * 100;
  const { rssMb } = memoryOf(node.pid!);
  console.log(`  at rest ${when}: ${rssMb.toFixed(0)} MB resident, ${share.toFixed(2)} % of a core`);
}
