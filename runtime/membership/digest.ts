/**
 * Sums over signed facts, so that two neighbours find what one of them lacks at a cost of the differences. The id space
 * is a tree of nibbles; a bucket's sum adds one hash for each fact under its prefix. Pure. docs/protocol/membership.md.
 */
import { nodeIdBytes, type NodeId } from "../kernel/ids.ts";
import { MEMBER_CHILDREN, type MemberFact, type MemberPrefix } from "../wire/member-messages.ts";
import { destinationDigest } from "../wire/route-messages.ts";

const stir = (hash: number, word: number): number => {
  const mixed = Math.imul(hash ^ word, 0x9e3779b1);
  return mixed ^ (mixed >>> 15);
};

/** One fact's share of the sums. */
export function factDigest({ node, incarnation, kind }: Omit<MemberFact, "signature">): number {
  const high = stir(destinationDigest(nodeIdBytes(node)), Math.floor(incarnation / 2 ** 32));
  return stir(stir(high, (incarnation % 2 ** 32) | 0), kind) >>> 0;
}

/** First four bytes of an id: all that prefixes look at. */
export function prefixOf(id: NodeId): number {
  const bytes = nodeIdBytes(id);
  return ((bytes[0]! << 24) | (bytes[1]! << 16) | (bytes[2]! << 8) | bytes[3]!) >>> 0;
}

export const isUnder = (idPrefix: number, { depth, prefix }: MemberPrefix): boolean =>
  depth === 0 || (idPrefix ^ prefix) >>> (32 - 4 * depth) === 0;

/** The next nibble of an id below a prefix of this depth. */
const childOf = (idPrefix: number, depth: number): number => (idPrefix >>> (28 - 4 * depth)) & 15;

export function childPrefix({ depth, prefix }: MemberPrefix, child: number): MemberPrefix {
  return { depth: depth + 1, prefix: (prefix | (child << (28 - 4 * depth))) >>> 0 };
}

export interface Buckets {
  readonly sums: Uint32Array;
  readonly counts: Uint32Array;
}

/** Sums and counts of the children of a prefix, over everything in `facts`. */
export function bucketsOf(
  facts: Iterable<{ readonly idPrefix: number; readonly digest: number }>,
  at: MemberPrefix,
): Buckets {
  const sums = new Uint32Array(MEMBER_CHILDREN);
  const counts = new Uint32Array(MEMBER_CHILDREN);
  for (const { idPrefix, digest } of facts) {
    if (!isUnder(idPrefix, at)) continue;
    const child = childOf(idPrefix, at.depth);
    sums[child] = (sums[child]! + digest) >>> 0;
    counts[child] = counts[child]! + 1;
  }
  return { sums, counts };
}
