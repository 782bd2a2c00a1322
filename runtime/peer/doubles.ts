/**
 * Neighbours that run twice at once: two processes with one key. Whoever started later answers no probe that was sent before it
 * started, and whoever ended answers none at all; so two boot ids that each answered a probe sent after the other had spoken lived
 * side by side. A restart, a second link and a late hello of a process that is gone prove nothing. Owns no link.
 * docs/protocol/frames.md "Doubles".
 */
import { BoundedMap } from "@godwit/sdk/bounded";
import type { Clock } from "@godwit/sdk";
import { TokenBucket } from "../kernel/backoff.ts";
import type { NodeId } from "../kernel/ids.ts";

const NODES_MAX = 2_048;
/** Boot ids remembered of one node. */
const LIVES_MAX = 4;
/** A double that shows itself no more is told of for so long, ms: one that stands down comes back to look sooner than that. */
const TOLD_MS = 1_800_000;
const TOLD_MAX = 256;
/**
 * Identities are free: of nodes that only say so of themselves this many are believed at once, and one more a minute. So they push no proven
 * one out of the list, and fill neither log nor events.
 */
const WORDS = { burst: 16, perSecond: 1 / 60 };
/** Of nodes that prove it by running twice. */
const PROOFS = { burst: 64, perSecond: 1 / 30 };

interface OneLife {
  readonly bootId: string;
  /** When its first hello came. */
  readonly heardAtMs: number;
  /** When the youngest probe was sent that it answered. */
  provenAtMs: number;
}

export class Doubles {
  readonly #clock: Clock;
  readonly #found: (id: NodeId) => void;
  readonly #words: TokenBucket;
  readonly #proofs: TokenBucket;
  readonly #lives = new BoundedMap<NodeId, OneLife[]>({ name: "lives of neighbours", max: NODES_MAX });
  /** Monotonic time of the last proof. */
  readonly #seen = new BoundedMap<NodeId, number>({ name: "doubles", max: TOLD_MAX });

  /** `found`: once for each double, and again when it comes back after it was gone for long. */
  constructor(clock: Clock, found: (id: NodeId) => void) {
    this.#clock = clock;
    this.#found = found;
    this.#words = new TokenBucket(clock, WORDS.perSecond, WORDS.burst);
    this.#proofs = new TokenBucket(clock, PROOFS.perSecond, PROOFS.burst);
  }

  /** Nodes that run twice, as far as this one saw in the last half hour. */
  get now(): readonly NodeId[] {
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
    this.#lives.renew(id, lives);
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
    this.#note(id, this.#proofs);
  }

  /** The node's own word. */
  told(id: NodeId): void {
    this.#note(id, this.#words);
  }

  #note(id: NodeId, budget: TokenBucket): void {
    const nowMs = this.#clock.monotonicMs();
    const isNew = nowMs - (this.#seen.get(id) ?? Number.NEGATIVE_INFINITY) >= TOLD_MS;
    if (isNew && !budget.take()) return;
    this.#seen.renew(id, nowMs);
    if (isNew) this.#found(id);
  }
}

const isBeside = (a: OneLife, b: OneLife): boolean =>
  a.provenAtMs > b.heardAtMs && b.provenAtMs > a.heardAtMs;
