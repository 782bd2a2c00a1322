import { expect, test } from "bun:test";
import fc from "fast-check";
import { Distribution, Numbers, type Sample } from "./series.ts";

const shown = (samples: Iterable<Sample>) =>
  [...samples].map(({ value, labels, metricName }) => [metricName ?? "", JSON.stringify(labels), value]);

test("each set of label values counts for itself, in the order of the first", () => {
  const numbers = new Numbers(["method", "route"]);
  numbers.add(1, { method: "GET", route: "/a" });
  numbers.add(2, { route: "/a", method: "POST" });
  numbers.add(3, { method: "GET", route: "/a" });
  expect(shown(numbers.samples())).toEqual([
    ["", '{"method":"GET","route":"/a"}', 4],
    ["", '{"route":"/a","method":"POST"}', 2],
  ]);
});

test("values that are cut differently are different sets", () => {
  const values = fc.tuple(fc.string(), fc.string(), fc.string());
  fc.assert(
    fc.property(fc.array(fc.tuple(values, fc.nat(9))), (added) => {
      const numbers = new Numbers(["a", "b", "c"]);
      const slow = new Map<string, number>();
      for (const [[a, b, c], by] of added) {
        numbers.add(by, { a, b, c });
        const key = JSON.stringify({ a, b, c });
        slow.set(key, (slow.get(key) ?? 0) + by);
      }
      const found = [...numbers.samples()].map(({ labels, value }) => [JSON.stringify(labels), value]);
      expect(found).toEqual([...slow]);
    }),
  );
});

test("without labels it is there from the start; with some, a value without them stands for itself", () => {
  expect(shown(new Numbers([]).samples())).toEqual([["", "{}", 0]]);
  const bare = new Numbers([]);
  bare.add(1, {});
  expect(shown(bare.samples())).toEqual([["", "{}", 1]]);
  const named = new Numbers(["who"]);
  expect(shown(named.samples())).toEqual([]);
  named.set(5);
  expect(shown(named.samples())).toEqual([["", "{}", 5]]);
});

test("a counter takes nothing that is negative or no number, and nobody other labels than its own", () => {
  const numbers = new Numbers(["who"]);
  for (const bad of [-1, Number.NaN, Number.POSITIVE_INFINITY, "5" as unknown as number])
    expect(() => numbers.add(bad, { who: "x" })).toThrow(RangeError);
  for (const bad of [{}, { whom: "x" }, { who: "x", whom: "y" }])
    expect(() => numbers.add(1, bad as Record<string, string>)).toThrow(TypeError);
  expect(() => numbers.set("5" as unknown as number, { who: "x" })).toThrow(TypeError);
  expect(() => new Distribution("d", [], [1]).observe(Number.NaN)).toThrow(TypeError);
  expect(shown(numbers.samples()).filter(([, , value]) => value !== 0)).toEqual([]);
});

test("buckets add up, and a value that is a bound is in its bucket", () => {
  const times = new Distribution("d", ["how"], [1, 10]);
  for (const value of [0.5, 1, 1.5, 10, 11]) times.observe(value, { how: "x" });
  expect(shown(times.samples())).toEqual([
    ["d_bucket", '{"le":1,"how":"x"}', 2],
    ["d_bucket", '{"le":10,"how":"x"}', 4],
    ["d_bucket", '{"le":"+Inf","how":"x"}', 5],
    ["d_sum", '{"how":"x"}', 24],
    ["d_count", '{"how":"x"}', 5],
  ]);
});
