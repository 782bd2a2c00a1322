/**
 * What this node says of itself: alive at an incarnation that only it raises, or gone. Rises above whatever stands
 * against it, at a bounded rate. docs/protocol/membership.md "Incarnations".
 */
import type { Clock, Random, Timer } from "@godwit/sdk";
import { TokenBucket } from "../kernel/backoff.ts";
import type { NodeId } from "../kernel/ids.ts";
import {
  INCARNATION_MAX,
  MemberEntryKind,
  memberSigningBytes,
  type MemberFact,
} from "../wire/member-messages.ts";

/** Own incarnation rises this often: burst, and per second. */
const RAISE_BURST = 8;
const RAISE_PER_SECOND = 0.5;
/** Boot epoch, then a counter of 24 bits. */
const EPOCH_SPAN = 2 ** 24;
/** A number that two lives shall not have in common is drawn from this many. */
const DRAWN_SPAN = 2 ** 16;

export const epochOf = (incarnation: number): number => Math.floor(incarnation / EPOCH_SPAN);

export interface OwnFactDeps {
  readonly self: NodeId;
  readonly network: string;
  readonly bootEpoch: number;
  readonly clock: Clock;
  readonly random: Random;
  sign(bytes: Uint8Array): Uint8Array;
  /** It says something new: everybody should hear. */
  raised(fact: MemberFact): void;
}

export class OwnFact {
  readonly #deps: OwnFactDeps;
  readonly #raises: TokenBucket;
  #timer: Timer | undefined;
  #fact: MemberFact;

  constructor(deps: OwnFactDeps) {
    this.#deps = deps;
    this.#raises = new TokenBucket(deps.clock, RAISE_PER_SECOND, RAISE_BURST);
    this.#fact = this.#sign(MemberEntryKind.alive, deps.bootEpoch * EPOCH_SPAN);
  }

  get fact(): MemberFact {
    return this.#fact;
  }

  /** Somebody claims that this node is gone: at once, or when it may rise again. */
  refute(): void {
    const at = this.#fact.incarnation;
    if (this.#raises.take()) return this.riseAbove(at);
    this.#timer ??= this.#deps.clock.after(1_000 / RAISE_PER_SECOND, () => {
      this.#timer = undefined;
      this.riseAbove(at);
    });
  }

  /** Nothing at or below this incarnation counts against it any more. */
  riseAbove(incarnation: number): void {
    if (this.#fact.kind === MemberEntryKind.left || this.#fact.incarnation > incarnation) return;
    this.#fact = this.#sign(MemberEntryKind.alive, Math.min(incarnation + 1, INCARNATION_MAX));
    this.#deps.raised(this.#fact);
  }

  /** Another life of this node said so: go on from `epoch`, and above that in any case. */
  outrun(incarnation: number, epoch: number): void {
    this.riseAbove(Math.max(incarnation, epoch * EPOCH_SPAN + this.#drawn()));
  }

  /** Neighbours had the time to say what they remember: from here on this run's numbers are its own. */
  settle(): void {
    this.riseAbove(this.#fact.incarnation + this.#drawn());
  }

  leave(): void {
    this.#fact = this.#sign(MemberEntryKind.left, this.#fact.incarnation);
    this.stop();
  }

  stop(): void {
    this.#timer?.cancel();
  }

  #drawn(): number {
    return this.#deps.random.below(DRAWN_SPAN);
  }

  #sign(kind: MemberFact["kind"], incarnation: number): MemberFact {
    const { self, network, sign } = this.#deps;
    const unsigned = { kind, node: self, incarnation };
    return { ...unsigned, signature: sign(memberSigningBytes(network, unsigned)) };
  }
}
