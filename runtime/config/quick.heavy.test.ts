/** Thousands of documents of any kind. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import type * as z from "zod";
import { definitionOf } from "./schema-problems.ts";
import { VALUES, sections, compare } from "./testing-quick.ts";

const KEYS = ["lan", "a_b", "DUN-A", "dun-a", "x-y", "a__b", "__proto__", "constructor", "toString", "", "é"];

const anything = fc.constantFrom(...VALUES);
const tableOf = (rows: readonly (readonly [string, unknown])[]): unknown => {
  const table = {};
  // As a parser does it: a key of its own, whatever it is called.
  for (const [key, value] of rows)
    Object.defineProperty(table, key, { value, enumerable: true, configurable: true, writable: true });
  return table;
};

/** What this schema takes, more often than not. */
function near(schema: z.ZodType): fc.Arbitrary<unknown> {
  const { type, innerType, in: from, shape, valueType, element, options } = definitionOf(schema);
  const inner = innerType ?? from;
  if (inner !== undefined) return near(inner);
  const right = VALUES.filter((value) => schema.safeParse(value).success);
  const here =
    right.length === 0 ? anything : fc.oneof({ weight: 12, arbitrary: fc.constantFrom(...right) }, anything);
  if (type === "object")
    return fc
      .tuple(
        ...Object.entries(shape!).map(([key, one]) =>
          fc.option(
            near(one).map((value) => [key, value] as const),
            { nil: undefined },
          ),
        ),
        fc.option(fc.tuple(fc.constantFrom(...KEYS), anything), { nil: undefined, freq: 12 }),
      )
      .map((rows) => tableOf(rows.filter((row) => row !== undefined)));
  if (type === "record")
    return fc.array(fc.tuple(fc.constantFrom(...KEYS), near(valueType!)), { maxLength: 3 }).map(tableOf);
  if (type === "array")
    return fc.oneof({ weight: 12, arbitrary: fc.array(near(element!), { maxLength: 4 }) }, here);
  if (type === "union") return fc.oneof(...options!.map(near), here);
  return here;
}
/** Few at a time, so that one that is wrong does not hide what becomes of the others. */
const entries = fc.oneof(
  ...sections.map(([name, schema]) => near(schema).map((value) => [name, value] as const)),
);
const documents = fc.uniqueArray(entries, { maxLength: 2, selector: ([name]) => name }).map(tableOf);

test("what the shapes accept is what the schemas accept, with the same values", () => {
  const seen = { accepted: 0, refused: 0 };
  fc.assert(
    fc.property(documents, (document) => {
      seen[compare(document)]++;
    }),
    { numRuns: 3_000 },
  );
  // Both are met often, or the comparison says little.
  expect(Math.min(seen.accepted, seen.refused)).toBeGreaterThan(300);
});
