import { expect, test } from "bun:test";
import fc from "fast-check";
import { formatNodeId } from "../kernel/ids.ts";
import { MemberEntryKind } from "../wire/member-messages.ts";
import { childPrefix, FactIndex, factDigest, isUnder } from "./digest.ts";
import type { HeldFact } from "./gossip.ts";
import { heldFact } from "./member.ts";

const fact = fc
  .record({ node: fc.uint8Array({ minLength: 32, maxLength: 32 }), incarnation: fc.nat(2 ** 31) })
  .map(({ node, incarnation }) =>
    heldFact({
      kind: MemberEntryKind.alive,
      node: formatNodeId(node),
      incarnation,
      signature: new Uint8Array(64),
    }),
  );

/** Few nodes and low numbers, so that prefixes are shared and facts replace each other. */
const close = fc
  .record({ first: fc.nat(3), second: fc.nat(3), last: fc.nat(2), incarnation: fc.nat(4) })
  .map(({ first, second, last, incarnation }) => {
    const bytes = new Uint8Array(32);
    bytes.set([first * 0x11, second, second, last]);
    const node = formatNodeId(bytes);
    return heldFact({ kind: MemberEntryKind.alive, node, incarnation, signature: new Uint8Array(64) });
  });

test("the index holds under every prefix what a walk over all facts finds there, whatever came and went", () => {
  const change = fc.record({ fact: fc.oneof(fact, close), isGone: fc.boolean() });
  const path = fc.array(fc.nat(15), { maxLength: 7 });
  fc.assert(
    fc.property(fc.array(change, { maxLength: 80 }), fc.array(path, { maxLength: 4 }), (changes, paths) => {
      const index = new FactIndex<HeldFact>();
      const held = new Map<string, HeldFact>();
      for (const { fact: one, isGone } of changes) {
        if (isGone) index.delete(one.fact.node, one.idPrefix);
        else index.put(one);
        if (isGone) held.delete(one.fact.node);
        else held.set(one.fact.node, one);
      }
      const sumOf = (facts: readonly HeldFact[]) =>
        facts.reduce((sum, { digest }) => (sum + digest) >>> 0, 0);
      const all = [...held.values()];
      expect(index.sum).toBe(sumOf(all));
      const prefixes = all
        .slice(0, 4)
        .map(({ idPrefix }) => [28, 24, 20, 16].map((by) => (idPrefix >>> by) & 15));
      for (const nibbles of [[], ...paths, ...prefixes]) {
        let at = { depth: 0, prefix: 0 };
        for (const child of nibbles) at = childPrefix(at, child);
        const inside = all.filter(({ idPrefix }) => isUnder(idPrefix, at));
        expect(new Set(index.under(at))).toEqual(new Set(inside));
        expect(index.countUnder(at)).toBe(inside.length);
        const { sums, counts } = index.buckets(at);
        for (let child = 0; child < 16; child++) {
          const below = all.filter(({ idPrefix }) => isUnder(idPrefix, childPrefix(at, child)));
          expect([sums[child], counts[child]]).toEqual([sumOf(below), below.length]);
        }
      }
    }),
  );
});

test("incarnation, kind and node each change the digest", () => {
  const node = formatNodeId(new Uint8Array(32).fill(7));
  const base = { kind: MemberEntryKind.alive, node, incarnation: 2 ** 40 } as const;
  const others = [
    { ...base, kind: MemberEntryKind.left },
    { ...base, incarnation: 2 ** 40 + 1 },
    { ...base, incarnation: 2 ** 41 },
    { ...base, node: formatNodeId(new Uint8Array(32).fill(8)) },
  ];
  expect(new Set([base, ...others].map(factDigest)).size).toBe(5);
});
