/** Ending a process with everything below it, also what has made sessions of its own. Linux only: reads /proc. */
import { readdirSync, readFileSync } from "node:fs";

interface Row {
  readonly pid: number;
  readonly parent: number;
  readonly session: number;
}

/** Each round finds what was started while the one before looked; what is stopped starts nothing more. */
const ROUNDS_MAX = 10;

function processes(): Row[] {
  return readdirSync("/proc").flatMap((name): Row[] => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const text = readFileSync(`/proc/${name}/stat`, "latin1");
      // The name in brackets may hold anything: `pid (name) state parent group session ...`.
      const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
      return [{ pid: Number(name), parent: Number(fields[1]), session: Number(fields[3]) }];
    } catch {
      return []; // It ended just now.
    }
  });
}

/**
 * Kills `pid`, its descendants, and what belongs to the session of any of them although its parent has gone. What left
 * both, a daemon that forked twice into a session of its own, is not found.
 */
export function killTree(pid: number): void {
  const found = new Set([pid]);
  signal(pid, "SIGSTOP");
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const more = below(found);
    if (more.length === 0) break;
    for (const one of more) {
      found.add(one);
      signal(one, "SIGSTOP");
    }
  }
  for (const one of found) signal(one, "SIGKILL");
}

function below(found: ReadonlySet<number>): number[] {
  const isOurs = ({ pid, parent, session }: Row) =>
    pid !== process.pid && !found.has(pid) && (found.has(parent) || found.has(session));
  return processes()
    .filter(isOurs)
    .map(({ pid }) => pid);
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // Gone already.
  }
}
