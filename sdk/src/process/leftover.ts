/**
 * What a node that died left running. The pid of a daemon stands in a file beside its other files, with the moment at which
 * that process began, so that a pid which means another process by now is never hurt.
 */
import { readFile, rm } from "node:fs/promises";
import type { Clock } from "../clock.ts";
import { signalGroup } from "./launch.ts";
import { writePrivate } from "./private-file.ts";
import { pause } from "./wait.ts";

const TERM_MS = 5_000;
const KILL_MS = 5_000;
const LOOK_MS = 50;

/** One process of this boot for ever: pids are used again, and clock ticks since the boot with them never. */
async function identityOf(pid: number): Promise<string | undefined> {
  try {
    const boot = (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
    const stat = await readFile(`/proc/${pid}/stat`, "utf8");
    // Field 22 of proc_pid_stat(5); the second one may hold spaces and parentheses.
    const [state, ...rest] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return state === "Z" || state === "X" ? undefined : `${boot} ${pid} ${rest[18]}`;
  } catch {
    return undefined;
  }
}

/** Keeps in mind that `pid` runs. Rejects with the operating system's error. */
export async function remember(path: string, pid: number): Promise<void> {
  const identity = await identityOf(pid);
  if (identity === undefined) return;
  await writePrivate(path, `${identity}\n`);
}

export const forget = (path: string): Promise<void> => rm(path, { force: true });

/** Ends what is remembered at `path`, with its process group. Answers its pid, if it ran. Rejects when it will not end. */
export async function endLeftover(
  path: string,
  clock: Clock,
  signal: AbortSignal,
): Promise<number | undefined> {
  const known = (await readFile(path, "utf8").catch(() => "")).trim();
  const pid = Number(known.split(" ")[1]);
  if (!Number.isSafeInteger(pid) || pid <= 1 || (await identityOf(pid)) !== known) {
    await forget(path);
    return undefined;
  }
  for (const [name, withinMs] of [
    ["SIGTERM", TERM_MS],
    ["SIGKILL", KILL_MS],
  ] as const) {
    signalGroup(pid, name);
    const deadline = clock.monotonicMs() + withinMs;
    while (clock.monotonicMs() < deadline && !signal.aborted) {
      if ((await identityOf(pid)) !== known) {
        await forget(path);
        return pid;
      }
      await pause(clock, LOOK_MS, signal);
    }
    if (signal.aborted) return undefined;
  }
  throw new Error(`process ${pid}, which an earlier run left, does not end`);
}
