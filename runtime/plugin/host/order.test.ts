import { expect, test } from "bun:test";
import { startWaves } from "./order.ts";

const waves = (graph: Readonly<Record<string, readonly string[]>>) =>
  startWaves(
    Object.keys(graph),
    (id) => id,
    (id) => graph[id] ?? [],
  );

test("what is required starts before", () => {
  expect(waves({ a: ["b"], b: ["c"], c: [], d: ["c"], e: [] })).toEqual([["c", "e"], ["b", "d"], ["a"]]);
});

test("what is not configured is not waited for, and a circle does not hold the others", () => {
  expect(waves({ a: ["gone"], b: ["c"], c: ["b"], d: ["b"] })).toEqual([["a"], ["b", "c", "d"]]);
});
