/** The planted faults of `bun run mutants` fit the code: a list that has rotted proves nothing. What lives is said by the run itself. */
import { describe, expect, test } from "bun:test";
import { type ListedMutant, loadMutants, plant, problemsOf } from "./mutants/mutant.ts";

const one: ListedMutant = {
  name: "route/one",
  id: "one",
  file: "runtime/x.ts",
  find: "a < b",
  replace: "a <= b",
  promise: "a bound holds to the last byte",
  tests: ["test/mutants.test.ts"],
};

test("every planted fault fits the code in exactly one place, is TypeScript, and names tests that are there", async () => {
  const mutants = await loadMutants();
  expect(mutants.length).toBeGreaterThan(0);
  expect(problemsOf(mutants)).toEqual([]);
});

describe("of a list, it is said", () => {
  const texts = new Map([["runtime/x.ts", "export const isLess = (a: number, b: number) => a < b;\n"]]);
  const problems = (...mutants: ListedMutant[]) => problemsOf(mutants, (file) => texts.get(file)!);

  test("nothing where all is well", () => expect(problems(one)).toEqual([]));

  test.each<[string, Partial<ListedMutant>, string]>([
    ["what stands nowhere", { find: "a > b" }, "its find stands 0 times in runtime/x.ts"],
    ["what stands twice", { find: "number" }, "its find stands 2 times"],
    ["what changes nothing", { replace: "a < b" }, "it changes nothing"],
    ["what cannot be read any more", { replace: "a <" }, "is no TypeScript"],
    [
      "a test that is gone",
      { tests: ["runtime/gone.test.ts"] },
      "there is no test or suite runtime/gone.test.ts",
    ],
    ["a suite that never was", { tests: ["nothing"] }, "there is no test or suite nothing"],
    ["that no test is named", { tests: [] }, "no test is named"],
    ["an id in another spelling", { id: "One Two" }, "an id is in kebab-case"],
    ["a reason that says nothing", { harmless: "it is." }, "no reason why it is harmless"],
  ])("%s", (_what, change, said) =>
    expect(problems({ ...one, ...change })).toEqual([expect.stringContaining(said)]),
  );

  test("a name that is there already", () =>
    expect(problems(one, one)).toEqual(["route/one: there are two of this name"]));
});

test("a fault is planted as it is written: no pattern of a replacement is read", () => {
  expect(plant({ ...one, find: "b", replace: "$& + $1" }, "a < b")).toBe("a < $& + $1");
});
