/**
 * What a machine with fewer processors than threads adds to a wall time: taken off, a bound says something of the program alone, whatever else runs beside
 * it. Linux counts it for each thread.
 */
import { readdirSync, readFileSync } from "node:fs";

/**
 * As `runDelayMs`, of all threads of a process and of those that it started, together, ms: more than any one of them was kept from anything. What goes while it is counted
 * counts as nothing.
 */
export function runDelayOfAllMs(pid: number): number {
  let ms = 0;
  for (const task of tried(() => readdirSync(`/proc/${pid}/task`)) ?? []) {
    const waited = tried(() => readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8"));
    ms += Number(waited?.split(" ")[1] ?? 0) / 1e6;
    const children = tried(() => readFileSync(`/proc/${pid}/task/${task}/children`, "utf8")) ?? "";
    for (const child of children.split(" ")) if (child.trim() !== "") ms += runDelayOfAllMs(Number(child));
  }
  return ms;
}

function tried<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

/** How long the main thread of a process has been ready to run while others did, ms. Throws when there is no such process. */
export const runDelayMs = (pid: number): number =>
  Number(readFileSync(`/proc/${pid}/task/${pid}/schedstat`, "utf8").split(" ")[1]) / 1e6;
