import { expect, test } from "bun:test";
import { type Ordered, startWaves } from "./order.ts";

const facts = (type: string, given: Partial<Ordered>): Ordered => ({
  rank: 0,
  type,
  requires: [],
  offers: [],
  uses: [],
  ...given,
});
const waves = (graph: Readonly<Record<string, Partial<Ordered>>>) =>
  startWaves(Object.keys(graph), (id) => facts(id, graph[id] ?? {}));
const requires = (...types: string[]) => ({ requires: types });

test("what is required starts before", () => {
  expect(waves({ a: requires("b"), b: requires("c"), c: {}, d: requires("c"), e: {} })).toEqual([
    ["c", "e"],
    ["b", "d"],
    ["a"],
  ]);
});

test("what is not configured is not waited for, and a circle does not hold the others", () => {
  expect(waves({ a: requires("gone"), b: requires("c"), c: requires("b"), d: requires("b") })).toEqual([
    ["a"],
    ["b", "c", "d"],
  ]);
});

test("by rank, unless another is needed before: who offers a service starts before who uses it", () => {
  expect(
    waves({
      lora: { rank: 0, uses: ["radio"] },
      tcp: { rank: 0 },
      radio: { rank: 2, offers: ["radio"] },
      hints: { rank: 4 },
    }),
  ).toEqual([["tcp"], ["radio"], ["lora"], ["hints"]]);
});

test("services in a circle, and with oneself, hold up nobody", () => {
  expect(
    waves({
      a: { rank: 1, uses: ["y"], offers: ["x"] },
      b: { rank: 2, uses: ["x"], offers: ["y"] },
      c: { rank: 3, uses: ["z"], offers: ["z"] },
      d: { rank: 0, uses: ["nobody"] },
    }),
  ).toEqual([["d"], ["c"], ["a"], ["b"]]);
});
