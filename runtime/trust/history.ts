/**
 * What a node has been worth to this one, and what follows from it for trust. Pure: whoever watches peers adds to a
 * history, the peer manager asks what to do. Durations are summed from the monotonic clock, because a wall clock may be
 * wrong by decades. docs/trust.md.
 */

/** Sums since the node was first met; old ones fade (`ageHistory`). */
export interface PeerHistory {
  /** Time with a live link, ms. */
  readonly linkedMs: number;
  /** Time since it was first met while this node ran, ms. */
  readonly knownMs: number;
  /** Dials of this node that ended without a link. */
  readonly dialsFailed: number;
  /** Proofs that something got through by way of it. */
  readonly deliveries: number;
  /** What it took and what then never arrived. */
  readonly losses: number;
  /** Times it was caught attracting traffic that it does not forward, since it was last blocked for that. */
  readonly lies: number;
  /** Times the manager blocked it. */
  readonly blocks: number;
}

export const noHistory: PeerHistory = {
  linkedMs: 0,
  knownMs: 0,
  dialsFailed: 0,
  deliveries: 0,
  losses: 0,
  lies: 0,
  blocks: 0,
};

/** A history longer than this is halved: what a node did a month ago says little. */
const HISTORY_MS_MAX = 30 * 24 * 3_600_000;
/** Below this score nobody is promoted; hysteresis keeps who is until the lower one. */
const PROMOTE_SCORE = 0.8;
const DEMOTE_SCORE = 0.5;
/** Absence that costs nobody its trust: who earned it in minutes would else lose it by as many, and be let go at its first restart. */
const AWAY_MS = 24 * 3_600_000;
/** Deliveries that a node without any is credited with, so that one lost message does not condemn it. */
const DELIVERY_CREDIT = 4;
/** Caught so often, a node is blocked for a time. */
const LIES_TO_BLOCK = 3;
const BLOCK_FIRST_MS = 3_600_000;
const BLOCK_CAP_MS = 7 * 24 * 3_600_000;
/** Nodes that the manager holds trusted: each is dialled for ever. */
export const PROMOTED_MAX = 64;
/** Who was promoted sooner, for an onion address, leaves as many places to those that were there for long. */
export const ONIONS_PROMOTED_MAX = PROMOTED_MAX / 2;

export function addHistory(history: PeerHistory, more: Partial<PeerHistory>): PeerHistory {
  const sum = { ...history };
  for (const key of Object.keys(noHistory) as (keyof PeerHistory)[]) sum[key] += more[key] ?? 0;
  return sum.knownMs > HISTORY_MS_MAX ? ageHistory(sum) : sum;
}

function ageHistory(history: PeerHistory): PeerHistory {
  const half = { ...history };
  for (const key of Object.keys(noHistory) as (keyof PeerHistory)[]) half[key] = Math.floor(history[key] / 2);
  return half;
}

/** From 0 to 1: how much of the time it was there, times how much of what it was given arrived, halved for each lie and block. */
export function scoreOf({ linkedMs, knownMs, deliveries, losses, lies, blocks }: PeerHistory): number {
  const presence = knownMs === 0 ? 0 : Math.min(1, linkedMs / knownMs);
  const honesty = (deliveries + DELIVERY_CREDIT) / (deliveries + losses + DELIVERY_CREDIT);
  return presence * honesty * 0.5 ** Math.min(lies + blocks, 32);
}

export interface TrustStanding {
  readonly level: "unknown" | "member" | "trusted" | "blocked";
  /** Only what the manager itself decided, or nobody, is the manager's to change. */
  readonly by: "configuration" | "operator" | "rule" | "manager" | "default";
  readonly history: PeerHistory;
}

export interface PromotionRules {
  /** Linked time before a member may be promoted, ms; undefined: nobody is. */
  readonly promoteAfterMs: number | undefined;
  /** Nodes promoted so far. */
  readonly promoted: number;
  /** Where a discovery named an onion address that leads there: by whose word, and linked time before it may be promoted for that. */
  readonly onion?: { readonly source: string; readonly afterMs: number } | undefined;
}

export type TrustPlan =
  | { readonly kind: "keep" }
  | { readonly kind: "promote"; readonly reason: string }
  | { readonly kind: "demote"; readonly reason: string }
  | { readonly kind: "block"; readonly reason: string; readonly forMs: number };

const keep: TrustPlan = { kind: "keep" };

/** What the peer manager does about one node. */
export function planTrust(
  standing: TrustStanding,
  { promoteAfterMs, promoted, onion }: PromotionRules,
): TrustPlan {
  const { level, by, history } = standing;
  if (by !== "manager" && by !== "default") return keep;
  if (level === "blocked") return keep;
  const { lies, blocks, linkedMs, deliveries, losses } = history;
  // Who also delivers is unlucky or badly placed: quarantine goes around it, and cutting its links would help nobody.
  if (lies >= LIES_TO_BLOCK && losses >= deliveries) {
    const forMs = Math.min(BLOCK_FIRST_MS * 2 ** Math.min(blocks, 32), BLOCK_CAP_MS);
    return { kind: "block", reason: `caught ${lies} times taking mail that it does not forward`, forMs };
  }
  const score = scoreOf(history);
  const facts = `score ${score.toFixed(2)}, linked for ${hours(linkedMs)} h, ${deliveries} deliveries, ${losses} losses`;
  if (level === "trusted") {
    if (lies > 0) return { kind: "demote", reason: `caught taking mail that it does not forward; ${facts}` };
    const isAwayShortly = history.knownMs - linkedMs < AWAY_MS;
    const lasting = isAwayShortly ? scoreOf({ ...history, linkedMs: history.knownMs }) : score;
    return lasting < DEMOTE_SCORE ? { kind: "demote", reason: facts } : keep;
  }
  if (level !== "member" || lies > 0 || score < PROMOTE_SCORE) return keep;
  if (promoteAfterMs !== undefined && promoted < PROMOTED_MAX && linkedMs >= promoteAfterMs)
    return { kind: "promote", reason: facts };
  if (onion === undefined || promoted >= ONIONS_PROMOTED_MAX || linkedMs < onion.afterMs) return keep;
  return { kind: "promote", reason: `an onion address that ${onion.source} named; ${facts}` };
}

const hours = (ms: number): string => (ms / 3_600_000).toFixed(1);
