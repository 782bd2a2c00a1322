import { expect, test } from "bun:test";
import { requiresProblems } from "./requires.ts";

const problemsOf = (graph: Readonly<Record<string, readonly string[]>>) =>
  Object.fromEntries(
    requiresProblems(
      Object.entries(graph).map(([id, requires]) => ({ id, requires })),
      new Set(["tcp"]),
    ),
  );

test("what is there, built in or installed, may be required", () => {
  expect(problemsOf({ a: ["b", "tcp"], b: ["c"], c: [], d: ["a", "b", "c"] })).toEqual({});
});

test("what is missing is named, and so is what needs that", () => {
  expect(problemsOf({ a: ["b"], b: ["gone"], c: [] })).toEqual({
    a: '"a" requires "b", which cannot run itself',
    b: '"b" requires "gone", which is not installed: add that first',
  });
});

test("a cycle is told as it goes, of one, two and three", () => {
  expect(problemsOf({ a: ["a"] })).toEqual({ a: '"a" requires itself: "a" requires "a"' });
  expect(problemsOf({ a: ["b"], b: ["a"], c: ["a"] })).toEqual({
    a: '"a" requires itself: "a" requires "b" requires "a"',
    b: '"b" requires itself: "b" requires "a" requires "b"',
    c: '"c" requires "a", which cannot run itself',
  });
  expect(problemsOf({ a: ["b"], b: ["c"], c: ["a"] })["c"]).toBe(
    '"c" requires itself: "c" requires "a" requires "b" requires "c"',
  );
});
