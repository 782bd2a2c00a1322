/**
 * After work a process holds what the work took: garbage that the engine collects when as much again is made, which on an idle node is never, and
 * pages of code that only the work needed. Owns the moment at which both are given back: work is over. Must never do so while there is work.
 */
import type { Clock, Timer } from "@godwit/sdk";
import { releaseStartCode } from "./memory.ts";

const LOOK_EVERY_MS = 10_000;
/** Of processor time since it was last given back: less leaves little behind. */
const WORK_CPU_MS = 1_000;
/** Between two looks: what a node with idle links takes, and little more. */
const QUIET_CPU_MS = 200;

/** Of this process, or another's in tests. */
export interface Resting {
  /** What the process has used so far, all threads. */
  cpuMs(): number;
  giveBack(): void;
}

const thisProcess: Resting = {
  cpuMs() {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1_000;
  },
  giveBack() {
    Bun.gc(true);
    releaseStartCode();
  },
};

/** Looks from now on until the timer that it answers is cancelled. */
export function giveBackAfterWork(
  clock: Clock,
  { cpuMs, giveBack }: Resting = thisProcess,
): Pick<Timer, "cancel"> {
  let givenAtMs = cpuMs();
  let beforeMs = givenAtMs;
  let timer: Timer;
  const look = () => {
    let nowMs = cpuMs();
    if (nowMs - beforeMs < QUIET_CPU_MS && nowMs - givenAtMs >= WORK_CPU_MS) {
      giveBack();
      // What that took is no work.
      givenAtMs = nowMs = cpuMs();
    }
    beforeMs = nowMs;
    timer = clock.after(LOOK_EVERY_MS, look);
  };
  timer = clock.after(LOOK_EVERY_MS, look);
  return { cancel: () => timer.cancel() };
}
