/**
 * Keeps keys out of core dumps and out of the reach of other programs of the same user: a process that is not dumpable
 * leaves no core, whoever takes it, and can be traced by root alone. Its children have no limit for cores of their own.
 */
import { dlopen, ptr } from "bun:ffi";

const PR_SET_DUMPABLE = 4;
const RLIMIT_CORE = 4;

let verdict: { readonly why: string | undefined } | undefined;

/** Of this process, once. Never throws. Answers why not, where there is no glibc or the kernel refuses. */
export const forbidCoreDumps = (): string | undefined => (verdict ??= { why: forbid() }).why;

function forbid(): string | undefined {
  try {
    const libc = dlopen("libc.so.6", {
      prctl: { args: ["i32", "u64", "u64", "u64", "u64"], returns: "i32" },
      setrlimit: { args: ["i32", "ptr"], returns: "i32" },
    } as const).symbols;
    const isDone =
      libc.setrlimit(RLIMIT_CORE, ptr(new BigUint64Array(2))) === 0 &&
      libc.prctl(PR_SET_DUMPABLE, 0n, 0n, 0n, 0n) === 0;
    return isDone ? undefined : "the kernel refuses it";
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
