/**
 * Neighbours that run twice at once: two processes with one key. Whoever started later answers no probe that was sent before it
 * started, and whoever ended answers none at all; so two boot ids that each answered a probe sent after the other had spoken lived
 * side by side. A restart, a second link and a late hello of a process that is gone prove nothing. Owns no link.
 * docs/protocol/frames.md "Doubles".
 */
import type { Clock } from "@godwit/sdk";
import { TokenBucket } from "../kernel/backoff.ts";
import type { NodeId } from "../kernel/ids.ts";
import type { Regard, Share } from "../kernel/room.ts";
import { SharedMap } from "../kernel/shared-map.ts";

/** Nodes whose lives are remembered: more than neighbours and known ones together. Throw-away ones push out their own kind. */
export const NODES_MAX = 4_096;
/** Boot ids remembered of one node. */
const LIVES_MAX = 4;
/** A double that shows itself no more is told of for so long, ms: one that stands down comes back to look sooner than that. */
const TOLD_MS = 1_800_000;
export const TOLD_MAX = 512;
/**
 * Identities are free: of nodes that only say so of themselves this many are believed at once, and one more a minute. So they push no proven
 * one out of the list, and fill neither log nor events. Whom this node knows is counted apart, or strangers that run twice would
 * keep it from being found. All four together fill no list in the time that one stays on it.
 */
const WORDS = { burst: 16, perSecond: 1 / 60 };
/** Of nodes that prove it by running twice. */
const PROOFS = { burst: 64, perSecond: 1 / 30 };

interface Budgets {
  readonly words: TokenBucket;
  readonly proofs: TokenBucket;
}

interface OneLife {
  readonly bootId: string;
  /** When its first hello came. */
  readonly heardAtMs: number;
  /** When the youngest probe was sent that it answered. */
  provenAtMs: number;
}

const NOBODY: readonly NodeId[] = [];

export class Doubles {
  readonly #clock: Clock;
  readonly #regard: Regard;
  readonly #found: (id: NodeId) => void;
  readonly #ofKnown: Budgets;
  readonly #ofStrangers: Budgets;
  readonly #lives: SharedMap<NodeId, OneLife[]>;
  /** Monotonic time of the last proof. */
  readonly #seen = new SharedMap<NodeId, number>({ name: "doubles", max: TOLD_MAX });

  /** `found`: once for each double, and again when it comes back after it was gone for long. */
  constructor(clock: Clock, regard: Regard, found: (id: NodeId) => void) {
    this.#clock = clock;
    this.#regard = regard;
    this.#found = found;
    this.#ofKnown = budgets(clock);
    this.#ofStrangers = budgets(clock);
    this.#lives = new SharedMap<NodeId, OneLife[]>({
      name: "lives of neighbours",
      max: NODES_MAX,
      worthOf: (id) => regard.worthOf(id),
    });
  }

  /** Nodes that run twice, as far as this one saw in the last half hour. */
  get now(): readonly NodeId[] {
    if (this.#seen.size === 0) return NOBODY;
    const nowMs = this.#clock.monotonicMs();
    return [...this.#seen].filter(([, atMs]) => nowMs - atMs < TOLD_MS).map(([id]) => id);
  }

  /** A hello came. */
  heard(id: NodeId, bootId: string): void {
    const lives = this.#lives.get(id) ?? [];
    const at = lives.findIndex((life) => life.bootId === bootId);
    const [life] = at < 0 ? [] : lives.splice(at, 1);
    lives.push(
      life ?? { bootId, heardAtMs: this.#clock.monotonicMs(), provenAtMs: Number.NEGATIVE_INFINITY },
    );
    if (lives.length > LIVES_MAX) lives.shift();
    this.#lives.set(id, lives, this.#regard.shareOf(id));
  }

  /** The process with this boot id answered a probe that was sent at `sentAtMs`. */
  answered(id: NodeId, bootId: string, sentAtMs: number): void {
    const lives = this.#lives.get(id);
    const life = lives?.find((known) => known.bootId === bootId);
    if (lives === undefined || life === undefined) return;
    life.provenAtMs = Math.max(life.provenAtMs, sentAtMs);
    const other = lives.find((known) => known !== life && isBeside(life, known));
    if (other === undefined) return;
    // The next proof is of what comes after this one.
    life.provenAtMs = other.provenAtMs = Number.NEGATIVE_INFINITY;
    this.#note(id, "proofs");
  }

  /** The node's own word. */
  told(id: NodeId): void {
    this.#note(id, "words");
  }

  #note(id: NodeId, kind: keyof Budgets): void {
    const nowMs = this.#clock.monotonicMs();
    const isNew = nowMs - (this.#seen.get(id) ?? Number.NEGATIVE_INFINITY) >= TOLD_MS;
    const share = this.#regard.shareOf(id);
    if (isNew && !this.#budgetOf(share, kind).take()) return;
    this.#seen.set(id, nowMs, share);
    if (isNew) this.#found(id);
  }

  #budgetOf({ isKnown }: Share, kind: keyof Budgets): TokenBucket {
    return (isKnown ? this.#ofKnown : this.#ofStrangers)[kind];
  }
}

const budgets = (clock: Clock): Budgets => ({
  words: new TokenBucket(clock, WORDS.perSecond, WORDS.burst),
  proofs: new TokenBucket(clock, PROOFS.perSecond, PROOFS.burst),
});

const isBeside = (a: OneLife, b: OneLife): boolean =>
  a.provenAtMs > b.heardAtMs && b.provenAtMs > a.heardAtMs;
