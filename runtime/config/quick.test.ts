/** The shapes that a start judges by are those of the schemas, and accept what those accept, with the same values, and nothing else. */
import { expect, test } from "bun:test";
import { judgeQuickly } from "./quick.ts";
import { configSchema } from "./schema.ts";
import { definitionOf } from "./schema-problems.ts";
import { settingsShape } from "./shapes.ts";
import { VALUES, sections, compare } from "./testing-quick.ts";

test("each section alone, whole, with one value of each kind in each key", () => {
  let accepted = 0;
  for (const [section, schema] of sections)
    for (const key of Object.keys(definitionOf(definitionOf(schema).innerType!).shape ?? {}))
      for (const value of VALUES) if (compare({ [section]: { [key]: value } }) === "accepted") accepted++;
  expect(accepted).toBeGreaterThan(200);
  expect(compare({})).toBe("accepted");
});

test("a value that is accepted shares no default with the next one", () => {
  const first = judgeQuickly(settingsShape, {}) as { names: Record<string, unknown>; forwards: unknown[] };
  first.names["X"] = 1;
  first.forwards.push(1);
  expect(judgeQuickly(settingsShape, {})).toStrictEqual(configSchema.parse({}) as unknown);
});
