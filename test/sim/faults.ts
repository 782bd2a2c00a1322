/** What goes wrong in a simulated mesh, drawn from a seed. Every fault heals itself; `healAll` ends what is left. */
import type { Random, Timer } from "@godwit/sdk";
import type { Edge } from "./links.ts";
import type { SimNode } from "./node.ts";
import { WORLD_START_MS, type SimTime } from "./time.ts";

export interface FaultOptions {
  readonly nodes: readonly SimNode[];
  readonly edges: readonly Edge[];
  readonly random: Random;
  readonly time: SimTime;
  /** Mean pause between two faults, ms. */
  readonly pauseMs: number;
  /** Longest fault, ms. */
  readonly durationMaxMs: number;
  /** Disks are lost for good as well. */
  readonly destroys: boolean;
  /** Draws when a copy of a disk is made, and when one is put back; undefined: never. A stream of its own, so that other worlds stay. */
  readonly backups?: Random;
}

/** Of which the last two are drawn by `backups` alone. */
const kinds = [
  "cut-seen",
  "cut-silent",
  "cut-one-way",
  "partition",
  "kill",
  "power",
  "destroy",
  "freeze",
  "clock",
  "disk-full",
  "loss",
  "old-disk",
  "clock-at-start",
] as const;
/** In 1970, an hour behind, a day and a minute ahead; as offsets of the simulated time. */
const WRONG_CLOCKS = [0, WORLD_START_MS - 3_600_000, WORLD_START_MS + 86_400_000, WORLD_START_MS + 60_000];
/** A machine that starts with a wrong clock may also start decades ahead, or a year behind. */
const WRONG_AT_START = [...WRONG_CLOCKS, WORLD_START_MS + 1.3e12, WORLD_START_MS - 3.2e10];
/** How long such a life goes on with it at most, ms. */
const WRONG_LIFE_MS = 60_000;
type FaultKind = (typeof kinds)[number];

export class Faults {
  readonly #options: FaultOptions;
  readonly #active = new Map<number, () => void>();
  #next: Timer | undefined;
  #serial = 0;
  /** How often each kind happened. */
  readonly counts = new Map<FaultKind, number>();

  constructor(options: FaultOptions) {
    this.#options = options;
  }

  start(): void {
    const { random, time, pauseMs } = this.#options;
    this.#next = time.after(pauseMs * 2 * random.float(), () => {
      this.#strike();
      this.start();
    });
  }

  /** Ends every fault now, and no more come. Lost disks stay lost; their nodes start anew. */
  healAll(): void {
    this.#next?.cancel();
    for (const heal of [...this.#active.values()]) heal();
    for (const node of this.#options.nodes) {
      node.disk.fail(undefined);
      node.start();
    }
  }

  #strike(): void {
    const { random, time, nodes, edges, durationMaxMs, destroys } = this.#options;
    const drawn = this.#drawnByBackups() ?? kinds[random.below(kinds.length - 2)]!;
    const node = nodes[random.below(nodes.length)]!;
    // Nobody reminds an edge node of the records of its earlier life (docs/protocol/routing.md "Slow links").
    const kind = drawn === "destroy" && (!destroys || node.isLeaf) ? "power" : drawn;
    const edge = edges[random.below(edges.length)]!;
    // Most faults are short; a few outlast every timeout.
    const durationMs = 20 + random.float() ** 3 * durationMaxMs;
    const heal = this.#inflict(kind, node, edge);
    if (heal === undefined) return;
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
    time.note(`${time.nowMs} fault ${kind} n${node.index} ${edge.a}-${edge.b}`);
    const serial = this.#serial++;
    const end = () => {
      if (this.#active.delete(serial)) heal();
    };
    this.#active.set(serial, end);
    time.after(durationMs, end);
  }

  /**
   * Every second strike makes a copy of some disk; every fourth one puts one back, and every sixth of the others starts a machine with a
   * wrong clock, instead of what was drawn.
   */
  #drawnByBackups(): FaultKind | undefined {
    const { backups, nodes } = this.#options;
    if (backups === undefined) return undefined;
    if (backups.float() < 0.5) nodes[backups.below(nodes.length)]!.backUp();
    if (backups.float() < 0.25) return "old-disk";
    return backups.float() < 1 / 6 ? "clock-at-start" : undefined;
  }

  #inflict(kind: FaultKind, node: SimNode, edge: Edge): (() => void) | undefined {
    const { random, edges } = this.#options;
    switch (kind) {
      case "cut-seen":
        edge.block("both");
        edge.reset();
        return () => edge.unblock("both");
      case "cut-silent":
        edge.block("both");
        return () => edge.unblock("both");
      case "cut-one-way": {
        const direction = random.float() < 0.5 ? "ab" : "ba";
        edge.block(direction);
        return () => edge.unblock(direction);
      }
      case "partition": {
        const side = new Set(this.#options.nodes.filter(() => random.float() < 0.5));
        const isAcross = (e: Edge) =>
          [...side].some((n) => n.index === e.a) !== [...side].some((n) => n.index === e.b);
        const cut = edges.filter(isAcross);
        const isSeen = random.float() < 0.3;
        for (const e of cut) {
          e.block("both");
          if (isSeen) e.reset();
        }
        return () => cut.forEach((e) => e.unblock("both"));
      }
      case "kill":
      case "power":
        if (node.life === undefined) return undefined;
        node.crash(kind);
        return () => node.start();
      case "destroy":
        if (node.life === undefined) return undefined;
        node.crash("power");
        node.destroyDisk();
        return () => node.start();
      case "old-disk":
        if (node.life === undefined) return undefined;
        node.crash("power");
        node.restoreBackup();
        return () => node.start();
      case "clock-at-start": {
        const { backups, time } = this.#options;
        if (node.life === undefined || backups === undefined) return undefined;
        node.crash("power");
        node.jumpClock(WRONG_AT_START[backups.below(WRONG_AT_START.length)]!);
        return () => {
          node.start();
          // Some hear of the right time while they run, others only at a later start.
          if (backups.float() < 0.5) node.jumpClockAtStart(WORLD_START_MS);
          else time.after(backups.float() * WRONG_LIFE_MS, () => node.jumpClock(WORLD_START_MS));
        };
      }
      case "freeze": {
        const life = node.life;
        if (life === undefined || life.isFrozen) return undefined;
        life.freeze();
        return () => life.thaw();
      }
      case "clock": {
        node.jumpClock(WRONG_CLOCKS[random.below(WRONG_CLOCKS.length)]!);
        return () => node.jumpClock(WORLD_START_MS);
      }
      case "disk-full":
        node.disk.fail("full");
        return () => node.disk.fail(undefined);
      case "loss":
        edge.extraLoss = random.float();
        return () => {
          edge.extraLoss = 0;
        };
    }
  }
}
