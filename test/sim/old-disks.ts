/**
 * Machines that start on something else than they left: an older copy of their disk, a copy that runs beside the original
 * for a while, a disk with rows torn out, a wall clock that is wrong, a disk without the sessions of the mail that comes, another name. Draws all of it from one generator; every
 * fault ends itself, and `healAll` ends what is left. Which kinds happen is the caller's switch.
 */
import type { Random, Timer } from "@godwit/sdk";
import type { SimNode } from "./node.ts";
import { WORLD_START_MS, type SimTime } from "./time.ts";

export const oldDiskKinds = ["old", "clones", "rows", "clocks", "sessions", "prekeys"] as const;
/** And what only those ask for who name it: seeds that were found with the others stay what they were. */
export const allOldDiskKinds = [...oldDiskKinds, "names"] as const;
export type OldDiskKind = (typeof allOldDiskKinds)[number];

export interface OldDisksOptions {
  readonly nodes: readonly SimNode[];
  /** One for each node, off, for copies that run beside. */
  readonly clones: readonly SimNode[];
  readonly random: Random;
  readonly time: SimTime;
  readonly kinds: readonly OldDiskKind[];
  /** Starts of this sort in all. */
  readonly restarts: number;
  /** Mean pause between two, ms. */
  readonly pauseMs: number;
}

const YEAR_MS = 365 * 86_400_000;
const CLOCKS_MS = [0, -10 * YEAR_MS, -3_600_000, 60_000, 86_400_000, 10 * YEAR_MS] as const;
const DOWN_MAX_MS = 20_000;
const CLONE_MAX_MS = 60_000;
const CLOCK_WRONG_MAX_MS = 90_000;
const RENAMED_MAX_MS = 60_000;
const ROWS_MAX = 4;

export class OldDisks {
  readonly #options: OldDisksOptions;
  readonly #active = new Map<number, () => void>();
  readonly counts = new Map<OldDiskKind, number>();
  #serial = 0;
  #next: Timer | undefined;
  restarts = 0;

  constructor(options: OldDisksOptions) {
    this.#options = options;
  }

  /** When the last of them is due at the earliest, ms from the start. */
  get spanMs(): number {
    return this.#options.restarts * this.#options.pauseMs;
  }

  start(): void {
    const { random, time, pauseMs, restarts } = this.#options;
    if (this.restarts >= restarts) return;
    this.#next = time.after(pauseMs * 2 * random.float(), () => {
      this.#strike();
      this.start();
    });
  }

  healAll(): void {
    this.#next?.cancel();
    for (const heal of [...this.#active.values()]) heal();
    for (const node of this.#options.nodes) {
      node.wallOffsetMs = WORLD_START_MS;
      node.start();
    }
  }

  #strike(): void {
    const { nodes, random, time, kinds } = this.#options;
    if (random.float() < 0.7) nodes[random.below(nodes.length)]!.backUp();
    const node = nodes[random.below(nodes.length)]!;
    const kind = kinds[random.below(kinds.length)]!;
    const downMs = 20 + random.float() ** 3 * DOWN_MAX_MS;
    const fault = this.#inflict(kind, node);
    if (fault === undefined) return;
    this.restarts++;
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
    time.note(`${time.nowMs} old-disks ${kind} n${node.index}`);
    const serial = this.#serial++;
    const end = () => {
      if (this.#active.delete(serial)) fault.heal();
    };
    this.#active.set(serial, end);
    time.after(fault.lastsMs ?? downMs, end);
  }

  /** Undefined: not now. */
  #inflict(kind: OldDiskKind, node: SimNode): { heal: () => void; lastsMs?: number } | undefined {
    const { random } = this.#options;
    if (node.life === undefined) return undefined;
    const how = random.float() < 0.5 ? "power" : "kill";
    const start = () => node.start();
    switch (kind) {
      case "old":
        if (node.copies === 0) return undefined;
        node.crash(how);
        node.restoreBackup(random.below(node.copies));
        return { heal: start };
      case "rows":
        node.crash(how);
        node.loseRows(1 + random.below(ROWS_MAX), random);
        return { heal: start };
      case "sessions":
      case "prekeys":
        node.crash(how);
        node.loseSessions(kind === "prekeys");
        return { heal: start };
      case "clones":
        return this.#clone(node);
      case "names": {
        const startAs = (callsign: string) => {
          node.crash(how);
          node.startsAs = callsign;
          start();
        };
        startAs(`${node.location}-${"XYZ"[random.below(3)]!}`);
        return { heal: () => startAs(node.callsign), lastsMs: random.float() * RENAMED_MAX_MS };
      }
      case "clocks": {
        node.crash(how);
        node.jumpClock(WORLD_START_MS + CLOCKS_MS[random.below(CLOCKS_MS.length)]!);
        start();
        const lastsMs = random.float() * CLOCK_WRONG_MAX_MS;
        return { heal: () => node.jumpClock(WORLD_START_MS), lastsMs };
      }
    }
  }

  /** Two machines with one state; the copy goes again, and with it what only it knew. */
  #clone(node: SimNode): { heal: () => void; lastsMs: number } | undefined {
    const { clones, random } = this.#options;
    const clone = clones.find(({ original }) => original === node);
    if (clone === undefined || clone.life !== undefined) return undefined;
    clone.cloneOriginal();
    clone.start();
    const heal = () => {
      clone.crash("power");
      clone.destroyDisk();
    };
    return { heal, lastsMs: 1_000 + random.float() * CLONE_MAX_MS };
  }
}
