/**
 * What a start runs once is not worth compiling: the build lets every thread begin with an engine that compiles late (scripts/build.ts).
 * Owns the moment from which on it compiles as it always does. Must be called by every process and thread that lives on.
 */
import type { Clock } from "@godwit/sdk";

/** Begun work is through by then where a processor is free, ms. */
const START_MS = 100;
/**
 * And where ten nodes share two processors: of processor time that a whole start takes until links are up and routes known. Of what comes then
 * most runs for the first time, too. What runs often before is compiled all the same, later.
 */
const START_CPU_MS = 200;
const LOOK_EVERY_MS = 100;
/** Who has done next to nothing by then is through as well, ms. */
const LATEST_MS = 2_000;

export interface Engine {
  /** What the process has used so far, all threads. */
  cpuMs(): number;
  /** The calling thread's own engine compiles as usual from now on. */
  compileAsUsual(): void;
}

const engine: Engine = {
  cpuMs() {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1_000;
  },
  compileAsUsual: () => Bun.unsafe.setJITPolicy(1),
};

/** Called where a start begins that is short, and where one ends that is not. */
export function compileAfterStart(clock: Clock, { cpuMs, compileAsUsual }: Engine = engine): void {
  const latestMs = clock.monotonicMs() + LATEST_MS;
  // A slow processor takes longer for all of it.
  const enoughMs = Math.max(START_CPU_MS, 2 * cpuMs());
  const look = () => {
    if (cpuMs() >= enoughMs || clock.monotonicMs() >= latestMs) compileAsUsual();
    else clock.after(LOOK_EVERY_MS, look);
  };
  clock.after(START_MS, look);
}
