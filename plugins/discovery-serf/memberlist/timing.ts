/** How fast a cluster is: the three profiles of memberlist and its formulas. Pure. */

export type Profile = "lan" | "wan" | "local";

export interface Timing {
  readonly probeIntervalMs: number;
  /** For the answer to a ping of our own, before others are asked. */
  readonly probeTimeoutMs: number;
  readonly indirectChecks: number;
  readonly suspicionMult: number;
  readonly suspicionMaxMult: number;
  readonly gossipIntervalMs: number;
  readonly gossipNodes: number;
  readonly retransmitMult: number;
  readonly pushPullIntervalMs: number;
  /** So long the failed are told that they are, and counted. */
  readonly gossipToTheDeadMs: number;
  readonly streamTimeoutMs: number;
}

const lan: Timing = {
  probeIntervalMs: 1_000,
  probeTimeoutMs: 500,
  indirectChecks: 3,
  suspicionMult: 4,
  suspicionMaxMult: 6,
  gossipIntervalMs: 200,
  gossipNodes: 3,
  retransmitMult: 4,
  pushPullIntervalMs: 30_000,
  gossipToTheDeadMs: 30_000,
  streamTimeoutMs: 10_000,
};

export const timings: Readonly<Record<Profile, Timing>> = {
  lan,
  wan: {
    ...lan,
    probeIntervalMs: 5_000,
    probeTimeoutMs: 3_000,
    suspicionMult: 6,
    gossipIntervalMs: 500,
    gossipNodes: 4,
    pushPullIntervalMs: 60_000,
    gossipToTheDeadMs: 60_000,
    streamTimeoutMs: 30_000,
  },
  local: {
    ...lan,
    probeTimeoutMs: 200,
    indirectChecks: 1,
    suspicionMult: 3,
    gossipIntervalMs: 100,
    retransmitMult: 2,
    pushPullIntervalMs: 15_000,
    gossipToTheDeadMs: 15_000,
    streamTimeoutMs: 1_000,
  },
};

/** Lifeguard: how badly this node hears, 0 to 7; each step is one more probe interval of patience. */
const HEALTH_MAX = 7;

export class Awareness {
  #score = 0;

  get score(): number {
    return this.#score;
  }

  apply(delta: number): void {
    this.#score = Math.min(HEALTH_MAX, Math.max(0, this.#score + delta));
  }

  scale(ms: number): number {
    return ms * (this.#score + 1);
  }
}

/** How often a broadcast is sent in a cluster of `nodes`. */
export const retransmits = (mult: number, nodes: number): number => mult * Math.ceil(Math.log10(nodes + 1));

export interface SuspicionBounds {
  readonly minMs: number;
  readonly maxMs: number;
  /** Confirmations by others that bring it down to the least. */
  readonly confirmations: number;
}

export function suspicionBounds(timing: Timing, nodes: number): SuspicionBounds {
  const minMs = timing.suspicionMult * Math.max(1, Math.log10(Math.max(1, nodes))) * timing.probeIntervalMs;
  const wanted = timing.suspicionMult - 2;
  // Without enough others to confirm, none is waited for: this node and the suspect do not count.
  return { minMs, maxMs: timing.suspicionMaxMult * minMs, confirmations: nodes - 2 < wanted ? 0 : wanted };
}

/** From the beginning of a suspicion that `confirmed` others share to its end. */
export function suspicionMs({ minMs, maxMs, confirmations }: SuspicionBounds, confirmed: number): number {
  if (confirmations < 1) return minMs;
  const fraction = Math.log(confirmed + 1) / Math.log(confirmations + 1);
  return Math.max(minMs, Math.floor(maxMs - fraction * (maxMs - minMs)));
}

/** Full exchanges are rarer in a cluster above 32. */
export const pushPullScale = (nodes: number): number =>
  nodes <= 32 ? 1 : 1 + Math.ceil(Math.log2(nodes) - Math.log2(32));
