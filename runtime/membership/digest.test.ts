import { expect, test } from "bun:test";
import fc from "fast-check";
import { formatNodeId } from "../kernel/ids.ts";
import { MemberEntryKind } from "../wire/member-messages.ts";
import { bucketsOf, childPrefix, factDigest, isUnder } from "./digest.ts";
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

test("the children of a prefix hold everything under it once", () => {
  fc.assert(
    fc.property(fc.array(fact, { maxLength: 60 }), fc.nat(15), fc.nat(15), (facts, first, second) => {
      let at = { depth: 0, prefix: 0 };
      for (const child of [first, second]) {
        const { counts, sums } = bucketsOf(facts, at);
        const inside = facts.filter(({ idPrefix }) => isUnder(idPrefix, at));
        expect(counts.reduce((a, b) => a + b, 0)).toBe(inside.length);
        at = childPrefix(at, child);
        const below = facts.filter(({ idPrefix }) => isUnder(idPrefix, at));
        expect(counts[child]).toBe(below.length);
        expect(sums[child]).toBe(below.reduce((sum, { digest }) => (sum + digest) >>> 0, 0));
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
