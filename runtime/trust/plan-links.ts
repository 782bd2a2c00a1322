/**
 * Which members a node links to of its own accord, so that the mesh stays well connected with few links a node. Pure.
 * The next node in the order of ids closes a ring through everybody; trusted nodes are anchors; the rest are random,
 * ranked with a secret of this node, so that nobody can make himself the choice, and spread over networks and
 * transports, so that no one network cuts the node off. docs/trust.md "Links of its own accord".
 */
import type { NodeId } from "../kernel/ids.ts";

/** Endpoints tried of one member. */
const ENDPOINTS_TRIED_MAX = 4;

export interface Member {
  readonly id: NodeId;
  readonly endpoints: readonly string[];
  readonly isTrusted: boolean;
}

export interface LinkedPeer {
  readonly id: NodeId;
  /** Of one of its links. */
  readonly endpoint: string;
  /** A radio or the like: it does not count towards the links wanted. */
  readonly isSlow: boolean;
}

export interface LinkWishes {
  readonly self: NodeId;
  readonly wanted: number;
  /** Makes the ranking this node's own. */
  readonly salt: number;
  /** Live members with an endpoint that some transport here can dial, without this node. */
  readonly members: Iterable<Member>;
  readonly linked: readonly LinkedPeer[];
  /** Members being tried, which count as links to come. */
  readonly trying: ReadonlySet<NodeId>;
  /** Members that just could not be reached. */
  isResting(id: NodeId): boolean;
}

export interface LinkChoice {
  readonly id: NodeId;
  readonly endpoints: readonly string[];
  readonly why: "ring" | "anchor" | "random";
}

/** Whom to call now; empty when there is nothing to wish for. One pass over the members, no sorting of them. */
export function planLinks({
  self,
  wanted,
  salt,
  members,
  linked,
  trying,
  isResting,
}: LinkWishes): LinkChoice[] {
  const linkedIds = new Set(linked.map(({ id }) => id));
  const isMine = (id: NodeId) => linkedIds.has(id) || trying.has(id);
  const groups = new Set(linked.map(({ endpoint }) => groupOf(endpoint)));
  let missing = wanted - linked.filter(({ isSlow }) => !isSlow).length - trying.size;
  let next: Member | undefined;
  let first: Member | undefined;
  const anchors = new Best(Math.max(missing, 0));
  /** The best of each network that no link goes to yet: a thousand in one network are one choice. */
  const fresh = new Map<string, { member: Member; rank: number }>();
  const any = new Best(Math.max(missing, 0));
  for (const member of members) {
    const { id } = member;
    if (id === self || (isResting(id) && !isMine(id))) continue;
    if (id > self && (next === undefined || id < next.id)) next = member;
    if (first === undefined || id < first.id) first = member;
    if (missing <= 0 || isMine(id)) continue;
    const rank = rankOf(id, salt);
    if (member.isTrusted) anchors.offer(member, rank);
    any.offer(member, rank);
    for (const endpoint of member.endpoints) {
      const group = groupOf(endpoint);
      if (!groups.has(group) && rank < (fresh.get(group)?.rank ?? Number.POSITIVE_INFINITY))
        fresh.set(group, { member, rank });
    }
  }
  const choices = new Map<NodeId, LinkChoice>();
  const choose = (member: Member, why: LinkChoice["why"]) => {
    if (choices.has(member.id) || isMine(member.id)) return;
    const endpoints = member.endpoints.slice(0, ENDPOINTS_TRIED_MAX);
    choices.set(member.id, { id: member.id, endpoints, why });
    missing--;
  };
  // The ring is closed even when there are links enough: without it a mesh of many may be several.
  const successor = next ?? first;
  if (wanted > 0 && successor !== undefined) choose(successor, "ring");
  if (missing > 0 && anchors.members.length > 0) choose(anchors.members[0]!, "anchor");
  const spread = [...fresh.values()].sort((a, b) => a.rank - b.rank).map(({ member }) => member);
  for (const member of [...spread, ...any.members]) if (missing > 0) choose(member, "random");
  return [...choices.values()];
}

/** The `size` members with the lowest ranks. */
class Best {
  readonly #size: number;
  readonly #held: { member: Member; rank: number }[] = [];

  constructor(size: number) {
    this.#size = size;
  }

  get members(): Member[] {
    return this.#held.map(({ member }) => member);
  }

  offer(member: Member, rank: number): void {
    if (this.#size === 0) return;
    if (this.#held.length === this.#size && rank >= this.#held.at(-1)!.rank) return;
    const at = this.#held.findIndex((held) => rank < held.rank);
    this.#held.splice(at < 0 ? this.#held.length : at, 0, { member, rank });
    if (this.#held.length > this.#size) this.#held.pop();
  }
}

/** FNV-1a over salt and id. Unpredictable to who does not know the salt, which is all it must be. */
function rankOf(id: string, salt: number): number {
  let hash = (0x811c9dc5 ^ salt) >>> 0;
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 0x01000193) >>> 0;
  // The last characters would differ little otherwise.
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b) >>> 0;
  return (hash ^ (hash >>> 13)) >>> 0;
}

/** What fails together: a /16 of IPv4, a /32 of IPv6, else everything of one scheme. */
export function groupOf(endpoint: string): string {
  const v4 = /^([a-z0-9+.-]+):\/\/(\d+\.\d+)\.\d+\.\d+/i.exec(endpoint);
  if (v4 !== null) return `${v4[1]} ${v4[2]}`;
  const v6 = /^([a-z0-9+.-]+):\/\/\[([0-9a-f]*:[0-9a-f]*)/i.exec(endpoint);
  if (v6 !== null) return `${v6[1]} ${v6[2]}`;
  return endpoint.split(":")[0] ?? endpoint;
}
