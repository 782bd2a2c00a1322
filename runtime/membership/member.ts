/**
 * One node as this one sees it, and the bounded set of all of them. Owns who is forgotten and when; what is concluded
 * about a member is `members.ts`. docs/protocol/membership.md "Bounds".
 */
import type { Timer } from "@godwit/sdk";
import { BoundedMap } from "@godwit/sdk/bounded";
import type { NodeId } from "../kernel/ids.ts";
import { Room, type Worth, type Regard } from "../kernel/room.ts";
import { AccusationReason, type Accusation, type MemberFact } from "../wire/member-messages.ts";
import type { MemberState } from "./decide.ts";
import { FactIndex, factDigest, prefixOf } from "./digest.ts";
import type { HeldFact } from "./gossip.ts";

export const MEMBERS_MAX = 16_384;
/** Failed and left members are listed for so long, ms. */
export const LISTED_MS = 24 * 3_600_000;
/** And then remembered, so that a neighbour that forgets later does not bring them back, ms. */
export const REMEMBERED_MS = 48 * 3_600_000;

/** Reason of a member of which nothing was concluded yet. */
export const HEARD_OF = "heard of";

export interface Member {
  readonly id: NodeId;
  readonly idPrefix: number;
  state: MemberState;
  /** Newest statement of the node itself, as `hold` took it; undefined while only routes speak of it. */
  held: HeldFact | undefined;
  /** Since when it is in its state: monotonic, and wall clock for people. */
  sinceMs: number;
  sinceWallMs: number;
  reason: string;
  /** Who said so: a node id, or `self`. */
  source: NodeId | "self";
  heardWallMs: number;
  isReachable: boolean;
  /** This node's links to it are there and silent. */
  isDoubted: boolean;
  isLinkLost: boolean;
  /** How, if it is. */
  lostBy: "closed" | "silent";
  isUnanswered: boolean;
  isOverdue: boolean;
  /** At the newest incarnation, by accuser. */
  accusations: Map<NodeId, Accusation> | undefined;
  /** It answered this node's ping after all accusations that are held. */
  isDisproved: boolean;
  /** Neighbour that brought it. */
  readonly broughtBy: NodeId | "self";
  /** Its suspicion, or the next ping. */
  timer: Timer | undefined;
  /** Before this node, which had a link to it, accuses it. */
  grace: Timer | undefined;
  waitsFor: "suspicion" | "ping" | undefined;
  ping: { nonce: Uint8Array; tries: number } | undefined;
}

export interface MemberRow {
  readonly id: NodeId;
  readonly state: MemberState;
  readonly incarnation: number;
  readonly sinceWallMs: number;
  readonly reason: string;
  readonly source: NodeId | "self";
  /** 0: never. */
  readonly heardWallMs: number;
}

export const incarnationOf = (member: Member): number => member.held?.fact.incarnation ?? 0;

export function heldFact(fact: MemberFact): HeldFact {
  return { fact, idPrefix: prefixOf(fact.node), digest: factDigest(fact) };
}

/** Gone for so long that it is no longer listed, nor part of digests. */
const isOver = ({ state }: Member): boolean => state === "failed" || state === "left";

export class MemberTable {
  readonly #members = new Map<NodeId, Member>();
  /** Forgotten ones with the incarnation that is not news any more, oldest first. */
  readonly #tombs = new BoundedMap<NodeId, { incarnation: number; untilMs: number }>({
    name: "forgotten members",
    max: MEMBERS_MAX,
  });
  /** What is held of all of them, and of this node itself. */
  readonly facts = new FactIndex<HeldFact>();
  readonly #room: Room<NodeId>;
  readonly #regard: Regard;
  readonly #onForgotten: (id: NodeId) => void;
  #nowMs = 0;

  /** `onForgotten`: gone for a day, or it gave way to another. */
  constructor(onForgotten: (id: NodeId) => void, regard: Regard) {
    this.#onForgotten = onForgotten;
    this.#regard = regard;
    this.#room = new Room({
      name: "members",
      max: MEMBERS_MAX,
      worthOf: (id) => this.#worthOf(id),
      evict: (id) => this.#bury(this.#members.get(id)!, this.#nowMs),
    });
  }

  get size(): number {
    return this.#members.size;
  }

  get all(): Iterable<Member> {
    return this.#members.values();
  }

  get(id: NodeId): Member | undefined {
    return this.#members.get(id);
  }

  /** Its newest statement is this one. */
  hold(member: Member, fact: MemberFact): void {
    member.held = heldFact(fact);
    this.facts.put(member.held);
  }

  /** Forgotten, and nothing newer than then is said of it. */
  isTomb(id: NodeId, incarnation: number, nowMs: number): boolean {
    const tomb = this.#tombs.get(id);
    return tomb !== undefined && tomb.untilMs > nowMs && incarnation <= tomb.incarnation;
  }

  /** Undefined: no room for it. Whoever brought most gives up whom nothing leads to, first those that are gone. */
  add(id: NodeId, broughtBy: NodeId | "self", nowMs: number, wallMs: number): Member | undefined {
    this.#nowMs = nowMs;
    // Of its own accord it is here as a neighbour, or because something leads to it: it tells of itself.
    if (!this.#room.admit(id, this.#regard.shareOf(broughtBy === "self" ? id : broughtBy))) return undefined;
    const member: Member = {
      id,
      idPrefix: prefixOf(id),
      state: "suspect",
      held: undefined,
      sinceMs: nowMs,
      sinceWallMs: wallMs,
      reason: HEARD_OF,
      source: broughtBy,
      heardWallMs: 0,
      isReachable: false,
      isDoubted: false,
      isLinkLost: false,
      lostBy: "closed",
      isUnanswered: false,
      isOverdue: false,
      accusations: undefined,
      isDisproved: false,
      broughtBy,
      timer: undefined,
      grace: undefined,
      waitsFor: undefined,
      ping: undefined,
    };
    this.#members.set(id, member);
    this.#tombs.delete(id);
    return member;
  }

  /** Buries who is gone for a day. */
  sweep(nowMs: number): void {
    for (const [id, { untilMs }] of this.#tombs) if (untilMs <= nowMs) this.#tombs.delete(id);
    const buried = [...this.#members.values()].filter(
      (member) => isOver(member) && !member.isReachable && nowMs - member.sinceMs >= LISTED_MS,
    );
    for (const member of buried) this.#bury(member, nowMs);
  }

  /** Who is there stays: giving it up for another that comes again and again would tell the whole mesh of both each time. */
  #worthOf(id: NodeId): Worth {
    const member = this.#members.get(id);
    if (member?.isReachable === true || this.#regard.worthOf(id) === "kept") return "kept";
    return member !== undefined && !isOver(member) ? "used" : "none";
  }

  #bury(member: Member, nowMs: number): void {
    member.timer?.cancel();
    member.grace?.cancel();
    this.#members.delete(member.id);
    this.facts.delete(member.id, member.idPrefix);
    this.#room.leave(member.id);
    this.#tombs.set(member.id, { incarnation: incarnationOf(member), untilMs: nowMs + REMEMBERED_MS });
    this.#onForgotten(member.id);
  }
}

export const rowOf = (member: Member): MemberRow => ({
  id: member.id,
  state: member.state,
  incarnation: incarnationOf(member),
  sinceWallMs: member.sinceWallMs,
  reason: member.reason,
  source: member.source,
  heardWallMs: member.heardWallMs,
});

export function reasonText(reason: number): string {
  switch (reason) {
    case AccusationReason.closed:
      return "link closed";
    case AccusationReason.silent:
      return "link silent";
    case AccusationReason.unanswered:
      return "did not answer pings";
    default:
      return `reason ${reason}`;
  }
}
