/**
 * Orphans end as children of PID 1 and stay as zombies until it waits for them. Our own children are waited for by the
 * runtime, which must find their exits, so an ended child is only looked at first and taken when it is nobody's.
 */
import type { Sys } from "./sys.ts";

/** Taken in one go; the rest comes with the next. */
const REAPED_MAX = 256;

/** Answers how many were taken. One of ours at the head of the kernel's list ends the round: it is gone by the next. */
export function reapOrphans(sys: Pick<Sys, "peekEnded" | "reap">, isOurs: (pid: number) => boolean): number {
  for (let count = 0; count < REAPED_MAX; count++) {
    const pid = sys.peekEnded();
    if (pid === undefined || isOurs(pid)) return count;
    try {
      sys.reap(pid);
    } catch {
      return count;
    }
  }
  return REAPED_MAX;
}
