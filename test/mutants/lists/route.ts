/** Routes: what neighbours may tell, how much of it, and how often it is said again. */
import type { Mutant } from "../mutant.ts";

export const mutants: readonly Mutant[] = [
  {
    id: "no-backoff-of-updates",
    file: "runtime/route/updates.ts",
    find: "return Math.min(baseMs * 2 ** Math.min(neighbour.timeouts, 10), ackMaxMs);",
    replace: "return Math.min(baseMs, ackMaxMs);",
    promise: "a neighbour that acknowledges nothing is sent its update at growing intervals",
    tests: ["runtime/route/updates.test.ts", "runtime/route/router.test.ts"],
  },
];
