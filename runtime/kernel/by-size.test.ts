import { expect, test } from "bun:test";
import fc from "fast-check";
import { BySize } from "./by-size.ts";

test("largest first, as a sort of all groups would say, however members come and go", () => {
  const step = fc.tuple(fc.nat(5), fc.boolean());
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), fc.nat(4), (steps, sizeMin) => {
      const groups = Array.from({ length: 6 }, () => ({ keys: { size: 0 } }));
      const bySize = new BySize<(typeof groups)[number]>();
      for (const [at, comes] of steps) {
        const { keys } = groups[at]!;
        const before = keys.size;
        keys.size = comes ? before + 1 : Math.max(0, before - 1);
        if (keys.size !== before) bySize.moved(groups[at]!, before);
        expect(bySize.sizes).toBe(
          new Set(groups.map((group) => group.keys.size).filter((size) => size > 0)).size,
        );
        const found = [...bySize.largestFirst(sizeMin)];
        const wanted = groups.filter((group) => group.keys.size >= Math.max(1, sizeMin));
        expect(new Set(found)).toEqual(new Set(wanted));
        expect(found.map((group) => group.keys.size)).toEqual(
          wanted.map((group) => group.keys.size).sort((a, b) => b - a),
        );
      }
    }),
  );
});

test("of groups with as many members each gets its turn", () => {
  const bySize = new BySize<{ name: string; keys: { size: number } }>();
  for (const name of ["a", "b", "c"]) bySize.moved({ name, keys: { size: 1 } }, 0);
  const turn = () => {
    for (const { name } of bySize.largestFirst(0)) return name;
    return undefined;
  };
  expect([turn(), turn(), turn(), turn()]).toEqual(["a", "b", "c", "a"]);
});
