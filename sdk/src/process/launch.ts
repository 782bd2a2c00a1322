/**
 * Starts a program so that it cannot outlive this process, not even one that is killed with SIGKILL. Linux can tell a child
 * of its parent's death (PR_SET_PDEATHSIG, prctl(2)), but the child has to ask for it, between fork and exec; so the child
 * is this very executable, run as plain Bun, which asks and then becomes the program (execve(2)): same process, same pid,
 * no wrapper that stays. Nothing that is secret is ever an argument, for everybody reads those.
 */
import { dlopen } from "bun:ffi";
import { constants } from "node:os";
import type { Subprocess } from "bun";

export type Launched = Subprocess<"ignore", "pipe", "pipe">;
export type DeathSignal = "SIGTERM" | "SIGKILL";

export interface LaunchOptions {
  /** Absolute. */
  readonly file: string;
  /** Without the program's name. */
  readonly args: readonly string[];
  /** All that the program gets to see of any environment. */
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly deathSignal: DeathSignal;
}

const C_LIBRARIES = ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1"];
const PLAN = "GODWIT_LAUNCH";

/**
 * Runs in the child, as Bun, with what to do in one variable of its environment. prctl's 1 is PR_SET_PDEATHSIG; 436 is
 * close_range(2) with CLOSE_RANGE_CLOEXEC on every architecture of Linux; 13 and 25 are SIGPIPE and SIGXFSZ, which Bun
 * ignores and a program inherits. A parent that died before prctl sends no signal any more: its pid is compared after it.
 */
const CHILD = `
const { dlopen, ptr } = require("bun:ffi");
const plan = JSON.parse(process.env.${PLAN});
const libc = dlopen(plan.library, {
  prctl: { args: ["i32", "u64", "u64", "u64", "u64"], returns: "i32" },
  getppid: { args: [], returns: "i32" },
  signal: { args: ["i32", "u64"], returns: "u64" },
  syscall: { args: ["i64", "u64", "u64", "u64"], returns: "i64" },
  execve: { args: ["ptr", "ptr", "ptr"], returns: "i32" },
}).symbols;
libc.prctl(1, plan.signal, 0, 0, 0);
if (libc.getppid() !== plan.parent) process.exit(125);
for (const ignored of [13, 25]) libc.signal(ignored, 0);
libc.syscall(436, 3, 0xffffffff, 4);
const kept = [];
const text = (value) => (kept.push(Buffer.from(value + "\\0")), ptr(kept.at(-1)));
const list = (values) => {
  const pointers = new BigUint64Array(values.length + 1);
  values.forEach((value, i) => (pointers[i] = BigInt(text(value))));
  kept.push(pointers);
  return ptr(pointers);
};
libc.execve(text(plan.file), list([plan.file, ...plan.args]), list(plan.env));
console.error("it cannot be executed");
process.exit(126);
`;

/** The C library by which a child can ask for its parent's death; undefined: not on this system. */
function deathLibrary(): string | undefined {
  if (process.platform !== "linux") return undefined;
  for (const name of C_LIBRARIES) {
    try {
      dlopen(name, { getppid: { args: [], returns: "i32" } }).close();
      return name;
    } catch {
      // Another C library, then.
    }
  }
  return undefined;
}

/** In a session and process group of its own. Throws the operating system's error. */
export function launch({ file, args, env, cwd, deathSignal }: LaunchOptions): Launched {
  const library = deathLibrary();
  const shared = { cwd, detached: true, stdin: "ignore", stdout: "pipe", stderr: "pipe" } as const;
  // Without it, what outlives a killed node is ended by the next one (leftover.ts).
  if (library === undefined) return Bun.spawn([file, ...args], { ...shared, env });
  const plan = JSON.stringify({
    library,
    file,
    args,
    env: Object.entries(env).map(([name, value]) => `${name}=${value}`),
    signal: constants.signals[deathSignal],
    parent: process.pid,
  });
  return Bun.spawn([process.execPath, "-e", CHILD], {
    ...shared,
    env: { BUN_BE_BUN: "1", HOME: cwd, PATH: env["PATH"] ?? "", [PLAN]: plan },
  });
}

/** To all of its process group. A group that is gone is none of anybody's. */
export function signalGroup(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(-pid, signal);
  } catch {
    return false;
  }
}
