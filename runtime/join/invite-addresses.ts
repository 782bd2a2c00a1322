/**
 * Which addresses an invitation carries: those of several members, so that it works while most of them are away. Pure.
 * The choice and its figures are explained in docs/protocol/join.md, "Addresses".
 */
import type { Random } from "@godwit/sdk";
import type { NodeId } from "../kernel/ids.ts";

export interface AddressCandidate {
  readonly id: NodeId;
  readonly endpoints: readonly string[];
  /** The inviter itself. */
  readonly isSelf: boolean;
  readonly isReachable: boolean;
  /** Age of its oldest link to the inviter, ms; undefined: no neighbour. */
  readonly linkedMs: number | undefined;
}

export interface PlannedAddress {
  readonly id: NodeId;
  readonly endpoint: string;
}

/** A neighbour of this age is taken for one that stays. */
const LONG_LIVED_MS = 600_000;

/**
 * At most `countMax`, of as many members as there are, then second addresses of the same ones. The inviter comes first, then
 * neighbours that stayed long, then whoever is reachable, then who was heard of. Within each kind chance decides: tokens of
 * different members then rest on different ones.
 */
export function planInviteAddresses(
  candidates: readonly AddressCandidate[],
  countMax: number,
  random: Random,
): PlannedAddress[] {
  const members = candidates
    .filter(({ endpoints }) => endpoints.length > 0)
    .map((candidate) => ({ candidate, kind: kindOf(candidate), draw: random.float() }))
    .sort((a, b) => a.kind - b.kind || a.draw - b.draw)
    .map(({ candidate: { id, endpoints } }) => ({
      id,
      endpoints: [...new Set(endpoints)].sort((a, b) => scopeOf(a) - scopeOf(b)),
    }));
  const planned: PlannedAddress[] = [];
  const deepest = Math.max(0, ...members.map(({ endpoints }) => endpoints.length));
  for (let depth = 0; depth < deepest; depth++)
    for (const { id, endpoints } of members) {
      const endpoint = endpoints[depth];
      if (endpoint !== undefined && planned.length < countMax) planned.push({ id, endpoint });
    }
  // Each member's addresses stand side by side, which is shorter to write.
  const order = new Map(members.map(({ id }, index) => [id, index]));
  return planned.sort((a, b) => order.get(a.id)! - order.get(b.id)!);
}

function kindOf({ isSelf, isReachable, linkedMs }: AddressCandidate): number {
  if (isSelf) return 0;
  if (linkedMs !== undefined && linkedMs >= LONG_LIVED_MS) return 1;
  return isReachable || linkedMs !== undefined ? 2 : 3;
}

/** From where an address may be dialled: names and public ones from anywhere, loopback only from the same machine. */
function scopeOf(endpoint: string): number {
  const host = /^[^:]+:\/\/\[?([^\]/]*?)\]?(?::\d+)?(?:\/|$)/.exec(endpoint)?.[1] ?? "";
  if (/^(127\.|localhost\.?$|::1$)/.test(host)) return 2;
  return /^(10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.|f[cd])/i.test(
    host,
  )
    ? 1
    : 0;
}
