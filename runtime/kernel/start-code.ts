/**
 * What a start runs once is not worth compiling: the build lets every thread begin with an engine that compiles late (scripts/build.ts).
 * Owns the moment from which on it compiles as it always does. Must be called by every process and thread that lives on.
 */
import type { Clock } from "@godwit/sdk";

/** What begins is through by then, or nearly. What runs often before then is compiled all the same, later. */
const START_MS = 100;

/** The calling thread's own engine. Called where a start begins that is short, and where one ends that is not. */
export function compileAfterStart(clock: Clock): void {
  clock.after(START_MS, () => Bun.unsafe.setJITPolicy(1));
}
