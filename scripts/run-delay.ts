/**
 * What a machine with fewer processors than threads adds to a wall time: taken off, a bound says something of the program alone, whatever else runs beside
 * it. Linux counts it for each thread.
 */
import { readFileSync } from "node:fs";

/** How long the main thread of a process has been ready to run while others did, ms. Throws when there is no such process. */
export const runDelayMs = (pid: number): number =>
  Number(readFileSync(`/proc/${pid}/task/${pid}/schedstat`, "utf8").split(" ")[1]) / 1e6;
