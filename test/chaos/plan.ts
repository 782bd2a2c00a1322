/** What a run of chaos is made of, what comes out of it, and what the mail looks like. */
import type { Random } from "../../runtime/kernel/random.ts";

export interface Plan {
  readonly seed: number;
  readonly messages: number;
  /** Of these, so many are of 100 KB to 1 MiB. */
  readonly large: number;
  readonly kills: number;
  readonly stops: number;
  /** Times that one cable, or all around some of the nodes, are cut or go silent. */
  readonly partitions: number;
  /** The faults are spread over this time. */
  readonly faultsMs: number;
  /** For everything to end once all is well again. */
  readonly settleMs: number;
  readonly fullDisks: number;
  /** Of the one that is filled; default 160. */
  readonly diskMegabytes?: number;
  /** Half way this node loses its store, or its identity too. A node that becomes a stranger gets no mail. */
  readonly destroy?: { readonly callsign: string; readonly what: "store" | "everything" };
  readonly config?: string;
}

export interface Outcome {
  readonly faults: readonly string[];
  readonly accepted: number;
  readonly kills: number;
  readonly stops: number;
  readonly partitions: number;
  readonly fullDisks: number;
  readonly destroyed: number;
  /** Read and removed from inboxes in the middle of it. */
  readonly taken: number;
  readonly receipts: number;
  readonly reconnections: number;
  readonly seconds: number;
  readonly settleSeconds: number;
}

/** A seed from the environment, to repeat a run, or a fresh one. */
export function seedOf(environment: string | undefined): number {
  return environment === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(environment);
}

/** Mostly telexes, some letters, a few files. */
export function sizeOf(random: Random, largeShare: number): number {
  const kind = random.float();
  if (kind < largeShare) return Math.round(100_000 + random.float() ** 2 * (2 ** 20 - 100_000));
  if (kind < largeShare + 0.06) return Math.round(4_000 * 64 ** random.float());
  return Math.round(10 * 200 ** random.float());
}
