/**
 * The view of every node of the mesh as alive, suspect, failed or left. Weighs what this node sees itself (links,
 * routes, pings) with what others claim; `decide.ts` concludes, `gossip.ts` tells. Signed statements are only believed
 * from the node they speak of. Must never open a link, change a route, or trust one other member to evict a third.
 * Specified by docs/protocol/membership.md.
 */
import type { LinkClass, Timer } from "@godwit/sdk";
import { TokenBucket } from "../kernel/backoff.ts";
import type { NodeId } from "../kernel/ids.ts";
import { FrameType } from "../wire/constants.ts";
import * as wire from "../wire/member-messages.ts";
import { Credit } from "./credit.ts";
import type { MembersDeps } from "./deps.ts";
import { decideMember, type Conclusion, type MemberState } from "./decide.ts";
import type { FactIndex } from "./digest.ts";
import { Gossip, type HeldFact, isNewerFact } from "./gossip.ts";
import {
  HEARD_OF,
  heldFact,
  incarnationOf,
  MemberTable,
  reasonText,
  rowOf,
  type Member,
  type MemberRow,
} from "./member.ts";
import { epochOf, OwnFact } from "./own-fact.ts";

export type { MemberState } from "./decide.ts";
export type { MemberRow } from "./member.ts";

/** A closed link proves little while routes settle, ms. */
const CLOSED_GRACE_MS = 100;
/** The other neighbours of a silent node are told to look at the first missed probe, so the route goes with the link. */
const SILENT_GRACE_MS = 10;
/** Unreachable for so long without anybody's accusation, ms. */
const SUSPICION_MS = 5_000;
/** Over slow links a ping costs airtime: one, and the next after so many times what its answer may take. */
const SLOW_PING_AGAIN = 20;
/** Before the first ping to an accused node that routes still lead to: usually it refutes, or the routes go, ms. */
const PING_DELAY_MS = 400;
const PING_JITTER_MS = 400;
const PING_WAIT_MS = 2_000;
const PING_TRIES = 3;
/** A member that is unanswered but routed is asked again, ms. */
const PING_AGAIN_MS = 30_000;
/** Accusers kept and passed on for one member and incarnation. */
const ACCUSERS_MAX = 3;
/** Pongs signed per second. */
const PONGS_PER_SECOND = 50;
/** A timer this late means that this node stood still itself. */
const LAG_MS = 250;
/** Every timeout grows by this factor at most, one step for each sign that this node is the slow one. */
const AWARENESS_MAX = 4;
const AWARENESS_DECAY_MS = 10_000;
const SWEEP_MS = 600_000;

export class Members {
  readonly #deps: MembersDeps;
  readonly #table: MemberTable;
  readonly #credit: Credit;
  readonly gossip: Gossip;
  readonly #pongs: TokenBucket;
  readonly #accused;
  readonly #refuted;
  readonly #droppedMetric;
  readonly #own: OwnFact;
  #ownHeld: HeldFact | undefined;
  #awareness = 0;
  #awareAtMs = 0;

  constructor(deps: MembersDeps) {
    this.#deps = deps;
    const { clock, metrics } = deps;
    this.#table = new MemberTable((id) => deps.persist(id, undefined), deps.regard);
    this.#credit = new Credit(clock);
    this.#pongs = new TokenBucket(clock, PONGS_PER_SECOND, PONGS_PER_SECOND);
    this.#accused = metrics.counter("godwit_member_accusations_total");
    this.#refuted = metrics.counter("godwit_member_refutations_total");
    this.#droppedMetric = metrics.counter("godwit_member_entries_dropped_total");
    this.#own = new OwnFact({ ...deps, raised: (fact) => this.gossip.spread(fact, undefined, true) });
    const sentBytes = metrics.counter("godwit_member_sent_bytes_total");
    this.gossip = new Gossip({
      ...deps,
      facts: () => this.#facts(),
      count: () => this.#table.size + 1,
      accept: (entry, from) => this.#accept(entry, from),
      dropped: (reason, count) => this.#droppedMetric.add(count, { reason }),
      sent: (bytes) => sentBytes.add(bytes),
    });
    for (const state of ["alive", "suspect", "failed", "left"] as const)
      metrics.observedGauge(`godwit_members_${state}`, () => this.counts()[state]);
    this.#scheduleSweep();
  }

  /** What an earlier run knew: verified again, unreachable until routes come. */
  restore(facts: Iterable<wire.MemberFact>): void {
    for (const fact of facts) {
      if (fact.node === this.#deps.self || !this.#isSigned(fact)) continue;
      const member = this.#table.get(fact.node) ?? this.#add(fact.node, "self");
      if (member === undefined) continue;
      this.#table.hold(member, fact);
      this.#judge(member, "known from an earlier run", "self");
    }
  }

  get own(): wire.MemberFact {
    return this.#own.fact;
  }

  counts(): Record<MemberState, number> {
    const counts = { alive: 0, suspect: 0, failed: 0, left: 0 };
    counts[this.own.kind === wire.MemberEntryKind.left ? "left" : "alive"]++;
    for (const { state } of this.#table.all) counts[state]++;
    return counts;
  }

  stateOf(id: NodeId): MemberState | undefined {
    return id === this.#deps.self ? "alive" : this.#table.get(id)?.state;
  }

  /** Everybody but this node. */
  *rows(): Iterable<MemberRow> {
    for (const member of this.#table.all) yield rowOf(member);
  }

  row(id: NodeId): MemberRow | undefined {
    const member = this.#table.get(id);
    return member === undefined ? undefined : rowOf(member);
  }

  neighbourUp(id: NodeId, linkClass: LinkClass): void {
    this.gossip.neighbourUp(id, linkClass, this.own);
    const member = this.#table.get(id) ?? this.#add(id, "self");
    if (member === undefined) return;
    this.#proveAlive(member);
    member.isReachable = true;
    this.#judge(member, "link up", "self");
  }

  /** The last link to it is gone. `silent`: it did not answer probes. */
  neighbourDown(id: NodeId, how: "closed" | "silent"): void {
    this.gossip.neighbourDown(id);
    const member = this.#table.get(id);
    if (member === undefined) return;
    // Whoever said farewell was heard until its link closed.
    member.heardWallMs = this.#deps.clock.wallMs();
    if (member.state === "left") return;
    member.isLinkLost = true;
    member.isDoubted = false;
    member.lostBy = how;
    // The link was a way itself, and of one that no route was heard of nobody says that it is gone.
    member.isReachable = this.#deps.isReachable(id);
    member.grace?.cancel();
    this.#afterGrace(
      how === "closed" ? CLOSED_GRACE_MS : SILENT_GRACE_MS,
      (timer) => (member.grace = timer),
      () => {
        member.grace = undefined;
        this.#onGrace(member, how);
      },
    );
    this.#judge(member, how === "closed" ? "link closed" : "link silent", "self");
  }

  /** No link of this node to it answers as soon as usual, or one does again. */
  neighbourDoubted(id: NodeId, isDoubted: boolean): void {
    const member = this.#table.get(id);
    if (member === undefined) return;
    member.isDoubted = isDoubted;
    this.#judge(member, isDoubted ? "link silent" : "link answers", "self");
  }

  /** A probe on the link to it was missed: the others with a link to it should look as well. */
  neighbourQuiet(id: NodeId): void {
    this.gossip.tellAll(wire.encodeMemberQuery(id));
  }

  onRoute(id: NodeId, isReachable: boolean): void {
    if (id === this.#deps.self) return;
    const member = this.#table.get(id) ?? (isReachable ? this.#add(id, "self") : undefined);
    if (member === undefined || member.isReachable === isReachable) return;
    member.isReachable = isReachable;
    if (isReachable && !this.#isAccused(member)) member.isUnanswered = false;
    this.#judge(member, isReachable ? "route" : "no route", "self");
    if (member.grace === undefined) this.#onGrace(member, member.lostBy);
  }

  /** A way to everybody without a route of its own came or went. */
  onDefaultRoute(): void {
    for (const { id } of this.#table.all) this.onRoute(id, this.#deps.isReachable(id));
  }

  /** Borrowed. Throws GODWIT_DECODE. */
  handleFrame(from: NodeId, frame: Uint8Array): void {
    const type = frame[0]!;
    if (type !== FrameType.memberQuery) return this.gossip.handleFrame(from, type, frame);
    const subject = wire.decodeMemberQuery(frame);
    if (subject !== this.#deps.self) this.#deps.checkLink(subject);
  }

  /** Throws GODWIT_DECODE. */
  handlePing(from: NodeId, payload: Uint8Array): void {
    const { nonce, accusation } = wire.decodeMemberPing(payload);
    if (!this.#pongs.take()) return this.#droppedMetric.add(1, { reason: "pongs" });
    if (accusation?.node === this.#deps.self) this.#acceptAccusation(accusation);
    const { self, network, sign, sendRouted } = this.#deps;
    const signature = sign(wire.pongSigningBytes(network, self, nonce));
    sendRouted(from, "pong", wire.encodeMemberPong({ nonce, signature, fact: this.own }));
  }

  /** Throws GODWIT_DECODE. */
  handlePong(from: NodeId, payload: Uint8Array): void {
    const { nonce, signature, fact } = wire.decodeMemberPong(payload);
    const member = this.#table.get(from);
    if (member?.ping === undefined || fact.node !== from || !isEqual(member.ping.nonce, nonce)) return;
    const { network, verify } = this.#deps;
    if (!verify(from, wire.pongSigningBytes(network, from, nonce), signature)) return;
    // Its own word for this very question: an accusation that it has not outrun yet is wrong all the same.
    this.#proveAlive(member);
    member.isDisproved = true;
    if (this.#accept(fact, from)) this.gossip.spread(fact, undefined);
    this.#judge(member, "answered a ping", from);
  }

  /** Once a run, when neighbours have said what they remember of this node. */
  settle(): void {
    this.#own.settle();
  }

  /** Says farewell to everybody; the links are closed right after. */
  leave(): void {
    this.#own.leave();
    this.gossip.spread(this.own, undefined, true);
    this.gossip.flushAll();
  }

  /** Its own is the one of now. */
  #facts(): FactIndex<HeldFact> {
    const { facts } = this.#table;
    if (this.#ownHeld?.fact !== this.own) facts.put((this.#ownHeld = heldFact(this.own)));
    return facts;
  }

  #add(id: NodeId, broughtBy: NodeId | "self"): Member | undefined {
    const { clock, isReachable } = this.#deps;
    const member = this.#table.add(id, broughtBy, clock.monotonicMs(), clock.wallMs());
    if (member !== undefined) member.isReachable = isReachable(id);
    else this.#droppedMetric.add(1, { reason: "full" });
    return member;
  }

  /** An entry from a neighbour. True: new and believed, worth passing on. */
  #accept(entry: wire.MemberEntry, from: NodeId): boolean {
    if (entry.kind === wire.MemberEntryKind.accusation) return this.#acceptAccusation(entry);
    if (entry.node === this.#deps.self) return this.#acceptOwn(entry);
    const known = this.#table.get(entry.node);
    if (known?.held !== undefined && !isNewerFact(entry, known.held.fact)) return false;
    const nowMs = this.#deps.clock.monotonicMs();
    if (known === undefined && this.#table.isTomb(entry.node, entry.incarnation, nowMs)) return false;
    if (!this.#isSigned(entry)) {
      this.#droppedMetric.add(1, { reason: "signature" });
      return false;
    }
    const member = known ?? this.#add(entry.node, from);
    if (member === undefined) return false;
    this.#credit.onRaise(member.accusations?.keys(), incarnationOf(member), entry.incarnation);
    if (entry.incarnation > incarnationOf(member)) {
      member.accusations = undefined;
      this.#proveAlive(member);
    }
    this.#table.hold(member, entry);
    this.#deps.persist(entry.node, entry);
    this.#judge(
      member,
      entry.kind === wire.MemberEntryKind.left ? "said farewell" : "its own word",
      entry.node,
    );
    return true;
  }

  /** Only the newest incarnation can be accused, by few, and by nobody who was refuted too often. */
  #acceptAccusation(entry: wire.Accusation): boolean {
    const { self } = this.#deps;
    if (entry.accuser === entry.node || entry.accuser === self) return false;
    if (!this.#credit.has(entry.accuser)) {
      this.#droppedMetric.add(1, { reason: "credit" });
      return false;
    }
    if (entry.node === self) {
      if (entry.incarnation !== this.own.incarnation || !this.#isSigned(entry)) return false;
      this.#credit.spend(entry.accuser);
      this.#refute();
      return false;
    }
    const member = this.#table.get(entry.node);
    if (member?.held === undefined || entry.incarnation !== member.held.fact.incarnation) return false;
    if (member.state === "left" || member.accusations?.has(entry.accuser) === true) return false;
    if ((member.accusations?.size ?? 0) >= ACCUSERS_MAX || !this.#isSigned(entry)) return false;
    this.#holdAccusation(member, entry);
    this.#judge(member, reasonText(entry.reason), entry.accuser);
    return true;
  }

  /** What others hold of this node: a fact of another life, or a farewell that is over, must be outrun. */
  #acceptOwn(entry: wire.MemberFact): boolean {
    if (!isNewerFact(entry, this.own) || !this.#isSigned(entry)) return false;
    const epoch = this.#deps.outrun(epochOf(entry.incarnation));
    if (epoch !== undefined) this.#own.outrun(entry.incarnation, epoch);
    return false;
  }

  /** This node is accused and lives: it rises above that, and wonders whether it is the slow one. */
  #refute(): void {
    this.#refuted.add();
    this.#aware(1);
    this.#own.refute();
  }

  #isSigned(entry: wire.MemberEntry): boolean {
    const { network, verify } = this.#deps;
    const signer = entry.kind === wire.MemberEntryKind.accusation ? entry.accuser : entry.node;
    return verify(signer, wire.memberSigningBytes(network, entry), entry.signature);
  }

  #holdAccusation(member: Member, entry: wire.Accusation): void {
    member.accusations ??= new Map();
    member.accusations.set(entry.accuser, entry);
    member.isDisproved = false;
  }

  #isAccused(member: Member): boolean {
    return !member.isDisproved && (member.accusations?.size ?? 0) > 0;
  }

  #proveAlive(member: Member): void {
    member.isLinkLost = false;
    member.isUnanswered = false;
    member.isOverdue = false;
    member.ping = undefined;
    member.heardWallMs = this.#deps.clock.wallMs();
  }

  /** Its link is gone for a while, and nothing leads there: whoever had a link to it may say so. */
  #onGrace(member: Member, how: "closed" | "silent"): void {
    if (!member.isLinkLost || member.state === "left" || member.isReachable) return;
    this.#accuse(member, how === "closed" ? wire.AccusationReason.closed : wire.AccusationReason.silent);
  }

  #accuse(member: Member, reason: wire.AccusationReasonCode): void {
    const { self, network, sign } = this.#deps;
    if (member.held === undefined) {
      member.isOverdue = true;
      return this.#judge(member, reasonText(reason), "self");
    }
    if ((member.accusations?.size ?? 0) < ACCUSERS_MAX && member.accusations?.has(self) !== true) {
      const unsigned = {
        kind: wire.MemberEntryKind.accusation,
        node: member.id,
        incarnation: incarnationOf(member),
        reason,
        accuser: self,
      };
      const entry = { ...unsigned, signature: sign(wire.memberSigningBytes(network, unsigned)) };
      this.#holdAccusation(member, entry);
      this.#accused.add();
      this.gossip.spread(entry, undefined);
    }
    this.#judge(member, reasonText(reason), "self");
  }

  /** Concludes anew and does what that asks for. */
  #judge(member: Member, reason: string, source: NodeId | "self"): void {
    const previous = member.state;
    if (member.isReachable) member.isOverdue = false;
    const { state, next } = decideMember({
      state: previous,
      hasLeft: member.held?.fact.kind === wire.MemberEntryKind.left,
      isReachable: member.isReachable,
      isDoubted: member.isDoubted,
      isAccused: this.#isAccused(member),
      isLinkLost: member.isLinkLost,
      isUnanswered: member.isUnanswered,
      isOverdue: member.isOverdue,
    });
    this.#plan(member, next, state);
    const isNew = member.reason === HEARD_OF;
    if (state === previous && !isNew) return;
    const { clock, changed } = this.#deps;
    member.state = state;
    member.reason = reason;
    member.source = source;
    member.sinceMs = clock.monotonicMs();
    member.sinceWallMs = clock.wallMs();
    changed(rowOf(member), isNew ? undefined : previous);
  }

  #plan(member: Member, next: Conclusion["next"], state: MemberState): void {
    if (next !== "ping") member.ping = undefined;
    if (next === "ping") {
      if (member.ping === undefined) this.#planPing(member);
    } else if (next === "nothing" || state !== "suspect") this.#wait(member, undefined);
    else if (member.waitsFor !== "suspicion")
      this.#wait(member, "suspicion", SUSPICION_MS, () => {
        member.isOverdue = true;
        this.#judge(member, "no route for long", "self");
      });
  }

  #planPing(member: Member): void {
    member.ping = { nonce: this.#deps.random.bytes(wire.MEMBER_NONCE_BYTES), tries: 0 };
    const delayMs = member.isUnanswered
      ? Math.max(PING_AGAIN_MS, SLOW_PING_AGAIN * this.#slowPingMs(member))
      : PING_DELAY_MS + this.#deps.random.float() * PING_JITTER_MS;
    this.#wait(member, "ping", delayMs, () => this.#onPingTimer(member));
  }

  #onPingTimer(member: Member): void {
    const { ping } = member;
    if (ping === undefined) return;
    const slowMs = this.#slowPingMs(member);
    if (ping.tries < (slowMs > 0 ? 1 : PING_TRIES)) {
      ping.tries++;
      const [accusation] = this.#isAccused(member) ? member.accusations!.values() : [];
      this.#deps.sendRouted(member.id, "ping", wire.encodeMemberPing({ nonce: ping.nonce, accusation }));
      return this.#wait(member, "ping", Math.max(PING_WAIT_MS, slowMs), () => this.#onPingTimer(member));
    }
    member.ping = undefined;
    const isNews = !member.isUnanswered;
    member.isUnanswered = true;
    if (isNews && member.isLinkLost) return this.#accuse(member, wire.AccusationReason.unanswered);
    this.#judge(member, "did not answer pings", "self");
  }

  #slowPingMs({ id }: Member): number {
    return this.#deps.pingMs?.(id) ?? 0;
  }

  /** One wait for each member; a node that stood still itself waits again, because what it did not hear proves nothing. */
  #wait(member: Member, what: Member["waitsFor"], delayMs = 0, fn: () => void = () => {}): void {
    member.timer?.cancel();
    member.timer = undefined;
    member.waitsFor = what;
    if (what === undefined) return;
    this.#afterGrace(
      delayMs,
      (timer) => (member.timer = timer),
      () => {
        member.timer = undefined;
        member.waitsFor = undefined;
        fn();
      },
    );
  }

  #afterGrace(delayMs: number, hold: (timer: Timer) => void, fn: () => void): void {
    const { clock } = this.#deps;
    const waitMs = delayMs * (1 + this.awareness);
    const dueAtMs = clock.monotonicMs() + waitMs;
    hold(
      clock.after(waitMs, () => {
        if (clock.monotonicMs() - dueAtMs <= LAG_MS) return fn();
        this.#aware(1);
        this.#afterGrace(delayMs, hold, fn);
      }),
    );
  }

  /** How slow this node takes itself to be, 0 to 4. */
  get awareness(): number {
    const gone = Math.floor((this.#deps.clock.monotonicMs() - this.#awareAtMs) / AWARENESS_DECAY_MS);
    return Math.max(0, this.#awareness - gone);
  }

  #aware(by: number): void {
    this.#awareness = Math.min(AWARENESS_MAX, this.awareness + by);
    this.#awareAtMs = this.#deps.clock.monotonicMs();
  }

  #scheduleSweep(): void {
    this.#deps.clock.after(SWEEP_MS, () => {
      this.#table.sweep(this.#deps.clock.monotonicMs());
      this.#scheduleSweep();
    });
  }
}

const isEqual = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((byte, at) => byte === b[at]);
