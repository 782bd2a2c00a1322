/** Whether this process is to be PID 1 of a machine. Small, because every container's first program asks. */
import { readlinkSync } from "node:fs";

/** What stage 0 says to it (scripts/images/stage0.ts). */
export const PID1_WORD = "pid1";
/** Of the kernel's own namespace the number is fixed (PROC_PID_INIT_INO); a container's first program has another. */
const FIRST_NAMESPACE = "pid:[4026531836]";

/** Stage 0 said so, or the kernel started the binary itself. */
export function isPid1(argv: readonly string[]): boolean {
  if (process.pid !== 1) return false;
  if (argv[0] === PID1_WORD) return true;
  try {
    return readlinkSync("/proc/self/ns/pid") === FIRST_NAMESPACE;
  } catch {
    return false;
  }
}
