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

interface Summed {
  readonly fact: MemberFact;
  readonly idPrefix: number;
  readonly digest: number;
}

/** Nibbles of an id by which facts are kept apart: a leaf has a few of a full table. */
const LEAF_DEPTH = 3;
const LEAVES = 16 ** LEAF_DEPTH;

/**
 * Everything that takes part in digests, with its sums kept as it changes: a frame of a few bytes asks for them, and must not make the
 * node walk all it knows. One fact a node. Walks what a prefix of `LEAF_DEPTH` nibbles holds, and else adds up leaves.
 */
export class FactIndex<F extends Summed> {
  readonly #leaves: (Map<NodeId, F> | undefined)[] = [];
  readonly #sums = new Uint32Array(LEAVES);
  #sum = 0;

  /** Over all facts. */
  get sum(): number {
    return this.#sum;
  }

  /** In the place of what was held of that node. */
  put(fact: F): void {
    const leaf = leafOf(fact.idPrefix);
    const facts = (this.#leaves[leaf] ??= new Map<NodeId, F>());
    const before = facts.get(fact.fact.node);
    facts.set(fact.fact.node, fact);
    this.#add(leaf, fact.digest - (before?.digest ?? 0));
  }

  delete(node: NodeId, idPrefix: number): void {
    const leaf = leafOf(idPrefix);
    const facts = this.#leaves[leaf];
    const before = facts?.get(node);
    if (facts === undefined || before === undefined) return;
    facts.delete(node);
    if (facts.size === 0) this.#leaves[leaf] = undefined;
    this.#add(leaf, -before.digest);
  }

  /** Of the children of a prefix. */
  buckets(at: MemberPrefix): Buckets {
    const sums = new Uint32Array(MEMBER_CHILDREN);
    const counts = new Uint32Array(MEMBER_CHILDREN);
    for (const leaf of leavesUnder(at)) {
      const facts = this.#leaves[leaf];
      if (facts === undefined) continue;
      if (at.depth < LEAF_DEPTH) {
        const child = childOf((leaf << (32 - 4 * LEAF_DEPTH)) >>> 0, at.depth);
        sums[child] = (sums[child]! + this.#sums[leaf]!) >>> 0;
        counts[child] = counts[child]! + facts.size;
        continue;
      }
      for (const { idPrefix, digest } of facts.values()) {
        if (!isUnder(idPrefix, at)) continue;
        const child = childOf(idPrefix, at.depth);
        sums[child] = (sums[child]! + digest) >>> 0;
        counts[child] = counts[child]! + 1;
      }
    }
    return { sums, counts };
  }

  /** Facts under a prefix, as far as they are wanted. */
  *under(at: MemberPrefix): Generator<F, void> {
    for (const leaf of leavesUnder(at))
      for (const fact of this.#leaves[leaf]?.values() ?? []) if (isUnder(fact.idPrefix, at)) yield fact;
  }

  countUnder(at: MemberPrefix): number {
    let count = 0;
    for (const leaf of leavesUnder(at)) {
      const facts = this.#leaves[leaf];
      if (facts === undefined) continue;
      if (at.depth <= LEAF_DEPTH) count += facts.size;
      else for (const { idPrefix } of facts.values()) if (isUnder(idPrefix, at)) count++;
    }
    return count;
  }

  #add(leaf: number, digest: number): void {
    this.#sums[leaf] = this.#sums[leaf]! + digest;
    this.#sum = (this.#sum + digest) >>> 0;
  }
}

const leafOf = (idPrefix: number): number => idPrefix >>> (32 - 4 * LEAF_DEPTH);

function* leavesUnder({ depth, prefix }: MemberPrefix): Generator<number, void> {
  if (depth >= LEAF_DEPTH) return void (yield leafOf(prefix));
  const first = depth === 0 ? 0 : leafOf(prefix) & ~(16 ** (LEAF_DEPTH - depth) - 1);
  for (let leaf = first; leaf < first + 16 ** (LEAF_DEPTH - depth); leaf++) yield leaf;
}
