import { expect, test } from "bun:test";
import fc from "fast-check";
import { PagedMap, type Page } from "./paged-map.ts";

/** The slow reference: a Map that is copied for every page. */
function slowPage(rows: ReadonlyMap<string, number>, { order, limit, after }: Page): number[] {
  const entries = [...rows];
  if (order === "newest-first") entries.reverse();
  const start = after === undefined ? 0 : entries.findIndex(([key]) => key === after) + 1;
  if (after !== undefined && start === 0) return [];
  return entries.slice(start, start + limit).map(([, value]) => value);
}

const key = fc.integer({ min: 0, max: 15 }).map((n) => `k${n}`);
const step = fc.oneof(
  fc.record({ op: fc.constant("set" as const), key, value: fc.nat(1_000) }),
  fc.record({ op: fc.constant("delete" as const), key, value: fc.constant(0) }),
);
const page = fc.record({
  order: fc.constantFrom("newest-first" as const, "oldest-first" as const),
  limit: fc.integer({ min: 0, max: 8 }),
  after: fc.option(key, { nil: undefined }),
});

test("pages are those of a Map that is copied and searched", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.array(page, { maxLength: 6 }), (steps, pages) => {
      const map = new PagedMap<string, number>();
      const slow = new Map<string, number>();
      for (const { op, key: of, value } of steps) {
        if (op === "set") {
          map.set(of, value);
          slow.set(of, value);
        } else expect(map.delete(of)).toBe(slow.delete(of));
      }
      expect([...map.values()]).toEqual([...slow.values()]);
      expect(map.size).toBe(slow.size);
      for (let i = 0; i < 16; i++)
        expect([map.get(`k${i}`), map.has(`k${i}`)]).toEqual([slow.get(`k${i}`), slow.has(`k${i}`)]);
      for (const { order, limit, after } of pages) {
        const wanted = { order, limit, ...(after === undefined ? {} : { after }) };
        expect(map.page(wanted)).toEqual(slowPage(slow, wanted));
      }
    }),
  );
});
