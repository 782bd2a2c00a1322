/** Every check of an engine's members and streams is shown one that breaks it, and none objects to one that is as it should be. */
import { describe, expect, test } from "bun:test";
import { tellingEngine, type TellingFault } from "./broken-engines.ts";
import { engineChecks } from "./index.ts";
import { verdict } from "./broken-verdict.ts";

const of = (fault?: TellingFault) => ({
  name: "x",
  setup: () => ({ plugin: tellingEngine(fault), config: {} }),
});

test.each(engineChecks.map(({ name }) => name))("nothing is wrong with the correct one: %s", async (name) => {
  expect(await verdict(engineChecks, name, of())).toBe("passes");
});

const faults: readonly (readonly [TellingFault, name: string, says: string])[] = [
  ["throws-at-members", "members of any state", "a handler fails: Error: where is"],
  ["never-decides", "streams of strangers", "is accepted or reset"],
  ["throws-at-stream", "streams of strangers", "a handler fails: Error: who says so?"],
  ["stuck-by-garbage", "streams of strangers", "put rejects: Error: stuck"],
  ["stuck-by-refusal", "a far end that refuses", "put rejects: Error: stuck"],
  ["ignores-drain", "a far end that does not read", "bytes wait at a far end that does not read"],
  ["waits-for-reader", "a far end that does not read", "put comes to an end"],
];
describe("every fault is found", () => {
  test.each(faults)("%s", async (fault, name, says) => {
    expect(await verdict(engineChecks, name, of(fault))).toContain(says);
  });
});
