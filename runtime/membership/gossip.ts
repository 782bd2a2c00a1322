/**
 * How facts and accusations travel between neighbours: news at once to a bounded number of them, and a comparison of
 * digests on link-up and at a slow interval for what got lost. Knows nothing of states. Bounded per neighbour; slow
 * links carry nothing of it. docs/protocol/membership.md "Gossip" and "Repair".
 */
import type { Clock, LinkClass, Random, Timer } from "@godwit/sdk";
import { TokenBucket } from "../kernel/backoff.ts";
import type { NodeId } from "../kernel/ids.ts";
import { FrameType } from "../wire/constants.ts";
import * as wire from "../wire/member-messages.ts";
import { childPrefix, type FactIndex } from "./digest.ts";

/** News goes to this many neighbours at least, and to `FANOUT_FACTOR * log2(members)`. */
const FANOUT_MIN = 8;
const FANOUT_FACTOR = 3;
/** News that comes close together shares a frame, ms. */
const COALESCE_MS = { fast: 5, medium: 500 } as const;
/** Between two comparisons with one neighbour, ms, and up to a tenth more. */
const DIGEST_MS = 300_000;
/** After repairs brought much, before the other neighbours are compared with, ms. */
const REPAIR_PAUSE_MS = 200;
/** Repairs of at most so many facts are passed on as news. */
const REPAIR_NEWS_MAX = 8;
/** A bucket with at most so many facts is sent whole. */
const LEAF_FACTS = 16;
/** Entries of one frame. */
const FRAME_ENTRIES_MAX = 128;
/** News waiting for one neighbour; more is left to the digests. */
const PENDING_MAX = 1_024;
/** Frames of repair answered per neighbour: burst, and per second. */
const REPAIR_BURST = 256;
const REPAIR_PER_SECOND = 16;
/**
 * Entries taken from one neighbour, each of which may cost a signature check, and entries given to it in answers to syncs,
 * which a short frame can ask for by the thousand: burst, and per second, of either.
 */
const ENTRIES_BURST = 32_768;
const ENTRIES_PER_SECOND = 500;

/** A fact with what the digests need of it. */
export interface HeldFact {
  readonly fact: wire.MemberFact;
  readonly idPrefix: number;
  readonly digest: number;
}

export interface GossipDeps {
  readonly self: NodeId;
  readonly clock: Clock;
  readonly random: Random;
  /** Borrowed. `repair` goes behind mail of any priority but the last. */
  send(to: NodeId, frame: Uint8Array, lane: "news" | "repair"): void;
  /** Everything that takes part in digests. */
  facts(): FactIndex<HeldFact>;
  /** Members known, for the fan-out. */
  count(): number;
  /** True: it was new and believed. */
  accept(entry: wire.MemberEntry, from: NodeId): boolean;
  /** `repairs`: frames, not entries. */
  dropped(reason: "rate" | "queue" | "repairs", count: number): void;
  sent(bytes: number): void;
}

interface Neighbour {
  readonly id: NodeId;
  readonly linkClass: LinkClass;
  readonly pending: Map<string, wire.MemberEntry>;
  readonly repairs: TokenBucket;
  readonly entries: TokenBucket;
  readonly answers: TokenBucket;
  flush: Timer | undefined;
  digest: Timer | undefined;
}

/** Of several entries about one node only the newest waits; accusations stand beside facts. */
const keyOf = (entry: wire.MemberEntry): string =>
  entry.kind === wire.MemberEntryKind.accusation ? `${entry.node}${entry.accuser}` : entry.node;

export class Gossip {
  readonly #deps: GossipDeps;
  readonly #neighbours = new Map<NodeId, Neighbour>();
  #repair: { timer: Timer; from: NodeId } | undefined;

  constructor(deps: GossipDeps) {
    this.#deps = deps;
  }

  neighbourUp(id: NodeId, linkClass: LinkClass, own: wire.MemberFact): void {
    this.neighbourDown(id);
    const { clock } = this.#deps;
    const neighbour: Neighbour = {
      id,
      linkClass,
      pending: new Map(),
      repairs: new TokenBucket(clock, REPAIR_PER_SECOND, REPAIR_BURST),
      entries: new TokenBucket(clock, ENTRIES_PER_SECOND, ENTRIES_BURST),
      answers: new TokenBucket(clock, ENTRIES_PER_SECOND, ENTRIES_BURST),
      flush: undefined,
      digest: undefined,
    };
    this.#neighbours.set(id, neighbour);
    if (linkClass === "slow") return;
    this.#send(neighbour, wire.encodeMemberFacts({ isRepair: false, entries: [own] }), "news");
    this.#sendDigest(neighbour);
  }

  neighbourDown(id: NodeId): void {
    const neighbour = this.#neighbours.get(id);
    neighbour?.flush?.cancel();
    neighbour?.digest?.cancel();
    this.#neighbours.delete(id);
  }

  /** Passes an entry on to a bounded number of neighbours, or to all of them; not to `except`. */
  spread(entry: wire.MemberEntry, except: NodeId | undefined, isForAll = false): void {
    const { random, count } = this.#deps;
    const fanout = isForAll
      ? Number.POSITIVE_INFINITY
      : Math.max(FANOUT_MIN, Math.ceil(FANOUT_FACTOR * Math.log2(count() + 1)));
    const targets = [...this.#neighbours.values()].filter(
      ({ id, linkClass }) => id !== except && id !== entry.node && linkClass !== "slow",
    );
    for (let i = 0; i < targets.length && i < fanout; i++) {
      const at = i + (targets.length > fanout ? random.below(targets.length - i) : 0);
      const chosen = targets[at]!;
      targets[at] = targets[i]!;
      this.#queue(chosen, entry);
    }
  }

  /** One frame to everybody but slow links: not passed on by those who get it. */
  tellAll(frame: Uint8Array): void {
    const fanout = Math.max(FANOUT_MIN, Math.ceil(FANOUT_FACTOR * Math.log2(this.#deps.count() + 1)));
    let left = fanout;
    for (const neighbour of this.#neighbours.values()) {
      if (neighbour.linkClass === "slow") continue;
      if (left-- <= 0) return;
      this.#send(neighbour, frame, "news");
    }
  }

  /** What waits leaves now: the node is about to close its links. */
  flushAll(): void {
    for (const neighbour of this.#neighbours.values()) this.#flush(neighbour);
  }

  /** Borrowed. Throws GODWIT_DECODE. */
  handleFrame(from: NodeId, type: number, frame: Uint8Array): void {
    const neighbour = this.#neighbours.get(from);
    if (neighbour === undefined || neighbour.linkClass === "slow") return;
    switch (type) {
      case FrameType.memberFacts: {
        const { isRepair, entries } = wire.decodeMemberFacts(frame);
        return this.#take(neighbour, entries, isRepair);
      }
      case FrameType.memberDigest:
        // One comparison serves both ends.
        this.#scheduleDigest(neighbour);
        if (!this.#mayRepair(neighbour)) return;
        if (wire.decodeMemberDigest(frame) !== this.#deps.facts().sum)
          this.#sendBuckets(neighbour, { depth: 0, prefix: 0 });
        return;
      case FrameType.memberBuckets:
        return this.#compare(neighbour, wire.decodeMemberBuckets(frame));
      case FrameType.memberSync:
        return this.#answerSync(neighbour, wire.decodeMemberSync(frame));
      default:
    }
  }

  #take(neighbour: Neighbour, entries: readonly wire.MemberEntry[], isRepair: boolean): void {
    const taken: wire.MemberEntry[] = [];
    for (const [at, entry] of entries.entries()) {
      if (!neighbour.entries.take()) {
        this.#deps.dropped("rate", entries.length - at);
        break;
      }
      if (this.#deps.accept(entry, neighbour.id)) taken.push(entry);
    }
    if (isRepair && taken.length > REPAIR_NEWS_MAX) return this.#compareOn(neighbour.id);
    for (const entry of taken) this.spread(entry, neighbour.id);
  }

  /** Much was missing here, so the neighbours behind miss it too: they are compared with, not flooded. */
  #compareOn(from: NodeId): void {
    if (this.#repair !== undefined) return;
    const timer = this.#deps.clock.after(REPAIR_PAUSE_MS, () => {
      this.#repair = undefined;
      for (const neighbour of this.#neighbours.values())
        if (neighbour.id !== from && neighbour.linkClass !== "slow") this.#sendDigest(neighbour);
    });
    this.#repair = { timer, from };
  }

  #queue(neighbour: Neighbour, entry: wire.MemberEntry): void {
    const key = keyOf(entry);
    if (neighbour.pending.size >= PENDING_MAX && !neighbour.pending.has(key))
      return this.#deps.dropped("queue", 1);
    neighbour.pending.set(key, entry);
    const delayMs = neighbour.linkClass === "fast" ? COALESCE_MS.fast : COALESCE_MS.medium;
    neighbour.flush ??= this.#deps.clock.after(delayMs, () => this.#flush(neighbour));
  }

  #flush(neighbour: Neighbour): void {
    neighbour.flush?.cancel();
    neighbour.flush = undefined;
    const entries = [...neighbour.pending.values()];
    neighbour.pending.clear();
    this.#sendEntries(neighbour, entries, false);
  }

  #sendEntries(neighbour: Neighbour, entries: readonly wire.MemberEntry[], isRepair: boolean): void {
    for (let at = 0; at < entries.length; at += FRAME_ENTRIES_MAX) {
      const part = entries.slice(at, at + FRAME_ENTRIES_MAX);
      const frame = wire.encodeMemberFacts({ isRepair, entries: part });
      this.#send(neighbour, frame, isRepair ? "repair" : "news");
    }
  }

  #sendDigest(neighbour: Neighbour): void {
    this.#scheduleDigest(neighbour);
    this.#send(neighbour, wire.encodeMemberDigest(this.#deps.facts().sum), "news");
  }

  /** The smaller id speaks; the other one only when it has heard nothing for long. */
  #scheduleDigest(neighbour: Neighbour): void {
    const { self, clock, random } = this.#deps;
    neighbour.digest?.cancel();
    const delayMs = DIGEST_MS * (1 + random.float() / 10) * (self < neighbour.id ? 1 : 1.5);
    neighbour.digest = clock.after(delayMs, () => this.#sendDigest(neighbour));
  }

  /** Counted where not: the next digest finds what is still missing. */
  #mayRepair({ repairs }: Neighbour): boolean {
    if (repairs.take()) return true;
    this.#deps.dropped("repairs", 1);
    return false;
  }

  #sendBuckets(neighbour: Neighbour, at: wire.MemberPrefix): void {
    if (!this.#mayRepair(neighbour)) return;
    const { sums } = this.#deps.facts().buckets(at);
    this.#send(neighbour, wire.encodeMemberBuckets({ ...at, sums }), "repair");
  }

  #compare(neighbour: Neighbour, theirs: wire.MemberBuckets): void {
    if (!this.#mayRepair(neighbour)) return;
    const facts = this.#deps.facts();
    const ours = facts.buckets(theirs);
    for (let child = 0; child < wire.MEMBER_CHILDREN; child++) {
      if (ours.sums[child] === theirs.sums[child]) continue;
      const at = childPrefix(theirs, child);
      if (ours.counts[child]! > LEAF_FACTS && at.depth < wire.MEMBER_DEPTH_MAX)
        this.#sendBuckets(neighbour, at);
      else {
        const entries: wire.MemberFact[] = [];
        for (const { fact } of facts.under(at)) if (entries.push(fact) >= FRAME_ENTRIES_MAX) break;
        this.#send(neighbour, wire.encodeMemberSync({ ...at, entries }), "repair");
      }
    }
  }

  #answerSync(neighbour: Neighbour, { entries, depth, prefix }: wire.MemberSync): void {
    if (!this.#mayRepair(neighbour)) return;
    const at = { depth, prefix };
    const theirs = new Map(entries.map((entry) => [entry.node, entry]));
    this.#take(neighbour, entries, true);
    const facts = this.#deps.facts();
    const better: wire.MemberFact[] = [];
    let looked = 0;
    for (const { fact } of facts.under(at)) {
      const held = theirs.get(fact.node);
      if (held === undefined || isNewerFact(fact, held)) {
        // What is left out comes with a later digest.
        if (!neighbour.answers.take()) {
          this.#deps.dropped("rate", facts.countUnder(at) - looked);
          break;
        }
        better.push(fact);
      }
      looked++;
    }
    this.#sendEntries(neighbour, better, true);
  }

  #send(neighbour: Neighbour, frame: Uint8Array, lane: "news" | "repair"): void {
    this.#deps.sent(frame.length);
    this.#deps.send(neighbour.id, frame, lane);
  }
}

/** Higher incarnation; at the same one a farewell. */
export const isNewerFact = (
  candidate: Pick<wire.MemberEntry, "incarnation" | "kind">,
  held: Pick<wire.MemberEntry, "incarnation" | "kind">,
): boolean =>
  candidate.incarnation > held.incarnation ||
  (candidate.incarnation === held.incarnation &&
    candidate.kind === wire.MemberEntryKind.left &&
    held.kind === wire.MemberEntryKind.alive);
