/**
 * A node that is the first process of a container: what others leave behind ends as its child, and stays as a zombie until
 * it waits for it. Its own children are waited for by the runtime within a turn of the event loop, so one that is still a
 * zombie at the next look is nobody's.
 */
import { readdirSync, readFileSync } from "node:fs";
import type { Sys } from "./sys.ts";

/** Between two looks. Much longer than a turn of the event loop. */
export const ORPHAN_LOOK_MS = 1_000;
/** Taken at one look; the rest comes with the next. */
const REAPED_MAX = 1_024;

export class OrphanReaper {
  readonly #sys: Pick<Sys, "peekEnded" | "reap">;
  readonly #zombies: () => number[];
  #seen: ReadonlySet<number> = new Set();

  constructor(sys: Pick<Sys, "peekEnded" | "reap">, zombies: () => number[] = zombieChildren) {
    this.#sys = sys;
    this.#zombies = zombies;
  }

  /** Answers how many were taken. */
  look(): number {
    // One call of the kernel, and nearly always all there is to it.
    if (this.#sys.peekEnded() === undefined) {
      this.#seen = new Set();
      return 0;
    }
    const zombies = this.#zombies();
    const due = zombies.filter((pid) => this.#seen.has(pid)).slice(0, REAPED_MAX);
    this.#seen = new Set(zombies);
    for (const pid of due)
      try {
        this.#sys.reap(pid);
      } catch {
        // It was waited for after all.
      }
    return due.length;
  }
}

/** Children of this process that have ended and wait to be waited for. */
function zombieChildren(): number[] {
  const self = String(process.pid);
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const text = readFileSync(`/proc/${pid}/stat`, "latin1");
        // The name of a program may hold anything, brackets too.
        const [state, parent] = text.slice(text.lastIndexOf(")") + 2).split(" ");
        return state === "Z" && parent === self;
      } catch {
        return false;
      }
    })
    .map(Number);
}
