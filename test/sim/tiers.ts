/** Which seeds run when, and how a failing one is told and kept. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { allOldDiskKinds, oldDiskKinds, type OldDiskKind } from "./old-disks.ts";
import type { SimOptions } from "./world.ts";

/** What a command line can say of a run; the rest follows from the seed. */
export interface SimCase {
  readonly seed: number;
  readonly nodes: number;
  readonly minutes: number;
  readonly real?: boolean;
  readonly tight?: boolean;
  readonly slow?: boolean;
  readonly old?: boolean;
  readonly islands?: boolean;
}

/** More than this many nodes: only some of them talk, so that traffic does not drown what the size is about. */
const TALKERS_MAX = 200;
/** From here on a run is worth a process of its own. */
export const LARGE_NODES = 300;
/** Real signatures cost a thousand times the cheap ones. */
export const REAL_NODES_MAX = 20;

export function optionsOf({
  seed,
  nodes,
  minutes,
  real = false,
  tight = false,
  slow = false,
  old = false,
  islands = false,
}: SimCase): SimOptions {
  return {
    seed,
    nodes,
    minutes,
    realCrypto: real,
    tight,
    slow,
    old,
    islands,
    // What a thousand nodes cost is mostly alternates: a tree with chords has few, and is as deep as meshes get.
    ...(nodes >= LARGE_NODES ? { shape: "tree" as const } : {}),
    talkers: Math.min(nodes, TALKERS_MAX),
    // The pause is for the whole mesh: a large one suffers in more places at once.
    faultPauseMs: Math.max(500, 30_000 / nodes),
    messagesPerSecond: Math.min(20, nodes / 2),
  };
}

/** The one command that runs a case again. */
export const commandOf = ({ seed, nodes, minutes, ...flags }: SimCase): string =>
  [`bun run sim --seed ${seed} --nodes ${nodes} --minutes ${minutes}`, ...flagsOf(flags)].join(" ");

const flagsOf = (flags: Pick<SimCase, "real" | "tight" | "slow" | "old" | "islands">): string[] =>
  (["real", "tight", "slow", "old", "islands"] as const)
    .filter((name) => flags[name] === true)
    .map((name) => `--${name}`);

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i + 1);

/** Edge nodes behind slow media. */
export const slowCases: readonly SimCase[] = range(10).map((seed) => ({
  seed: 500 + seed,
  nodes: 10,
  minutes: 2,
  tight: seed % 3 === 0,
  slow: true,
}));

/** Islands that only paths over slow links join. */
export const islandCases: readonly SimCase[] = range(4).map((seed) => ({
  seed: 700 + seed,
  nodes: 10,
  minutes: 2,
  tight: seed % 3 === 0,
  islands: true,
}));

/** Older copies of disks are put back. */
export const oldCases: readonly SimCase[] = range(10).map((seed) => ({
  seed: 600 + seed,
  nodes: 10,
  minutes: 2,
  real: false,
  tight: seed % 3 === 0,
  old: true,
}));

/** Restarts in one world of old disks. */
const OLD_DISK_RESTARTS = 60;

/**
 * Starts on other state than was left, many in a small mesh under load. The pause leaves time for what is restored to be
 * used; ordinary faults go on beside.
 */
export const oldDiskOptions = (seed: number, kinds: readonly OldDiskKind[]): SimOptions => ({
  seed,
  nodes: 8,
  minutes: 1,
  messagesPerSecond: 4,
  faultPauseMs: 5_000,
  oldDisks: { kinds, restarts: OLD_DISK_RESTARTS, pauseMs: 2_000 },
});

/** Kinds from `OLD_DISKS_KINDS`, by comma, or all. Throws on a name that is none. */
export function oldDiskKindsOf(environment: string | undefined): OldDiskKind[] {
  const names = environment?.split(",") ?? [...oldDiskKinds];
  return names.map((name) => {
    const kind = allOldDiskKinds.find((known) => known === name);
    if (kind === undefined) throw new Error(`no kind ${name}; there are ${allOldDiskKinds.join(", ")}`);
    return kind;
  });
}

/**
 * What CI runs: past a million events. The largest mesh stays below what a CI machine has in memory; a thousand nodes
 * (`bun run sim --seed 301 --nodes 1000 --minutes 0.05`, 10 GB) are for `--long`.
 */
export const ciCases: readonly SimCase[] = [
  { seed: 301, nodes: 400, minutes: 0.05 },
  ...range(8).map((seed) => ({ seed: 1_000 + seed, nodes: 5, minutes: 1, real: true })),
  ...range(4).map((seed) => ({ seed: 1_100 + seed, nodes: 5, minutes: 1, real: true, old: true })),
  ...range(40).map((seed) => ({ seed, nodes: 10, minutes: 2, tight: seed % 3 === 0 })),
  ...range(6).map((seed) => ({ seed: 100 + seed, nodes: 50, minutes: 1 })),
  ...slowCases,
  ...islandCases,
  ...oldCases,
  { seed: 202, nodes: 200, minutes: 0.5 },
];

/** Seeds that failed once. */
export function regressionCases(): SimCase[] {
  return JSON.parse(readFileSync(join(import.meta.dirname, "regressions.json"), "utf8")) as SimCase[];
}
